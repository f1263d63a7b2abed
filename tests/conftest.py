"""What several test files need. Nothing here is a fake: servers listen, programs run."""

import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripted_server import ScriptedHttp, ScriptedStdio  # noqa: E402

from chat import Connection, Server  # noqa: E402
from demo.toy_server import serve_http  # noqa: E402

# Ctrl-C is tested, too. (Who runs us in the background of a script has told us not to hear of it.)
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("here", deadline=None)  # how fast a computer is, is not tested
settings.load_profile("here")
collect_ignore = ["servers", "helpers"]  # programs, and what tests are made of


@pytest.fixture
def connect():
    """connect(server) is a Connection, and the end of the test closes it. With person=Lock(),
    somebody is there to answer questions."""
    with contextlib.ExitStack() as at_the_end:
        def connect(server: Server, **more: object) -> Connection:
            connection = Connection(server, **more)
            at_the_end.callback(connection.close)
            return connection

        yield connect


@pytest.fixture
def toy_http(connect):
    """A connection to the toy server, over HTTP."""
    with serve_http() as url:
        connection = connect(Server("toy", url=url))
        yield connection
        connection.close()


@pytest.fixture
def toy_stdio(connect):
    """A connection to the toy server, over stdio."""
    return connect(Server("toy", command="python", cwd=str(ROOT), args=["demo/toy_server.py"]))


@pytest.fixture
def http_server():
    """http_server({"tools/list": ...}) listens, and answers as its script says."""
    with contextlib.ExitStack() as at_the_end:
        yield lambda *args, **more: at_the_end.enter_context(ScriptedHttp(*args, **more))


@pytest.fixture
def stdio_server(tmp_path):
    """stdio_server("a program") is a program that chat.py can start, and talk to."""
    folders = (tmp_path / f"program-{number}" for number in range(100))
    return lambda body: ScriptedStdio(next(folders), body)


@pytest.fixture
def world(tmp_path, capfd, caplog, monkeypatch):
    """A server, its authorization server, and somebody who signs in (oauth_world.py). Before it
    ends, everything printed, logged and shown is searched for secrets."""
    from oauth_world import World  # few need it
    monkeypatch.setenv("NETRC", os.devnull)
    world = World(tmp_path)
    yield world
    world.close()
    printed = capfd.readouterr()
    world.search_for_secrets(printed.out + printed.err + caplog.text)


@pytest.fixture(autouse=True)
def nothing_of_this_computer(monkeypatch):
    """No test depends on the keys and proxies of whoever runs it."""
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "LMSTUDIO_", "MCP_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
