"""A folder in which one of our programs is run: its mcp_servers.json, and a .env for its model."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from little_server import text
from scripted_model import ScriptedModel
from terminal import ROOT

needs_terminal = pytest.mark.skipif(os.name != "posix", reason="Windows has no pseudo-terminals")
posix_only = pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")


@contextlib.contextmanager
def model_for(folder: Path) -> Iterator[ScriptedModel]:
    """A model, and a .env in the folder which says where it is."""
    with ScriptedModel() as model:
        (folder / ".env").write_text(
            f"OPENAI_BASE_URL={model.base_url}\nMODEL=scripted\n", encoding="utf-8")
        yield model


def configure(folder: Path, **servers: Any) -> None:
    """Write an mcp_servers.json: each server is a LittleServer, or an entry of the file."""
    (folder / "mcp_servers.json").write_text(json.dumps({"servers": [
        {"name": name, **(one if isinstance(one, dict) else {"url": one.url})}
        for name, one in servers.items()]}), encoding="utf-8")


def tools(*names: str) -> dict[str, dict]:
    """Tools for a LittleServer, which just say "Done."."""
    return {name: {"answer": lambda arguments: text("Done.")} for name in names}


def stubborn(folder: Path) -> dict:
    """An entry: the toy server in a wrapper, which writes its own number and the toy's into a
    file called "running"."""
    (folder / "wrapper.py").write_text(f"""
import os, subprocess, sys
toy = subprocess.Popen([sys.executable, {str(ROOT / "demo/toy_server.py")!r}])
with open("running", "w") as file:
    file.write(f"{{os.getpid()}} {{toy.pid}} ")
toy.wait()
""")
    return {"command": "python", "args": ["wrapper.py"]}


def is_running(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{number}/stat")  # a process that has ended may still have to be counted
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
