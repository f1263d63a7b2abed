"""A model for tests: it listens on this computer, speaks like OpenAI's service, and says what a
test has written down for it.

    with ScriptedModel(wants("toy__add", {"a": 2, "b": 40}),   # its first reply asks for a tool
                       says("It is ", "42.")) as model:        # its second comes in two pieces
        ...
        model.was_sent[1]["messages"]    # what its second request said
        model.connections                # how many TCP connections there were

A reply can also be a refusal(429, "Slow down.", {"Retry-After": "7"}), any pieces(...) of a
stream, and raw(...) bytes. In the middle of a reply, CUT closes the connection, and HANG says
no more until the other side hangs up; at its beginning, not even a status.
"""

import contextlib
import json
import select
import socketserver
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]

from chat import LLM  # noqa: E402  (it lies one folder above)

CUT, HANG = "CUT", "HANG"


@dataclass
class Reply:
    """What the model does with one request."""

    chunks: list  # of the body, sent one by one: bytes, CUT, HANG, or an Event to wait for
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/event-stream"})


def event(piece: object) -> bytes:
    return b"data: " + json.dumps(piece, ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def raw(*chunks: Any) -> Reply:
    """These bytes, whatever they are."""
    return Reply(list(chunks))


def pieces(*found: Any) -> Reply:
    """A stream of these pieces: {"choices": [...]}, or whatever a service may send."""
    return Reply([*(event(one) if isinstance(one, (dict, list)) else one for one in found), DONE])


def delta(finish_reason: str | None = None, **what: object) -> dict:
    """A piece as services send it: delta(content="It is ")."""
    return {"choices": [{"index": 0, "delta": what, "finish_reason": finish_reason}]}


def says(*words: Any, finish: str = "stop") -> Reply:
    """An answer in these pieces. CUT, HANG and events may stand between them."""
    return pieces(*(delta(content=word) if isinstance(word, str) and word not in (CUT, HANG)
                    else word for word in words), delta(finish))


def wants(*names_and_arguments: Any) -> Reply:
    """wants("toy__add", {"a": 2, "b": 40}) is one call; more pairs are more calls in one reply."""
    calls = zip(names_and_arguments[::2], names_and_arguments[1::2], strict=True)
    return pieces(*(delta(tool_calls=[{
        "index": index, "id": f"call_{index}", "type": "function",
        "function": {"name": name, "arguments": arguments if isinstance(arguments, str)
                     else json.dumps(arguments)}}])
        for index, (name, arguments) in enumerate(calls)), delta("tool_calls"))


def refusal(status: int, text: str = "No.", headers: dict[str, str] | None = None,
            code: str | None = None) -> Reply:
    """An error in OpenAI's shape."""
    body = json.dumps({"error": {"message": text, "type": "an_error", "code": code}}).encode()
    # The openai package asks twice where that may help. The tests needn't wait for it.
    return Reply([body], status, {"Content-Type": "application/json", "x-should-retry": "false",
                                  **(headers or {})})


class ScriptedModel(socketserver.ThreadingTCPServer):
    """A model with a script. It is ready at once, and ends with its "with" block."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 50

    def __init__(self, *script: Reply, names: tuple[str, ...] = ("scripted",)):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = list(script)
        self.names = names                 # of its models
        self.was_sent: list[dict] = []     # the bodies of the requests, in their order
        self.headers: list[Message] = []
        self.connections = 0
        self.somebody_hung_up = threading.Event()
        self.closing = threading.Event()
        self.base_url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.llm = LLM("scripted", "a-key", self.base_url)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> "ScriptedModel":
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # that somebody hangs up, is no news
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """One connection. It may bring many requests, one after another."""

    server: ScriptedModel
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send(Reply([json.dumps({"data": [{"id": name} for name in self.server.names]})
                         .encode()], headers={"Content-Type": "application/json"}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.was_sent.append(body)
        self.server.headers.append(self.headers)
        self.send(self.server.script.pop(0) if self.server.script
                  else refusal(418, "The script of this test is at its end."))

    def send(self, reply: Reply) -> None:
        if reply.chunks[:1] == [HANG]:
            self.wait_until_hung_up()
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Transfer-Encoding": "chunked"}.items():
            self.send_header(name, value)
        self.end_headers()
        for chunk in reply.chunks:
            if chunk == CUT:
                self.close_connection = True
                return
            if chunk == HANG:
                self.wait_until_hung_up()
                self.close_connection = True
                return
            if isinstance(chunk, threading.Event):
                chunk.wait(PATIENCE)
                continue
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    def wait_until_hung_up(self) -> None:
        while not self.server.closing.is_set():
            if select.select([self.connection], [], [], 0.02)[0]:
                with contextlib.suppress(OSError):
                    if self.connection.recv(1):
                        continue
                self.server.somebody_hung_up.set()
                return


def cut_into(size: int, reply: Reply) -> Reply:
    """The same bytes, in chunks of another size."""
    whole = b"".join(reply.chunks)
    return raw(*(whole[start:start + size] for start in range(0, len(whole), size)))


def texts_of(events: Iterator) -> str:
    """The answer in some events."""
    return "".join(one.text for one in events if type(one).__name__ == "Text")
