"""Older servers: what do they do over HTTP that new ones don't?

Before 2026-07-28, a server could have a session with each client, and speak without being asked. So
there are three more things that one can do besides a POST:

    GET /mcp                              a stream for what belongs to no request, like
    Mcp-Session-Id: 1f3a                  {"method": "notifications/tools/list_changed"}

    GET /mcp                              the rest of an answer that was broken off: each event has
    Last-Event-ID: 5                      an id, and this is the last one that we have seen

    DELETE /mcp                           the end of our session
    Mcp-Session-Id: 1f3a

https://modelcontextprotocol.io/specification/2025-11-25/basic/transports

Left out: resources that one subscribes to. `http` is chat.py's Http, with its one POST.

Try it. Each event says where we are, and may say how long to wait before we ask for the rest:

>>> place = {}
>>> remember({"id": "5", "retry": "3000", "data": "{}"}, place)
>>> headers_at(place), pause(place)
({'Accept': 'text/event-stream', 'Last-Event-ID': '5'}, 3.0)
"""

import contextlib
import re
import time
from typing import Any

import requests

from chapters import http_session
from chapters.failures import in_words
from chapters.inboxes import Inbox, is_request
from chapters.outside import Failure, Problem
from chapters.versions import OLD_TRANSPORT

MAX_FRUITLESS = 3  # so often we come back without hearing anything new
LEAST_PAUSE = 0.3  # seconds


def remember(event: dict[str, str], place: dict[str, str]) -> None:
    """Keep in `place` where we are in a stream: the id and the "retry" of its last event. Raises
    Failure if it is a stream of the transport of 2024."""
    if event.get("event") == "endpoint":
        raise Failure("refused", OLD_TRANSPORT)
    for key, fits in ("id", "([!-~]([ -~]*[!-~])?)?"), ("retry", "[0-9]{1,8}"):
        if re.fullmatch(fits, event.get(key, "\n")):
            place[key] = event[key]


def get(http: Any, message: dict, inbox: Inbox, place: dict[str, str]) -> bool:
    """Like Http.post, with GET: we listen, or come back to our `place` in a stream."""
    headers = {**http.headers_for({}), **headers_at(place)}
    with http_session.send(http.session, "GET", http.url, inbox, headers, auth=http.auth) as answer:
        return http.take_in(answer, message, inbox, place)


def headers_at(place: dict[str, str]) -> dict[str, str]:
    last = {"Last-Event-ID": place["id"]} if place.get("id") else {}
    return {"Accept": "text/event-stream", **last}


def pause(place: dict[str, str]) -> float:
    """Seconds to wait before we come back."""
    return max(LEAST_PAUSE, int(place.get("retry", 1000)) / 1000)


class WithSession:
    """What chat.py's Http has only for older servers."""

    send: Any        # these two are chat.py's: how to send a message, and the HTTP session
    session: Any
    session_id = ""  # the server may give one out
    closed = False   # by another thread, perhaps while we shake hands
    listener: Inbox | None = None  # for what it says unasked; `opened` when we can hear it

    def listen(self) -> None:
        """Hear what the server says unasked, in the background. Many have no such stream."""
        if self.listener:
            self.listener.close()  # of an earlier session
        if not self.closed:
            self.listener = Inbox()
            self.send({}, self.listener)  # a GET; what comes is no answer, so it is heard there

    def wait_for_stream(self, message: dict) -> None:
        """Before a call, wait until we hear what the server may ask us there."""
        if message.get("method") == "tools/call" and self.listener:
            self.listener.opened.wait(1)

    def open(self) -> bool:
        """Whether something had to be started. (A program has to, see stdio.py.)"""
        return False

    def close(self) -> None:
        self.closed = True
        if self.listener:
            self.listener.close()
        if self.session_id:
            end_session(self)
            self.session_id = ""  # close() may be called twice
        self.session.close()

    def kill(self) -> None:
        """Nothing to do: we have started nothing."""


def resume(http: Any, message: dict, inbox: Inbox, place: dict[str, str]) -> bool:
    """A stream has ended. If it was the one for what a server says unasked, or if an older server
    has broken off its answer to `message`, and says where we are in it: GET the rest, as long as
    that brings something new. Returns whether there is an answer now. Raises Failure."""
    is_broken_off = is_request(message) and place.get("id") and not http.connection.is_new
    fruitless = 0 if is_broken_off or inbox is http.listener else MAX_FRUITLESS
    while fruitless < MAX_FRUITLESS and not inbox.closed.wait(pause(place)):
        before, began = place.get("id"), time.monotonic()
        try:
            if get(http, message, inbox, place):
                return True
        except Exception as error:
            # (A "login" must not get out: our call is at work there, and must not be made again.)
            failure = in_words(error, http.connection.server)
            if getattr(failure, "kind", "") not in (
                    "broken", "status", "session", "login", "refused"):
                raise failure from None
        went_on = place.get("id") != before or time.monotonic() > began + 10
        fruitless = 0 if went_on else fruitless + 1
    return False


def end_session(http: Any) -> None:
    """Tell the server that we leave. (Some don't let us; then they find out by themselves.)"""
    inbox = Inbox()
    with contextlib.suppress(requests.RequestException, OSError, Problem), \
            http_session.send(http.session, "DELETE", http.url, inbox, auth=http.auth,
                              headers=http.headers_for({}), seconds=2):
        pass
