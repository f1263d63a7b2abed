"""The inbox: how do we wait for one answer, when anything may come, or nothing?

To read from a network or from a program is to wait, perhaps for ever. So a thread does the reading,
and puts what comes into the inbox of a request. Whoever sent the request takes it out, and can look
at the clock and at Ctrl-C in between:

    the thread that reads                        the one who asked
        puts progress        ──▶  [ inbox ]  ──▶    for message in inbox.each(60): ...
        puts the answer      ──▶
        puts a Failure       ──▶                    which is raised there
        puts END             ──▶                    which ends the loop

A time limit is then a limit on this loop. While the loop's body runs (a person fills in a form, for
example), the clock stands still. If we give up, the server gets notifications/cancelled, or sees
that we have closed the connection.

Not all that arrives is an answer. hear() deals with the rest, in the thread that reads:

    {"method": "notifications/progress", "params": {"progressToken": 7, "progress": 3}}
    {"method": "notifications/tools/list_changed"}
    {"id": "s-1", "method": "ping"}                       an older server asks us, and waits
    {"id": "s-2", "method": "elicitation/create", ...}    an older server has a question for you

Progress and questions go into the inbox of whoever waits. The rest is done on the spot, so a ping
is answered even while somebody thinks about a question.

https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/cancellation and, for
requests from a server, https://modelcontextprotocol.io/specification/2025-11-25/basic

Left out: a limit on how long a person may think. Sampling, roots and logging, which are deprecated:
servers that ask for them hear that we can't. A question that is withdrawn stays on the screen.

Try it:

>>> inbox = Inbox()
>>> inbox.put({"method": "notifications/progress"}); inbox.put({"id": 1, "result": {}})
>>> inbox.put(END)
>>> [list(message) for message in inbox.each(seconds=60)]
[['method'], ['id', 'result']]
>>> list(inbox.each(seconds=0.1))
Traceback (most recent call last):
chapters.outside.Failure: no answer for 0.1 seconds. If it needs longer, give it a larger "timeout".
"""

import contextlib
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from chapters import trace
from chapters.jobs import Job
from chapters.outside import Failure, as_dict, is_number, loads, one_line, without_ours
from chapters.replies import words_in

END = None
MAX_WAITING = 10  # news that nobody has taken out yet; of more than that we keep none
DELIVERY_SECONDS = 10
PARSE_ERROR, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32601, -32602


class Inbox:
    """What a server sends that belongs to one request, in the order in which it comes."""

    def __init__(self, job: Job | None = None):
        self.job = job or Job()            # the one who asks
        self.items: queue.Queue = queue.Queue()
        self.put = self.items.put          # put(a message), or a Failure, or END
        self.opened = threading.Event()    # the server has begun to answer
        self.closed = threading.Event()    # nobody takes anything out any more
        self.socket: Any = None            # of the HTTP connection that is read for it, while it is

    def offer(self, item: dict) -> bool:
        """Put in what we can do without, like progress. False: there was no room for it."""
        fits = self.items.qsize() < MAX_WAITING and not self.closed.is_set()
        if fits:
            self.items.put(item)
        return fits

    def each(self, seconds: float, is_paused: Callable[[], bool] = lambda: False) -> Iterator[dict]:
        """Yield each message. Raises the Failure that was put in, and one of its own when the job
        is cancelled, when nothing comes for `seconds`, and in any case after ten times that. While
        `is_paused` (a person is thinking, about another question), the clock stands still, too, and
        so it does while somebody reads a message, on a tour."""
        silent = total = 0.0
        while True:
            began, item = time.monotonic(), {}
            with contextlib.suppress(queue.Empty):
                item = self.items.get(timeout=0.1)
            if self.job.cancelled.is_set():
                raise Failure("cancelled", "stopped.")
            if isinstance(item, Exception):
                raise item
            if item is END:
                return
            passed = 0 if is_paused() or trace.is_held() else time.monotonic() - began
            silent, total = 0 if item else silent + passed, total + passed
            if silent > seconds or total > 10 * seconds:
                raise Failure("timeout", f"no answer for {max(seconds, int(total)):g} seconds. If "
                                         'it needs longer, give it a larger "timeout".')
            if item:
                yield item

    def close(self) -> None:
        """Nobody waits any more. A connection that is still being read for us is closed."""
        self.closed.set()
        with contextlib.suppress(OSError, AttributeError):  # it may be gone, or never have been
            self.socket.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def waiting(connection: Any, message: dict, job: Job) -> Iterator[Inbox]:
    """The inbox for what comes back of a request on a connection (chat.py's Connection), as long as
    the block waits for it. If the block gives up, the server is told."""
    inbox, handshakes = Inbox(job), connection.handshakes
    connection.inboxes[message["id"]] = inbox
    try:
        yield inbox
    except Failure as failure:
        failure.handshakes = handshakes
        inbox.close()
        if failure.kind not in ("refused", "cancelled"):  # a refusal is a message, shown already
            why = "you have to sign in first" if failure.kind == "login" else one_line(failure)
            trace.trace("<--", connection.server.name, None, f"no answer: {why}")
        # A handshake is not to be cancelled, and a new server over HTTP knows it by the closed
        # connection.
        is_at_work = connection.ready and not (connection.is_new and connection.server.url)
        if failure.kind in ("cancelled", "timeout") and is_at_work:
            with contextlib.suppress(Failure):
                connection.notify("notifications/cancelled", {"requestId": message["id"]})
        raise
    finally:
        inbox.close()
        del connection.inboxes[message["id"]]


def deliver(connection: Any, message: dict) -> None:
    """Send a message that nobody answers. Raises Failure."""
    with contextlib.closing(Inbox()) as inbox:
        connection.transport.send(message, inbox)
        list(inbox.each(min(DELIVERY_SECONDS, connection.server.timeout)))  # that is, to its end


def reply_to(connection: Any, incoming: dict, reply: dict) -> None:
    """Answer a server's request `incoming` with {"result": {...}}. Raises Failure."""
    try:
        deliver(connection, {"jsonrpc": "2.0", "id": incoming["id"], **reply})
    except Failure as failure:  # our request is at work there, and must not be sent again
        raise Failure("refused", f"our answer didn't reach it: {failure}") from None


def hear(connection: Any, incoming: dict, inbox: Inbox | None = None) -> None:
    """Deal with a message that is no answer. `inbox` is that of the request on whose stream it
    came. (A program has one stream for all requests.)"""
    method, params = str(incoming.get("method")), as_dict(incoming.get("params"))
    if method == "notifications/progress":
        for number, one in list(connection.inboxes.items()):
            if number == params.get("progressToken"):
                one.offer(incoming)
    elif method.endswith("/list_changed"):
        connection.offers.changed(method.split("/")[1])
    elif is_request(incoming) and not connection.is_new:  # (a new one may not ask so)
        reply: dict = {"error": {"code": METHOD_NOT_FOUND, "message": "This client can't do that."}}
        if method == "ping":
            reply = {"result": {}}
        elif method == "elicitation/create" and connection.capabilities:
            # It doesn't say which of our requests its question belongs to. Any that waits will do.
            found = [inbox, *list(connection.inboxes.values())]
            if any(one.offer(incoming) for one in found if one and one.job.is_watched):
                return
            reply = {"result": {"action": "cancel"}}
        with contextlib.suppress(Failure):
            reply_to(connection, incoming, reply)


# ── JSON into messages ───────────────────────────────────────────────────────────────────

def messages_in(text: bytes | str, name: str, request: dict | None = None) -> list[dict]:
    """The messages in some JSON of the server called `name`; [] if there are none. (In 2025-03-26,
    several may come in a list.) Where an answer can't be read, there is an error in its place. An
    error without a number is taken for the answer to `request`: some servers put null."""
    try:
        found = loads(text)
    except ValueError as error:
        return unreadable_answer(text, str(error))
    messages = [one for one in (found if isinstance(found, list) else [found])
                if isinstance(one, dict) and {"method", "result", "error"} & set(one)]
    for message in messages:
        trace.trace("<--", name, message)
        if "result" in message and message.get("error", "") is None:
            del message["error"]  # some servers send it with each result
        if request and "error" in message and not is_number(message.get("id")):
            message["id"] = request.get("id")
    return messages


def unreadable_answer(text: bytes | str, reason: str) -> list[dict]:
    """An error for what was meant as an answer, so that nobody waits for it. Its id is mostly at
    the beginning or at the end.

    >>> unreadable_answer('{"jsonrpc": "2.0", "id": 5, "result": {"celsius": NaN}}', "NaN")
    [{'id': 5, 'error': {'code': -32700, 'message': "its answer can't be read: NaN."}}]
    """
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
    ends = raw[:1000].lstrip() + raw[-1000:]
    if ends[:1] != b"{" or b'"jsonrpc"' not in ends or b'"method"' in ends:
        return []
    number = re.search(rb'^{\s*"jsonrpc":\s*"2.0",\s*"id":\s*(\d{1,15})\b|'
                       rb'"id":\s*(\d{1,15})\s*}\s*$', ends)
    return [{"id": int(number[1] or number[2]) if number else None, "error": {
        "code": PARSE_ERROR, "message": f"its answer can't be read: {reason[:100]}."}}]


def is_request(message: dict) -> bool:
    """Whether somebody has to answer this message."""
    return {"id", "method"} <= set(message)


def is_answer(incoming: dict, message: dict) -> bool:
    """Whether this is the result or the error for the request `message`."""
    return "method" not in incoming and is_request(message) and incoming.get("id") == message["id"]


def refusal(error: object, server: Any, status: int = 0) -> Failure:
    """The Failure for {"code": -32602, "message": "Unknown tool: readings", "data": {...}}."""
    code, data = as_dict(error).get("code"), as_dict(error).get("data")
    text = without_ours(words_in(error)[:2000] or "it refused, and didn't say why.", server)
    return Failure("broken" if code == PARSE_ERROR else "refused", text, status,
                   code if isinstance(code, int) else 0, data)
