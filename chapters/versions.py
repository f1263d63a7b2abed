"""Versions: which generation of MCP does a server speak?

A new server (2026-07-28) takes any request as it comes. An older one wants to shake hands first
(chat.py, Part 4). Nobody tells us which it is, so we send our first request in the new way, and
read the answer:

    a result that has a "resultType"                         a new server
    any other result: it ignored what is new in our request  an older one
    error -32022, with the versions that it speaks           a new one if ours is among them
    error -32601 and HTTP 404: new, but without this method  a new one
    most other errors and HTTP statuses, or no answer        an older one

A program is asked with server/discover, which does nothing but tell:

    a result that lists its versions                         a new one if ours is among them
    any other result, and most errors                        an older one

The HTTP+SSE transport of 2024 is too old for us: there, a client asks with GET, and a first event
tells it where to POST (`event: endpoint`). Where all else fails, we look whether that is it.

https://modelcontextprotocol.io/specification/2026-07-28/basic/versioning

Left out: servers with a newer version than ours that don't say so, and a server that becomes one of
the other generation while we run, and doesn't say so with -32022.

Try it:

>>> is_new("tools/list", {"resultType": "complete", "tools": []})
True
>>> is_new("tools/list", {"tools": []})
False
>>> is_new("server/discover", {"supportedVersions": ["2025-11-25"]})
False
>>> no = Failure("refused", "No.", 400, UNSUPPORTED, {"supported": ["2030-01-01"]})
>>> is_new("tools/list", no)
Traceback (most recent call last):
chapters.outside.Failure: it speaks MCP 2030-01-01, and we only 2026-07-28, 2025-11-25, \
2025-06-18, 2025-03-26, 2024-11-05.
"""

from typing import Any

from chapters.inboxes import INVALID_PARAMS, METHOD_NOT_FOUND, deliver
from chapters.outside import Failure, as_dict, as_list

NEWEST = "2026-07-28"  # the version that we would rather speak
OLDER = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]
ABOUT_US = {"name": "simple-mcp-chat", "version": "1.0.0"}  # our version stands only here
HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED = -32020, -32021, -32022
INVALID_REQUEST = -32600
PATIENCE = 10  # seconds to wait for the first answer of all
OLD_TRANSPORT = ('its "url" is one of the HTTP+SSE transport of 2024, which is not supported.\n'
                 "Ask for its address for Streamable HTTP. It often ends in /mcp.")


def is_new(probe: str, answer: dict | Failure) -> bool:
    """Whether this answer to our first request, with the method `probe`, is that of a new server.
    Raises the Failure where it says nothing about that, and where we share no version."""
    if isinstance(answer, dict) and probe != "server/discover":
        return "resultType" in answer
    if isinstance(answer, dict) or answer.code == UNSUPPORTED:
        offered = offered_in(answer)
        if offered and not {NEWEST, *OLDER} & set(offered):
            raise Failure("refused", f"it speaks MCP {', '.join(offered)}, and we only "
                                     f"{', '.join([NEWEST, *OLDER])}.")
        return NEWEST in offered
    if answer.code in (HEADER_MISMATCH, MISSING_CAPABILITY) or answer.status == 429 or \
            answer.kind in ("unreachable", "cancelled", "login"):
        raise answer
    return answer.code == METHOD_NOT_FOUND and answer.status == 404 and probe != "server/discover"


def meta(connection: Any, method: str, number: int) -> dict:
    """What a request says besides its subject. A new server remembers nothing between two requests,
    so each says who we are. Any server may tell how far a call is, by the call's number."""
    found: dict = {}
    if connection.is_new:
        found = {"io.modelcontextprotocol/protocolVersion": NEWEST,
                 "io.modelcontextprotocol/clientInfo": ABOUT_US,
                 "io.modelcontextprotocol/clientCapabilities": connection.capabilities}
    if method == "tools/call":
        found["progressToken"] = number
    return {"_meta": found} if found else {}


def checked(result: object, method: str) -> dict:
    """A result as it should be: an object. A new server says in it whether this is all
    ("complete"), or whether it has a question first. Raises Failure."""
    kinds = "complete", "input_required"
    if not isinstance(result, dict) or result.get("resultType", "complete") not in kinds:
        raise Failure("broken", f"its answer to {method} is of a kind that we don't know.")
    return result


def offered_in(answer: dict | Failure) -> list[str]:
    """The versions in {"supportedVersions": [...]}, or in an error's {"supported": [...]}."""
    found = answer.get("supportedVersions") if isinstance(answer, dict) else \
        as_dict(answer.data).get("supported")
    return [version[:40] for version in as_list(found) if isinstance(version, str)]


def common_older(failure: Failure) -> str:
    """The newest of our older versions that a refusal lists; "": none."""
    return next((version for version in OLDER if version in offered_in(failure)), "")


def agreed(result: dict) -> str:
    """The version in an answer to initialize. Raises Failure."""
    version = result.get("protocolVersion", "(it doesn't say)")
    if version not in OLDER:
        raise Failure("refused", f"it shakes hands for MCP {str(version)[:40]}, and we only for "
                                 f"{', '.join(OLDER)}.")
    return version


def raise_unless_new(connection: Any, first: dict | Failure, refused: Failure) -> None:
    """A server has `refused` the handshake. Unless we see thereby that it is a new one, raise
    that it is too old (the transport of 2024), or its refusal."""
    # A new server's first answer may get lost (a cold start, a gateway's 502).
    was_lost = isinstance(first, Failure) and (
        first.kind in ("timeout", "broken") or first.status >= 500)
    is_unknown = "already" not in str(refused) and refused.code in (  # ("... initialized")
        METHOD_NOT_FOUND, INVALID_PARAMS, INVALID_REQUEST, UNSUPPORTED, HEADER_MISMATCH)
    if was_lost and is_unknown or NEWEST in offered_in(refused):
        return
    if refused.kind == "status" and refused.status not in (401, 403, 429, 502, 503, 504):
        try:
            deliver(connection, {})  # a GET: the transport of 2024 begins with it
        except Failure as failure:
            if str(failure) == OLD_TRANSPORT:
                raise
    raise refused
