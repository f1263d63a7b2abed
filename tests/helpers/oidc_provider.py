"""An authorization server that we didn't write, with pages for a person: oidc-provider, of npm.

    with AuthorizationServer(installed(), "rows.read") as auth_server:
        auth_server.issuer                 # its address
        auth_server.of("registered")       # what has happened there, see servers/oidc_provider.cjs
        auth_server.set_clock_forward(1)   # by an hour, so that its access tokens have ended
        auth_server.restart()              # at the same address, and it knows nothing any more
"""

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

from needs import is_missing
from patience import eventually

PROGRAM = Path(__file__).resolve().parents[1] / "servers" / "oidc_provider.cjs"
PACKAGES = ["node@24.21.0", "oidc-provider@9.13.3"]  # (a system's own Node may be too old)


def installed() -> Path:
    """The folder with the packages in it. The first time, npx fetches them."""
    npx = shutil.which("npx")
    if not npx:
        is_missing("there is no npx on this computer, to install oidc-provider")
    tried = subprocess.run(
        [npx, "--yes", "--prefer-offline", *(f"--package={one}" for one in PACKAGES),
         "node", "-p", "process.env.PATH"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
    if tried.returncode:
        is_missing(f"npx can't get {' and '.join(PACKAGES)}: {tried.stderr.strip()[-200:]}")
    return Path(tried.stdout.split(os.pathsep)[0]).parent


class AuthorizationServer:
    """It listens at once, and ends with its "with" block."""

    def __init__(self, packages: Path, *scopes: str):
        self.command = [str(packages / ".bin" / "node"), str(PROGRAM),
                        str(packages / "oidc-provider" / "lib" / "index.js")]
        self.scopes = scopes
        self.issuer = ""
        self.lines: list[dict] = []  # that it has printed since its start

    def __enter__(self) -> "AuthorizationServer":
        self.start("0")
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self, port: str) -> None:
        self.lines = []
        self.process = subprocess.Popen(
            [*self.command, port, *self.scopes], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        threading.Thread(target=self.read, daemon=True).start()
        eventually(lambda: self.lines or self.process.poll() is not None)
        assert self.lines, "it didn't start"
        self.issuer = self.lines[0]["issuer"]

    def read(self) -> None:
        for line in self.process.stdout or []:
            self.lines.append(json.loads(line))

    def stop(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def restart(self) -> None:
        self.stop()
        self.start(self.issuer.rpartition(":")[2])

    def set_clock_forward(self, hours: int) -> None:
        assert self.process.stdin
        before = self.lines.count({"what": "later"})
        self.process.stdin.write(f"{hours}\n")
        self.process.stdin.flush()
        eventually(lambda: self.lines.count({"what": "later"}) > before)

    def of(self, what: str) -> list[dict]:
        """What has happened since the start, of one kind."""
        self.set_clock_forward(0)  # when it has told us of this, it has told us of all before it
        return [one for one in self.lines if one["what"] == what]
