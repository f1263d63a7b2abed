"""Run the official MCP conformance suite against chat.py, one scenario after the other.

    uv run python tests/conformance/run.py [SCENARIO ...]

It installs the suite beside this file (npm must be there), and prints a table. A scenario is
passed when no check failed or warned, at least one succeeded, and the client ended properly.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUITE = HERE / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
NODE = HERE / "node_modules/node/bin/node"
VERSIONS = ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"]
EXTENSIONS = {"auth/client-credentials-basic"}  # of these, the suite knows more than we need


def install() -> None:
    """Bring the suite here, unless it is here. Raises subprocess.CalledProcessError."""
    if not SUITE.exists() or not NODE.exists():
        npm = shutil.which("npm") or "npm"
        subprocess.run([npm, "install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund",
                        "--loglevel=error"], cwd=HERE, check=True, stdout=subprocess.DEVNULL)


def node(*words: str, folder: str | None = None, seconds: int = 90) -> subprocess.CompletedProcess:
    # The suite's servers would listen on all interfaces; the hook keeps them on loopback.
    return subprocess.run(
        [str(NODE), "--no-deprecation", "--require", str(HERE / "loopback.cjs"),
         str(SUITE), *words], cwd=folder, capture_output=True, text=True, timeout=seconds,
        stdin=subprocess.DEVNULL,
        # A browser that clicks by itself: it fetches the login page, and goes where that sends it.
        env={**os.environ, "NO_PROXY": "localhost,127.0.0.1",
             "BROWSER": "curl -sL -o /dev/null %s &"})


def scenarios() -> list[tuple[str, str]]:
    """All that apply to a client like ours: [("tools_call", "2026-07-28"), ...]"""
    found = []
    for line in node("list", "--client").stdout.splitlines():
        name, _, versions = line.strip().removeprefix("- ").partition(" [")
        if versions:
            listed = versions.rstrip("]").split(",")
            if name in EXTENSIONS:
                listed = VERSIONS[:2]
            found += [(name, version) for version in VERSIONS if version in listed]
    return found


def run(name: str, version: str) -> str:
    """Run one scenario. Returns "" if it is passed, else what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        client = f"{shlex.quote(sys.executable)} {shlex.quote(str(HERE / 'client.py'))}"
        done = node("client", "--command", client, "--scenario", name, "--spec-version", version,
                    "--output-dir", folder, "--timeout", "30000",
                    *(["--force"] if name in EXTENSIONS else []))
        files = list(Path(folder).rglob("checks.json"))
        checks = json.loads(files[0].read_text(encoding="utf-8")) if files else []
    bad = [f"{check['id']}: {check.get('errorMessage') or check['status']}" for check in checks
           if check["status"] in ("FAILURE", "WARNING")]
    if not any(check["status"] == "SUCCESS" for check in checks):
        bad.append("nothing was checked")
    if done.returncode and not bad:
        bad.append(f"the client did not end properly: {done.stdout[-500:]}{done.stderr[-500:]}")
    return "; ".join(bad)


def main() -> None:
    install()
    wanted = [(name, version) for name, version in scenarios()
              if not sys.argv[1:] or name in sys.argv[1:]]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = list(pool.map(lambda one: run(*one), wanted))
    for (name, version), answer in zip(wanted, answers, strict=True):
        print(f"{version}  {name:42} {answer or 'passed'}")
    failed = sum(map(bool, answers))
    print(f"{len(wanted) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
