"""MCP servers of which a test writes the answers.

They are there to show what chat.py does with whatever a server can say, so they know hardly
anything of MCP themselves. `ScriptedHttp` really listens (on loopback, on a free port), and
`ScriptedStdio` is a program that chat.py really starts. Both remember what they were sent.

    server = http_server({
        "tools/list": new({"tools": []}),          a result, as JSON
        "tools/call": count})                      or a function: what it yields is streamed

    def count(message):
        yield progress(message, 1, total=2)
        yield result(message, {"content": []})
"""

import contextlib
import json
import socket
import sys
import textwrap
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from chapters.versions import NEWEST, OLDER
from chat import Server

# A thing to yield, or to answer with: say nothing more, until the client hangs up.
SILENCE = object()


def result(message: dict, value: object) -> dict:
    return {"jsonrpc": "2.0", "id": message.get("id"), "result": value}


def error(message: dict, code: int, text: str = "No.", data: object = None) -> dict:
    more = {} if data is None else {"data": data}
    return {"jsonrpc": "2.0", "id": message.get("id"),
            "error": {"code": code, "message": text, **more}}


def progress(message: dict, so_far: float, total: float | None = None, text: str = "") -> dict:
    return {"jsonrpc": "2.0", "method": "notifications/progress", "params": {
        "progressToken": message["params"]["_meta"]["progressToken"],
        "progress": so_far, "total": total, "message": text}}


def new(value: dict) -> dict:
    """A result as servers of the new generation give it."""
    return {"resultType": "complete", **value}


# ── Over HTTP ────────────────────────────────────────────────────────────────────────────


@dataclass
class Reply:
    """Any HTTP answer. A body that is not bytes is sent as JSON."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    """A request that has come in."""

    verb: str
    path: str
    headers: Any    # their case doesn't matter
    message: dict
    connection: int  # by which of the TCP connections, 1 is the first

    @property
    def method(self) -> str:
        return self.message.get("method", "")


class ScriptedHttp:
    """`script` says by method what is answered:

        a dict                  the result, as JSON with the id of the request
        a Reply                 that
        a function              called with the message; returns one of these, or is a generator:
                                then the answer is an event stream, and each yield an event
        SILENCE                 nothing, until the client hangs up
        a list of those         one for each time it is asked; the last for all other times

    What the script doesn't know is answered with 202 (a notification) or an error; "" is for
    what has no method: our answers to what the server has asked, and DELETE. "GET" is the stream
    for what a server says unasked; most have none (405). With `old`, a version, this is a server
    of the old generation: it wants a handshake first, and refuses what comes without. `session`
    is the id that it then gives out; a visit by another name is over (404).
    """

    def __init__(self, script: dict[str, Any], old: str = "", session: str = ""):
        self.script, self.old, self.session = script, old, session
        self.seen: list[Seen] = []
        self.connections = 0
        self.hung_up = threading.Event()  # whether a client has left instead of waiting
        self.open: list[socket.socket] = []
        self.guard = threading.Lock()
        here = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                with here.guard:
                    here.connections += 1
                    self.number = here.connections
                    here.open.append(self.connection)

            def log_message(self, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                seen = Seen(self.command, self.path, self.headers, json.loads(body or b"{}"),
                            self.number)
                here.seen.append(seen)
                try:
                    here.answer(self, seen, here.answer_to(seen))
                except OSError:  # the client has left
                    self.close_connection = True
                    here.hung_up.set()

            do_GET = do_DELETE = do_POST

        class Listener(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 50

            def handle_error(self, *args: object) -> None:
                if not isinstance(sys.exc_info()[1], OSError):  # a client may hang up anywhere
                    super().handle_error(*args)

        self.listener = Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.listener.server_address[1]}/mcp"

    def entry(self, **more: Any) -> Server:
        """This server, as chat.py knows it."""
        return Server(**{"name": "scripted", "url": self.url, **more})

    def saw(self, method: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.method == method]

    @property
    def methods(self) -> list[str]:
        return [seen.method or seen.verb for seen in self.seen]

    def answer_to(self, seen: Seen) -> Any:
        message, method = seen.message, seen.method
        if self.session and seen.headers["Mcp-Session-Id"] not in (None, self.session):
            return Reply(404, error({}, -32001, "Session not found"))
        if seen.verb == "GET":
            return self.next_of(self.script.get("GET", Reply(405)), message)
        if "id" not in message or not method:  # a notification, an answer to us, or a DELETE
            return self.next_of(self.script.get(method, Reply(202)), message)
        if self.old and seen.headers.get("MCP-Protocol-Version") == NEWEST:
            return Reply(400, error({"id": "server-error"}, -32600, "Missing session ID"),
                         {"Mcp-Session-Id": "not-this-one"})
        if self.old and method == "initialize" and method not in self.script:
            headers = {"Mcp-Session-Id": self.session} if self.session else {}
            return Reply(200, result(message, {"protocolVersion": self.old, "capabilities": {},
                                               "serverInfo": {"name": "scripted"}}), headers)
        if method not in self.script:
            return Reply(404, error(message, -32601, f"There is no {method} here."))
        return self.next_of(self.script[method], message)

    def next_of(self, answer: Any, message: dict) -> Any:
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        return answer(message) if callable(answer) else answer

    def answer(self, handler: BaseHTTPRequestHandler, seen: Seen, answer: Any) -> None:
        if isinstance(answer, dict):
            answer = Reply(200, answer if "jsonrpc" in answer else result(seen.message, answer))
        if answer is SILENCE:
            self.wait_until_it_hangs_up(handler)
        elif isinstance(answer, Reply):
            words = answer.body if isinstance(answer.body, bytes) \
                else json.dumps(answer.body).encode()
            headers = {"Content-Length": str(len(words)), **answer.headers}
            if words:
                headers.setdefault("Content-Type", "application/json")
            self.start(handler, answer.status, headers)
            handler.wfile.write(words)
        else:
            self.start(handler, 200, {"Content-Type": "text/event-stream; charset=utf-8",
                                      "Transfer-Encoding": "chunked"})
            for event in answer:
                if event is SILENCE:
                    return self.wait_until_it_hangs_up(handler)
                if not isinstance(event, bytes):
                    event = b"event: message\r\ndata: %s\r\n\r\n" % json.dumps(event).encode()
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            handler.wfile.write(b"0\r\n\r\n")

    def start(self, handler: BaseHTTPRequestHandler, status: int, headers: dict) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()

    def wait_until_it_hangs_up(self, handler: BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(OSError):
            handler.connection.recv(1)
        handler.close_connection = True
        self.hung_up.set()

    def __enter__(self) -> "ScriptedHttp":
        threading.Thread(target=self.listener.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *details: object) -> None:
        self.listener.shutdown()
        self.listener.server_close()
        for connection in self.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


# ── Over stdio ───────────────────────────────────────────────────────────────────────────

# What a program of a test begins with.
PRELUDE = '''\
import json, os, sys, time
log = open("received.jsonl", "a", encoding="utf-8", buffering=1)

def incoming():
    """Each message that comes, until the input ends."""
    for line in sys.stdin.buffer:
        log.write(line.decode())
        yield json.loads(line)

def send(message):
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\\n")
    sys.stdout.buffer.flush()

def answer(message, value):
    send({"jsonrpc": "2.0", "id": message["id"], "result": value})

def refuse(message, code, text="No.", data=None):
    send({"jsonrpc": "2.0", "id": message["id"],
          "error": {"code": code, "message": text, **({"data": data} if data else {})}})

def serve(script):
    """By method: a result, or [code, text, data], or "silence", or "exit", or a line to print."""
    for message in incoming():
        said = script.get(message["method"], [-32601, "There is no such method."])
        if said == "exit":
            sys.exit(1)
        if isinstance(said, str):
            os.write(1, b"" if said == "silence" else said.encode() + b"\\n")
        elif "id" in message:
            refuse(message, *said) if isinstance(said, list) else answer(message, said)

'''


class ScriptedStdio:
    """A program which speaks MCP on its standard input and output: `body` is Python, with the
    functions above; or a dict, for `serve`."""

    def __init__(self, folder: Path, body: str | dict):
        folder.mkdir()
        self.folder = folder
        body = f"serve({body!r})" if isinstance(body, dict) else textwrap.dedent(body)
        (folder / "program.py").write_text(PRELUDE + body, encoding="utf-8")

    def entry(self, **more: Any) -> Server:
        """This program, as chat.py knows it."""
        return Server(**{"name": "scripted", "command": "python", "args": ["program.py"],
                         "cwd": str(self.folder), **more})

    @property
    def seen(self) -> list[dict]:
        path = self.folder / "received.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def saw(self, method: str) -> list[dict]:
        return [message for message in self.seen if message.get("method") == method]

    @property
    def methods(self) -> list[str]:
        return [message.get("method", "") for message in self.seen]


HANDSHAKE = {"protocolVersion": OLDER[0], "capabilities": {}, "serverInfo": {"name": "scripted"}}
