r"""stdio: how do we talk to a server that is a program on this computer?

We start it. Each message is one line on its standard input, and each line that it prints is a
message for us:

    we write  {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}\n
    it prints {"jsonrpc": "2.0", "id": 1, "result": {"tools": [...]}}\n

The program is the twin of HTTP in chat.py: it can open, send a message whose answer goes into an
inbox, and close. What differs is that there is one stream for all requests, and that a program has
an end: by itself, or because we close its input, ask it (SIGTERM), or kill it, in this order.

https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/stdio

Left out: what a program prints on standard error, but for its last words, in case it dies of them.
On Windows, a "command" like "./run.cmd" is looked for in the current folder.

Try it. This program answers whatever it is asked:

>>> import types
>>> server = types.SimpleNamespace(name="toy", command="python", cwd=".", env={}, url="",
...     headers={},
...     args=["-c", "for line in open(0): print('{\"id\": 1, \"result\": {}}', flush=True)"])
>>> connection = types.SimpleNamespace(server=server, inboxes={1: Inbox()}, ready=True)
>>> program = Program(connection)
>>> program.open(), program.open()
(True, False)
>>> program.send({"id": 1, "method": "ping"}, connection.inboxes[1])
>>> next(connection.inboxes[1].each(60))
{'id': 1, 'result': {}}
>>> program.close()
"""

import contextlib
import json
import os
import queue
import shutil
import signal
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable
from functools import partial
from typing import Any

from chapters import trace
from chapters.events import Event
from chapters.inboxes import END, Inbox, hear, is_request, messages_in
from chapters.jobs import Job, in_background, together
from chapters.outside import MAX_BYTES, TOO_LARGE, Failure, is_number, without_ours

# What a program gets of our environment, besides what its entry says. Not all: it may hold keys
# that are none of the program's business.
PASSED_ON = {"HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "TZ", "TMPDIR", "APPDATA",
             "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "PATHEXT", "PROCESSOR_ARCHITECTURE", "TEMP",
             "TMP", "PROGRAMFILES", "SYSTEMDRIVE", "SYSTEMROOT", "USERNAME", "USERPROFILE"}


class Program:
    """The way to a server that is a program. `connection` is chat.py's Connection."""

    probe = "server/discover"  # some end at a request that they don't know; then only this is lost

    def __init__(self, connection: Any):
        self.connection, self.server = connection, connection.server
        self.process: Any = None
        self.alive = self.closed = False
        self.outbox: queue.Queue = queue.Queue()  # messages for it; None: the end of its input
        self.last_words: deque[bytes] = deque(maxlen=3)
        self.starting = threading.Lock()

    def open(self) -> bool:
        """Start the program, unless it runs. Returns whether that was needed. Raises Failure."""
        with self.starting:
            if self.alive:
                return False
            if self.closed:  # what still runs somewhere must not start it again
                raise Failure("cancelled", "stopped.")
            self.process = process = start(self.server)
            self.outbox, self.last_words, self.alive = queue.Queue(), deque(maxlen=3), True
            # To read from a program is to wait, perhaps for ever, and so is to write.
            complaints = in_background(self.hear_complaints, process, self.last_words)
            in_background(self.read, process, self.outbox, complaints)
            in_background(self.write, process, self.outbox)
            return True

    def send(self, message: dict, inbox: Inbox) -> None:
        """Send one message. What belongs to a request comes into the inbox."""
        trace.trace("-->", self.server.name, message)
        if not is_request(message):
            inbox.put(END)
        self.outbox.put(message)
        if not self.alive:
            inbox.put(self.end())

    def listen(self) -> None:
        """Nothing to do: what it says unasked comes on the same stream."""

    def write(self, process: Any, outbox: queue.Queue) -> None:
        with contextlib.suppress(OSError, ValueError), process.stdin as pipe:
            while message := outbox.get():
                pipe.write(json.dumps(message).encode() + b"\n")
                pipe.flush()

    def read(self, process: Any, outbox: queue.Queue, complaints: threading.Thread) -> None:
        while line := process.stdout.readline(MAX_BYTES + 1):
            if len(line) > MAX_BYTES:
                self.last_words.append(TOO_LARGE.encode())
                break
            # Many programs print a greeting as well. What is no message is skipped.
            # An error without a number may come from a server that doesn't understand our first
            # request, the only one that waits. (Later on, it may be about a notification.)
            first = {} if self.connection.ready else {"id": [0, *self.connection.inboxes][-1]}
            for message in messages_in(line, self.server.name, first):
                if outbox.qsize() < 100:  # else it asks and asks, and doesn't read our answers
                    self.take(message)
        complaints.join(1)  # for its last words
        self.alive = False
        for inbox in list(self.connection.inboxes.values()):
            inbox.put(self.end())
        outbox.put(None)
        end_process(process)

    def take(self, message: dict) -> None:
        """Give a message to whoever waits for it."""
        number = message.get("id")
        if "method" in message:
            hear(self.connection, message)
        elif is_number(number) and (inbox := self.connection.inboxes.get(number)):
            inbox.put(message)

    def hear_complaints(self, process: Any, last_words: deque[bytes]) -> None:
        """Standard error is for complaints. We keep the last, in case the program dies of it."""
        while line := process.stderr.readline(4096):
            if line.strip():
                last_words.append(line.strip())

    def end(self) -> Failure:
        words = without_ours(b" ".join(self.last_words).decode("utf-8", "replace"), self.server)
        return Failure("broken", "the program has ended" + (f": {words[:200]}" if words else "."))

    def close(self, seconds: float = 2) -> None:
        """End the program. So long it has to end by itself, and once more when it was asked to."""
        self.closed = True
        with self.starting:  # if somebody is just about to start it
            process = self.process
        if process:
            self.outbox.put(None)
            end_process(process, seconds)


def start(server: Any) -> Any:
    """Start the program of a `Server`; returns its subprocess.Popen. Raises Failure."""
    import subprocess  # only where a server is a program, so that a start is fast
    env = {key: os.environ[key] for key in PASSED_ON & set(os.environ)} | server.env
    # "python" is this Python, which certainly exists. "npx" is looked for on the PATH (on Windows,
    # it is npx.cmd), and "./run.sh" in the folder where it starts.
    command = sys.executable if server.command == "python" else server.command
    try:
        return subprocess.Popen(
            [shutil.which(command, path=env.get("PATH")) or command, *server.args], env=env,
            cwd=server.cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            # Ctrl-C should reach only us. We tell the servers ourselves.
            start_new_session=True, creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", error)
        raise Failure("unreachable", f"{server.command} doesn't start: {why}.\nIs it installed? "
                                     'Check its "command" and its "cwd".') from None


def close_all(connections: Iterable[Any]) -> Generator[Event, None, None]:
    """Close these connections of chat.py's at the same time, and wait for that, but not long."""
    def work(connection: Any, job: Job) -> None:
        connection.close()

    connections = list(connections)
    try:
        yield from together([partial(work, one) for one in connections])
    finally:  # also after a second Ctrl-C: no program may stay behind
        for one in connections:
            one.transport.close(0)


def end_process(process: Any, seconds: float = 2) -> None:
    """Wait for a program whose input is closed. If it doesn't end, ask; if not even then, kill.
    What it has started itself, and left behind, is asked and killed in any case."""
    import subprocess  # (it is loaded by now)
    if process.returncode is not None:  # it has ended: its number may be somebody else's by now
        return
    # What it has started in turn is in its group. (Windows has none, and there any signal kills.)
    kill = getattr(os, "killpg", os.kill)
    for sign in signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        with contextlib.suppress(OSError):
            kill(process.pid, sign)
    process.wait()
