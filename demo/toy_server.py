r"""A small MCP server: the other end of the wire.

chat.py shows how a client speaks MCP. This file shows who answers. It is complete, needs
nothing but Python's standard library, and speaks over both of MCP's transports:

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

    Part 1   The tools                 what the server can do
    Part 2   Answering a request       a method and its params in, a result out
    Part 3   The two generations       a message in, a message out
    Part 4   stdio                     lines in, lines out
    Part 5   HTTP                      POST in, JSON or an event stream out

Parts 1 and 2 are what you would write for a server of your own. The rest is manners: on a
first reading, stop after Part 4.
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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.message import Message  # the headers of an HTTP request; their case doesn't matter
from http.server import BaseHTTPRequestHandler

MAX_BYTES = 4_000_000   # of one message
MAX_RUNNING = 50        # tools that run at the same time, on stdio
MAX_SESSIONS = 100      # clients of the older generation that we remember


# ── Part 1: The tools ────────────────────────────────────────────────────────────────────
#
# A tool is a function, and a description of it that a model can read. The description
# travels exactly as you see it in TOOLS; its JSON Schema says which arguments there are.
# What comes back is a list of content blocks. When the tool failed, "isError" says so and
# the text says why: a model reads it and tries again.
#
#     {"content": [{"type": "text", "text": "17 + 25 = 42"}]}
#     {"content": [{"type": "text", "text": "..."}], "isError": true}


class Cancelled(Exception):
    """The client doesn't want the answer any more."""


@dataclass
class Call:
    """A message that we are dealing with: what a tool may use besides its arguments."""

    message: dict
    send: Callable[[dict], None]            # puts another message on the wire
    headers: Message | None = None          # of the HTTP request; on stdio there are none
    hung_up: Callable[[], bool] = lambda: False
    cancelled: threading.Event = field(default_factory=threading.Event)

    def report(self, progress: int, total: int, words: str) -> None:
        """Tell the client how far we are. A progressToken means that it wants to know."""
        token = self.message["params"]["_meta"].get("progressToken")
        if token is not None and not self.cancelled.is_set():
            self.send({"jsonrpc": "2.0", "method": "notifications/progress", "params": {
                "progressToken": token, "progress": progress, "total": total, "message": words}})

    def sleep(self, seconds: float) -> None:
        """Wait, unless the client cancels the request meanwhile."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            # A notification wakes us at once. That somebody hung up we have to see ourselves.
            if self.cancelled.wait(min(left, 0.1)) or self.hung_up():
                raise Cancelled


def text(words: str) -> dict:
    return {"content": [{"type": "text", "text": words}]}


def add(call: Call, a: float, b: float) -> dict:
    # Rounded, because 0.1 + 0.2 is 0.30000000000000004 to a computer.
    return text(f"{a} + {b} = {round(a + b, 10)}")


def weather(call: Call, town: str) -> dict:
    # Invented, but the same whenever you ask: the numbers come from the town's name.
    dice = hashlib.sha256(town.strip().casefold().encode(errors="replace")).digest()
    sky = ["sunny", "cloudy", "rainy", "foggy", "snowy"][dice[0] % 5]
    celsius = dice[1] % 30 - (15 if sky == "snowy" else 0)
    report = {"town": town.strip(), "sky": sky, "celsius": celsius}
    # structuredContent is for programs and matches the outputSchema below. Clients that
    # don't know it yet read the text, so we say it twice.
    return text(json.dumps(report, ensure_ascii=False)) | {"structuredContent": report}


def slow_count(call: Call, to: int = 5, pause: float = 1) -> dict:
    call.report(0, to, f"Starting to count to {to}")
    for number in range(1, to + 1):
        call.sleep(pause)
        call.report(number, to, f"Counted {number} of {to}")
    return text(f"Counted to {to}.")


def fail(call: Call, reason: str = "You asked for it.") -> dict:
    return text(f"This tool always fails. {reason}") | {"isError": True}


COLOURS = {"red": (200, 40, 40), "green": (40, 160, 70), "blue": (40, 90, 200)}


def picture(call: Call, colour: str = "blue") -> dict:
    # A whole PNG: a signature and three chunks, each with its length and checksum.
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

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

TOOLS: list[dict] = [
    {"name": "add", "description": "Add two numbers and return the sum.",
     "inputSchema": {"type": "object", "required": ["a", "b"], "properties": {
         "a": {"type": "number"}, "b": {"type": "number"}}}},
    {"name": "weather",
     "description": "Tell today's weather in a town (an invented one, but always the same).",
     "inputSchema": {"type": "object", "required": ["town"], "properties": {
         "town": {"type": "string", "description": "the town, e.g. Oslo"}}},
     "outputSchema": {"type": "object", "required": ["town", "sky", "celsius"], "properties": {
         "town": {"type": "string"}, "sky": {"type": "string"}, "celsius": {"type": "integer"}}}},
    {"name": "slow_count",
     "description": "Count slowly to a number and report progress; takes some seconds.",
     "inputSchema": {"type": "object", "properties": {
         "to": {"type": "integer", "minimum": 1, "maximum": 60, "default": 5},
         "pause": {"type": "number", "minimum": 0, "maximum": 5, "default": 1}}}},
    {"name": "fail", "description": "Fail on purpose, to see how an error looks.",
     "inputSchema": {"type": "object", "properties": {
         "reason": {"type": "string", "description": "what the error should say"}}}},
    {"name": "picture", "description": "Draw a picture: a small square of one colour.",
     "inputSchema": {"type": "object", "properties": {
         "colour": {"type": "string", "enum": list(COLOURS), "default": "blue"}}}},
]

TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float)}


def complaint(arguments: dict, schema: dict) -> str:
    """What is wrong with these arguments? Nothing: "".

    This knows the few words of JSON Schema that our own schemas use.

    >>> complaint({}, {"required": ["town"], "properties": {"town": {"type": "string"}}})
    'The argument "town" must fit {"type": "string"}.'
    """
    for name in [*schema.get("required", []), *arguments]:
        if name not in schema["properties"]:
            return f'There is no argument "{name}".'
        rules, value = schema["properties"][name], arguments.get(name)
        # True is an int to Python; to JSON it is not a number.
        if (not isinstance(value, TYPES[rules["type"]]) or isinstance(value, bool)
                or not rules.get("minimum", value) <= value <= rules.get("maximum", value)
                or value not in rules.get("enum", [value])):
            return f'The argument "{name}" must fit {json.dumps(rules)}.'
    return ""


# ── Part 2: Answering a request ──────────────────────────────────────────────────────────
#
# A request is a method with its params, and its answer a result or an error:
#
#     tools/call   {"name": "add", "arguments": {"a": 17, "b": 25}}
#             ->   {"content": [{"type": "text", "text": "17 + 25 = 42"}]}
#
# Besides tools, a server may offer resources (texts to read) and prompts (ready messages).

RESOURCES: list[dict] = [
    {"uri": "toy://poem", "name": "poem", "mimeType": "text/plain"},
    {"uri": "toy://notes", "name": "notes", "mimeType": "text/plain"}]
TEXTS = {
    "toy://poem": "A line goes in, a line comes out;\nthat's all a pipe can be about.\n"
                  "But number both, and you will know\nwhich answer had which way to go.\n",
    "toy://notes": "The toy server adds, counts, draws and makes up the weather.\n",
}
PROMPTS: list[dict] = [
    {"name": "postcard", "description": "Write a postcard from a town, with its weather.",
     "arguments": [{"name": "town", "description": "where you are", "required": True},
                   {"name": "mood", "description": "how you feel, e.g. homesick"}]}]

PARSE_ERROR, INVALID_REQUEST, NO_SUCH_METHOD, INVALID_PARAMS = -32700, -32600, -32601, -32602
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022       # MCP's own


class RpcError(Exception):
    """A message that we can't answer with a result, and so answer with an error."""

    def __init__(self, code: int, message: str, **data: object):
        super().__init__(message)
        self.error = {"code": code, "message": message, **({"data": data} if data else {})}


def call_tool(params: dict, call: Call) -> dict:
    name, arguments = params.get("name"), params.get("arguments", {})
    tool = next((tool for tool in TOOLS if tool["name"] == name), None)
    if tool is None:
        raise RpcError(INVALID_PARAMS, f"There is no tool {name}.")
    if problem := complaint(arguments, tool["inputSchema"]):
        return text(problem) | {"isError": True}
    try:
        return FUNCTIONS[tool["name"]](call, **arguments)
    except (Cancelled, ConnectionError):
        raise
    except Exception as error:
        # A tool's bug fails this one call. The traceback is for us: it goes to stderr.
        traceback.print_exc()
        return text(f"The tool {name} has a bug: {type(error).__name__}.") | {"isError": True}


def read_resource(params: dict, call: Call) -> dict:
    uri = params.get("uri")
    if uri not in list(TEXTS):
        raise RpcError(INVALID_PARAMS, "Resource not found", uri=uri)
    return {"contents": [{"uri": uri, "mimeType": "text/plain", "text": TEXTS[uri]}]}


def get_prompt(params: dict, call: Call) -> dict:
    arguments = {"mood": "cheerful", **params.get("arguments", {})}
    if params.get("name") != "postcard" or "town" not in arguments:
        raise RpcError(INVALID_PARAMS, 'There is one prompt, "postcard", and it needs a "town".')
    words = (f"What's the weather in {arguments['town']}? Then write a short postcard from there "
             f"that mentions it, in a {arguments['mood']} mood.")
    return {"messages": [{"role": "user", "content": {"type": "text", "text": words}}]}


# A long list may come in pages, with a cursor that leads to the next. Ours are short.
LISTS: dict[str, dict] = {
    "tools/list": {"tools": TOOLS},
    "resources/list": {"resources": RESOURCES},
    "resources/templates/list": {"resourceTemplates": []},
    "prompts/list": {"prompts": PROMPTS},
}
METHODS = {"tools/call": call_tool, "resources/read": read_resource, "prompts/get": get_prompt}


def answer(method: str, params: dict, call: Call) -> dict:
    """Return the result of one request."""
    if method in LISTS:
        return LISTS[method]
    if method not in METHODS:
        raise RpcError(NO_SUCH_METHOD, f"There is no method {method} here.")
    if not isinstance(params.get("arguments", {}), dict):
        raise RpcError(INVALID_PARAMS, '"arguments" must be an object.')
    return METHODS[method](params, call)


# ── Part 3: The two generations ──────────────────────────────────────────────────────────
#
# MCP has changed how a conversation opens. In the older generation the client first says
# "initialize", the two agree on a version, and the server remembers that:
#
#     client   {"id": 1, "method": "initialize", "params": {"protocolVersion": ...}}
#     server   {"id": 1, "result": {"protocolVersion": ..., "capabilities": ...}}
#
# Since 2026-07-28 there is nothing to remember. Each request brings what the server must
# know in "_meta". We speak both: how the client asks decides how we answer.
#
#     client   {"id": 1, "method": "tools/list", "params": {"_meta": {
#                   "io.modelcontextprotocol/protocolVersion": "2026-07-28", ...}}}
#     server   {"id": 1, "result": {"resultType": "complete", "tools": [...], ...}}

NEWEST = "2026-07-28"
OLDER = ["2025-11-25", "2025-06-18", "2025-03-26"]
VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
SERVER_INFO = {"name": "toy", "version": "1"}
ABOUT_US = {"capabilities": {"tools": {}, "resources": {}, "prompts": {}},
            "instructions": "Tools to play with: a sum, the weather, a count, a square."}
DISCOVERED = {"supportedVersions": [NEWEST, *OLDER], **ABOUT_US}

# These results are the same for everybody, so a client may keep them for five minutes.
CACHEABLE = {*LISTS, "resources/read", "server/discover"}
CACHE_HINTS = {"ttlMs": 300_000, "cacheScope": "public"}


@dataclass
class Client:
    """What we remember of a client. In the new generation: nothing but its running calls."""

    greeted: bool = False                                   # has it said "initialize"?
    running: list[Call] = field(default_factory=list)       # so that they can be cancelled


def parse(body: bytes) -> dict:
    """Turn bytes into a message. It gets "params" and in them "_meta", if it has none."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):    # the latter: ten thousand brackets, say
        raise RpcError(PARSE_ERROR, "This is not JSON in UTF-8.") from None
    if (not isinstance(message, dict) or message.get("jsonrpc") != "2.0"
            or not isinstance(message.get("method"), str)
            or not isinstance(message.get("id", 0), (str, int))
            or not isinstance(message.setdefault("params", {}), dict)
            or not isinstance(message["params"].setdefault("_meta", {}), dict)):
        raise RpcError(INVALID_REQUEST, 'A message is one JSON object, with "jsonrpc": "2.0" and '
                       'a "method". An "id" is a string or an integer; "params" is an object.')
    return message


def is_new(message: dict) -> bool:
    """Does this message belong to the new generation?"""
    return VERSION in message["params"]["_meta"]


def respond(call: Call, client: Client) -> dict | None:
    """Take one message, and return the one that answers it, if any should."""
    message = call.message
    if message["method"] == "notifications/cancelled":
        for other in list(client.running):
            if other.message["id"] == message["params"].get("requestId"):
                other.cancelled.set()
    if "id" not in message:
        return None         # notifications get no answer
    reply = {"jsonrpc": "2.0", "id": message["id"]}
    try:
        result = (respond_new if is_new(message) else respond_old)(call, client)
        return {**reply, "result": result}
    except RpcError as error:
        return {**reply, "error": error.error}
    except (Cancelled, ConnectionError):
        return None         # nobody wants to hear more of it
    finally:
        client.running.remove(call)


def respond_old(call: Call, client: Client) -> dict:
    method, params = call.message["method"], call.message["params"]
    if method == "ping":
        return {}
    if method == "initialize":
        client.greeted = True
        # A version that we don't speak gets a counter-offer. The client may hang up.
        wanted = params.get("protocolVersion")
        return {"protocolVersion": wanted if wanted in OLDER else OLDER[0],
                "serverInfo": SERVER_INFO, **ABOUT_US}
    if not client.greeted:
        raise RpcError(INVALID_PARAMS, f'Say "initialize" first, or put "{VERSION}" and '
                                       f'"{CAPABILITIES}" into the "_meta" of each request.')
    return answer(method, params, call)


def respond_new(call: Call, client: Client) -> dict:
    method, params = call.message["method"], call.message["params"]
    version = params["_meta"][VERSION]
    if call.headers is not None:
        check_headers(call.headers, method, params)
    if version != NEWEST:
        raise RpcError(UNSUPPORTED_VERSION, "Unsupported protocol version",
                       supported=[NEWEST, *OLDER], requested=version)
    if not isinstance(params["_meta"].get(CAPABILITIES), dict):
        raise RpcError(INVALID_PARAMS, f'"_meta" needs "{CAPABILITIES}", too.')

    result = DISCOVERED if method == "server/discover" else answer(method, params, call)
    return {"resultType": "complete", **result, **(CACHE_HINTS if method in CACHEABLE else {}),
            "_meta": {"io.modelcontextprotocol/serverInfo": SERVER_INFO}}


def check_headers(headers: Message, method: str, params: dict) -> None:
    """Over HTTP some facts travel twice. The headers are for gateways, which don't read
    bodies; if they said something else than the body, the gateway would be deceived."""
    expected = {"MCP-Protocol-Version": params["_meta"][VERSION], "Mcp-Method": method}
    if method in METHODS:
        expected["Mcp-Name"] = params.get("uri" if method == "resources/read" else "name")
    for name, value in expected.items():
        said = headers.get(name)
        # A header is plain ASCII. "Hello, 世界" comes as =?base64?SGVsbG8sIOS4lueVjA==?=
        if wrapped := re.fullmatch(r"=\?base64\?(.*)\?=", said or ""):
            with contextlib.suppress(ValueError):       # no base64, or not of UTF-8
                said = base64.b64decode(wrapped[1], validate=True).decode()
        if said != value:
            raise RpcError(HEADER_MISMATCH, f"The header {name} must say what the body says.")


# ── Part 4: stdio ────────────────────────────────────────────────────────────────────────
#
# The client has started us as a program. What it writes arrives on our stdin, and what we
# print it reads. So nothing but messages may go to stdout.


def serve_stdio() -> None:
    client = Client()
    one_at_a_time = threading.Lock()

    def send(message: dict) -> None:
        # Bytes, because the computer's own encoding need not be UTF-8. The lock: two calls
        # that finish together must not mix their lines.
        with one_at_a_time, contextlib.suppress(BrokenPipeError):
            sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
            sys.stdout.buffer.flush()

    def work(call: Call) -> None:
        if reply := respond(call, client):
            send(reply)

    # A tool may take its time. In a thread of its own it delays nobody, and we stay here to
    # read the next line, which may be its cancellation.
    with ThreadPoolExecutor(MAX_RUNNING) as threads:
        try:
            # A line that is too long falls into pieces, and those are not JSON.
            while line := sys.stdin.buffer.readline(MAX_BYTES):
                try:
                    call = Call(parse(line), send)
                except RpcError as error:
                    send({"jsonrpc": "2.0", "error": error.error})  # whose id we can't tell
                    continue
                if "id" in call.message:
                    client.running.append(call)
                if call.message["method"] == "tools/call":
                    threads.submit(work, call)
                else:
                    work(call)
        finally:
            # The client is leaving. A tool that is nearly done may still answer; one that
            # waits for something stops. "with" waits for all of them.
            for call in list(client.running):
                call.cancelled.set()


# ── Part 5: HTTP ─────────────────────────────────────────────────────────────────────────
#
# Each message comes in a POST of its own. The answer is JSON, or an event stream when there
# is progress to tell: the first report opens it, and the reply is its last event.
#
# The older generation wants to be remembered. So "initialize" is answered with a header
# Mcp-Session-Id, which the client then shows with each request, like a cloakroom ticket.

LOCAL = re.compile(r"(https?://)?(127\.0\.0\.1|localhost)(:\d+)?", re.IGNORECASE)


class HttpServer(socketserver.ThreadingTCPServer):
    """Accepts connections, and gives each its own thread and Handler."""
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 50
    sessions: dict[str, Client]     # by Mcp-Session-Id


class Handler(BaseHTTPRequestHandler):
    """One connection. It may bring many requests, one after another."""
    server: HttpServer
    protocol_version = "HTTP/1.1"       # the connection stays open for the next request
    disable_nagle_algorithm = True      # send small pieces at once, not 40 ms later

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,9}", length) or int(length) > MAX_BYTES:
            # What is unread would be the next request, so this connection can't be kept.
            return self.send(413, Connection="close")
        body = self.rfile.read(int(length))
        if status := self.refusal():
            return self.send(status)
        try:
            message = parse(body)
        except RpcError as error:
            return self.send(400, {"jsonrpc": "2.0", "error": error.error})
        session_id = self.headers.get("Mcp-Session-Id")
        if is_new(message) or session_id is None:
            self.reply(message, Client())
        elif client := self.server.sessions.get(session_id):
            self.reply(message, client)
        else:
            self.send(404)      # to the client this means: say "initialize" again

    def refusal(self) -> int:
        """The status for a request that isn't meant for us. 0: it is."""
        # A web page that you visit can make your browser send requests to your own computer;
        # Origin says whose page it was. It can even pretend that its own name is your
        # computer's ("DNS rebinding"); then that name is in Host.
        if self.path != "/mcp":
            return 404
        if not LOCAL.fullmatch(self.headers.get("Host", "")):
            return 421
        return 0 if LOCAL.fullmatch(self.headers.get("Origin", "localhost")) else 403

    def reply(self, message: dict, client: Client) -> None:
        self.streaming = False
        call = Call(message, self.send_event, self.headers, self.hung_up)
        if "id" in message:
            client.running.append(call)
        reply = respond(call, client)

        if self.streaming:
            if reply:
                self.send_event(reply)
            self.wfile.write(b"0\r\n\r\n")
        elif reply is None:
            self.send(202)      # received, and that is all there is to say
        elif "error" in reply and not client.greeted:
            self.send(404 if reply["error"]["code"] == NO_SUCH_METHOD else 400, reply)
        elif message["method"] == "initialize":
            session_id = secrets.token_hex()
            self.server.sessions[session_id] = client
            if len(self.server.sessions) > MAX_SESSIONS:
                del self.server.sessions[next(iter(self.server.sessions))]      # the oldest
            self.send(200, reply, **{"Mcp-Session-Id": session_id})
        else:
            self.send(200, reply)

    def do_GET(self) -> None:
        self.send(405, Allow="POST")    # we have nothing to say of our own accord

    def do_DELETE(self) -> None:
        """The end of a session."""
        if self.server.sessions.pop(self.headers.get("Mcp-Session-Id", ""), None):
            self.send(200)
        else:
            self.send(405, Allow="POST")

    def send(self, status: int, message: dict | None = None, **headers: str) -> None:
        """Send a whole response: a message, or only a status."""
        body = json.dumps(message).encode() if message else b""
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_event(self, message: dict) -> None:
        """Send one message as an event. The first one opens the stream."""
        if not self.streaming:
            self.streaming = True
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
        event = b"data: " + json.dumps(message).encode() + b"\n\n"
        # Nobody knows beforehand how long a stream gets. So it goes in chunks, each after its
        # own length (in hexadecimal), and one of length 0 ends it.
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))

    def hung_up(self) -> bool:
        """Has the client closed the connection? Then there is something to read: its end."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""

    def handle(self) -> None:
        # A client may hang up at any time. That is its right, and no news.
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *args: object) -> None:
        """The default prints a line per request. We don't."""


@contextlib.contextmanager
def serve_http(port: int = 0) -> Iterator[str]:
    """Serve in the background: `with serve_http() as url: ...`. Port 0 is any free one."""
    # Only this computer reaches 127.0.0.1. Whoever serves a network has to ask for a password.
    with HttpServer(("127.0.0.1", port), Handler) as server:
        server.sessions = {}
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/mcp"
        finally:
            server.shutdown()


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
                threading.Event().wait()
        except (OSError, OverflowError) as error:
            sys.exit(f"Can't listen on port {options.port}: {error}\nTry another --port.")


if __name__ == "__main__":
    main()
