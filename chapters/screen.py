"""The screen: how does a turn look in a terminal?

A turn is a stream of events (events.py). To show it is to print the right thing for each:

    Waiting(3.2, ["weather"])          Waiting for weather... 3 s     a line that is written over
    ToolCall("toy", "weather", {...})  [Calling weather...]           dimmed
    Text("It is ")                     A: It is                       as it comes
    Question("Which region?")          > _                            and somebody answers

Whatever comes from outside is cleaned first, so that no server and no model can move your cursor.

What is a server's, and has to be told from our own words, is
https://modelcontextprotocol.io/specification/2026-07-28/client/elicitation#security-considerations

How an answer's words are wrapped is wrapping.py. Left out: all other Markdown than it shows. A
model is asked for plain text.

Try it:

>>> from chapters.events import Text, ToolCall
>>> screen = Screen()
>>> events = [ToolCall("toy", "weather", {"town": "Lima"}), Text("Foggy, "), Text("16.")]
>>> screen.show(event for event in events)
<BLANKLINE>
[Calling weather...]
<BLANKLINE>
A: Foggy, 16.
"""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Generator
from typing import Any

from chapters.events import *
from chapters.outside import briefly, clean, one_line
from chapters.wrapping import DIM, PLAIN, Answer, takes_codes


def for_reading(arguments: dict) -> str:
    """The arguments of a call, as somebody should see them before a yes."""
    lines = [json.dumps({key: value}, ensure_ascii=False)[1:-1] for key, value in arguments.items()]
    lines = [f"  {one}" if len(one) < 1000 else f"  {one[:900]}... {len(one) - 900} more"
             for one in lines]
    return "".join(one if one.isprintable() or one in "\n\xa0\u3000" else f"\\u{ord(one):04x}"
                   for one in "\n".join(["{", *lines, "}"]))


class Screen:
    """Prints events. With `only_answer`, all but the answer goes to standard error."""

    def __init__(self, only_answer: bool = False, tracing: bool = False):
        self.only_answer = only_answer
        self.aside = sys.stderr if only_answer else sys.stdout
        self.live = takes_codes(self.aside) and not tracing
        coloured = takes_codes(self.aside) and not os.getenv("NO_COLOR")
        self.dim, self.plain = (DIM, PLAIN) if coloured else ("", "")
        self.size = shutil.get_terminal_size if takes_codes(sys.stdout) else None
        self.shown = ""  # the line that says what we are waiting for
        self.last = ""   # the kind of the event that was shown last
        self.explained = False  # how to answer a question

    def say(self, text: str) -> None:
        self.status("")
        print(clean(text), file=self.aside, flush=True)

    def murmur(self, text: str) -> None:
        print(f"{self.dim}{clean(text)}{self.plain}", file=self.aside, flush=True)

    def status(self, text: str) -> None:
        """A line that the next one is written over, and that goes when something comes."""
        text = text and "  " + " ".join(one_line(text).split())
        columns = shutil.get_terminal_size().columns - 2
        text = text[:columns if text.isascii() else columns // 2]  # (some characters take two)
        if self.live and text != self.shown:
            print(f"\r\x1b[K{self.dim}{text}{self.plain}", end="", file=self.aside, flush=True)
            self.shown = text

    def show(self, events: Generator[Event, None, Any], waiting_for: str = "the model") -> None:
        self.last = ""
        try:
            for event in events:
                self.show_one(event, waiting_for)
        finally:
            events.close()  # also when Ctrl-C came while we asked or printed
            self.end_line()

    def end_line(self) -> None:
        """Something else comes, so what stands in the last line is over."""
        self.status("")
        if self.last == "Text":
            print(flush=True)

    def show_one(self, event: Event, waiting_for: str) -> None:
        kind, gap = type(event).__name__, ""
        if kind == "Waiting" and self.last in ("Text", "Progress"):
            return  # what is there says more
        if kind != self.last:
            self.end_line()
            gap = "\n"  # an empty line between different things
        self.last = kind
        match event:
            case Waiting(seconds=seconds, what=what):
                names = ", ".join(map(one_line, what))[:60] or waiting_for
                self.status(f"Waiting for {names}... {seconds:.0f} s")
            case Progress(tool=tool, progress=progress, total=total, message=message):
                of = f" of {total:g}" if total else ""
                self.status(f"{tool}: {progress:g}{of} {message}")
            case Text(text=text):
                if gap:
                    self.answer = Answer("" if self.only_answer else "\nA: ", self.size,
                                         styled=not os.getenv("NO_COLOR"))
                print(self.answer.add(clean(text)), end="", flush=True)
            case Found(server=server, tools=tools, problem=problem):
                count = f"{tools} tool{'' if tools == 1 else 's'}"
                self.say(f"  - {server}: {briefly(problem) or count}".replace("\n", "\n    "))
            case ToolCall(tool=tool):
                self.murmur(f"{gap}[Calling {one_line(tool)}...]")
            case ToolResult(text=text, failed=failed, files=files):
                if failed:  # in one line: how the error begins, and how it ends
                    text = " ".join(text.split())
                    text = text if len(text) < 400 else f"{text[:100]} ... {text[-295:]}"
                    self.murmur(f"[{text}]")
                for file in files:
                    self.murmur(f"[Saved {file}]")
            case Note(text=text):
                self.murmur(f"{gap}[{text}]")
            case Question() if sys.stdin.isatty():
                self.ask(event)

    def read_line(self) -> str | None:
        """What somebody types at the prompt; None: quit, exit, or Ctrl-D."""
        with contextlib.suppress(ImportError):
            import readline  # makes input() a line editor with a history (Windows has its own), ...
            readline.parse_and_bind("set enable-bracketed-paste on")  # and a pasted text one line
        print(flush=True)
        try:
            line = input("You: ").strip()
            return None if line.lower() in ("quit", "exit", "/quit", "/exit") else line
        except EOFError:
            print()
            return None

    def introduce(self, chat: Any, talks: bool) -> None:
        """Say what there is, before a Chat begins that `talks` or answers just one question."""
        self.say("\n" + chat.llm.connected.replace("{servers}", str(len(chat.working)))
                 .replace("{tools}", str(len(chat.tools))))
        if not chat.servers:
            self.say("No MCP servers configured, so this is a plain chatbot. For one with tools:\n"
                     "  cp mcp_servers.example.json mcp_servers.json\n"
                     "To see one at once:\n  uv run python chat.py --demo")
        elif not chat.tools:
            self.say("No tools discovered, so this is a plain chatbot. /servers shows why.")
        if talks:
            self.say("Type 'quit' or 'exit' to end\n" + "-" * 40)

    def ask(self, question: Question) -> None:
        """Have the person at the keyboard answer."""
        default = f" [{question.default}]" if question.default else ""
        self.say(f"\n{question.text}{default}")
        if question.choices:
            self.say("  ".join(f"[{key}] {meaning}" for key, meaning in question.choices.items()))
        elif not self.explained:
            self.explained = True
            self.murmur("[Enter takes what is in brackets; - leaves it out. "
                        "Ctrl-D gives no answer.]")
        prompt = "" if self.only_answer else "> "  # (input() would print it among the answer)
        with contextlib.suppress(EOFError):
            question.answer = input(prompt).strip()
            if question.choices:
                question.answer = chosen(question.answer, question.choices)


def chosen(typed: str, choices: dict[str, str]) -> str:
    """The key of what somebody has typed: "yes" is as good as "y", but "abort" is no "a".

    >>> chosen("Yes", {"y": "yes", "n": "no"}), chosen("abort", {"a": "always"})
    ('y', 'abort')
    """
    typed = typed.lower()
    return {meaning: key for key, meaning in choices.items()}.get(typed, typed)
