"""How fast chat.py is, and how close to what is possible. Prints a table; nothing can fail.

    uv run python tests/benchmark.py             about three minutes
    uv run python tests/benchmark.py --quick     fewer runs, about one

"The floor" is a small script that does only what must be done: the same requests, to the same
server (slow_server.py), without chat.py. It runs in turns with ours, so that both meet the same
noise. Each number is the median of its runs.
"""

import argparse
import contextlib
import functools
import http.client
import json
import os
import re
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if os.name != "posix":
    sys.exit("This benchmark types into a pseudo-terminal, and Windows has none.")

import fcntl
import pty
import termios

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS / "helpers"))

import slow_server  # noqa: E402
from terminal import environment, programs  # noqa: E402

# ── The floors ───────────────────────────────────────────────────────────────────────────

BARE_START = """
import sys
{openai}
import requests
from dotenv import load_dotenv
load_dotenv(".env")
answer = requests.post(sys.argv[1] + "/new/0/mcp", json={{
    "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {{"_meta": {{}}}}}}).json()
print(len(answer["result"]["tools"]))
input("You: ")
"""

# One question with a tool call, and long answers: the exchanges of chat.py, and no more.
BARE_TURN = """
import http.client, json, sys
host = sys.argv[1].removeprefix("http://")
model, mcp = http.client.HTTPConnection(host), http.client.HTTPConnection(host)
for connection in (model, mcp):
    connection.connect()
    connection.sock.setsockopt(6, 1, 1)
def post(connection, path, body):
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    return connection.getresponse()
def ask(messages):
    text, calls = "", []
    for line in post(model, "/v1/chat/completions", {"messages": messages}):
        if line.startswith(b"data: {"):
            delta = json.loads(line[6:])["choices"][0]["delta"]
            if "content" in delta:
                text += delta["content"]
                print(delta["content"], end="", flush=True)
            calls += delta.get("tool_calls", [])
    return text, calls
while True:
    messages = [{"role": "user", "content": input("\\nYou: ")}]
    text, calls = ask(messages)
    for call in calls:
        result = json.loads(post(mcp, "/new/0/mcp", {
            "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
                "name": "wait", "arguments": json.loads(call["function"]["arguments"])}}).read())
        messages.append({"role": "tool", "content": result["result"]["content"][0]["text"]})
    if calls:
        ask(messages)
"""

# Started and asked at once, with the openai package.
OPENAI_TURN = """
import sys
import openai
import requests
from dotenv import load_dotenv
load_dotenv(".env")
session = requests.Session()
def mcp(method, params):
    return session.post(sys.argv[1] + "/new/0/mcp", json={
        "jsonrpc": "2.0", "id": 1, "method": method, "params": params}).json()["result"]
tools = [{"type": "function", "function": {"name": "s0__" + tool["name"],
          "parameters": tool["inputSchema"]}} for tool in mcp("tools/list", {})["tools"]]
client = openai.OpenAI(api_key="none", base_url=sys.argv[1] + "/v1")
def ask(messages):
    calls = []
    for piece in client.chat.completions.create(model="m", messages=messages, tools=tools,
                                                stream=True):
        delta = piece.choices[0].delta
        print(delta.content or "", end="", flush=True)
        calls += delta.tool_calls or []
    return calls
messages = [{"role": "user", "content": sys.argv[2]}]
for call in ask(messages):
    result = mcp("tools/call", {"name": "wait", "arguments": {"ms": 0}})
    messages.append({"role": "tool", "tool_call_id": call.id,
                     "content": result["content"][0]["text"]})
ask(messages)
"""

# Not a floor: chat.py without the terminal, which measures what it needs itself, and not what it
# waits for.
LONG_TALK = """
import statistics, sys, time
from chapters.jobs import finish
from chat import LLM, open_chat
seconds = []
with open_chat(sys.argv[1], LLM("m", "no-key", sys.argv[2] + "/v1")) as chat:
    for _ in range(500):
        begin = time.process_time()
        finish(chat.ask("call wait 0 1"))
        seconds.append(time.process_time() - begin)
    assert len(chat.messages) == 2000
print(statistics.median(seconds[2:12]), statistics.median(seconds[-10:]))
"""


# ── Measuring ────────────────────────────────────────────────────────────────────────────

class Terminal:
    """A program in a pseudo-terminal: like the one of terminal.py, but without its comforts,
    for those take time."""

    def __init__(self, program: Path, *words: str, cwd: Path, **env: str):
        self.ours, theirs = pty.openpty()
        self.unread = b""
        self.begin = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, str(program), *words], cwd=cwd, env=environment(cwd, env),
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(theirs)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.ours)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        self.process.wait()

    def wait_for(self, words: bytes, patience: float = 120) -> float:
        """Wait until these words come; return the time."""
        seen = self.unread
        while words not in seen:
            if not select.select([self.ours], [], [], patience)[0]:
                raise AssertionError(f"No {words!r} after {seen!r}")
            seen = seen[-len(words):] + os.read(self.ours, 65536)
        self.unread = seen.partition(words)[2]
        return time.perf_counter()

    def seconds_for(self, question: str) -> float:
        """From the Enter key to the end of the answer."""
        os.write(self.ours, question.encode())
        self.wait_for(question.encode()[-10:])  # the echo
        begin = time.perf_counter()
        os.write(self.ours, b"\n")
        end = self.wait_for(b"Done.")
        self.wait_for(b"You: ")
        return end - begin

    def peak(self) -> float:
        """MB of memory that it has needed at most, until now."""
        status = Path(f"/proc/{self.process.pid}/status")
        if not status.exists():  # only Linux has that
            return float("nan")
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024  # type: ignore


class Bench:
    def __init__(self, address: str, folder: Path, runs: float):
        self.address, self.folder, self.factor = address, folder, runs
        for name, text in {"requests.py": BARE_START.format(openai=""), "turn.py": BARE_TURN,
                           "openai_first.py": BARE_START.format(openai="import openai"),
                           "openai_turn.py": OPENAI_TURN}.items():
            (folder / f"floor_{name}").write_text(text)
        (folder / ".env").write_text(f"OPENAI_BASE_URL={address}/v1\nMODEL=m\n")

    def runs(self, number: int) -> range:
        return range(max(2, round(number * self.factor)))

    def servers(self, how_many: int, kind: str = "new", ms: int = 0) -> str:
        path = self.folder / f"{how_many}-{kind}-{ms}.json"
        path.write_text(json.dumps({"servers": [
            {"name": f"s{number}", "url": f"{self.address}/{kind}/{ms}/mcp"}
            for number in range(how_many)]}))
        return str(path)

    def chat(self, config: str, **env: str) -> Terminal:
        """As most people start it: without a word, in a folder with mcp_servers.json and .env."""
        shutil.copy(config, self.folder / "mcp_servers.json")
        return Terminal(programs() / "chat.py", cwd=self.folder, **env)

    def floor(self, name: str) -> Terminal:
        return Terminal(self.folder / f"floor_{name}.py", self.address, cwd=self.folder)

    def news(self) -> dict:
        """What has come to the server since the last time."""
        connection = http.client.HTTPConnection(self.address.removeprefix("http://"))
        connection.request("GET", "/news")
        found = json.loads(connection.getresponse().read())
        connection.close()
        return {**found, "connections": found["connections"] - 1}  # our own

    def warm_up(self) -> None:
        """Start everything once, so that Python has written its byte code. (Our own environment
        may tell it not to. That of these programs doesn't, and so is yours.)"""
        assert "PYTHONDONTWRITEBYTECODE" not in environment(self.folder, {})
        config = self.servers(1)
        for start in (lambda: self.chat(config), lambda: self.floor("requests"),
                      lambda: self.floor("openai_first")):
            self.to_prompt(start)

    def to_prompt(self, start: Callable[[], Terminal]) -> float:
        with start() as terminal:
            return terminal.wait_for(b"You: ") - terminal.begin


def in_turns(runs: range, *measure: Callable[[], float]) -> list[float]:
    """The medians of several things, measured in turns."""
    found = [[one() for one in measure] for _ in runs]
    return [statistics.median(column) for column in zip(*found, strict=True)]


def row(what: str, ours: str, floor: str, comparison: str, goal: str) -> None:
    print(f"| {what:44} | {ours:>12} | {floor:>12} | {comparison:>16} | {goal:26} |", flush=True)


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


# ── What is measured ─────────────────────────────────────────────────────────────────────

def start(bench: Bench) -> None:
    one = bench.servers(1)
    ours, bare, openai_first = in_turns(
        bench.runs(15), lambda: bench.to_prompt(lambda: bench.chat(one)),
        lambda: bench.to_prompt(lambda: bench.floor("requests")),
        lambda: bench.to_prompt(lambda: bench.floor("openai_first")))
    row("start to prompt, 1 server, vs requests", ms(ours), ms(bare), f"x {ours / bare:.2f}",
        "at most x 1.15")
    row("start to prompt, 1 server, vs openai first", ms(ours), ms(openai_first),
        f"{openai_first / ours:.1f} times faster", "at least 3 times faster")
    new, old, fifty, one_again = in_turns(
        bench.runs(7), *(lambda config=config: bench.to_prompt(lambda: bench.chat(config)) for
                         config in (bench.servers(8, "new", 200), bench.servers(8, "old", 200),
                                    bench.servers(50), one)))
    row("start to prompt, 8 new servers of 200 ms", ms(new), ms(0.2), f"+ {ms(new - 0.2)}",
        "at most + 300 ms")
    row("start to prompt, 8 old servers of 200 ms", ms(old), ms(0.8), f"+ {ms(old - 0.8)}",
        "at most + 400 ms")
    row("start to prompt, 50 servers, vs 1", ms(fifty), ms(one_again),
        f"+ {(fifty - one_again) / 49 * 1000:.1f} ms each", "at most + 3 ms each")


def turn(bench: Bench) -> None:
    with bench.chat(bench.servers(1)) as chat, bench.floor("turn") as bare:
        for terminal in (chat, bare):
            terminal.wait_for(b"You: ")
            terminal.seconds_for("call wait 0 1")
        bench.news()
        ours, floor = in_turns(bench.runs(30), lambda: chat.seconds_for("call wait 0 1"),
                               lambda: bare.seconds_for("call wait 0 1"))
        bench.news()
        chat.seconds_for("call wait 0 1")
        news = bench.news()
        asked = [what for _, what in news["requests"]]
        row("a question with one tool call", ms(ours), ms(floor), f"+ {ms(ours - floor)}",
            "at most + 40 ms")
        row("    requests to the model, to the server",
            f"{asked.count('model')} and {len(asked) - asked.count('model')}", "2 and 1", "",
            "no more than needed")
        row("    new connections", str(news["connections"]), "0", "", "none")

        def four_calls() -> float:
            bench.news()
            chat.seconds_for("call wait 300 4")
            times = [when for when, _ in bench.news()["requests"]]
            return times[-1] - times[1]  # from the first call to the model's second request

        together, = in_turns(bench.runs(7), four_calls)
        row("4 calls of 300 ms in one reply", ms(together), ms(0.3), f"+ {ms(together - 0.3)}",
            "at most 400 ms")


def at_once(bench: Bench) -> None:
    config = bench.servers(1)

    def seconds(*command: str) -> float:
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, *command], cwd=bench.folder, capture_output=True,
                              stdin=subprocess.DEVNULL, env=environment(bench.folder, {}))
        assert b"Done." in done.stdout, done.stderr
        return time.perf_counter() - begin

    ours, floor = in_turns(
        bench.runs(9),
        lambda: seconds(str(programs() / "chat.py"), "--config", config, "call wait 0 1"),
        lambda: seconds("floor_openai_turn.py", bench.address, "call wait 0 1"))
    row("started and asked at once, vs openai first", ms(ours), ms(floor), f"x {ours / floor:.2f}",
        "below x 1.5")


def memory(bench: Bench) -> None:
    def peak(start: Callable[[], Terminal], question: str) -> float:
        with start() as terminal:
            terminal.wait_for(b"You: ")
            terminal.seconds_for(question)
            return terminal.peak()

    one, chat_py = bench.servers(1), programs() / "chat.py"

    def demo() -> float:
        with Terminal(chat_py, "--demo", cwd=bench.folder) as terminal:
            terminal.wait_for(b"You: ")
            os.write(terminal.ours, b"What is 17 + 25?\n")
            terminal.wait_for(b"= 42.")
            terminal.wait_for(b"You: ")
            return terminal.peak()

    bare = (bench.folder / "floor_openai_client.py")
    bare.write_text("import openai, requests, dotenv\nopenai.OpenAI(api_key='none')\n"
                    "input('You: ')\n")

    def openai_alone() -> float:
        with Terminal(bare, cwd=bench.folder) as terminal:
            terminal.wait_for(b"You: ")
            return terminal.peak()

    chat, floor, in_demo, big, long = in_turns(
        bench.runs(3), lambda: peak(lambda: bench.chat(one), "call wait 0 1"), openai_alone, demo,
        lambda: peak(lambda: bench.chat(one), "call big 8000000"),
        lambda: peak(lambda: bench.chat(one), "pieces 100000"))
    row("peak memory, ordinary chat, vs import openai", f"{chat:.0f} MB", f"{floor:.0f} MB",
        f"+ {chat - floor:.0f} MB", "below 70 MB")
    row("    --demo, with the model and a server inside", f"{in_demo:.0f} MB", f"{floor:.0f} MB",
        f"+ {in_demo - floor:.0f} MB", "")
    row("    a tool result of 8 MB", f"{big:.0f} MB", f"{chat:.0f} MB", f"+ {big - chat:.0f} MB",
        "below 200 MB")
    row("    an answer in 100,000 pieces (0.5 MB)", f"{long:.0f} MB", f"{chat:.0f} MB",
        f"+ {long - chat:.1f} MB", "+ its text")


def pieces(bench: Bench) -> None:
    with bench.chat(bench.servers(1)) as chat, bench.floor("turn") as bare:
        for terminal in (chat, bare):
            terminal.wait_for(b"You: ")
            terminal.seconds_for("pieces 1000")
        for number in (25_000, 50_000, 100_000):
            question = f"pieces {number}"
            ours, floor = in_turns(
                bench.runs(3), *(functools.partial(terminal.seconds_for, question)
                                 for terminal in (chat, bare)))
            row(f"an answer in {number:,} pieces", ms(ours), ms(floor),
                f"{ours / number * 1e6:.0f} µs each", "the same for each")


def counts(bench: Bench) -> None:
    """The official Python SDK's servers don't say how long their lists are true."""
    with subprocess.Popen([sys.executable, str(TESTS / "servers/sdk_server.py"), "8"], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        output: Any = process.stdout
        config, lines = bench.folder / "sdk.json", []
        config.write_text(json.dumps({"servers": [
            {"name": f"s{number}", "url": url}
            for number, url in json.loads(output.readline()).items()]}))
        threading.Thread(target=lambda: lines.extend(iter(output.readline, "")),
                         daemon=True).start()

        def show(what: str, least: int, goal: str) -> None:
            """A row about what has come since the last time."""
            while (number := len(lines)) < least or time.sleep(1) or number < len(lines):
                pass  # there is more to come
            row(what, str(number), str(least), f"{number / 8:g} each", goal)
            lines.clear()

        with bench.chat(str(config)) as chat:
            chat.wait_for(b"You: ")
            show("requests to 8 servers of the SDK, at first", 8, "1 each, 4 in background")
            chat.seconds_for("call add 25")
            show("    during a question with one tool call", 1, "no more than needed")
        process.terminate()


def long_talk(bench: Bench) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LONG_TALK, bench.servers(1), bench.address], cwd=bench.folder,
        env=environment(bench.folder, {"PYTHONPATH": str(programs())}), capture_output=True,
        text=True, check=True)
    first, last = map(float, done.stdout.split())
    row("our own time in turn 500, vs in the first", ms(last), ms(first), f"x {last / first:.2f}",
        "at most x 2")


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast chat.py is.")
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    parser.add_argument("only", nargs="*", choices=[[], *PARTS], help="measure only these")
    options = parser.parse_args()
    begin = time.monotonic()
    row("what", "ours", "floor", "compared", "goal")
    print("|" + "|".join("-" * width for width in (46, 14, 14, 18, 28)) + "|")
    with slow_server.running("slow_server.py") as address, tempfile.TemporaryDirectory() as folder:
        bench = Bench(address, Path(folder), 0.3 if options.quick else 1)
        bench.warm_up()
        for name in options.only or PARTS:
            PARTS[name](bench)
    print(f"\nPython {sys.version.split()[0]}, {os.cpu_count()} processors, "
          f"{time.monotonic() - begin:.0f} seconds.")


PARTS: dict[str, Callable[[Bench], None]] = {
    "start": start, "turn": turn, "at_once": at_once, "memory": memory, "pieces": pieces,
    "counts": counts, "long_talk": long_talk}

if __name__ == "__main__":
    main()
