"""Headers that repeat arguments: how does a machine on the way know where a call belongs?

A new server may have machines in front of it that don't read JSON. So every request says in headers
what it is about, and a tool may want some of its arguments there, too. Its schema marks them:

    {"properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}

    Mcp-Method: tools/call
    Mcp-Name: create_database
    Mcp-Param-Region: eu

A header holds only some characters. Others travel in base64, between two marks.

https://modelcontextprotocol.io/specification/2026-07-28/server/tools (x-mcp-header) and
https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http

Left out: arguments inside lists, which can't be marked.

Try it:

>>> header_value("readings"), header_value("día")
('readings', '=?base64?ZMOtYQ==?=')
>>> mirrored_in({"properties": {"to": {"properties": {
...     "region": {"type": "string", "x-mcp-header": "Region"}}}}})
{'Region': ('to', 'region')}
>>> mirrored_headers({"Region": ("to", "region")}, {"to": {"region": "eu"}})
{'Mcp-Param-Region': 'eu'}
"""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

from chapters.events import Note
from chapters.jobs import Job
from chapters.outside import as_dict, as_list, one_line

NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # of a header
Mirrored = dict[str, tuple[str, ...]]  # by header, where the argument is


def header_value(text: object) -> str:
    """Any text as the value of a header."""
    text = str(text)
    if re.fullmatch(r"[ -~]*", text) and text == text.strip() and not text.startswith("=?base64?"):
        return text
    return "=?base64?" + base64.b64encode(text.encode("utf-8", "replace")).decode() + "?="


def about(message: dict, mirrored: dict[str, Mirrored | None]) -> dict[str, str]:
    """The headers that say what a message is about. `mirrored` has the marked arguments by tool."""
    params = message.get("params", {})
    headers = {"Mcp-Method": message.get("method", "")}
    if "name" in params or "uri" in params:
        headers["Mcp-Name"] = header_value(params.get("name", params.get("uri")))
    if message.get("method") == "tools/call":
        marked = mirrored.get(params.get("name", "")) or {}
        headers |= mirrored_headers(marked, params.get("arguments"))
    return headers


def mirrored_headers(mirrored: Mirrored, arguments: object) -> dict[str, str]:
    """The headers for a call with these arguments."""
    headers = {}
    for header, path in mirrored.items():
        value: Any = arguments
        for name in path:
            value = as_dict(value).get(name)
        if isinstance(value, (bool, int, str)) or isinstance(value, float) and value.is_integer():
            text = value if isinstance(value, str) else json.dumps(
                int(value) if isinstance(value, float) else value)
            headers["Mcp-Param-" + header] = header_value(text)
    return headers


def look_for(found: dict[str, dict], known: dict[str, Mirrored | None], server: str, job: Job
             ) -> None:
    """Remember in `known`, by tool, what the tools in `found` want to see in headers. A tool that
    has that wrong must not be used: it is taken out of `found`, and None is remembered."""
    wrong = []
    for name in list(found):
        before, known[name] = known.get(name, {}), mirrored_in(found[name].get("inputSchema"))
        if known[name] is None:
            del found[name]
            wrong += [name] if before is not None else []  # it's enough to say so once
    for name in wrong[:50]:
        job.report(Note(f"{server}: {one_line(name)} can't be used: its x-mcp-header is not on a "
                        "single text, integer or boolean, or no name of a header, or there twice."))


def mirrored_in(schema: object) -> Mirrored | None:
    """The marked arguments in a schema; None: they are marked in a way that the rules forbid."""
    found, taken = {}, set()  # (in small letters)
    for header, path, kind in marks_in(schema, ()):
        if not (path and kind in ("string", "integer", "boolean") and isinstance(header, str) and
                re.fullmatch(NAME, header) and header.lower() not in taken):
            return None
        taken.add(header.lower())
        found[header] = path
    return found


def marks_in(schema: object, path: tuple[str, ...] | None) -> Iterator[tuple]:
    """Each mark in a schema: the header's name, where the argument is, and its type. `path` is ()
    at the root, and None where no argument can be addressed."""
    part = as_dict(schema)
    if "x-mcp-header" in part:
        yield part["x-mcp-header"], path, part.get("type")
    for key, inner in part.items():
        if key == "properties":
            for name, one in as_dict(inner).items():
                yield from marks_in(one, None if path is None else (*path, name))
        elif key not in ("default", "const", "enum", "examples"):  # those are no schemas
            for one in as_list(inner) or [inner]:
                yield from marks_in(one, None)
