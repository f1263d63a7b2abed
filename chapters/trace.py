"""--trace: what travels between us and the servers?

With --trace, or MCP_TRACE=1 in .env, every MCP message is shown on standard error, and the HTTP
around it:

    --> dexcom  POST https://example.com/mcp?token=***
            Mcp-Method: tools/list
            Authorization: ***
            {
              "jsonrpc": "2.0",
              "id": 1,
              "method": "tools/list", ...

Headers and addresses may hold secrets, so only values that are known to be harmless are shown. The
messages are those of https://modelcontextprotocol.io/specification/2026-07-28/basic.

In a program of your own, use Python's logging: this is the logger "mcp.wire", at level DEBUG. Left
out: what travels to the model. Its service has a log of its own.

Try it:

>>> for line in shown("-->", "toy", {"method": "ping"}, "POST http://x/?key=abc",
...                   [("Mcp-Method", "ping"), ("X-Key", "abc")]).split("\\n"):
...     print(line)
--> toy  POST http://x/?key=***
        Mcp-Method: ping
        X-Key: ***
        {
          "method": "ping"
        }
"""

import json
import logging
import re
from collections.abc import Iterable

from chapters.outside import clean, without_secrets

wire = logging.getLogger("mcp.wire")
HARMLESS = {"accept", "accept-encoding", "connection", "content-length", "content-type", "date",
            "mcp-method", "mcp-name", "mcp-protocol-version", "server", "transfer-encoding",
            "user-agent"}


def start() -> None:
    """Show what travels from now on, on standard error."""
    wire.setLevel(logging.DEBUG)
    wire.addHandler(logging.StreamHandler())


def is_on() -> bool:
    return wire.isEnabledFor(logging.DEBUG)


def trace(arrow: str, name: str, message: object = None, http: str = "",
          headers: Iterable[tuple[str, str]] = ()) -> None:
    """Show one message of the server called `name`, if tracing is on."""
    if is_on():
        wire.debug("%s", shown(arrow, name, message, http, headers))


def shown(arrow: str, name: str, message: object, http: str,
          headers: Iterable[tuple[str, str]]) -> str:
    """A message as it may be shown: no secrets, no control codes, at most 200 lines."""
    lines = [without_secrets(http)] if http else []
    for key, value in headers:  # (of what is in base64, one can't see whether it is harmless)
        harmless = key.lower() in HARMLESS and not value.startswith("=?")
        lines.append(f"{key}: {without_secrets(value) if harmless else '***'}")
    if message:
        text = json.dumps(message, indent=2, ensure_ascii=False)
        text = re.sub(r'("requestState": )".*"', r'\1"***"', text)
        text = re.sub(r'(?<="ur[il]": ")(?:[^"\\]|\\.)*',
                      lambda found: without_secrets(found[0]), text)
        lines += text.split("\n")
    if len(lines) > 200:
        lines[200:] = [f"... and {len(lines) - 200} more lines"]
    return clean(f"{arrow} {name}  " + "\n        ".join(line[:500] for line in lines))
