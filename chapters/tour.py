"""--tour: how does a program stop at each message, when threads carry them?

It shows the message, and says what it is for and who has made it. At Enter, it lets it go on:

    --> toy-stdio  {
            "jsonrpc": "2.0", "id": 7, "method": "tools/call", ...

    The model wants this tool. We pass on its arguments as they are. ...
    Made by Connection.request (chat.py:...), called by greet_and_request (...), ...

Several servers are spoken to at the same time, but only the main thread reads the keyboard. So a
thread that carries a message puts it into a row, and waits. The main thread shows one after the
other. No answer can come before its request, because that hasn't left yet. All time limits stand
still while you read.

The messages: https://modelcontextprotocol.io/specification/2026-07-28/basic

Left out: stops while you type, or while /tools waits. What comes then is shown afterwards.

Try it. As long as nobody is watching, nothing waits:

>>> tour = Tour(only_answer=False)
[The tour shows every message: --> is sent, <-- has come. None waits: ...]
>>> tour.stop("-->", "toy", {"id": 1, "method": "ping"}, "", []); tour.end()
"""

import contextlib
import sys
import textwrap
import time
from collections.abc import Generator, Iterable
from typing import Any

from chapters import jobs, trace
from chapters.events import Event, Record, Waiting
from chapters.outside import Failure, as_dict
from chapters.screen import Screen

A_MOMENT = 2  # seconds without a message, after which we don't wait for more


class Stop(Record):
    """A message that is to be seen. Without `words`, it doesn't wait for that."""
    text: str
    words: str = ""
    made_by: str = ""
    may_go: bool | None = None  # None: not yet; False: it is not to be sent any more


class Tour(Screen):
    """A Screen that shows the messages, too."""

    skips = False        # what has the same words as something before
    is_watching = False  # whether the main thread looks at the row

    def __init__(self, only_answer: bool):
        super().__init__(only_answer)
        self.live, self.live_later = False, self.live
        self.row: list[Stop] = []
        self.seen: set[str] = set()  # all words so far
        jobs.TICK, trace.guide = 0.02, self
        how = "Each goes on at Enter" if sys.stdin.isatty() else "None waits: there is no keyboard"
        self.murmur(f"[The tour shows every message: --> is sent, <-- has come. {how}.]")

    def stop(self, arrow: str, name: str, message: Any, http: str, headers: Iterable) -> None:
        """A message comes by, in whatever thread this is: wait until it was seen. Raises Failure
        if it is not to be sent."""
        stop = Stop(trace.shown(arrow, name, message, http, headers, first=30, last=10))
        if message or http.startswith("no answer"):
            stop.words, stop.made_by = trace.explained(arrow, name, as_dict(message))
        if self.skips and stop.words in {*self.seen, ""} or len(self.row) > 100:
            return
        self.seen.add(stop.words)
        self.row.append(stop)
        while stop.words and stop.may_go is None and self.is_watching:
            time.sleep(0.02)
        if stop.may_go is False and arrow == "-->":
            raise Failure("cancelled", "stopped.")

    def show_row(self) -> None:
        """In the main thread: show what has come by, and let it go on."""
        while self.row:
            stop = self.row[0]
            if self.last == "Text":
                print(flush=True)
            self.last = "Stop"
            self.say(f"\n{stop.text}")
            if stop.words:
                self.say(f"\n{textwrap.fill(stop.words, 78)}")
                self.murmur(textwrap.fill(stop.made_by, 78))
                if sys.stdin.isatty():
                    self.wait_for_enter()
            self.let_go(self.row[:1])

    def wait_for_enter(self) -> None:
        self.murmur("[Enter: go on   s: skip what you have seen before   q: end the tour]")
        typed = "q"
        with contextlib.suppress(EOFError):  # Ctrl-D is a q, too
            typed = input().strip().lower()
        self.skips = self.skips or typed == "s"
        if typed == "q":
            self.end()

    def let_go(self, stops: list[Stop], may_go: bool = True) -> None:
        for stop in stops:
            self.row.remove(stop)
            stop.may_go = may_go

    def end(self) -> None:
        jobs.TICK, trace.guide = 0.5, None
        self.live, self.is_watching = self.live_later, False
        self.let_go(self.row[:])

    def show(self, events: Generator[Event, None, Any], waiting_for: str = "the model") -> None:
        self.is_watching = trace.guide is not None
        try:
            super().show(events, waiting_for)
        except KeyboardInterrupt:
            self.let_go(self.row[:], may_go=False)
            raise
        finally:
            self.is_watching = False

    def show_one(self, event: Event, waiting_for: str) -> None:
        if isinstance(event, Waiting) and trace.guide:  # (by then, all that came before is shown)
            self.show_row()
        else:
            super().show_one(event, waiting_for)

    def introduce(self, chat: Any, talks: bool) -> None:
        super().introduce(chat, talks)
        self.chat = chat
        self.catch_up()

    def read_line(self) -> str | None:
        self.catch_up()
        line = super().read_line()
        if line is None:
            self.end()
        return line

    def catch_up(self) -> None:
        """Before somebody types: show what still travels in the background."""
        end, self.is_watching = time.monotonic() + A_MOMENT, trace.guide is not None
        while self.is_watching and (self.row or time.monotonic() < end and any(
                one.offers.thread.is_alive() for one in self.chat.working)):
            end = time.monotonic() + A_MOMENT if self.row else end
            self.show_row()
            time.sleep(0.02)
        self.is_watching = False
