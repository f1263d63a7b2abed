"""A very small MCP server for tests: new generation, HTTP, with any tools that a test likes.

    with LittleServer({"erase": {"annotations": {"destructiveHint": True},
                                 "answer": lambda arguments: text("Gone.")}}) as server:
        server.url
        server.was_asked      # the requests that came: [("tools/list", {}), ...]

What stands in a tool besides "answer" is sent as it is. An answer that is None never comes:
the server waits until the client hangs up, and then says so in `somebody_hung_up`. With None
for the tools, it answers nothing at all.
The demo's toy server is the complete one; this one is for what a toy wouldn't do.
"""

import contextlib
import json
import select
import socket
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler


def text(words: str, **more: object) -> dict:
    return {"content": [{"type": "text", "text": words}], **more}


class LittleServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 50

    def __init__(self, tools: dict[str, dict] | None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.tools = tools
        self.was_asked: list[tuple[str, dict]] = []
        self.somebody_hung_up = threading.Event()
        self.closing = threading.Event()
        self.connections: set[socket.socket] = set()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/mcp"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):  # so that really nobody answers any more
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def calls(self) -> list[dict]:
        return [params for method, params in self.was_asked if method == "tools/call"]


class Handler(BaseHTTPRequestHandler):
    server: LittleServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        params = message.get("params", {})
        self.server.was_asked.append((message["method"], params))
        result: dict | None = {}
        if self.server.tools is None:
            result = None
        elif message["method"] == "tools/list":
            result = {"tools": [
                {"name": name, "inputSchema": {"type": "object"},
                 **{key: tool[key] for key in tool if key != "answer"}}
                for name, tool in self.server.tools.items()]}
        elif message["method"] == "tools/call":
            result = self.server.tools[params["name"]]["answer"](params.get("arguments", {}))
        if result is None:
            return self.wait_until_hung_up()
        body = json.dumps({"jsonrpc": "2.0", "id": message.get("id"),
                           "result": {"resultType": "complete", **result}}).encode()
        if "error" in result:
            body = json.dumps({"jsonrpc": "2.0", "id": message.get("id"), **result}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def wait_until_hung_up(self) -> None:
        self.close_connection = True
        while not self.server.closing.is_set():
            if select.select([self.connection], [], [], 0.02)[0]:
                self.server.somebody_hung_up.set()
                return
