"""The token file: how do several programs keep secrets in one file?

.mcp_tokens.json lies beside mcp_servers.json, and only you can read it:

    {"version": 1,
     "clients": {"https://id.example.com": {"sheets": {"client_id": "s6BhdRkqt3", ...}}},
     "tokens": {"sheets": {"url": "https://example.com/mcp", "access_token": "...", ...}}}

What the entries mean is oauth_handler.py's business. Here they are plain objects, and three things
matter. The file is never half written: a new one is made beside it, and takes its place in one
step. Nobody else may read it, not even while it is being made. And several chats may run at the
same time: who wants to change the file gets a lock, looks into the file again, and may find there
that another chat has already done the work. (Many services take a refresh token only once. A chat
that brings it again is taken for a thief, and everybody is signed out.)

That tokens must be kept safe is said in
https://modelcontextprotocol.io/specification/2026-07-28/basic/authorization. The lock is
https://man7.org/linux/man-pages/man2/flock.2.html.

Left out: encryption. The key would have to lie beside the file, or with your system's keyring,
which differs on each system.

Try it:

>>> store = TokenStore(Path(tempfile.mkdtemp(), ".mcp_tokens.json"))
>>> with store.open() as saved:
...     saved["tokens"]["sheets"] = {"access_token": "2YotnFZFEj"}
>>> store.read()["tokens"]
{'sheets': {'access_token': '2YotnFZFEj'}}
>>> oct(store.path.stat().st_mode & 0o777) if os.name == "posix" else "0o600"
'0o600'
"""

import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

from chapters.outside import Problem

if sys.platform == "win32":
    import msvcrt  # locks on files: one system has these,
else:
    import fcntl  # the others those

SECTIONS = ("clients", "tokens")
BUSY = "another copy of this program is busy signing in. Try again in a moment."
our_threads: dict[Path, threading.Lock] = {}  # by file; for disks that know no locks


class Busy(Problem):
    """Another program has had the lock for too long."""


class TokenStore:
    """The file. Delete it, and you start over."""

    def __init__(self, path: Path | str, say: Callable[[str], object] = print,
                 patience: float = 60):
        self.path = Path(os.path.realpath(path))  # (a link stays a link)
        self.say = say
        self.patience = patience          # seconds to wait for the lock
        self.memory: dict | None = None   # takes the place of a file that can't be used

    def read(self, set_aside: bool = False) -> dict[str, dict]:
        """Everything that is in the file. With `set_aside`, a damaged file is renamed."""
        if self.memory is not None:
            return self.memory
        try:
            if os.name == "posix" and self.path.stat().st_mode & 0o077:
                self.path.chmod(0o600)
                self.say(f"Tightened the permissions of {self.path.name}.")
            data = json.loads(self.path.read_bytes().decode("utf-8"))
            if data["version"] != 1:
                raise ValueError
            return {section: {key: value for key, value in data[section].items()
                              if isinstance(value, dict)} for section in SECTIONS}
        except FileNotFoundError:
            pass
        except OSError as error:
            self.only_remember({section: {} for section in SECTIONS}, error)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            if set_aside:
                with contextlib.suppress(OSError):
                    os.replace(self.path, f"{self.path}.bad")
                    self.say(f"{self.path.name} was damaged and has been set aside. "
                             "You will be asked to sign in again.")
        return self.memory or {section: {} for section in SECTIONS}

    @contextlib.contextmanager
    def open(self) -> Iterator[dict[str, dict]]:
        """What is in the file, for us alone to change; it is written when the block ends well.
        Raises Busy."""
        with self.locked_here(), self.locked():
            saved = self.read(set_aside=True)
            before = json.dumps(saved)
            yield saved
            if json.dumps(saved) != before and self.memory is None:
                self.write(saved)

    @contextlib.contextmanager
    def locked_here(self) -> Iterator[None]:
        """Wait until no other thread of this program is at work on the file."""
        lock = our_threads.setdefault(self.path, threading.Lock())
        if not lock.acquire(timeout=self.patience):
            raise Busy(BUSY)
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Wait until no other program has the lock. When a program dies, the system takes its
        lock away, so none can be left behind."""
        try:
            lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            yield  # a folder that we can't write to; write() will say so
            return
        end = time.monotonic() + self.patience
        try:
            while not try_to_lock(lock):
                if time.monotonic() > end:
                    raise Busy(BUSY)
                time.sleep(0.02)
            yield
        finally:
            os.close(lock)

    def write(self, saved: dict[str, dict]) -> None:
        """Put a new file in the old one's place. Whenever the power fails, there is one of them."""
        new = ""
        try:
            # mkstemp makes it readable for us alone, before there is anything in it.
            number, new = tempfile.mkstemp(dir=self.path.parent, prefix=f"{self.path.name}.")
            with os.fdopen(number, "w", encoding="utf-8") as file:
                json.dump({"version": 1, **saved}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            for wait in (0.1, 0.2, 0.4, 0):
                try:
                    return os.replace(new, self.path)
                except PermissionError:  # on Windows, while somebody else reads it
                    if not wait or sys.platform != "win32":
                        raise
                    time.sleep(wait)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(new)
            self.only_remember(saved, error)

    def forget(self, name: str) -> bool:
        """Forget all that has this name. Returns whether there was anything to forget."""
        with self.open() as saved:
            return any([section.pop(name, None) for section in
                        (saved["tokens"], *saved["clients"].values())])

    def only_remember(self, saved: dict[str, dict], error: OSError) -> None:
        self.memory = saved
        reason = (error.strerror or type(error).__name__).lower()
        self.say(f"Could not save the login ({self.path.name}): {reason}. "
                 "You will have to sign in again next time.")


def token_store(config: Path, say: Callable[[str], object] = print) -> TokenStore:
    """The file that lies beside a configuration."""
    return TokenStore(config.resolve().with_name(".mcp_tokens.json"), say)


def try_to_lock(number: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass  # a disk that knows no locks
    return True


def by_issuer(saved: dict, name: str) -> dict[str, Any]:
    """The entry of this name from each group of "clients"."""
    return {issuer: by_name.get(name) for issuer, by_name in saved["clients"].items()}


def as_each(kind: type, entries: dict) -> dict[str, Any]:
    """Entries as dataclasses of this kind, without those that can't be one. (Somebody may have
    edited the file, and nothing in it may crash us or get into a header.)"""
    def fits(value: object, hint: Any) -> bool:
        return isinstance(value, hint) and (
            value is None or isinstance(value, str) and value.isascii() and value.isprintable() or
            isinstance(value, int | float) and abs(value) < 1e11)

    hints, made = get_type_hints(kind), {}
    for name, entry in entries.items():
        with contextlib.suppress(TypeError):
            made[name] = kind(**entry)
    return {name: one for name, one in made.items()
            if all(fits(value, hints[key]) for key, value in vars(one).items())}
