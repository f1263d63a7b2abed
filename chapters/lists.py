"""Lists: what does a server have, and how long is that true?

A server has up to four lists, and each of them may come in pages:

    tools/list, resources/list, resources/templates/list, prompts/list

    we send   {"method": "tools/list", "params": {}}
    we get    {"tools": [...], "nextCursor": "p2", "ttlMs": 300000}
    we send   {"method": "tools/list", "params": {"cursor": "p2"}}
    we get    {"tools": [...]}

Nobody should wait for a list that we have asked for a minute ago. So we keep what we know, and ask
again in the background:

    when "ttlMs" (milliseconds) has run out, or the last try has failed    after an answer
    when the server says notifications/tools/list_changed                  at once

The next question to the model uses what is there by then. A new server's list without "ttlMs", or
with 0, should count as old at once. That would cost requests after each answer, so we take it as
true until something says otherwise.

https://modelcontextprotocol.io/specification/2026-07-28/server/utilities/pagination and
https://modelcontextprotocol.io/specification/2026-07-28/server/utilities/caching

Left out: subscriptions/listen, with which a new server can be asked to tell of changes. What there
is to say about a list is said at the start, not when it is asked for again in the background.

Try it. This server has two pages:

>>> from types import SimpleNamespace
>>> pages = [{"tools": [{"name": "add"}], "nextCursor": "p2"}, {"tools": [{"name": "weather"}]}]
>>> toy = SimpleNamespace(is_new=False, ask=lambda *request: pages.pop(0),
...                       server=SimpleNamespace(url="", tools=[], timeout=60))
>>> offers = Offers(toy)
>>> offers.fetch("tools", Job())
[{'name': 'add'}, {'name': 'weather'}]
>>> offers.is_old("tools"), offers.is_old("prompts")
(False, True)
"""

import contextlib
import math
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from chapters import header_arguments, trace
from chapters.events import Note
from chapters.inboxes import METHOD_NOT_FOUND
from chapters.jobs import Job, in_background
from chapters.outside import MAX_BYTES, Failure, as_dict, as_list, is_number

METHODS = {"tools": "tools/list", "resources": "resources/list",
           "resourceTemplates": "resources/templates/list", "prompts": "prompts/list"}
MAX_PAGES = 1000  # of one list
A_MOMENT = 0.1    # seconds: several changes often come together


class Offers:
    """What one server has. `connection` is chat.py's Connection to it."""

    def __init__(self, connection: Any):
        self.connection = connection
        self.capabilities: dict | None = None    # {"tools": {"listChanged": true}}; None: not told
        self.known: dict[str, list[dict]] = {}   # by list, like "tools"
        self.until: dict[str, float] = {}        # by list: the time.monotonic() when it gets old
        self.mirrored: dict[str, header_arguments.Mirrored | None] = {}  # by tool
        self.job = Job()                         # what happens in the background
        self.one_at_a_time = threading.Lock()
        self.thread = threading.Thread()         # the last of refresh_in_background()

    def learn(self, about: dict) -> None:
        """The server says what it has: {"capabilities": {"tools": {"listChanged": true}}}"""
        self.capabilities = as_dict(about.get("capabilities"))

    def has(self, key: str) -> bool:
        """Whether the server says that it has this list, or hasn't told us what it has."""
        return self.capabilities is None or feature(key) in self.capabilities

    def tells_of_changes(self, key: str) -> bool:
        """Whether the server has promised to tell us when this list has changed. A new server does
        so only for those who have subscribed."""
        offer = (self.capabilities or {}).get(feature(key))
        return not self.connection.is_new and bool(as_dict(offer).get("listChanged"))

    def is_old(self, key: str) -> bool:
        """Whether it should be asked for. (Tools are, also where a server doesn't name them.)"""
        return self.until.get(key, 0) <= time.monotonic() and (key == "tools" or self.has(key))

    def fetch(self, key: str, job: Job) -> list[dict]:
        """Ask for one whole list, remember and return it. Raises Failure; then what we knew stays,
        and is old."""
        began, self.until[key] = time.monotonic(), math.inf  # until something says otherwise
        items: list[dict] = []
        try:
            for page in pages_of(self.connection, key, job):
                items += map(as_dict, as_list(page.get(key)))
                lasts = page.get("ttlMs")
                if self.connection.is_new and is_number(lasts) and lasts > 0:
                    self.until[key] = min(self.until.get(key, 0), began + lasts / 1000)
        except Failure:
            self.until.pop(key, None)
            raise
        self.known[key] = self.usable_tools(items, job) if key == "tools" else items
        return self.known[key]

    def usable_tools(self, items: list[dict], job: Job) -> list[dict]:
        """The tools that the person has chosen, each once, and without those that can't be used."""
        server, found = self.connection.server, {}
        for tool in items:
            as_a_task = as_dict(tool.get("execution")).get("taskSupport") == "required"
            if isinstance(name := tool.get("name"), str) and name in (server.tools or [name]) \
                    and not as_a_task:  # (we can't run tasks)
                found[name] = tool
        if self.connection.is_new and server.url:
            header_arguments.look_for(found, self.mirrored, server.name, job)
        return list(found.values())

    def changed(self, what: str) -> None:
        """The server says that its "tools", "resources" or "prompts" have changed."""
        for key in METHODS:
            if feature(key) == what and self.until.get(key) != 0:
                self.until[key] = 0
                in_background(self.refresh, [key])

    def expire(self) -> None:
        """A session or a program has begun anew, so everything may have changed."""
        self.until = dict.fromkeys(self.until, 0)

    def refresh_in_background(self, keys: Iterable[str] = METHODS) -> None:
        """Ask for those of these lists that are old. wait() waits for that."""
        if any(map(self.is_old, keys)) and not self.thread.is_alive():
            self.thread = in_background(self.refresh, keys)

    def look_again(self, keys: Iterable[str]) -> None:
        """Somebody wants to see these lists as they are now: ask for what may have changed without
        our knowledge, because the server neither says how long it is true, nor tells of changes."""
        for key in keys:
            if self.until.get(key) == math.inf and not self.tells_of_changes(key):
                self.until[key] = 0
        self.refresh_in_background(keys)

    def wait(self, seconds: float) -> None:
        """Wait for what refresh_in_background() has begun."""
        if self.thread.is_alive():
            self.thread.join(max(0, seconds))

    def refresh(self, keys: Iterable[str]) -> None:
        """Ask for these lists if, in a moment, they are (still) old."""
        self.job.cancelled.wait(A_MOMENT)
        with self.one_at_a_time:
            if self.capabilities is None:  # (an older server has told us in the handshake)
                with contextlib.suppress(Failure):
                    self.learn(self.connection.ask("server/discover", {}, self.job))
            for key in filter(self.is_old, keys):
                with contextlib.suppress(Failure):
                    self.fetch(key, self.job)


def feature(key: str) -> str:
    """What a list belongs to: "resources" for "resourceTemplates"."""
    return METHODS[key].partition("/")[0]


def pages_of(connection: Any, key: str, job: Job) -> Iterator[dict]:
    """Each page of a list. Raises Failure."""
    cursors: list[str] = []  # of the pages so far. ("" is one, too.)
    size = 0
    # (On a tour, somebody reads each page.)
    end = math.inf if trace.guide else time.monotonic() + 10 * connection.server.timeout
    while len(cursors) < MAX_PAGES and size < MAX_BYTES and time.monotonic() < end:
        try:
            page = connection.ask(METHODS[key], {"cursor": cursors[-1]} if cursors else {}, job)
        except Failure as failure:
            # Some servers have no tools, but other things. They don't all say so in the same way.
            # (-32603 doesn't: something has broken there.)
            has_none = failure.code == METHOD_NOT_FOUND or failure.code not in (0, -32603) and \
                key not in connection.offers.known and not connection.offers.has(key)
            if cursors or not connection.ready or not has_none:
                raise
            return
        yield page
        size += len(str(page))
        cursor = page.get("nextCursor")
        if not isinstance(cursor, str) or cursor in cursors:
            return
        cursors.append(cursor)
    job.report(Note(f"{connection.server.name}: not all of its {key} came. The rest is left out."))
