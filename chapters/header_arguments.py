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

Left out: arguments inside lists, which can't be marked. A schema with an argument that is called
"x-mcp-header", or with such a word in its examples, is taken for one that has it wrong.

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
from chapters.outside import as_dict, one_line

NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # of a header
Mirrored = dict[str, tuple[str, ...]]  # by header, where the argument is


def header_value(text: str) -> str:
    """Any text as the value of a header."""
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
        headers |= mirrored_headers(mirrored.get(params["name"]) or {}, params.get("arguments"))
    return headers


def mirrored_headers(mirrored: Mirrored, arguments: object) -> dict[str, str]:
    """The headers for a call with these arguments."""
    headers = {}
    for header, path in mirrored.items():
        value: Any = arguments
        for name in path:
            value = as_dict(value).get(name)
        if isinstance(value, (str, bool, int, float)):
            # (Some models write 2.0 for 2.)
            value = int(value) if isinstance(value, float) and value.is_integer() else value
            text = value if isinstance(value, str) else json.dumps(value)
            headers["Mcp-Param-" + header] = header_value(text)
    return headers


def look_for(found: dict[str, dict], known: dict[str, Mirrored | None], server: str, job: Job
             ) -> None:
    """Remember in `known`, by tool, what the tools in `found` want to see in headers. A tool that
    has that wrong must not be used: it is taken out of `found`."""
    known.update((name, mirrored_in(tool.get("inputSchema"))) for name, tool in found.items())
    wrong = [name for name in found if known[name] is None]
    for name in wrong:
        del found[name]
    if wrong:
        job.report(Note(f"{server}: {', '.join(map(one_line, wrong))[:500]} can't be used: an "
                        "x-mcp-header there is not on a single text, integer or boolean, or is no "
                        "name of a header, or there twice."))


def mirrored_in(schema: object) -> Mirrored | None:
    """The marked arguments in a schema; None: they are marked in a way that the rules forbid."""
    found: Mirrored = {}
    for header, kind, path in marks_in(schema):
        if kind in ("string", "integer", "boolean") and re.fullmatch(NAME, header):
            found[header.title()] = path
    # What is not in `found` is wrong, or there twice, or where no argument can be addressed.
    return found if len(found) == json.dumps(schema).count('"x-mcp-header":') else None


def marks_in(schema: object, path: tuple[str, ...] = ()) -> Iterator[tuple]:
    """Each mark on an argument: the header's name, the argument's type, and where it is."""
    for name, part in as_dict(as_dict(schema).get("properties")).items():
        if isinstance(header := as_dict(part).get("x-mcp-header"), str):
            yield header, part.get("type"), (*path, name)
        yield from marks_in(part, (*path, name))
