r"""A small MCP server: the other end of the wire.

chat.py shows how a client speaks MCP. This file shows who answers. It is complete,
needs nothing but Python's standard library, and speaks over both of MCP's transports:

    python demo/toy_server.py            on stdio: one message per line, in and out
    python demo/toy_server.py --http     on the network; it prints its URL

Try it by hand. Start the first one and type a line (Ctrl-D, or Ctrl-C, ends it):

    {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    {"jsonrpc": "2.0", "id": 1, "result": {}}                    <- this came back

Or start the second one with --port 8000, and ask it from another terminal to add:

    curl http://127.0.0.1:8000/mcp -H "Content-Type: application/json" \
      -H "Accept: application/json, text/event-stream" -H "Mcp-Name: add" \
      -H "MCP-Protocol-Version: 2026-07-28" -H "Mcp-Method: tools/call" -d '
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
         "name": "add", "arguments": {"a": 17, "b": 25}, "_meta": {
           "io.modelcontextprotocol/protocolVersion": "2026-07-28",
           "io.modelcontextprotocol/clientCapabilities": {}}}}'

The parts:

    Part 1   The tools                 what the server can do
    Part 2   Answering a request       a method and its params in, a result out
    Part 3   The two generations       a message in, a message out
    Part 4   stdio                     lines in, lines out
    Part 5   HTTP                      POST in, JSON or an event stream out

Parts 1 and 2 are what you would write for a server of your own. The rest is manners:
on a first reading, stop after Part 4. Part 5 says the same again, in HTTP.
"""

import argparse
import base64
import contextlib
import hashlib
import json
import re
import secrets
import select
import socket
import socketserver
import struct
import sys
import threading
import time
import traceback
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message  # the headers of an HTTP request; their case doesn't matter
from http.server import BaseHTTPRequestHandler

# Nobody needs more than this from a toy. A server without limits is one that any
# client can bring to its knees, by mistake or on purpose.
MAX_MESSAGE = 4_000_000     # bytes in one message
MAX_RUNNING = 50            # requests of one client at the same time
MAX_SESSIONS = 100          # clients of the old generation that we remember
SILENCE = 60                # seconds that we wait for the rest of an HTTP request


# ── Part 1: The tools ────────────────────────────────────────────────────────
#
# A tool is a function, and a description of it that a model can read. The
# description travels exactly as you see it in TOOLS. The JSON Schema in it says
# which arguments the function takes.
#
# What comes back is a list of content blocks. When the tool failed, "isError"
# says so and the text says why: a model reads it and tries again.
#
#     {"content": [{"type": "text", "text": "17 + 25 = 42"}]}
#     {"content": [{"type": "text", "text": "..."}], "isError": true}


class Cancelled(Exception):
    """The client doesn't want the answer any more."""


@dataclass
class Call:
    """One request that is being answered: what a tool may use besides its arguments."""

    send: Callable[[dict], None]            # puts a message on the wire
    hung_up: Callable[[], bool]             # is the client gone?
    headers: Message | None       # of the HTTP request; None on stdio
    modern: bool = False                    # which generation? See Part 3
    token: str | int | None = None          # progressToken: the client wants to hear of progress
    cancelled: threading.Event = field(default_factory=threading.Event)

    def report(self, progress: float, total: float, message: str) -> None:
        """Tell the client how far we are, if it asked to be told."""
        if self.token is not None and not self.cancelled.is_set():
            self.send({"jsonrpc": "2.0", "method": "notifications/progress", "params": {
                "progressToken": self.token,
                "progress": progress, "total": total, "message": message}})

    def sleep(self, seconds: float) -> None:
        """Wait, unless the client cancels the request meanwhile."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            # A notification wakes us at once. That somebody hung up, nobody tells
            # us: we have to look, and do so ten times a second.
            if self.cancelled.wait(min(left, 0.1)) or self.hung_up():
                raise Cancelled


def text(words: str) -> dict:
    return {"content": [{"type": "text", "text": words}]}


def failed(words: str) -> dict:
    return text(words) | {"isError": True}


def add(call: Call, a: float, b: float) -> dict:
    # Rounded, because 0.1 + 0.2 is 0.30000000000000004 to a computer.
    return text(f"{a} + {b} = {round(a + b, 10)}")


def weather(call: Call, town: str) -> dict:
    # Invented, but the same whenever you ask: the numbers come from the town's name.
    dice = hashlib.sha256(town.strip().casefold().encode(errors="replace")).digest()
    report = {
        "town": town.strip(),
        "sky": ["sunny", "cloudy", "rainy", "foggy", "snowy"][dice[0] % 5],
        "celsius": dice[1] % 30 - (15 if dice[0] % 5 == 4 else 0),
        "wind": ["calm", "a light breeze", "a stiff wind", "a storm"][dice[2] % 4],
    }
    # structuredContent is for programs and matches the outputSchema below. Clients
    # that don't know it yet read the text, so we say it twice.
    return text(json.dumps(report, ensure_ascii=False)) | {"structuredContent": report}


def slow_count(call: Call, to: float = 5, pause: float = 1) -> dict:
    to = int(to)    # JSON Schema counts 5.0 as an integer, too
    call.report(0, to, f"Starting to count to {to}")
    for number in range(1, to + 1):
        call.sleep(pause)
        call.report(number, to, f"Counted {number} of {to}")
    return text(f"Counted to {to}.")


def fail(call: Call, reason: str = "You asked for it.") -> dict:
    return failed(f"This tool always fails. {reason}")


COLOURS = {"red": (200, 40, 40), "green": (40, 160, 70), "blue": (40, 90, 200)}


def picture(call: Call, colour: str = "blue") -> dict:
    # A whole PNG: a signature and three chunks, each with its length and checksum.
    def chunk(kind: bytes, data: bytes) -> bytes:
        length, checksum = len(data), zlib.crc32(kind + data)
        return struct.pack(">I", length) + kind + data + struct.pack(">I", checksum)

    size = 32
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)   # 8 bits each of R, G, B
    row = b"\0" + bytes(COLOURS[colour]) * size                   # \0: stored as it is
    png = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
           + chunk(b"IDAT", zlib.compress(row * size)) + chunk(b"IEND", b""))
    return {"content": [
        {"type": "text", "text": f"A {colour} square, {size} by {size} pixels."},
        {"type": "image", "mimeType": "image/png", "data": base64.b64encode(png).decode()}]}


FUNCTIONS: dict[str, Callable[..., dict]] = {
    "add": add, "weather": weather, "slow_count": slow_count, "fail": fail, "picture": picture}

# The annotations are hints for the client: it need not ask you before it uses a
# tool that only reads.
TOOLS: list[dict] = [
    {"name": "add", "title": "Add",
     "description": "Add two numbers and return the sum.",
     "inputSchema": {"type": "object", "properties": {
         "a": {"type": "number", "description": "the first number"},
         "b": {"type": "number", "description": "the second number"}},
         "required": ["a", "b"], "additionalProperties": False},
     "annotations": {"readOnlyHint": True}},

    {"name": "weather", "title": "Weather",
     "description": "Tell today's weather in a town (an invented one, but always the same).",
     "inputSchema": {"type": "object", "properties": {
         "town": {"type": "string", "minLength": 1, "description": "the town, e.g. Oslo"}},
         "required": ["town"], "additionalProperties": False},
     "outputSchema": {"type": "object", "properties": {
         "town": {"type": "string"},
         "sky": {"type": "string", "description": "e.g. sunny"},
         "celsius": {"type": "integer", "description": "the temperature"},
         "wind": {"type": "string", "description": "e.g. calm"}},
         "required": ["town", "sky", "celsius", "wind"]},
     "annotations": {"readOnlyHint": True}},

    {"name": "slow_count", "title": "Slow count",
     "description": "Count slowly to a number and report progress; takes some seconds.",
     "inputSchema": {"type": "object", "properties": {
         "to": {"type": "integer", "minimum": 1, "maximum": 60, "default": 5,
                "description": "the number to count to"},
         "pause": {"type": "number", "minimum": 0, "maximum": 5, "default": 1,
                   "description": "seconds from one number to the next"}},
         "additionalProperties": False}},

    {"name": "fail", "title": "Fail",
     "description": "Fail on purpose, to see how an error looks.",
     "inputSchema": {"type": "object", "properties": {
         "reason": {"type": "string", "description": "what the error should say"}},
         "additionalProperties": False}},

    {"name": "picture", "title": "Picture",
     "description": "Draw a picture: a small square of one colour.",
     "inputSchema": {"type": "object", "properties": {
         "colour": {"type": "string", "enum": list(COLOURS), "default": "blue",
                    "description": "the colour of the square"}},
         "additionalProperties": False},
     "annotations": {"readOnlyHint": True}},
]


def complaint(arguments: dict, schema: dict) -> str:
    """What is wrong with these arguments? Nothing: "".

    This knows the few words of JSON Schema that our own schemas use.

    >>> complaint({"a": 1}, TOOLS[0]["inputSchema"])
    'The argument "b" is missing.'
    """
    for name in schema.get("required", []):
        if name not in arguments:
            return f'The argument "{name}" is missing.'
    for name, value in arguments.items():
        if name not in schema["properties"]:
            return f'There is no argument "{name}", only: {", ".join(schema["properties"])}.'
        rules = schema["properties"][name]
        kinds = (str,) if rules["type"] == "string" else (int, float)
        # True is an int to Python; to JSON it is not a number.
        if (not isinstance(value, kinds) or isinstance(value, bool)
                or rules["type"] == "integer" and value % 1 != 0):
            return f'The argument "{name}" must be of type {rules["type"]}.'
        if not rules.get("minimum", value) <= value <= rules.get("maximum", value):
            return f'"{name}" must be from {rules["minimum"]} to {rules["maximum"]}.'
        if value not in rules.get("enum", [value]):
            return f'"{name}" must be one of: {", ".join(rules["enum"])}.'
        if value == "" and rules.get("minLength"):
            return f'The argument "{name}" is empty.'
    return ""


# ── Part 2: Answering a request ──────────────────────────────────────────────
#
# From here on there are no numbers and no wires: a request is a method with its
# params, an answer is a result, or an error with one of JSON-RPC's codes:
#
#     tools/call   {"name": "add", "arguments": {"a": 17, "b": 25}}
#             ->   {"content": [{"type": "text", "text": "17 + 25 = 42"}]}
#
# Besides tools, a server may offer resources (texts that can be read) and prompts
# (messages that are ready to be sent to a model).

RESOURCES: list[dict] = [
    {"uri": "toy://poem", "name": "poem", "mimeType": "text/plain",
     "description": "A short poem about pipes."},
    {"uri": "toy://notes", "name": "notes", "mimeType": "text/markdown",
     "description": "What this server is good for."},
]

TEXTS = {
    "toy://poem": "A line goes in, a line comes out;\n"
                  "that's all a pipe can be about.\n"
                  "But number both, and you will know\n"
                  "which answer had which way to go.\n",
    "toy://notes": "# The toy server\n\n"
                   "- It adds, counts, draws and makes up the weather.\n"
                   "- It remembers nothing about you.\n"
                   "- Read its source: it is shorter than you think.\n",
}

PROMPTS: list[dict] = [
    {"name": "postcard", "title": "Postcard",
     "description": "Write a postcard from a town, with its weather.",
     "arguments": [
         {"name": "town", "description": "where you are", "required": True},
         {"name": "mood", "description": "how you feel, e.g. homesick", "required": False}]},
]

LISTS = {
    "tools/list": ("tools", TOOLS),
    "resources/list": ("resources", RESOURCES),
    "resources/templates/list": ("resourceTemplates", []),
    "prompts/list": ("prompts", PROMPTS),
}


class RpcError(Exception):
    """A request that we can't answer with a result; it becomes an error message."""

    def __init__(self, code: int, message: str, data: dict | None = None):
        super().__init__(message)
        self.error: dict = {"code": code, "message": message}
        if data:
            self.error["data"] = data


PARSE_ERROR, INVALID_REQUEST, NO_SUCH_METHOD, INVALID_PARAMS = -32700, -32600, -32601, -32602
NO_SUCH_RESOURCE, HEADER_MISMATCH, UNSUPPORTED_VERSION = -32002, -32020, -32022     # MCP's own


def answer(method: str, params: dict, call: Call) -> dict:
    """Return the result of one request."""
    if method in LISTS:
        if params.get("cursor") is not None:
            # A long list may come in pages, with a cursor that leads to the next.
            # Ours are short, so we never gave one to anybody.
            raise RpcError(INVALID_PARAMS, "There is no such cursor: our lists have one page.")
        name, entries = LISTS[method]
        return {name: entries}
    match method:
        case "tools/call":
            return call_tool(params, call)
        case "resources/read":
            return read_resource(params, call)
        case "prompts/get":
            return get_prompt(params)
    raise RpcError(NO_SUCH_METHOD, f"There is no method {method} here.")


def call_tool(params: dict, call: Call) -> dict:
    name, arguments = params.get("name"), params.get("arguments", {})
    tool = next((tool for tool in TOOLS if tool["name"] == name), None)
    if tool is None:
        raise RpcError(INVALID_PARAMS, f"There is no tool {name}.")
    if not isinstance(arguments, dict):
        raise RpcError(INVALID_PARAMS, "The arguments of a tool must be an object.")
    if problem := complaint(arguments, tool["inputSchema"]):
        return failed(problem)
    try:
        return FUNCTIONS[tool["name"]](call, **arguments)
    except Cancelled:
        raise
    except Exception as error:
        # A tool is anybody's code. Its bug fails this one call and is shown to the
        # programmer on stderr; the server goes on, and the peer sees no traceback.
        traceback.print_exc()
        return failed(f"The tool {name} has a bug: {type(error).__name__}.")


def read_resource(params: dict, call: Call) -> dict:
    for resource in RESOURCES:
        if resource["uri"] == params.get("uri"):
            uri = resource["uri"]
            return {"contents": [
                {"uri": uri, "mimeType": resource["mimeType"], "text": TEXTS[uri]}]}
    raise RpcError(INVALID_PARAMS if call.modern else NO_SUCH_RESOURCE,
                   "Resource not found", {"uri": params.get("uri")})


def get_prompt(params: dict) -> dict:
    if params.get("name") != "postcard":
        raise RpcError(INVALID_PARAMS, f"There is no prompt {params.get('name')}.")
    arguments = params.get("arguments", {})
    if not isinstance(arguments, dict) or not all(isinstance(a, str) for a in arguments.values()):
        raise RpcError(INVALID_PARAMS, "The arguments of a prompt must be strings.")
    if not arguments.get("town"):
        raise RpcError(INVALID_PARAMS, 'The prompt postcard needs the argument "town".')
    words = (f"Write a short postcard from {arguments['town']}. Look up the weather there and "
             f"mention it. The mood: {arguments.get('mood') or 'cheerful'}.")
    return {"description": f"A postcard from {arguments['town']}",
            "messages": [{"role": "user", "content": {"type": "text", "text": words}}]}


# ── Part 3: The two generations ──────────────────────────────────────────────
#
# MCP has changed how a conversation opens. In the old generation the client first
# says "initialize", the two agree on a version, and the server remembers that:
#
#     client   {"id": 1, "method": "initialize", "params": {"protocolVersion": ...}}
#     server   {"id": 1, "result": {"protocolVersion": ..., "capabilities": ...}}
#     client   {"method": "notifications/initialized"}
#     client   {"id": 2, "method": "tools/list"}
#
# Since 2026-07-28 there is nothing to remember. Each request brings what the server
# must know in "_meta", and each result says that it is complete:
#
#     client   {"id": 1, "method": "tools/list", "params": {"_meta": {
#                   "io.modelcontextprotocol/protocolVersion": "2026-07-28",
#                   "io.modelcontextprotocol/clientCapabilities": {}}}}
#     server   {"id": 1, "result": {"resultType": "complete", "tools": [...], ...}}
#
# We speak both. How the client asks decides how we answer.

MODERN = "2026-07-28"
OLD = ["2025-11-25", "2025-06-18", "2025-03-26"]    # the newest first

VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"

SERVER_INFO = {"name": "toy", "title": "Toy server", "version": "1.0.0"}
ABOUT_US = {
    "capabilities": {"tools": {}, "resources": {}, "prompts": {}},
    "instructions": "Tools to play with: add, ask for the weather, count slowly, draw a square."}

# These results are the same for everybody and don't change while we run. So a client
# may keep them for five minutes, and may share them between its users.
CACHEABLE = {*LISTS, "resources/read", "server/discover"}
CACHE_HINTS = {"ttlMs": 300_000, "cacheScope": "public"}


@dataclass
class Client:
    """What we remember of a client. In the new generation: nothing but its running calls."""

    greeted: bool = False                                           # has it said "initialize"?
    running: dict[str | int, Call] = field(default_factory=dict)    # by the request's id

    def begin(self, message: dict, call: Call) -> Call:
        """Remember the call, so that a notification can cancel it."""
        if is_id(message.get("id")):
            self.running[message["id"]] = call
        return call


def is_id(value: object) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def error_message(error: RpcError, message: dict | None = None) -> dict:
    """The answer that says what is wrong. It has no "id" if we couldn't read one."""
    known = {"id": message["id"]} if message and is_id(message.get("id")) else {}
    return {"jsonrpc": "2.0", **known, "error": error.error}


def parse(body: bytes) -> dict:
    """Turn bytes into a message."""
    def refuse(word: str) -> None:
        raise ValueError(f"{word} is Python's, not JSON's")

    try:
        message = json.loads(body.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError):    # the latter: ten thousand brackets, say
        raise RpcError(PARSE_ERROR, "This is not JSON in UTF-8.") from None
    if not isinstance(message, dict):
        # 2025-03-26 knew lists of messages. Hardly anybody sent them, and the next
        # version took them back.
        raise RpcError(INVALID_REQUEST, "A message must be one JSON object.")
    return message


def is_modern(message: dict, headers: Message | None) -> bool:
    """Does this message belong to the new generation?"""
    if headers and headers.get("MCP-Protocol-Version", OLD[0]) not in OLD:
        return True
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    return (isinstance(meta, dict) and (VERSION_KEY in meta or CAPABILITIES_KEY in meta)
            or message.get("method") == "server/discover")


def respond(message: dict, client: Client, call: Call) -> dict | None:
    """Take one message, and return the one that answers it, if any should."""
    call.modern = is_modern(message, call.headers)
    if not call.modern and "method" not in message and ("result" in message or "error" in message):
        return None         # the old generation may answer us, though we never asked
    try:
        check_shape(message)
        if "id" not in message:
            take_note(message, client)
            return None
        if len(client.running) > MAX_RUNNING:
            raise RpcError(INVALID_REQUEST, f"More than {MAX_RUNNING} requests at the same time.")
        token = message.get("params", {}).get("_meta", {}).get("progressToken")
        call.token = token if is_id(token) else None
        result = (respond_modern if call.modern else respond_old)(message, client, call)
        return {"jsonrpc": "2.0", "id": message["id"], "result": result}
    except RpcError as error:
        return error_message(error, message)
    except Cancelled:
        return None         # whoever cancels a request wants to hear no more of it
    finally:
        if is_id(message.get("id")):
            client.running.pop(message["id"], None)


def check_shape(message: dict) -> None:
    if (message.get("jsonrpc") != "2.0" or not isinstance(message.get("method"), str)
            or "id" in message and not is_id(message["id"])):
        raise RpcError(INVALID_REQUEST, 'A message needs "jsonrpc": "2.0" and a "method". '
                                        'An "id" must be a string or an integer.')
    params = message.get("params", {})
    if not isinstance(params, dict) or not isinstance(params.get("_meta", {}), dict):
        raise RpcError(INVALID_PARAMS, '"params", and "_meta" in it, must be objects.')


def take_note(message: dict, client: Client) -> None:
    """Notifications get no answer. We care for one of them."""
    if message["method"] == "notifications/cancelled":
        request_id = message.get("params", {}).get("requestId")
        # The request may have been answered meanwhile; then there is nothing to cancel.
        if is_id(request_id) and (call := client.running.get(request_id)):
            call.cancelled.set()


def respond_old(message: dict, client: Client, call: Call) -> dict:
    method, params = message["method"], message.get("params", {})
    if method == "ping":
        return {}
    if method == "initialize":
        wanted = params.get("protocolVersion")
        if not isinstance(wanted, str):
            raise RpcError(INVALID_PARAMS, 'initialize needs a "protocolVersion".')
        client.greeted = True
        # A version that we don't speak gets a counter-offer. The client may hang up.
        return {"protocolVersion": wanted if wanted in OLD else OLD[0],
                "serverInfo": SERVER_INFO, **ABOUT_US}
    if not client.greeted:
        raise RpcError(INVALID_PARAMS, f'Say "initialize" first, or put "{VERSION_KEY}" and '
                                       f'"{CAPABILITIES_KEY}" into the "_meta" of each request.')
    return answer(method, params, call)


def respond_modern(message: dict, client: Client, call: Call) -> dict:
    method, params = message["method"], message.get("params", {})
    meta = params.get("_meta", {})
    wanted = meta.get(VERSION_KEY)
    if not isinstance(wanted, str) or not isinstance(meta.get(CAPABILITIES_KEY), dict):
        raise RpcError(INVALID_PARAMS, f'"_meta" needs "{VERSION_KEY}" and "{CAPABILITIES_KEY}".')
    check_header(call, "MCP-Protocol-Version", wanted)
    if wanted != MODERN:
        raise RpcError(UNSUPPORTED_VERSION, "Unsupported protocol version",
                       {"supported": [MODERN, *OLD], "requested": wanted})
    check_header(call, "Mcp-Method", method)
    if method in ("tools/call", "prompts/get"):
        check_header(call, "Mcp-Name", params.get("name"))
    if method == "resources/read":
        check_header(call, "Mcp-Name", params.get("uri"))

    if method == "server/discover":
        result = {"supportedVersions": [MODERN, *OLD], **ABOUT_US}
    else:
        result = answer(method, params, call)
    hints = CACHE_HINTS if method in CACHEABLE else {}
    return {"resultType": "complete", **result, **hints,
            "_meta": {"io.modelcontextprotocol/serverInfo": SERVER_INFO}}


def check_header(call: Call, name: str, expected: object) -> None:
    """Over HTTP some facts travel twice. The header is for gateways, which don't read
    bodies; if it said something else than the body, the gateway would be deceived."""
    if call.headers is None:
        return              # on stdio there are none
    value = call.headers.get(name)
    try:
        matches = value is not None and value.isascii() and plain(value) == expected
    except ValueError:      # no base64, or not of UTF-8
        matches = False
    if not matches:
        raise RpcError(HEADER_MISMATCH, f"The header {name} is missing or differs from the body.")


def plain(value: str) -> str:
    """A header may hold plain ASCII only; other text comes wrapped.

    The specification's examples:

    >>> plain("us-west1"), plain("=?base64?SGVsbG8sIOS4lueVjA==?=")
    ('us-west1', 'Hello, 世界')
    """
    if value.startswith("=?base64?") and value.endswith("?="):
        return base64.b64decode(value[len("=?base64?"):-len("?=")], validate=True).decode("utf-8")
    return value


# ── Part 4: stdio ────────────────────────────────────────────────────────────
#
# The client has started us as a program. What it writes arrives on our stdin, and
# what we print it reads. So nothing but messages may go to stdout.


def serve_stdio() -> None:
    client = Client()
    one_at_a_time = threading.Lock()

    def send(message: dict) -> None:
        # Bytes, because the computer's own encoding need not be UTF-8. The lock:
        # two calls that finish together must not mix their lines.
        line = json.dumps(message).encode() + b"\n"
        with one_at_a_time, contextlib.suppress(BrokenPipeError):
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()

    def work(message: dict, call: Call) -> None:
        if (reply := respond(message, client, call)) is not None:
            send(reply)

    threads: list[threading.Thread] = []
    # A line that is too long falls into pieces, and those are not JSON.
    while line := sys.stdin.buffer.readline(MAX_MESSAGE):
        if not line.strip():
            continue
        try:
            message = parse(line)
        except RpcError as error:
            send(error_message(error))
            continue
        call = client.begin(message, Call(send, hung_up=lambda: False, headers=None))
        if message.get("method") != "tools/call":
            work(message, call)
            continue
        # A tool may take its time. In a thread of its own it delays nobody, and we
        # stay here to read the next line, which may be its cancellation.
        threads = [thread for thread in threads if thread.is_alive()]
        threads.append(threading.Thread(target=work, args=(message, call), daemon=True))
        threads[-1].start()

    # The client is leaving. A tool that is nearly done may still answer; one that
    # waits for something stops.
    for call in list(client.running.values()):
        call.cancelled.set()
    for thread in threads:
        thread.join(timeout=1)


# ── Part 5: HTTP ─────────────────────────────────────────────────────────────
#
# Each message comes in a POST of its own, and we choose how to answer a request:
#
#     HTTP/1.1 200 OK                         HTTP/1.1 200 OK
#     Content-Type: application/json          Content-Type: text/event-stream
#
#     {"jsonrpc": "2.0", "id": 1, ...}        event: message
#                                             data: {"method": "notifications/progress", ...}
#
#                                             event: message
#                                             data: {"jsonrpc": "2.0", "id": 1, ...}
#
# An event stream is for calls with progress to tell: the first report opens it.
#
# The old generation wants to be remembered. So "initialize" is answered with a header
# Mcp-Session-Id, which the client then shows with each request, like a cloakroom ticket.

LOCAL = re.compile(r"(https?://)?(127\.0\.0\.1|localhost)(:\d+)?", re.IGNORECASE)

# The statuses for errors. They are the new generation's: in the old one an error is an
# answer like any other, and 404 means that the session has ended.
STATUS = {PARSE_ERROR: 400, INVALID_REQUEST: 400, INVALID_PARAMS: 400, HEADER_MISMATCH: 400,
          UNSUPPORTED_VERSION: 400, NO_SUCH_METHOD: 404}


class HttpServer(socketserver.ThreadingTCPServer):
    """Accepts connections, and gives each its own thread and Handler."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 50

    def __init__(self, port: int):
        # 127.0.0.1 can be reached from this computer only. Whoever serves the whole
        # network has to ask for a password.
        super().__init__(("127.0.0.1", port), Handler)
        self.sessions: OrderedDict[str, Client] = OrderedDict()     # by Mcp-Session-Id
        self.connections: set[socket.socket] = set()

    def handle_error(self, request: object, client_address: object) -> None:
        # A client may hang up at any time. That is its right, and no news.
        if not isinstance(sys.exc_info()[1], (OSError, Cancelled)):
            traceback.print_exc()


class Handler(BaseHTTPRequestHandler):
    """One connection. It may bring many requests, one after another."""

    server: HttpServer
    protocol_version = "HTTP/1.1"       # the connection stays open for the next request
    timeout = SILENCE
    # Without this, the second of two small writes waits for the first one's receipt,
    # and that comes 40 ms late (Nagle's algorithm meets the delayed ACK).
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """The default prints a line per request. We don't."""

    def do_POST(self) -> None:
        body = self.read_body()
        accept = self.headers.get("Accept", "")
        if body is None or self.refused():
            return
        if self.headers.get_content_type() != "application/json":
            self.send(415, "The Content-Type must be application/json.")
        elif "application/json" not in accept or "text/event-stream" not in accept:
            self.send(406, "Accept must name application/json and text/event-stream.")
        else:
            try:
                self.take(parse(body))
            except RpcError as error:
                self.send(400, error_message(error))

    def take(self, message: dict) -> None:
        """Answer one message."""
        modern = is_modern(message, self.headers)
        hello = message.get("method") == "initialize" and not modern
        session_id = self.headers.get("Mcp-Session-Id")
        if modern or hello:
            client = Client()
        elif session_id is None:
            error = RpcError(INVALID_REQUEST, 'There is no Mcp-Session-Id. Say "initialize" first, '
                                              f"or speak {MODERN}, which needs none.")
            return self.send(400, error_message(error, message))
        elif session_id in self.server.sessions:
            client = self.server.sessions[session_id]
        else:
            return self.send(404, "This session has ended.")    # "initialize again", that means

        self.streaming = False
        # A client of the new generation cancels by hanging up. One of the old sends
        # notifications/cancelled; if its connection breaks, that says nothing.
        call = client.begin(message, Call(self.send_event, headers=self.headers,
                                          hung_up=self.hung_up if modern else lambda: False))
        reply = respond(message, client, call)

        if reply is None and not ("id" in message and "method" in message):
            self.send(202)      # a notification: received, and that is all there is to say
        elif self.streaming or reply is None:
            self.end_stream(reply)
        elif "error" in reply:
            good_enough = client.greeted and not modern
            self.send(200 if good_enough else STATUS.get(reply["error"]["code"], 200), reply)
        elif hello:
            session_id = secrets.token_hex()
            self.server.sessions[session_id] = client
            if len(self.server.sessions) > MAX_SESSIONS:
                self.server.sessions.popitem(last=False)    # the oldest
            self.send(200, reply, **{"Mcp-Session-Id": session_id})
        else:
            self.send(200, reply)

    def do_GET(self) -> None:
        # The old generation may ask for a stream of what the server has to say of its
        # own accord. We have nothing to say.
        if self.read_body() is not None and not self.refused():
            self.send(405, "POST your messages here.", Allow="POST")

    def do_DELETE(self) -> None:
        """The end of a session."""
        session_id = self.headers.get("Mcp-Session-Id")
        if self.read_body() is None or self.refused():
            return
        if session_id is None or is_modern({}, self.headers):
            self.send(405, "There is no session to end.", Allow="POST")
        elif client := self.server.sessions.pop(session_id, None):
            for call in list(client.running.values()):
                call.cancelled.set()
            self.send(200)
        else:
            self.send(404, "This session has ended.")

    def read_body(self) -> bytes | None:
        """Read the whole body, so that the next request starts where this one ends.

        If we don't want it, we have to hang up.
        """
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            self.send(411, "Say in Content-Length how long the body is.", Connection="close")
        elif len(length) > 9 or int(length) > MAX_MESSAGE:
            self.send(413, f"More than {MAX_MESSAGE} bytes.", Connection="close")
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                return body
            self.close_connection = True    # the client hung up in the middle
        return None

    def refused(self) -> bool:
        """Refuse what isn't meant for us.

        A web page that you visit can make your browser send requests to your own
        computer; Origin says whose page it was. It can even pretend that its own name
        is your computer's ("DNS rebinding"); then that name is in Host.
        """
        if self.path.partition("?")[0] != "/mcp":
            self.send(404, "The URL of this server ends in /mcp.")
        elif not LOCAL.fullmatch(self.headers.get("Host", "")):
            self.send(421, "This server is for programs on this computer (wrong Host).")
        elif not LOCAL.fullmatch(self.headers.get("Origin", "http://localhost")):
            self.send(403, "This server is for programs on this computer (wrong Origin).")
        else:
            return False
        return True

    def send(self, status: int, body: dict | str = "", **headers: str) -> None:
        """Send a whole response: a message, or a few words to whoever reads them."""
        words = body if isinstance(body, str) else json.dumps(body)
        if words:
            kind = "text/plain" if isinstance(body, str) else "application/json"
            headers["Content-Type"] = kind
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(words)))
        self.end_headers()
        self.wfile.write(words.encode())

    def send_event(self, message: dict) -> None:
        """Send one message as an event."""
        event = b"event: message\ndata: " + json.dumps(message).encode() + b"\n\n"
        try:
            self.start_stream()
            # Nobody knows beforehand how long a stream gets. So it goes in chunks, each
            # after its own length (in hexadecimal), and one of length 0 ends it.
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        except OSError:
            raise Cancelled from None       # nobody is listening any more

    def start_stream(self) -> None:
        if not self.streaming:
            self.streaming = True
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Accel-Buffering", "no")     # to proxies: pass it on at once
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()

    def end_stream(self, reply: dict | None) -> None:
        """A cancelled request has no reply: its stream just ends."""
        if reply is not None:
            self.send_event(reply)
        self.start_stream()
        self.wfile.write(b"0\r\n\r\n")

    def hung_up(self) -> bool:
        """Has the client closed the connection? Then there is something to read: its end."""
        try:
            readable = select.select([self.connection], [], [], 0)[0]
            return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True


@contextlib.contextmanager
def serve_http(port: int = 0) -> Iterator[str]:
    """Serve in the background: `with serve_http() as url: ...`. Port 0 is any free one."""
    with HttpServer(port) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/mcp"
        finally:
            server.shutdown()
            for connection in list(server.connections):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def main() -> None:
    parser = argparse.ArgumentParser(description="A small MCP server to read and to talk to.")
    parser.add_argument("--http", action="store_true", help="serve over HTTP (default: stdio)")
    parser.add_argument("--port", type=int, default=0, help="for --http (default: any free one)")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        if not options.http:
            return serve_stdio()
        try:
            with serve_http(options.port) as url:
                print(url, flush=True)
                while True:
                    time.sleep(3600)
        except (OSError, OverflowError) as error:
            sys.exit(f"Can't listen on port {options.port}: {error}\nTry another --port.")


if __name__ == "__main__":
    main()
