r"""Addresses: where may we go, when a stranger names the place?

To sign in is to follow addresses that somebody else wrote down, with secrets in hand. So every
address is looked at before we go there, and one function makes all the requests:

    https://id.example.com/token       yes
    http://id.example.com/token        no: anybody on the way could listen
    http://localhost:8000/token        yes: on this computer nobody can, ...
    https://192.168.1.1/admin          ... but no server out there may send us into our own network
    https://good.example\@evil.example no: two programs may read it in two ways

What comes back is believed only if it has the right shape, and speaks for what we asked about.

https://modelcontextprotocol.io/specification/2026-07-28/basic/authorization and, with the attacks
that this prevents, RFC 9700, https://www.rfc-editor.org/rfc/rfc9700

Left out: looking up where a name leads. Companies have names for machines in their own network.

Try it:

>>> is_safe("https://id.example.com"), is_safe("http://id.example.com")
(True, False)
>>> is_safe("https://192.168.1.1", near="https://example.com/mcp")
False
>>> fetch("GET", "http://localhost:9/")  # doctest: +IGNORE_EXCEPTION_DETAIL
Traceback (most recent call last):
chapters.addresses.Temporary: could not reach localhost:9 (connection refused). Try again later.
"""

import contextlib
import ipaddress
import json
import re
import socket
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import requests

from chapters.outside import Problem

MCP_VERSION = "2026-07-28"
MAX_BYTES = 2**20  # of an answer; the real ones have a few hundred
LOCALHOST = ("localhost", "127.0.0.1", "::1")
UNSAFE = "the server sent an unsafe sign-in address. Check the server's URL, or ask its owner."
# What stands in a library's error, what it means, and what to do. (Its own words may hold secrets.)
WHY_NOT = [
    ("ProxyError", "your proxy doesn't let us through", "Look at HTTPS_PROXY and NO_PROXY."),
    ("NameResolution|gaierror", "there is no such host", "Or is this computer offline?"),
    ("SSL", "no safe https connection", "Behind a company's proxy, put the file with the company's "
     "certificate into REQUESTS_CA_BUNDLE."),
    ("Timeout", "no answer in time", "Try again later."),
    ("refused", "connection refused", "Try again later."),
    ("", "the connection broke off", "Check your connection and try again."),
]


class Temporary(Problem):
    """It just didn't work now. `reason` is its short form."""

    def __init__(self, text: str, reason: str):
        super().__init__(text)
        self.reason = reason


# ── Where we may go ──────────────────────────────────────────────────────────────────────

def is_safe(url: object, near: str = "https://localhost") -> bool:
    """Whether we may go to an address that somebody else named. `near` is the address of who did:
    out of our own network, nobody may send us into it."""
    if not isinstance(url, str) or len(url) > 8000 or re.search(r"[^\x21-\x7e]|[\\#]", url):
        return False
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    encrypted = parts.scheme == "https" or parts.scheme == "http" and host in LOCALHOST
    return bool(encrypted and host and port != 0 and not re.search("[@%]", parts.netloc) and (
        not is_local(host) or is_local(urlsplit(near).hostname or "")))


def is_local(host: str) -> bool:
    """Whether this names a machine in our own network, as far as one can see.

    >>> is_local("localhost"), is_local("10.0.0.5"), is_local("2130706433"), is_local("a.com")
    (True, True, True, False)
    """
    host = host.lower().rstrip(".")
    for spelled in (lambda: host, lambda: socket.inet_aton(host)):  # as usual, or oddly
        with contextlib.suppress(OSError, ValueError):
            return not ipaddress.ip_address(spelled()).is_global
    return host == "localhost" or host.endswith(".localhost")


def origin(url: str) -> str:
    """
    >>> origin("https://ada@Example.com:443/mcp?x=1")
    'https://example.com'
    """
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    usual = parts.port in (None, {"https": 443, "http": 80}.get(parts.scheme))
    return f"{parts.scheme}://{host}" + ("" if usual else f":{parts.port}")


def canonical(url: str) -> str:
    """One spelling for one server.

    >>> canonical("HTTPS://Example.com:443/"), canonical("https://example.com/mcp?key=x")
    ('https://example.com', 'https://example.com/mcp')
    """
    path = urlsplit(url).path
    return origin(url) + ("" if path == "/" else path)


def covers(resource: object, server_url: str) -> bool:
    """Whether a resource is this server, or a folder that the server is in.

    >>> covers("https://a.com", "https://a.com/api"), covers("https://a.com/ap", "https://a.com/api")
    (True, False)
    """
    def folder(url: str) -> str:  # (this computer has several names)
        place = re.sub(r"//(\[::1\]|127\.0\.0\.1)(?=:|$)", "//localhost", origin(url))
        return place + urlsplit(url).path.rstrip("/") + "/"

    return is_safe(resource, server_url) and folder(server_url).startswith(folder(str(resource)))


# ── The careful request ──────────────────────────────────────────────────────────────────

@dataclass
class Answer:
    status: int
    document: dict | None = field(default=None, repr=False)  # the JSON object in it
    location: str = ""                                       # where a redirect goes: an address


def get_document(candidates: list[str], near: str) -> Answer:
    """Get the first of these documents that exists, or else an answer that has none. Raises
    Problem."""
    for url in dict.fromkeys(candidates):
        for _ in range(4):  # redirects are followed, but looked at like all addresses
            if not is_safe(url, near):
                raise Problem(UNSAFE)
            answer = fetch("GET", url, {"MCP-Protocol-Version": MCP_VERSION})
            if answer.status >= 500 and answer.status != 502:
                # A hiccup. It doesn't mean that there is no document.
                raise unreachable(url, f"HTTP {answer.status}", "Try again later.")
            if not 300 <= answer.status < 400:
                break
            url = answer.location
        if answer.status == 200 and answer.document is not None:
            return answer
    return replace(answer, document=None)


def fetch(method: str, url: str, headers: dict | None = None, may_redirect: bool = False,
          **options: Any) -> Answer:
    """One request to a safe address. Redirects are not followed, because a POST would carry its
    secrets along. Raises Problem."""
    found: list[Answer | Exception] = []

    def work() -> None:
        try:
            found.append(exchange(method, url, headers or {}, options))
        except (OSError, ValueError) as error:  # (all that requests raises is an OSError)
            found.append(error)

    # In a thread, since a service may take its time with each byte: no timeout ends that.
    thread, end = threading.Thread(target=work, daemon=True), time.monotonic() + 60
    thread.start()
    while thread.is_alive() and time.monotonic() < end:
        thread.join(0.1)
    answer = found[0] if found else TimeoutError("Timeout")
    if isinstance(answer, Exception):
        raise unreachable(url, *next((why, advice) for pattern, why, advice in WHY_NOT
                                     if re.search(pattern, repr(answer))))
    if 300 <= answer.status < 400 and method == "POST" and not may_redirect:
        raise Problem("the sign-in service redirected a private request. Nothing was sent on.")
    return answer


def exchange(method: str, url: str, headers: dict, options: dict) -> Answer:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
    # To this computer there is no proxy on the way.
    proxies = {"http": "", "https": ""} if urlsplit(url).hostname in LOCALHOST else None
    with requests.Session() as session:
        # (requests looks at each redirect, and reads it whole, although we let it follow none.)
        session.get_redirect_target = lambda resp: None  # type: ignore[assignment]
        # With no `auth`, requests would add a password from ~/.netrc.
        with session.request(method, url, headers=headers, auth=lambda request: request,
                             timeout=(5, 30), allow_redirects=False, stream=True,
                             proxies=proxies, **options) as response:
            body = b""
            for piece in response.iter_content(65536):
                body += piece
                if len(body) > MAX_BYTES:
                    body = b""
                    break
    answer, found = Answer(response.status_code), response.headers
    with contextlib.suppress(ValueError, RecursionError):
        answer.location = found.get("Location", "") and urljoin(url, found["Location"])
        is_form = found.get("Content-Type", "").startswith("application/x-www-form-urlencoded")
        document = dict(parse_qsl(body.decode("utf-8", "replace"))) if is_form else json.loads(body)
        answer.document = document if isinstance(document, dict) else None
    return answer


def unreachable(url: str, why: str, advice: str) -> Temporary:
    return Temporary(f"could not reach {clean(urlsplit(url).netloc)} ({why}). {advice}", why)


# ── What we believe of it ────────────────────────────────────────────────────────────────

def clean(text: object) -> str:
    """Somebody else's words: short, and no codes in them that a terminal would obey."""
    return "".join(letter for letter in str(text) if letter.isprintable()).strip()[:200]


def is_text(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\x20-\x7e]+", value) is not None


def texts(value: object) -> list[str]:
    """A list of strings from somebody's document; nothing, if it isn't one."""
    return value if isinstance(value, list) and all(map(is_text, value)) else []


def number(value: Any) -> float | None:
    """A number, or a number as a text; None: anything else."""
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def scopes_in(*values: object) -> list[str]:
    """The single scopes in "read write" or ["read", "write"], without what can't be one.

    >>> scopes_in("read write", ["read", "all"])
    ['read', 'write', 'all']
    """
    found = [word for value in values
             for word in (value.split(" ") if isinstance(value, str) else texts(value))]
    return [word for word in dict.fromkeys(found)
            if re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]+", word)]
