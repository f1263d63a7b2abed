"""The HTTP session: what does `requests` do for us, and what do we add to it?

One requests.Session for each server keeps its connections open for the next request, and keeps its
cookies: behind one address there may be several machines, and a cookie says which of them is ours.
We add a few things.

To hang up. A tool may run for minutes. Somebody who doesn't want its answer any more, in another
thread, closes the connection; a new server ends the tool when it sees that. So we remember the
socket of each request while it is being answered, in the inbox that waits for the answer.

Redirects. A server that has moved on the same host is followed, at most three times. To another
host we don't go, because our headers, with the secrets in them, would go there, too.

No password from ~/.netrc, which is for other programs.

No proxy on the way to this computer. For all other addresses, requests looks at HTTPS_PROXY and
NO_PROXY, and at REQUESTS_CA_BUNDLE for the certificate of a company that reads what passes.

https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http and RFC
9110 (redirects), https://www.rfc-editor.org/rfc/rfc9110#section-15.4. Left out: retries. Only
failures.py knows which request may be sent twice. And servers that serve one connection after the
other: one of ours would wait for another's end.

Try it:

>>> moved = requests.Response()
>>> moved.status_code, moved.url = 307, "http://localhost:8000/mcp"
>>> moved.headers["Location"] = "https://localhost:9000/mcp"
>>> follow(moved)  # another port is another server
''
>>> moved.headers["Location"] = "/mcp/"
>>> follow(moved)
'http://localhost:8000/mcp/'
"""

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3  # what requests is made with
from requests.adapters import HTTPAdapter

from chapters import trace
from chapters.inboxes import Inbox
from chapters.outside import MAX_BYTES, TOO_LARGE, Failure, one_line

CONNECT_SECONDS = 10
THIS_COMPUTER = r"(?i)https?://([^/?#]*[.@])?(localhost|127(\.\d+){3}|0\.0\.0\.0|\[::1\])([:/?#]|$)"

here = threading.local()  # here.inbox: the inbox for which this thread sends a request


class Watched(urllib3.connection.HTTPConnection):
    """Goes before urllib3's class for a connection. Whoever waits can close it."""

    def getresponse(self) -> Any:  # our request has been sent, and now we wait
        here.inbox.socket = self.sock
        if here.inbox.closed.is_set():
            raise ConnectionAbortedError("nobody wants the answer any more")
        return super().getresponse()


class Adapter(HTTPAdapter):
    """The part of requests that does the sending."""

    def __init__(self, name: str):
        super().__init__(pool_maxsize=100)  # so many calls side by side keep their connections
        self.name = name

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if not issubclass(pool.ConnectionCls, Watched):
            pool.ConnectionCls = type("WatchedConnection", (Watched, pool.ConnectionCls), {})
        return pool

    def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
        trace.trace("-->", self.name, json.loads(request.body or "null"),
                    f"{request.method} {request.url}", request.headers.items())
        response = super().send(request, *args, **kwargs)
        trace.trace("<--", self.name, None, f"HTTP {response.status_code} {response.reason}",
                    response.headers.items())
        return response


def watch(request: Any) -> None:
    """Whoever waits for a model can close that connection, too, before the answer has begun. (The
    `openai` package sends with httpx, which hands us each request.)"""
    inbox = here.inbox

    def note(step: str, about: dict) -> None:  # it calls this with each step on the way
        if step.endswith((".connect_tcp.complete", ".start_tls.complete")):
            inbox.socket = about["return_value"].get_extra_info("socket")
        if step.endswith(".send_request_headers.started") and inbox.closed.is_set():
            raise ConnectionAbortedError("nobody wants the answer any more")

    request.extensions = {**request.extensions, "trace": note}


def new_session(name: str) -> requests.Session:
    """A session with one server. `name` is the server's, for the trace."""
    session = requests.Session()
    for scheme in "http://", "https://":
        session.mount(scheme, Adapter(name))
    # requests would follow to wherever a redirect leads. send() knows better.
    session.get_redirect_target = lambda resp: None  # type: ignore[method-assign]
    return session


def add_nothing(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """The credentials for a server that has none. (With no `auth`, requests reads ~/.netrc.)"""
    return request


@contextlib.contextmanager
def send(session: requests.Session, verb: str, url: str, inbox: Inbox, headers: dict[str, str],
         seconds: float | None = None, **more: Any) -> Iterator[requests.Response]:
    """Send a request, and give its response as soon as its headers are there. `seconds` is how
    long the server may be silent; None: until somebody calls inbox.close(), which ends it at any
    time. Raises what requests and urllib3 do."""
    here.inbox = inbox
    # (A key that was copied may have a blank or a line end at its end.)
    headers = {name: value.strip() for name, value in headers.items()}
    try:
        for redirects_left in 3, 2, 1, 0:
            with session.request(verb, url, stream=True, headers=headers, proxies=direct(url),
                                 timeout=(seconds or CONNECT_SECONDS, seconds), **more) as response:
                url = follow(response) if redirects_left else ""
                if url:
                    inbox.socket = None
                    continue
                inbox.opened.set()
                yield response
                return
    finally:
        inbox.socket = None  # from now on, it serves somebody else
        inbox.opened.set()


def follow(response: requests.Response) -> str:
    """Where to send a request instead; "": this is no redirect that we follow."""
    with contextlib.suppress(ValueError):  # (it may lead to what is no address at all)
        old = urlsplit(response.url)
        new = urlsplit(urljoin(response.url, response.headers.get("Location", "")))
        # (Behind a proxy, some servers don't know that they are spoken to with https.)
        if response.status_code in (307, 308) and new.netloc == old.netloc and \
                new.scheme in (old.scheme, "http"):
            return new._replace(scheme=old.scheme).geturl()
    return ""


def pieces_of(response: requests.Response) -> Iterator[bytes]:
    """The body, piece by piece as it comes. (read() would wait for all 64 KB, and iter_lines() of
    requests gets lines wrong that end just where a piece does.)"""
    return iter(lambda: response.raw.read1(65536, decode_content=True), b"")


def pieces_until_it_ends(response: requests.Response) -> Iterator[bytes]:
    """The same for a stream. However it ends, what has come before counts."""
    with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):
        yield from pieces_of(response)


def body_of(response: requests.Response) -> bytes:
    body = bytearray()
    for piece in pieces_of(response):
        body += piece
        if len(body) > MAX_BYTES:
            raise Failure("broken", TOO_LARGE)
    return bytes(body)


def read_rest(response: requests.Response, inbox: Inbox) -> None:
    """Only after the end of a response can its connection serve the next request. Most servers
    have no more to say once they have answered, so to read on is to find the end; for the others we
    don't wait. (Their connections are closed.)"""
    with contextlib.suppress(urllib3.exceptions.HTTPError, OSError, AttributeError):
        if not response.raw.closed:  # else its connection may serve somebody else by now
            inbox.socket.settimeout(0.2)
            response.raw.read1(65536)
    inbox.socket = None  # so that whoever gets the answer, and closes the inbox, leaves it alone


# ── The way there ────────────────────────────────────────────────────────────────────────

def direct(url: str) -> dict[str, str]:
    """What `requests` takes as `proxies`: to an address on this computer, we go without one.

    >>> direct("http://127.0.0.2:8000/mcp"), direct("https://localhost.example.com/mcp")
    ({'http': '', 'https': ''}, {})
    """
    return {"http": "", "https": ""} if re.match(THIS_COMPUTER, url) else {}


def host_in(url: str) -> str:
    return re.split("[/?#]", url)[2].rpartition("@")[2]


def with_proxy(words: str, url: str) -> str:
    """What went wrong on the way to an address. If a proxy is there, it may be the reason."""
    with contextlib.suppress(ValueError):  # (it may be no address at all)
        proxies = direct(url) or requests.utils.get_environ_proxies(url)
        if proxy := requests.utils.select_proxy(url, proxies):
            words += (f" (The reason may be your proxy, {proxy.rpartition('@')[2]}: see "
                      "HTTPS_PROXY and NO_PROXY.)")
    return words


def causes(error: BaseException) -> list[BaseException]:
    """An error of a library, the one that it was made of, and so on."""
    inside = [one for one in error.args if isinstance(one, Exception)]
    inner = inside[0] if inside else error.__cause__
    return [error, *(causes(inner) if inner else [])]


def reason_in(error: BaseException) -> str:
    """Why a library has failed, as its innermost error says, without secrets; "": it doesn't say.

    >>> reason_in(ConnectionError(OSError(111, "Connection refused")))
    ' (Connection refused)'
    """
    last = causes(error)[-1]
    text = one_line(re.sub(r"//[^/\s]*@", "//***@", getattr(last, "strerror", "") or str(last)))
    return f" ({text.rstrip('.')})" if text else ""
