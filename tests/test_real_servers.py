"""chat.py and servers that others have made: the official SDKs for Python, versions 1 and 2, and
for TypeScript.

Version 1 and the TypeScript server are fetched (by uv, and by npx) when they aren't there. A
computer that can't do that skips them and says why; with CI=true, that is a failure.
"""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from needs import TOOLS_OWN, is_missing, program
from patience import eventually
from scripted_model import ScriptedModel, says, wants

from chapters.jobs import Job, finish, together
from chapters.outside import Failure
from chapters.resources import use_prompt
from chapters.versions import NEWEST, OLDER
from chat import LLM, Chat, Progress, Question, Server, list_tools, shake_hands

SERVERS = Path(__file__).resolve().parent / "servers"
EVERYTHING = "@modelcontextprotocol/server-everything@2026.8.31"
VERSION_1 = ["run", "--quiet", "--no-project", "--python", sys.executable, "--with", "mcp<2"]
PLACES = ["sessions", "sessions, JSON", "stateless", "stateless, JSON", "stdio"]


def run(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          timeout=300)


class Running:
    """A program that serves over HTTP, and its output, line by line."""

    def __init__(self, command: list[str], where, **more):
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True,
                                        **{"stdout": subprocess.DEVNULL, where: subprocess.PIPE},
                                        start_new_session=True, **more)
        self.output = getattr(self.process, where)

    def __enter__(self):
        guard = threading.Timer(60, self.process.kill)
        guard.start()
        self.first_line = self.output.readline()
        guard.cancel()
        assert self.first_line, "it didn't start"
        threading.Thread(target=self.output.read, daemon=True).start()
        return self

    def __exit__(self, *error):
        if hasattr(os, "killpg"):
            os.killpg(self.process.pid, 15)  # uv has started a Python in turn
        else:
            self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def version_2():
    command = [sys.executable, str(SERVERS / "sdk_server.py")]
    with Running([*command, "http"], "stdout") as running:
        yield json.loads(running.first_line) | {"stdio": command}


@pytest.fixture(scope="module")
def version_1():
    uv = program("uv")
    for options in [], ["--offline"]:
        command = [uv, *VERSION_1, *options, "python"]
        tried = run([*command, "-c", "import mcp"])
        if tried.returncode == 0:
            break
    else:
        is_missing(f"uv can't get mcp<2: {tried.stderr.strip()[-200:]}")
    command.append(str(SERVERS / "sdk_server.py"))
    with Running([*command, "http"], "stdout") as running:
        yield json.loads(running.first_line) | {"stdio": command}


@pytest.fixture(scope="module")
def everything():
    """The path of the TypeScript server's program."""
    program("node")
    tried = run([program("npx"), "--yes", "--prefer-offline", "--package", EVERYTHING,
                 "node", "-p", "process.env.PATH"])
    if tried.returncode:
        is_missing(f"npx can't get {EVERYTHING}: {tried.stderr.strip()[-200:]}")
    where = Path(tried.stdout.strip().split(os.pathsep)[0]).parent
    return str(where / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js")


@pytest.fixture(params=["streamableHttp", "stdio"])
def everything_entry(request, everything):
    command = [program("node"), "--require", str(SERVERS / "loopback.cjs"), everything]
    if request.param == "stdio":
        yield Server("everything", command=command[0], args=[*command[1:], "stdio"], cwd=".")
        return
    with Running([*command, "streamableHttp"], "stderr",
                 env={**os.environ, "PORT": "0"}) as running:
        found = re.search(r"Listening on (http://127\.0\.0\.1:\d+/mcp)", running.first_line)
        assert found, running.first_line
        yield Server("everything", url=found[1])


def entry(place: str, sdk: dict) -> Server:
    if place != "stdio":
        return Server("sdk", url=sdk[place])
    command, *args = sdk["stdio"]
    return Server("sdk", command=command, args=[*args, "stdio"], cwd=".", env=TOOLS_OWN)


@pytest.fixture
def connection_to(connect):
    """connection_to(entry) is a Connection with somebody there, who can answer questions."""
    return lambda entry: connect(entry, person=threading.Lock())


def as_text(result: dict) -> tuple[str, list[str]]:
    """What the model reads of a result, and the beginnings of the files that are made of it."""
    chat = Chat(LLM("none", "no-key"), {})
    text, files = chat.as_text(result, "tool")
    begin = [f"{Path(file).suffix}, {Path(file).read_bytes()[:4]!r}" for file in files]
    shutil.rmtree(chat.folder.path, ignore_errors=True)  # there may be none
    return text, begin


def call(connection, name, **arguments):
    """What the model reads, the files, and the progress on the way."""
    heard: list = []
    result = connection.ask("tools/call", {"name": name, "arguments": arguments},
                            Job(heard.append))
    return *as_text(result), heard, result.get("isError") is True


def use(connection):
    """The same visit to each of the SDK's servers."""
    tools = {tool["name"]: tool for tool in list_tools(connection)}
    assert list(tools) == ["add", "weather", "picture", "fail", "count", "provision"]
    assert tools["add"]["description"] == "Add two numbers."
    assert tools["add"]["inputSchema"]["required"] == ["a", "b"]

    assert call(connection, "add", a=2, b=40)[0] == "42"
    assert json.loads(call(connection, "weather", town="Oslo")[0]) == {
        "town": "Oslo", "sky": "sunny"}
    assert call(connection, "picture")[1] == [r".png, b'\x89PNG'"]
    text, _, _, failed = call(connection, "fail")
    # Not what went wrong in it: version 2 keeps that to itself.
    assert failed and "fail" in text
    text, _, _, failed = call(connection, "add", a="two")
    assert failed and text
    with pytest.raises(Failure) as caught:
        connection.ask("no/such/method")
    assert caught.value.kind == "refused"
    return call(connection, "count", to=3)


def be_asked(connection):
    """Call the tool that asks, take the default of its first field, and type the second."""
    says, heard = ["", "3", "y"], []

    def show(event):
        if isinstance(event, Question):
            heard.append(event.text)
            event.answer = says[len(heard) - 1]

    params = {"name": "provision", "arguments": {}}
    [result] = finish(together([functools.partial(connection.ask, "tools/call", params)]), show)
    assert heard == ["sdk asks: Where?\nRegion (eu, us)",
                     "sdk: Copies (a whole number)",
                     "Send this to sdk?\n  region: eu\n  copies: 3"]
    assert as_text(result)[0] == "Place(region='eu', copies=3)"


@pytest.mark.parametrize("place", PLACES)
def test_the_python_sdk_2(version_2, connection_to, place):
    connection = connection_to(entry(place, version_2))
    text, _, heard, _ = use(connection)
    assert connection.version == NEWEST and text == "Counted to 3."
    if "JSON" not in place:  # there, nothing can come before the answer
        assert heard and heard[0] == Progress("sdk", 1, 3, "Counted 1")
    be_asked(connection)


@pytest.mark.parametrize("place", PLACES)
def test_the_python_sdk_2_after_a_handshake(version_2, connection_to, place):
    connection = connection_to(entry(place, version_2))
    shake_hands(connection, Job())
    connection.ready = True
    text, _, heard, _ = use(connection)
    assert connection.version == OLDER[0] and text == "Counted to 3."
    if connection.server.url:
        assert bool(connection.transport.session_id) == place.startswith("sessions")
    if place in ("sessions", "stdio"):  # elsewhere it has no way to ask
        be_asked(connection)


@pytest.mark.parametrize("place", PLACES)
def test_the_python_sdk_1(version_1, connection_to, place):
    connection = connection_to(entry(place, version_1))
    text, _, heard, _ = use(connection)
    assert connection.version == OLDER[0] and text == "Counted to 3."
    if place in ("sessions", "stdio"):
        assert heard and heard[0] == Progress("sdk", 1, 3, "Counted 1")
    if connection.server.url:
        assert bool(connection.transport.session_id) == place.startswith("sessions")
    if place in ("sessions", "stdio"):  # elsewhere it has no way to ask
        be_asked(connection)


def test_the_typescript_server_with_everything(everything_entry, connect):
    connection = connect(everything_entry)
    names = [tool["name"] for tool in list_tools(connection)]
    assert {"echo", "get-sum", "get-tiny-image", "trigger-long-running-operation"} <= set(names)
    assert connection.version == OLDER[0]

    assert "hello" in call(connection, "echo", message="hello")[0]
    assert "42" in call(connection, "get-sum", a=2, b=40)[0]
    text, files, _, _ = call(connection, "get-tiny-image")
    assert files == [r".png, b'\x89PNG'"] and "logo" in text
    assert "temperature" in call(connection, "get-structured-content", location="New York")[0]
    assert '"type": "resource_link"' in call(connection, "get-resource-links", count=2)[0]
    assert "error" in call(connection, "get-annotated-message", messageType="error")[0].lower()
    _, _, heard, _ = call(connection, "trigger-long-running-operation", duration=0.6, steps=3)
    assert heard and heard[0].progress == 1 and heard[0].total == 3
    text, _, _, failed = call(connection, "get-sum", a="two")
    assert failed and text
    with pytest.raises(Failure):
        connection.ask("no/such/method")


# ── Besides tools ────────────────────────────────────────────────────────────────────────

def read_and_ask(entry: Server, uri: str, prompt: str, **arguments: str):
    """What a server offers to read and to ask, and what the model then gets of it."""
    with ScriptedModel(wants(f"{entry.name}__read_resource", {"uri": uri}), says("Read."),
                       says("Asked.")) as model, Chat(model.llm, {entry.name: entry}) as chat:
        finish(chat.meet_servers())
        offers = chat.connections[entry.name].offers.known
        eventually(lambda: {"resources", "resourceTemplates", "prompts"} <= set(offers))
        finish(chat.ask("Read it"))
        finish(use_prompt(chat, entry.name, prompt, arguments))
        return offers, [model.was_sent[number]["messages"][-1]["content"] for number in (1, 2)]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("version", ["version_1", "version_2"])
def test_what_else_the_python_sdk_offers(request, version, place):
    server = entry(place, request.getfixturevalue(version))
    offers, texts = read_and_ask(server, "sdk://towns/Oslo", "postcard", town="Oslo")
    assert texts == ["Oslo is a town.", "Write a cheerful postcard from Oslo."]
    assert [one["uri"] for one in offers["resources"]] == ["sdk://poem"]
    assert [one["uriTemplate"] for one in offers["resourceTemplates"]] == ["sdk://towns/{town}"]
    assert [one["required"] for one in offers["prompts"][0]["arguments"]] == [True, False]


def test_what_else_the_typescript_server_offers(everything_entry):
    offers, texts = read_and_ask(everything_entry, "demo://resource/dynamic/text/1",
                                 "args-prompt", city="Oslo")
    assert "Resource 1: This is a plaintext resource" in texts[0] and "Oslo" in texts[1]
    assert {"Dynamic Text Resource"} < {one["name"] for one in offers["resourceTemplates"]}
    assert offers["resources"] and "args-prompt" in [one["name"] for one in offers["prompts"]]
