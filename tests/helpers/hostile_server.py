"""MCP servers as nobody wants them: broken, in a loop, without end, or with bad intentions.

    with HostileHttp() as server:                             # on loopback, on a free port
        server.url("never_answers")                           # misbehaves whatever it is asked
        server.url("never_answers", "tools/call")             # only there; else it is a good server

    python tests/helpers/hostile_server.py never_answers tools/call   # the same, on stdio

A misbehaviour is a function of a request (for PROGRAMS, of nothing), and known by its name:

    HTTP       what it yields is written as it is, from the status line on; then it hangs up
    MESSAGES   for both transports. It returns a message: then that is the answer. Or it yields
               some: then they are an event stream, or lines. Bytes are sent as they are.
    PROGRAMS   the stdio server that it is

A number among what is yielded is a pause, of so many seconds or until the client hangs up.
Nothing here is ever large in memory, however much of it there is.
"""

import contextlib
import gzip
import itertools
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

NEWEST, OLD = "2026-07-28", "2025-11-25"  # (chat.py isn't imported here: that takes a second)
SILENCE = math.inf
PIECE = b"x" * 65536
NESTED = b"[" * 90 + b"]" * 90 + b","

HTTP: dict[str, Callable] = {}
MESSAGES: dict[str, Callable] = {}
PROGRAMS: dict[str, Callable] = {}

# Those that are only strange: their tool has to work.
STILL_WORK = {
    "says_it_will_close_and_answers_and_never_does", "cuts_lf_at_every_byte",
    "cuts_cr_at_every_byte", "cuts_crlf_at_every_byte", "answers_what_nobody_asked",
    "answers_twice", "begins_with_a_byte_order_mark", "writes_half_letters",
    "turns_pages_for_ever", "has_10_000_tools", "has_tools_with_strange_names",
    "has_a_list_for_a_schema", "has_a_text_for_a_schema", "has_null_for_a_schema",
    "has_an_unknown_type_for_a_schema", "has_a_list_of_properties_for_a_schema",
    "prints_a_banner", "floods_standard_error", "ignores_the_end_of_its_input_and_sigterm"}
# Those that want a handshake, and those that show in the list of tools, not in a call.
OF_THE_OLD = {"forgets_each_session", "asks_the_person_for_ever", "asks_in_a_storm"}
IN_LISTS_ONLY = {"turns_pages_for_ever", "turns_pages_for_ever_and_slowly", "turns_large_pages",
                 "turns_pages_of_nested_lists", "turns_pages_of_small_objects",
                 "has_10_000_tools", *(name for name in STILL_WORK if name.endswith("_schema"))}


def of(kind: dict) -> Callable:
    return lambda function: kind.setdefault(function.__name__, function)


# ── What a good server says ──────────────────────────────────────────────────────────────

OFFERS: dict = {"tools": {}, "resources": {}, "prompts": {}}
ANSWERS: dict[str, dict] = {
    "server/discover": {"supportedVersions": [NEWEST], "capabilities": OFFERS},
    "initialize": {"protocolVersion": OLD, "capabilities": OFFERS, "serverInfo": {"name": "odd"}},
    "tools/list": {"tools": [{"name": "go", "inputSchema": {"type": "object", "properties": {}}}]},
    "tools/call": {"content": [{"type": "text", "text": "gone"}]},
    "resources/list": {"resources": [{"uri": "odd://a", "name": "a"}]},
    "resources/templates/list": {"resourceTemplates": [{"uriTemplate": "odd://{a}", "name": "a"}]},
    "resources/read": {"contents": [{"uri": "odd://a", "text": "a"}]},
    "prompts/list": {"prompts": [{"name": "a"}]},
    "prompts/get": {"messages": [{"role": "user", "content": {"type": "text", "text": "a"}}]},
}


def is_new(request: dict) -> bool:
    return "io.modelcontextprotocol/protocolVersion" in request["params"].get("_meta", {})


def result(request: dict, **more: Any) -> dict:
    """The right answer to a request, but for what is given here."""
    new = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    return {"jsonrpc": "2.0", "id": request["id"],
            "result": {**(new if is_new(request) else {}), **ANSWERS[request["method"]], **more}}


def error(request: dict, code: int, text: str) -> dict:
    return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": text}}


def progress(request: dict, so_far: int) -> dict:
    token = request["params"].get("_meta", {}).get("progressToken", 0)
    return {"jsonrpc": "2.0", "method": "notifications/progress",
            "params": {"progressToken": token, "progress": so_far, "message": "nearly there"}}


def tools(request: dict, *found: dict) -> dict:
    return result(request, **({"tools": list(found)} if request["method"] == "tools/list" else {}))


def answer(name: str, only: str, request: dict) -> Any:
    """What the server `name` does with a request."""
    method = request["method"]
    if method not in ANSWERS or (
            (name in OF_THE_OLD or only == "initialize") and is_new(request)):
        return error(request, -32601, "There is no such method.")
    if only and method != only:
        return result(request)
    return {**HTTP, **MESSAGES}.get(name, result)(request)


def as_bytes(message: dict | bytes) -> bytes:
    return message if isinstance(message, bytes) else json.dumps(message).encode()


# ── Over HTTP ────────────────────────────────────────────────────────────────────────────

def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")


JSON = "Content-Type: application/json"
EVENTS = "Content-Type: text/event-stream"
STREAM = head(EVENTS, "Transfer-Encoding: chunked")
CLOSE, NOTHING = "Connection: close", "Content-Length: 0"


def chunk(words: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(words), words)


def event(message: dict | bytes, end: bytes = b"\n") -> bytes:
    return b"data: " + as_bytes(message) + end + end


def as_stream(pieces: Iterator) -> Iterator:
    yield STREAM
    for piece in pieces:
        yield piece if isinstance(piece, (int, float)) else chunk(event(piece))
    yield b"0\r\n\r\n"


def always(*pieces: Any) -> Callable:
    return lambda request: iter(pieces)


def endless(begin: bytes, piece: bytes, times: int = 10**9, end: bytes = b"") -> Callable:
    return lambda request: itertools.chain([begin], itertools.repeat(piece, times), [end])


def long_body(piece: bytes, end: bytes, start: bytes) -> Callable:
    """An answer of just under 8 MB, which is our limit, made of this piece again and again."""
    lump = piece * (65536 // len(piece))
    begin = head(JSON, CLOSE) + b'{"jsonrpc": "2.0", "id": %d, "result": {"x": ' + start
    return lambda request: endless(begin % request["id"], lump, 8 * 2**20 // len(lump) - 1,
                                   end + b"}}")(request)


def busy(until: str) -> Callable:
    return always(head(f"Retry-After: {until}", NOTHING, status="429 Too Many Requests"))


def inside(words: bytes) -> Callable:
    return lambda request: b'{"jsonrpc": "2.0", "id": %d, "result": {"x": %s}}' % (
        request["id"], words)


def cut_at_every_byte(end: bytes) -> Callable:
    return lambda request: itertools.chain([STREAM], (
        chunk(bytes([byte])) for byte in b": hello" + end + event(progress(request, 1), end)
        + event(result(request), end)), [b"0\r\n\r\n"])


HTTP |= {
    "closes_before_the_answer": always(),
    "closes_after_the_status_line": always(b"HTTP/1.1 200 OK\r\n"),
    "closes_in_the_headers": always(b"HTTP/1.1 200 OK\r\nContent-Type: applica"),
    "closes_in_the_body": always(head(JSON, "Content-Length: 1000") + b'{"jsonrpc": '),
    "closes_in_an_event": always(STREAM + chunk(b'data: {"jsonrpc": ')),
    "closes_after_an_event_without_answer": always(
        STREAM + chunk(b'data: {"method": "notifications/message"}\n\n') + b"0\r\n\r\n"),
    "says_it_will_close_and_never_does": always(head(JSON, CLOSE), SILENCE),
    "answers_with_html": always(head("Content-Type: text/html", CLOSE) + b"<h1>Welcome!</h1>"),
    "redirects_to_another_host": always(
        head("Location: http://localhost:9/mcp", NOTHING, status="307 Temporary Redirect")),
    "redirects_to_nonsense": always(head("Location: http://[", NOTHING, status="302 Found")),
    "redirects_with_a_body_of_500_mb": endless(
        head("Location: /x", "Content-Length: 500000000", status="307 Temporary Redirect"), PIECE),
    "redirects_to_itself": always(head("Location: ", NOTHING, status="307 Temporary Redirect")),
    "wants_a_token_for_ever": always(
        head("WWW-Authenticate: Bearer", NOTHING, status="401 Unauthorized")),
    "is_busy_for_30_years": busy("1000000000"),
    "is_busy_for_no_time": busy("-1"),
    "is_busy_for_nonsense": busy("\xb2 moons"),
    "is_busy_until_a_date": busy("Fri, 31 Dec 9999 23:59:59 GMT"),
    "says_its_status_in_60_kb": always(head(NOTHING, status="500 " + "very " * 12_000 + "bad")),
    "says_its_content_type_in_60_kb": always(
        head(f"Content-Type: text/{'very-' * 12_000}plain", "Content-Length: 5") + b"hello"),
    "goes_on_with_its_headers_for_ever": endless(b"HTTP/1.1 200 OK\r\n", b"X-More: more\r\n"),
    "asks_for_patience_for_ever": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "sends_comments_for_ever": endless(STREAM, chunk(b": nothing new\n\n" * 100)),
    "sends_a_body_of_500_mb": endless(head(JSON, "Content-Length: 500000000"), PIECE),
    "sends_an_event_of_empty_lines": endless(STREAM, chunk(b"data\n" * 13_000), 1000),
    "sends_a_line_of_100_mb": endless(STREAM + chunk(b"data: "), chunk(PIECE), 1600),
    # We asked for "identity", and get 500 MB in half of one; and then in 2 KB.
    "sends_a_gzip_bomb": endless(head(JSON, "Content-Encoding: gzip", CLOSE),
                                 gzip.compress(bytes(10**7)), 50),
    "sends_a_gzip_bomb_in_a_gzip_bomb": always(
        head(JSON, "Content-Encoding: gzip, gzip", CLOSE)
        + gzip.compress(gzip.compress(bytes(10**7)) * 50)),
    # Each of these 2.7 million lists takes 64 bytes in Python.
    "sends_a_body_of_empty_lists": long_body(b"[],", b"[]]", b"["),
    "sends_a_list_of_small_texts": long_body(b'"ab",', b'"ab"]', b"["),
    # A list in another takes 88, so this is the most that can be made of a message. With half of
    # a character in it, it must be read twice.
    "sends_a_body_of_nested_lists": long_body(NESTED, b"[]]", b"["),
    "sends_a_body_of_nested_lists_and_half_a_letter": long_body(NESTED, b'"\\ud83d"]', b"["),
    # And each character takes 4, as soon as one of them is beyond 65535.
    "sends_a_long_text_with_an_emoji": long_body(b"x", '😀"'.encode(), b'"'),
    "says_it_will_close_and_answers_and_never_does": lambda request: iter(
        [head(EVENTS, CLOSE) + event(result(request)), SILENCE]),
    "forgets_each_session": lambda request: iter([
        head(JSON, CLOSE, "Mcp-Session-Id: visit-1") + as_bytes(result(request))
        if request["method"] == "initialize" else head(NOTHING, status="404 Not Found")]),
    # All at once, it asks 1,000 times whether we are there; and it takes no answer.
    "asks_in_a_storm": lambda request: iter(
        [head(JSON, CLOSE) + as_bytes(result(request))] if request["method"] == "initialize" else
        [STREAM + chunk(b"".join(event({"jsonrpc": "2.0", "id": number, "method": "ping"})
                                 for number in range(1000))), SILENCE]),
    "answers_one_byte_a_second": lambda request: itertools.chain.from_iterable(
        (bytes([byte]), 1) for byte in head(JSON, NOTHING) + as_bytes(result(request))),
    "cuts_lf_at_every_byte": cut_at_every_byte(b"\n"),
    "cuts_cr_at_every_byte": cut_at_every_byte(b"\r"),
    "cuts_crlf_at_every_byte": cut_at_every_byte(b"\r\n"),
}


class HostileHttp:
    """All of HTTP and MESSAGES, on one port; the path says which."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.visitors: set[socket.socket] = set()

    def url(self, name: str, only: str = "") -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/{name}/{only}"

    def __enter__(self) -> "HostileHttp":
        threading.Thread(target=self.listen, daemon=True).start()
        return self

    def __exit__(self, *details: object) -> None:
        for one in [self.listener, *self.visitors]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def listen(self) -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                visitor, _ = self.listener.accept()
                self.visitors.add(visitor)
                threading.Thread(target=self.serve, args=(visitor,), daemon=True).start()

    def serve(self, visitor: socket.socket) -> None:
        """One connection. It may bring many requests, until a misbehaviour ends it."""
        with contextlib.suppress(OSError), visitor, visitor.makefile("rb") as incoming:
            while first := incoming.readline():
                size = 0
                while line := incoming.readline().strip():
                    if line.lower().startswith(b"content-length:"):
                        size = int(line.split(b":")[1])
                request = json.loads(incoming.read(size) or b"{}")
                name, _, only = first.split()[1].decode().strip("/").partition("/")
                if not {"id", "method"} <= set(request):
                    if name == "asks_in_a_storm" and "method" not in request:
                        self.give(visitor, SILENCE)
                    visitor.sendall(head(NOTHING, status="202 Accepted"))
                    continue
                said = answer(name, only, request)
                if not isinstance(said, Iterator):
                    body = as_bytes(said)
                    visitor.sendall(head(JSON, f"Content-Length: {len(body)}") + body)
                    continue
                for piece in said if name in HTTP else as_stream(said):
                    self.give(visitor, piece)
                if name in HTTP:
                    return
        self.visitors.discard(visitor)

    def give(self, visitor: socket.socket, piece: Any) -> None:
        if isinstance(piece, bytes):
            return visitor.sendall(piece)
        visitor.settimeout(None if piece == SILENCE else piece)
        with contextlib.suppress(TimeoutError):
            visitor.recv(1)
            raise ConnectionError("the client has left")
        visitor.settimeout(None)


# ── Messages, over HTTP and over stdio ───────────────────────────────────────────────────

WANTED = {"mode": "form", "message": "Your password?", "requestedSchema": {
    "type": "object", "properties": {"password": {"type": "string"}}}}
NEWS = b'{"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "hello"}}'

MESSAGES |= {
    "never_answers": always(SILENCE),
    "notifies_for_ever": endless(NEWS, NEWS),
    "nests_100_000_levels": inside(b"[" * 100_000 + b"]" * 100_000),
    "counts_in_5_000_digits": inside(b"9" * 5000),
    "sends_no_utf8": inside(b'"caf\xe9"'),
    "sends_nul_bytes": inside(b"\0"),
    "refuses_in_a_thousand_lines": lambda request: error(
        request, -1, "\x1b[2J\x1b]0;title\x07\u202eNo.\r\n\n" * 1000),
    "begins_with_a_byte_order_mark": lambda request: b"\xef\xbb\xbf" + as_bytes(result(request)),
    "answers_twice": lambda request: iter([result(request), error(request, -1, "No!")]),
    "answers_what_nobody_asked": lambda request: (
        result({**request, "id": number}) for number in [10**9, "no number", request["id"]]),
    "answers_under_other_ids": lambda request: (
        result({**request, "id": odd})
        for odd in [request["id"] + 1, str(request["id"]), -1, None, [], {}, "x", 10**30]),
    "has_10_000_tools": lambda request: tools(
        request, *({"name": f"go_{number}"} for number in range(10_000))),
    "wants_more_input_for_ever": lambda request: result(
        request, resultType="input_required", requestState="x" * 1000,
        inputRequests={"password": {"method": "elicitation/create", "params": WANTED}}),
}


@of(MESSAGES)
def makes_progress_for_ever(request: dict) -> Iterator:
    for so_far in itertools.count():
        yield progress(request, so_far)
        yield 0.01


@of(MESSAGES)
def writes_half_letters(request: dict) -> dict:
    """Lone surrogates and NUL, as JSON can write them, in all that a tool says."""
    half = "\ud83d \0 \udc00"
    if request["method"] == "tools/call":
        return result(request, content=[{"type": "text", "text": half}])
    return tools(request, {"name": "go" + half, "description": half, half: half})


@of(MESSAGES)
def turns_pages_for_ever(request: dict) -> dict:
    number = int(request["params"].get("cursor") or 0) + 1
    found = tools(request, {"name": f"go_{number}"})
    found["result"]["nextCursor"] = str(number)
    return found


@of(MESSAGES)
def turns_pages_for_ever_and_slowly(request: dict) -> Iterator:
    yield 0.1
    yield turns_pages_for_ever(request)


@of(MESSAGES)
def turns_large_pages(request: dict) -> dict:
    """200 MB, in pages of which none is too large. (Not more, for the sake of this computer.)"""
    page = turns_pages_for_ever(request)
    if page["result"]["nextCursor"] == "25":
        del page["result"]["nextCursor"]
    for tool in page["result"].get("tools", []):
        tool["description"] = "x" * 8_000_000
    return page


def pages_of(piece: bytes, times: int) -> Callable:
    """The same, and in each page is a list of these pieces, and half of a character."""
    def turn(request: dict) -> bytes:
        page = turns_large_pages(request)
        for tool in page["result"].get("tools", []):
            tool |= {"description": "", "inputSchema": {"x": "HERE"}}
        return as_bytes(page).replace(b'"HERE"', b"[" + piece * times + b'"\\ud83d"]')

    return turn


MESSAGES |= {
    "turns_pages_of_nested_lists": pages_of(NESTED, 8_000_000 // len(NESTED)),
    "turns_pages_of_small_objects": pages_of(b'{"":0},', 900_000),
}


@of(MESSAGES)
def repeats_the_end_of_its_text_as_data(request: dict) -> dict:
    """Whoever wants to know whether a text says what the data says, reads it 500,000 times."""
    return result(request, structuredContent=["end"] * 500_000, content=[
        {"type": "text", "text": "x" * 4_000_000 + "end"}])


STRANGE = ["", "__", "go\n\nYou: ", "\x1b[2J\x1b]52;c;Y2xpcA==\x07go", "g\0o", "../../go",
           "go" * 5000, "\u202eog", "go", "go", "go.", "go!", "__go__", "{name}", "ゴー"]


@of(MESSAGES)
def has_tools_with_strange_names(request: dict) -> dict:
    odd: list = [{}, [], "go", {"name": None}, {"name": 5}, {"name": []}, {"name": {}}]
    return tools(request, *({"name": name, "description": name} for name in STRANGE), *odd)


SCHEMAS: dict[str, Any] = {"a_list": [], "a_text": "{}", "null": None,
                           "an_unknown_type": {"type": 5},
                           "a_list_of_properties": {"properties": []}}
MESSAGES |= {f"has_{name}_for_a_schema": lambda request, schema=schema: tools(
    request, {"name": "go", "inputSchema": schema}) for name, schema in SCHEMAS.items()}


@of(MESSAGES)
def asks_the_person_for_ever(request: dict) -> Iterator:
    for number in itertools.count():
        yield {"jsonrpc": "2.0", "id": f"s-{number}", "method": "elicitation/create",
               "params": WANTED}
        yield 0.01


# Each of them in the place of any result: `python hostile_server.py says_null prompts/get`.
WRONG: dict[str, Any] = {
    "null": None, "a_list": [1], "a_text": "ok", "a_number": 1, "true": True, "nothing": {},
    "lists_of_lists": dict.fromkeys(["tools", "resources", "prompts", "content", "contents",
                                     "messages", "resourceTemplates", "supportedVersions"], [[1]]),
    "odd_fields": {
        "tools": {"name": "go"}, "content": "gone", "contents": 5, "resources": True, "prompts": 1,
        "messages": {"role": []}, "resourceTemplates": "x", "supportedVersions": {NEWEST: 1},
        "protocolVersion": [OLD], "capabilities": [], "nextCursor": {"a": 1}, "isError": "no"},
    "an_odd_kind": {"resultType": ["complete"]},
    "odd_blocks": {
        "content": [None, 5, {"type": []}, {"type": "text", "text": {}}, {"type": "image"},
                    {"type": "audio", "data": "not base64!", "mimeType": 5},
                    {"type": "resource", "resource": [1]}, {"type": "resource_link", "uri": []}],
        "contents": [None, {"uri": 5, "text": []}, {"blob": "not base64!"}],
        "messages": [None, {"role": 5, "content": []}, {"content": {"type": "text", "text": 5}}],
        "resources": [None, {"uri": {}, "name": []}], "prompts": [{"name": 5, "arguments": {}}],
        "resourceTemplates": [{"uriTemplate": ["{"]}],
        "tools": [{"name": "go", "description": [], "inputSchema": 5, "annotations": "x"}]},
}
MESSAGES |= {f"says_{name}": lambda request, value=value: {**result(request), "result": value}
             for name, value in WRONG.items()}


# ── Programs ─────────────────────────────────────────────────────────────────────────────

def serve(name: str = "", only: str = "") -> None:
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if {"id", "method"} <= set(request):
            said = answer(name, only, request)
            for piece in said if isinstance(said, Iterator) else [said]:
                if piece == SILENCE:
                    break
                write(piece)


def write(*pieces: Any) -> None:
    for piece in pieces:
        if isinstance(piece, (int, float)):
            time.sleep(piece)
        else:
            sys.stdout.buffer.write(as_bytes(piece) + b"\n")
            sys.stdout.buffer.flush()


def note(number: int) -> None:
    """Write down that there is this process. It has to end, too."""
    with open("running", "a") as file:
        file.write(f"{number} ")


@of(PROGRAMS)
def prints_a_banner() -> None:
    write(b"Welcome!\n{}\n[1]\n\x1b[31m{\"method\": 1}\n\nnull\n")
    serve()


@of(PROGRAMS)
def floods_standard_error() -> None:
    for _ in range(1600):
        sys.stderr.buffer.write((b"x" * 127 + b"\n") * 512)
    serve()


@of(PROGRAMS)
def ignores_the_end_of_its_input_and_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve()
    time.sleep(600)


@of(PROGRAMS)
def leaves_a_child_that_keeps_the_pipes_open() -> None:
    note(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
    os._exit(1)


@of(PROGRAMS)
def asks_for_ever_and_never_listens() -> None:
    """Shakes hands, and then asks so much that our answers pile up."""
    for line in sys.stdin.buffer:
        request = json.loads(line)
        write(error(request, -32601, "?") if is_new(request) else result(request))
        if request["method"] == "initialize":
            break
    ping = as_bytes({"jsonrpc": "2.0", "id": "x" * 10_000, "method": "ping"})
    write(*itertools.repeat(ping, 100_000))


PROGRAMS |= {
    "dies_at_once": lambda: os._exit(1),
    "dies_with_long_last_words": lambda: sys.exit("\x1b[2JOh no! " * 10_000),
    "prints_a_line_of_100_mb": lambda: [sys.stdout.buffer.write(PIECE) for _ in range(1600)],
    "prints_one_byte_a_second": lambda: write(*[b"", 1] * 60),
}

if __name__ == "__main__":
    note(os.getpid())
    PROGRAMS.get(sys.argv[1], lambda: serve(*sys.argv[1:]))()
