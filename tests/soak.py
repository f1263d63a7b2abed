"""Whether a chat can go on for ever: many questions to it, and what they leave behind.

    uv run python tests/soak.py          2,000 questions, about a minute
    uv run python tests/soak.py 100      so many (20 at least)

Each question calls a tool of three servers: a new one and an old one over HTTP, and a program. Of
five calls one fails, in turn with an error, with a 500 (the program: with nonsense), and because
the server hangs up (the program ends, and is started again). Prints a table of what our process
has; where that is more at the end than near the beginning, the exit status is 1.
"""

import json
import os
import statistics
import sys
import threading
import time
from pathlib import Path

import requests

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS.parent), str(TESTS / "helpers")]

import slow_server  # noqa: E402

from chapters.jobs import finish  # noqa: E402
from chapters.versions import NEWEST  # noqa: E402
from chat import LLM, Chat, Server  # noqa: E402

NAMES, FAILURES = ["new", "old", "program"], ["error", "500", "hang up"]
# What is counted, and how much more of it there may be in the last fifth than in the second. (The
# first warms up. A thread that has just done its work may still be there, and so may its files.)
TOLERANCE = {"threads": 2, "open files": 2, "sockets": 2, "new connections": 2, "MB": 6}


def how_it_fails(question: int, server: int) -> str:
    """"" where it doesn't."""
    fifths, rest = divmod(question + server, 5)
    return "" if rest else FAILURES[fifths % 3]


class Flaky(slow_server.Handler):
    """The servers and the model of the benchmark; but a call says how it is to fail."""
    def mcp(self, message: dict, method: str, is_old: bool) -> None:
        failure = message["params"]["arguments"]["fail"] if method == "tools/call" else ""
        if failure == "hang up":
            self.close_connection = True
        elif failure == "500":
            self.send({"oops": 1}, 500)
        elif failure:
            self.send(error(message))
        else:
            super().mcp(message, method, is_old)

    def model(self, messages: list[dict]) -> None:
        delta: dict = {"content": "Done."}
        if messages[-1]["role"] == "user":
            question = int(messages[-1]["content"])
            delta = {"tool_calls": [
                {"index": index, "id": f"call_{index}", "type": "function", "function": {
                    "name": f"{name}__wait",
                    "arguments": json.dumps({"fail": how_it_fails(question, index)})}}
                for index, name in enumerate(NAMES)]}
        body = f'data: {json.dumps({"choices": [{"delta": delta}]})}\n\ndata: [DONE]\n\n'.encode()
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                         b"Content-Length: %d\r\n\r\n%s" % (len(body), body))


def error(message: dict) -> dict:
    return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -1, "message": "No."}}


def serve() -> None:
    with slow_server.SlowServer() as server:
        server.RequestHandlerClass = Flaky
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever(0.05)


def program() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        failure = message.get("params", {}).get("arguments", {}).get("fail", "")
        if failure == "hang up":
            return
        result = {"resultType": "nonsense" if failure else "complete", "content": [],
                  "supportedVersions": [NEWEST], "tools": slow_server.TOOLS}
        print(json.dumps(error(message) if failure == "error" else
                         {"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)


def measure(address: str) -> dict[str, float]:
    news = requests.get(f"{address}/news").json()
    files = [os.readlink(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd")
             if os.path.lexists(f"/proc/self/fd/{one}")]
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return dict(zip(TOLERANCE, [
        threading.active_count(), len(files), sum("socket:" in name for name in files),
        news["connections"] - 1, pages * os.sysconf("SC_PAGESIZE") / 2**20], strict=True))


def soak(questions: int) -> list[dict[str, float]]:
    rows = []
    with slow_server.running(__file__, "serve") as address, \
            Chat(LLM("m", "no-key", f"{address}/v1"), {
            "new": Server("new", f"{address}/new/0/mcp"),
            "old": Server("old", f"{address}/old/0/mcp"),
            "program": Server("program", command="python", args=[__file__, "program"],
                              cwd=str(TESTS))}) as chat:
        finish(chat.meet_servers())
        for number in range(1, questions + 1):
            finish(chat.ask(str(number)))
            failed = ["Error" in message["content"] for message in chat.messages[-4:-1]]
            assert failed == [bool(how_it_fails(number, index)) for index in range(3)], number
            if number % 20 == 0:
                chat.messages.clear()
            if number % (questions // 20) == 0:
                rows.append(measure(address))
                print(f"{number:9,}" + "".join(f"{value:{len(name) + 4}.0f}"
                                               for name, value in rows[-1].items()), flush=True)
    return rows


def grown(rows: list[dict[str, float]]) -> list[str]:
    """What there is more of in the last fifth than in the second."""
    fifth = len(rows) // 5
    return [name for name, more in TOLERANCE.items()
            if statistics.mean(row[name] for row in rows[-fifth:])
            > statistics.mean(row[name] for row in rows[fifth:2 * fifth]) + more]


def main(questions: int) -> None:
    if not os.path.exists("/proc/self/statm"):
        sys.exit("This counts in /proc, which only Linux has.")
    os.environ["NO_PROXY"] = "127.0.0.1"
    begin = time.monotonic()
    print("questions" + "".join(f"    {name}" for name in TOLERANCE))
    too_many = grown(soak(questions))
    print(f"\n{time.monotonic() - begin:.0f} seconds. " + (
        f"It has grown: {', '.join(too_many)}." if too_many else "Nothing has grown."))
    sys.exit(1 if too_many else 0)


if __name__ == "__main__":
    what = (sys.argv[1:] or ["2000"])[0]
    {"serve": serve, "program": program}.get(what, lambda: main(int(what)))()
