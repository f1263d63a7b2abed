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
>>> place, pause(place)
({'id': '5', 'retry': '3000'}, 3.0)
"""

import contextlib
import re
import time
from typing import Any

import urllib3  # what requests is made with; here only for the names of its errors

from chapters import http_session
from chapters.inboxes import Inbox, is_request
from chapters.jobs import in_background
from chapters.outside import Failure, Problem
from chapters.versions import OLD_TRANSPORT

MAX_VISITS = 100   # so often we come back to a stream that ends within seconds; 4 times if it fails
LEAST_PAUSE = 0.3  # seconds
NO_ANSWER = (OSError, urllib3.exceptions.HTTPError, UnicodeError, Problem)  # with all of requests'


def remember(event: dict[str, str], place: dict[str, str]) -> None:
    """Keep in `place` where we are in a stream: the id and the "retry" of its last event. Raises
    Failure if it is a stream of the transport of 2024."""
    if event.get("event") == "endpoint":
        raise Failure("refused", OLD_TRANSPORT)
    place |= {key: event[key] for key in ("id", "retry") if key in event}


def get(http: Any, message: dict, inbox: Inbox, place: dict[str, str]) -> bool:
    """Like Http.post, with GET: we listen, or come back to our `place` in a stream."""
    headers = {**http.headers_for({}), "Accept": "text/event-stream"}
    if place.get("id"):
        headers["Last-Event-ID"] = place["id"]
    with http_session.send(http.session, "GET", http.url, inbox, headers, auth=http.auth) as answer:
        return http.take_in(answer, message, inbox, place)


def pause(place: dict[str, str]) -> float:
    """Seconds to wait before we come back."""
    asked = place.get("retry", "")
    return max(LEAST_PAUSE, int(asked) / 1000 if re.fullmatch("[0-9]{1,8}", asked) else 1)


class WithSession:
    """What chat.py's Http has only for older servers."""

    send: Any        # these two are chat.py's: how to send a message, and the HTTP session
    session: Any
    session_id = ""  # the server may give one out
    listener: Inbox | None = None  # for what it says unasked; `opened` when we can hear it

    def listen(self) -> None:
        """Hear what the server says unasked, in the background. Many have no such stream."""
        if self.listener:
            self.listener.close()  # of an earlier session
        self.listener = Inbox()
        self.send({}, self.listener)  # a GET; what comes is no answer, so it is heard there

    def wait_for_stream(self, message: dict) -> None:
        """Before a call, wait until we hear what the server may ask us there."""
        if message.get("method") == "tools/call" and self.listener:
            self.listener.opened.wait(1)

    def open(self) -> bool:
        """Whether something had to be started. (A program has to, see stdio.py.)"""
        return False

    def close(self, seconds: float = 2) -> None:
        """Tell the server that we leave, but don't wait for longer than these seconds."""
        if self.listener:
            self.listener.close()
        if self.session_id and seconds:
            in_background(end_session, self).join(seconds)
        self.session_id = ""  # close() may be called twice
        self.session.close()


def resume(http: Any, message: dict, inbox: Inbox, place: dict[str, str]) -> bool:
    """A stream has ended. If it was the one for what a server says unasked, or if an older server
    has broken off its answer to `message`, and says where we are in it: GET the rest, which may
    come in several parts. Returns whether there is an answer now."""
    is_broken_off = is_request(message) and place.get("id") and not http.connection.is_new
    visits = MAX_VISITS if is_broken_off or inbox is http.listener else 0
    while visits > 0 and not inbox.closed.wait(pause(place)):
        began = time.monotonic()
        try:
            if get(http, message, inbox, place):
                return True
        except NO_ANSWER:  # whatever it was: our call is at work there, and must not be made again
            visits -= MAX_VISITS // 4
        else:  # (some servers end each stream after a minute, again and again)
            visits = visits - 1 if time.monotonic() < began + 10 else MAX_VISITS
    return False


def end_session(http: Any) -> None:
    """Say goodbye. (Some servers don't let us; then they find out by themselves.)"""
    with contextlib.suppress(*NO_ANSWER), \
            http_session.send(http.session, "DELETE", http.url, Inbox(), auth=http.auth,
                              headers=http.headers_for({}), seconds=2):
        pass
