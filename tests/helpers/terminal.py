"""Runs our programs as a person would: in a terminal (a "pseudo-terminal": one that a program
looks at and types into), or in a pipe.

    with Terminal("chat.py", "--demo", cwd=folder) as terminal:
        terminal.wait_for("You: ")           # all that has come up to there is returned
        terminal.type("What is 17 + 25?\n")
        assert "42" in terminal.wait_for("You: ")
        terminal.type(CTRL_D)
        assert terminal.exit_status() == 0

They run in a copy of our files, so that no test finds your own .env beside chat.py, and with an
environment of their own.
"""

import contextlib
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patience import PATIENCE

if os.name == "posix":
    import fcntl
    import pty
    import struct
    import termios

ROOT = Path(__file__).resolve().parents[2]
CTRL_C, CTRL_D = "\x03", "\x04"
ERASED = "\x1b[K"  # the rest of the line

# What a terminal is told about its colours and its ways, and not about the text.
MANNERS = re.compile(r"\x1b\[(0|2)m|\x1b\[\?2004[hl]\r?")


def copy_of_the_programs(folder: Path) -> Path:
    for path in ROOT.glob("*.py"):  # (also those that somebody has added, as in docs/exercises.md)
        shutil.copy(path, folder)
    for name in ("demo", "chapters"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


_copy: list[Any] = []


def programs() -> Path:
    """The folder with our programs in it, and nothing else."""
    if not _copy:
        _copy.append(tempfile.TemporaryDirectory(prefix="mcp-chat-programs-"))
        copy_of_the_programs(Path(_copy[0].name))
    return Path(_copy[0].name)


def environment(cwd: Path, more: dict[str, str]) -> dict[str, str]:
    kept = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH")
    return {**{name: os.environ[name] for name in kept if name in os.environ},
            "HOME": str(cwd), "TERM": "xterm", "TMPDIR": str(cwd), "PYTHONUTF8": "1", **more}


def run(program: str, *words: str, cwd: Path, stdin: str | bytes | None = "",
        **env: str) -> subprocess.CompletedProcess:
    """Run a program in pipes to its end. With stdin=None, its input stays open and silent."""
    reader, writer = os.pipe()
    with contextlib.ExitStack() as at_the_end:
        at_the_end.callback(os.close, reader)
        at_the_end.callback(os.close, writer)
        given: dict = {"stdin": reader} if stdin is None else {
            "input": stdin.encode() if isinstance(stdin, str) else stdin}
        done = subprocess.run([sys.executable, str(programs() / program), *words], cwd=cwd,
                              env=environment(cwd, env), capture_output=True, timeout=PATIENCE,
                              **given)
    done.stdout, done.stderr = (
        text.decode("utf-8", "replace").replace("\r\n", "\n")
        for text in (done.stdout, done.stderr))
    return done


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, program: str, *words: str, cwd: Path, columns: int = 100,
                 stdout: Any = None, **env: str):
        ours, theirs = pty.openpty()
        self.ours = ours     # our end of it: what the person sees and types
        self.resize(columns)
        self.raw = ""        # all that the program has printed
        self.read_up_to = 0  # what wait_for() has returned
        self.ended = False
        self.news = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, str(programs() / program), *words], cwd=cwd,
            env=environment(cwd, env), stdin=theirs, stdout=stdout or theirs, stderr=theirs,
            start_new_session=True,
            # So that Ctrl-C comes to the program as a signal, the terminal must be "its" terminal.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(theirs)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        found = b""
        while True:
            try:
                while not select.select([self.ours], [], [], 0.05)[0]:
                    pass
                some = os.read(self.ours, 65536)
            except (OSError, ValueError):  # so Linux says that the other side has closed
                some = b""
            found += some
            with self.news:
                self.raw = found.decode("utf-8", "ignore")
                self.ended = not some
                self.news.notify_all()
            if not some:
                return

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *error: object) -> None:
        self.close_window()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()

    def close_window(self) -> None:
        """Then the program gets a SIGHUP, and can neither read nor print any more."""
        if self.ours >= 0:
            ours, self.ours = self.ours, -1
            self.reader.join(PATIENCE)
            os.close(ours)

    @property
    def text(self) -> str:
        """What has come so far, without colours."""
        return MANNERS.sub("", self.raw).replace("\r\n", "\n")

    def wait_for(self, words: str, seconds: float = PATIENCE) -> str:
        """Wait until these words come, and return what is new, up to them."""
        end = time.monotonic() + seconds
        with self.news:
            while (place := self.text.find(words, self.read_up_to)) < 0:
                left = end - time.monotonic()
                if left < 0 or self.ended:
                    raise AssertionError(f"No {words!r} in {self.text[self.read_up_to:]!r}"
                                         f"{', and the program has ended' * self.ended}")
                self.news.wait(left)
            found = self.text[self.read_up_to:place + len(words)]
            self.read_up_to = place + len(words)
        return found

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def press_until(self, keys: str, words: str) -> str:
        """Type these keys, and again if they were overlooked: like a person, and for the reason
        that is in exit_status()."""
        for _ in range(5):
            self.type(keys)
            with contextlib.suppress(AssertionError):
                return self.wait_for(words, 6)
        raise AssertionError(f"No {words!r} in {self.text[self.read_up_to:]!r}")

    def ask(self, question: str) -> str:
        """Type a question at the prompt, and return what comes before the next prompt."""
        self.type(question + "\n")
        return self.wait_for("\nYou: ").removesuffix("\nYou: ").partition("\n")[2]

    def exit_status(self, hint: Callable[[], object] = lambda: None) -> int:
        """Wait for the end. The hint ("please end") is given again where it was overlooked: a
        signal that comes just before a program begins to wait for a key doesn't wake it."""
        for _ in range(PATIENCE // 3):
            hint()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(3)
        raise AssertionError(f"It doesn't end: {self.text!r}")

    def rest(self) -> str:
        """What is new, after the program has ended."""
        self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        return self.text[self.read_up_to:]


def as_seen(text: str) -> str:
    """What stays to be seen: a line may be erased, or written over from its beginning."""
    lines = []
    for line in text.split("\n"):
        seen = ""
        for part in line.split("\r"):
            seen = part.removeprefix(ERASED) + ("" if part.startswith(ERASED) else seen[len(part):])
        lines.append(seen.rstrip())
    return "\n".join(lines)
