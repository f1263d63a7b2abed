"""Failures: what does it mean when no answer comes back, and may we ask again?

Between us and a server there are proxies, gateways and firewalls, and a URL may be wrong. So the
answer to a POST can be a page for people, a status without a body, a certificate that has run out.
Each of these becomes one sentence that says what happened, and one that says what to do:

    HTTP/1.1 404 Not Found          there is no MCP server at this address (404 Not Found).
    Content-Type: text/html         Check its "url".

A JSON-RPC error may come with any status. Then the error counts, because the server itself has
sent it. But with 401, 403, 429 and 5xx the status counts: a machine on the way may have said it.

Reading does no harm, so it may be tried again. But a tool may have done its work although we never
heard of it: if we ask twice to send a mail, two are sent. So a call is repeated only where the
server has certainly not done it; and everything is repeated only once.

    what has happened                        a list   a call   what we do first
    429, it has too much to do               yes      yes      wait as long as it says, up to 10 s
    an older server has forgotten us         yes      yes *    shake hands again
    a new one wants other headers (-32020)   no       yes      ask for its tools: they say which
    it speaks other versions now (-32022)    yes      yes      look which
    you have to open a page first (-32042)   yes      yes      ask you to
    it hung up, or what comes makes no sense yes      no       wait a second
    5xx, it has a problem of its own         yes      no       wait as long as it says

    * unless its error carries our request's id: then it has looked at it

https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http and, for
the session, https://modelcontextprotocol.io/specification/2025-11-25/basic/transports

Left out: signing in, which is oauth_handler.py. An older server that has forgotten our session is
understood where it says so with 404, or in words with 400, 401 or 422.

Try it:

>>> from types import SimpleNamespace
>>> toy = SimpleNamespace(url="http://localhost:9/mcp?token=abc", headers={}, env={})
>>> print(in_words(requests.exceptions.ConnectTimeout(), toy))
nobody answers at localhost:9. Is the server running?
>>> busy, broken = Failure("status", "", 429), Failure("broken", "")
>>> [does_no_harm(failure, "tools/call") for failure in (busy, broken)]
[True, False]
"""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3  # what requests is made with; here only for the names of its errors

from chapters import elicitation
from chapters.http_session import causes, host_in, reason_in, with_proxy
from chapters.inboxes import METHOD_NOT_FOUND, is_answer, is_request, messages_in, refusal
from chapters.jobs import Job
from chapters.outside import (
    Failure,
    Problem,
    clean,
    has_token,
    one_line,
    without_ours,
    without_secrets,
    without_tags,
)
from chapters.replies import words_in
from chapters.versions import HEADER_MISMATCH, OLD_TRANSPORT, UNSUPPORTED, offered_in

# What has happened, and what to do. The words of the server come in between.
STATUS_IN_WORDS = {
    3: "it has moved to {there} ({status}).\nPut its new address in \"url\".",
    4: "it doesn't understand us ({status}).\nIs its \"url\" the address of an MCP server?",
    5: "it has a problem of its own ({status}).\nTry again later.",
    401: 'it wants to know who you are ({status}).\nSign in ("auth_type": "oauth") or set a token.',
    403: "it doesn't let us in ({status}).\nAsk its owner, or sign in: \"auth_type\": \"oauth\".",
    404: "there is no MCP server at this address ({status}).\nCheck its \"url\".",
    429: "it has too much to do ({status}).\nTry again in a minute.",
}
FORGETFUL = ("it has forgotten our session.\nIf it does so each time, several machines answer at "
             "this address, and don't share their sessions.")
# By the names of a library's errors, and by the reason in the innermost of them.
ON_THE_WAY = {
    "InvalidURL|LocationParseError|UnsupportedProtocol":
        "an address on the way to {host} can't be right.\nCheck {setting}.",
    "InvalidHeader|Unicode|Illegal header":  # (the reason would show the header)
        "{headers} can't be sent: they have a line end or a character in them that isn't plain.",
    "Proxy|scheme for proxy|SOCKS":
        "your proxy doesn't let us through to {host}{reason}.\nMost proxies are http://..., also "
        "for https. For SOCKS, start with: uv run --with pysocks --with socksio python chat.py",
    "SSL|certificate bundle|FileNotFound|IsADirectory|OpenAIError Permission":
        "there is no safe https connection to {host}{reason}.\nDoes it speak https? Look at "
        "{files}: a company's certificate goes there.",
    "NameResolutionError|gaierror": "there is no {host}, or this computer is offline.",
    "NewConnectionError|ConnectTimeout|ConnectError": "{nobody}{reason}",
    "": "{it} broke off, or what it has sent can't be read{reason}.{again}",
}


# ── What it means ────────────────────────────────────────────────────────────────────────

def in_words(error: Exception, server: Any) -> Exception:
    """The Failure for whatever went wrong with one HTTP request to a `Server`. (An error of ours
    stays what it is.)"""
    if isinstance(error, Failure):
        return error
    if isinstance(error, Problem):  # of oauth_handler.py: some can be helped by signing in
        login = getattr(error, "login", None)
        return Failure("login" if login else "unreachable", str(error), login=login)
    if not isinstance(error, (OSError, urllib3.exceptions.HTTPError, UnicodeError)):
        return error  # (all that requests raises is an OSError)
    nobody = f"nobody answers at {host_in(server.url)}. Is the server running?"
    failure = on_the_way(error, server.url, it="it", again="", nobody=nobody, setting='its "url"',
                         headers='its "headers"', files="REQUESTS_CA_BUNDLE (or CURL_CA_BUNDLE)")
    return Failure(failure.kind, without_ours(str(failure), server))


def on_the_way(error: BaseException, url: str, **words: str) -> Failure:
    """What went wrong on the way to an address, and what to do. The `words` fill in ON_THE_WAY."""
    reason = reason_in(error)
    names = " ".join(type(one).__name__ for one in causes(error)) + reason
    kind = next(kind for kind in ON_THE_WAY if re.search(kind, names))
    text = ON_THE_WAY[kind].format(host=host_in(url), reason=reason, **words)
    return Failure("unreachable" if kind else "broken", with_proxy(text, url))


def messages_in_body(response: requests.Response, body: bytes, message: dict, server: Any
                     ) -> list[dict]:
    """The messages in the answer to `message`. Raises the Failure that stands there instead."""
    status, found = response.status_code, messages_in(body, server.name)
    if is_forgotten(response, body):
        # (With our id in its error, it has looked at our request. `data` says so.)
        ours = [one.get("error") for one in found if is_answer(one, message) and status != 404]
        words = str(refusal(ours[0], server)) if ours else FORGETFUL
        raise Failure("session", words, status, data=ours)
    is_the_servers_own = status < 500 and status not in (401, 403, 429)
    for incoming in found:
        # It is our answer, whatever its id: some servers put null.
        counts = status < 300 or is_the_servers_own and "jsonrpc" in incoming
        if "error" in incoming and counts:
            error = incoming["error"]  # (where it is a text, more may stand beside it)
            raise refusal(error if isinstance(error, dict) else incoming, server, status)
    if status >= 300:
        raise by_status(response, body, server)
    if not found and (is_request(message) or not message):  # ({}: it was a GET)
        kind = response.headers.get("Content-Type", "nothing")[:60]
        words = f'it answers with {kind}, not with MCP.\nCheck its "url".'
        raise Failure("broken", with_proxy(words, server.url), status)
    return found


def by_status(response: requests.Response, body: bytes, server: Any) -> Failure:
    """What a status means, and what the server says itself."""
    status, seconds = response.status_code, response.headers.get("Retry-After", "")
    there = (response.headers.get("Location") or "another address").partition("#")[0]
    token = response.request.headers.get("Authorization", "").rpartition(" ")[2]
    words = STATUS_IN_WORDS.get(status) or STATUS_IN_WORDS[min(status // 100, 5)]
    if token or has_token(server):
        words = words.replace("it wants to know who you are", "it doesn't accept our token")
    words = words.format(status=clean(f"{status} {response.reason}")[:60],
                         there=one_line(without_ours(without_secrets(there), server)))
    if said := without_tags(words_in(body.decode("utf-8", "replace"))):
        said = one_line(without_ours(said, server).replace(token or "\0", "***"))[:150]
        words = words.replace("\n", f' It says: "{said}"\n', 1)
    if urlsplit(response.url).path.rstrip("/").lower().endswith("/sse"):
        words += f" (Or {OLD_TRANSPORT.partition('.')[0]}.)"
    words = words if body.lstrip()[:1] in (b"{", b"[") else with_proxy(words, server.url)
    wait = min(int(seconds), 10) if re.fullmatch("[0-9]{1,4}", seconds) else 1
    return Failure("status", words, status, retry_after=wait)


def is_forgotten(response: requests.Response, body: bytes) -> bool:
    """Whether an older server says that it doesn't know our session. It should do so with 404, but
    some say it with another status, in words."""
    if "Mcp-Session-Id" not in response.request.headers:
        return False
    if response.status_code == 404:
        return str(METHOD_NOT_FOUND).encode() not in body
    in_words = re.search(b"session|not initialized", body, re.I)
    return bool(in_words) and response.status_code in (400, 401, 422)


# ── Whether to ask again ─────────────────────────────────────────────────────────────────

def does_no_harm(failure: Failure, method: str) -> bool:
    """Whether a request that failed like this may be sent again, just as it is."""
    return failure.status == 429 or method != "tools/call" and (
        failure.kind == "broken" or failure.status >= 500)


def at_most_twice(send: Callable[[], dict], connection: Any, method: str, job: Job) -> dict:
    """The result of a request that send() sends; it is sent again where that does no harm. Raises
    Failure."""
    try:
        return send()
    except Failure as failure:
        if job.cancelled.is_set() or not may_ask_again(connection, failure, method, job):
            raise
    return send()


def may_ask_again(connection: Any, failure: Failure, method: str, job: Job) -> bool:
    """Whether to send a request again; if so, what has to come before has been done. `connection`
    is chat.py's Connection."""
    if failure.kind == "session":
        connection.forget(failure.handshakes)
        return not failure.data or method != "tools/call"
    # (Only of a new server, over HTTP, we know what its tools want in headers.)
    if failure.code == HEADER_MISMATCH and method == "tools/call" and connection.offers.mirrored:
        connection.offers.fetch("tools", job)
        return True
    if failure.code == UNSUPPORTED and offered_in(failure) and connection.offers.known:
        # It is another program by now. (Without `known`, we have asked it twice already.)
        with connection.greeting:  # (another call may have found out before us)
            if connection.handshakes == failure.handshakes:
                connection.version, connection.ready = "", False
                connection.offers.capabilities = None
                connection.offers.expire()
        return True
    if failure.code == elicitation.OPEN_PAGE_FIRST:
        return elicitation.open_pages(connection, failure, job)
    return does_no_harm(failure, method) and not job.cancelled.wait(failure.retry_after)
