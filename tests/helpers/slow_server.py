"""What the benchmark talks to: any number of MCP servers, and a model, in one process of its own.

    python tests/helpers/slow_server.py          prints its address

    /new/200/mcp              an MCP server of the new generation; 200 ms for each request
    /old/200/mcp              one of the old generation: it wants a handshake
    /v1/chat/completions      a model; the question says what it does:
                                  "call wait 300 4"    asks for four calls of 300 ms, then "Done."
                                  "call big 8000000"   asks for a result of 8 MB, then "Done."
                                  "call add 25"        asks for 25 + 1, then "Done."
                                  "pieces 25000"       answers in so many pieces, then "Done."
    /news                     what has come since the last time: {"connections": 1, "requests": [
                                  [1.234, "tools/call"], ...]}
"""

import contextlib
import json
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

TOOLS = [{"name": "wait", "description": "Wait so many milliseconds.",
          "inputSchema": {"type": "object", "properties": {"ms": {"type": "integer"}}}},
         {"name": "big", "description": "Return so many bytes.",
          "inputSchema": {"type": "object", "properties": {"size": {"type": "integer"}}}}]
DONE = "data: [DONE]\n\n"


class SlowServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.guard = threading.Lock()
        self.news: dict = {"connections": 0, "requests": []}

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # that somebody hangs up, is no news
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    server: SlowServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args: object) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        with self.server.guard:
            self.server.news["connections"] += 1

    def do_GET(self) -> None:
        with self.server.guard:
            news, self.server.news = self.server.news, {"connections": 0, "requests": []}
        self.send(news)

    def do_DELETE(self) -> None:
        self.send({})

    def do_POST(self) -> None:
        arrived = time.monotonic()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if len(body) < int(self.headers["Content-Length"]):
            raise ConnectionError("the client has left")
        message = json.loads(body)
        with self.server.guard:
            self.server.news["requests"].append([arrived, message.get("method", "model")])
        _, kind, *rest = self.path.split("/")
        if kind == "v1":
            return self.model(message["messages"])
        time.sleep(int(rest[0]) / 1000)
        self.mcp(message, message["method"], is_old=kind == "old")

    # ── The MCP server ──

    def mcp(self, message: dict, method: str, is_old: bool) -> None:
        number, params = message.get("id"), message.get("params", {})
        if is_old and method != "initialize" and "Mcp-Session-Id" not in self.headers:
            return self.send({"jsonrpc": "2.0", "id": number, "error": {
                "code": -32600, "message": "Bad Request: no session"}}, 400)
        if number is None:
            return self.send(None, 202)
        result: dict = {"tools": TOOLS}
        if method == "initialize":
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                      "serverInfo": {"name": "old", "version": "1"}}
        elif method == "tools/call":
            arguments = params["arguments"]
            time.sleep(arguments.get("ms", 0) / 1000)
            result = {"content": [{"type": "text", "text": "x" * arguments.get("size", 5)}]}
        if not is_old:
            result |= {"resultType": "complete", "ttlMs": 3_600_000}
        headers = {"Mcp-Session-Id": "1"} if method == "initialize" else {}
        self.send({"jsonrpc": "2.0", "id": number, "result": result}, **headers)

    def send(self, answer: object, status: int = 200, **headers: str) -> None:
        body = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "application/json",
                            "Content-Length": str(len(body))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    # ── The model ──

    def model(self, messages: list[dict]) -> None:
        what, *numbers = messages[-1]["content"].split()[-3:] if messages[-1]["role"] == "user" \
            else ["done"]
        if what == "call":
            what, *numbers = numbers
        pieces = [{"content": "Done."}]
        if what in ("wait", "big", "add"):
            number = int(numbers[0])
            arguments = {"wait": {"ms": number}, "big": {"size": number},
                         "add": {"a": number, "b": 1}}[what]
            function = {"name": f"s0__{what}", "arguments": json.dumps(arguments)}
            pieces = [{"tool_calls": [{"index": index, "id": f"call_{index}", "type": "function",
                                       "function": function}]}
                      for index in range(int((numbers + ["1"])[1]) if what == "wait" else 1)]
        elif "pieces" in messages[-1]["content"]:
            pieces = [{"content": "word "}] * int(numbers[-1]) + pieces
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        lump = ""
        for delta in pieces:
            lump += "data: " + json.dumps({
                "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
                "model": "m", "choices": [{"index": 0, "delta": delta,
                                           "finish_reason": None}]}) + "\n\n"
            if len(lump) > 4000:
                self.send_lump(lump)
                lump = ""
        self.send_lump(lump + DONE)
        self.wfile.write(b"0\r\n\r\n")

    def send_lump(self, lump: str) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(lump), lump.encode()))


@contextlib.contextmanager
def running(*words: str) -> Iterator[str]:
    """Start a program beside this one, which prints its address; yield that."""
    with subprocess.Popen([sys.executable, *words], cwd=Path(__file__).parent, text=True,
                          stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


if __name__ == "__main__":
    with SlowServer() as server:
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever(0.05)
