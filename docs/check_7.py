"""Exercise 7: chat-web.py, a page around chat.ask."""

import json
import socket
import subprocess
import sys
import threading

import pytest
import requests
from folder import configure, model_for
from little_server import LittleServer, text
from patience import PATIENCE, eventually
from scripted_model import refusal, says, wants
from terminal import ROOT, environment

PROGRAM = "chat-web.py"


@pytest.fixture
def site(tmp_path):
    """The address of the page, and the model behind it."""
    assert (ROOT / PROGRAM).exists(), f"there is no {PROGRAM} beside chat.py yet"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tools = {"add": {"answer": lambda arguments: text("42")}}
    with model_for(tmp_path) as model, LittleServer(tools) as toy:
        configure(tmp_path, toy=toy)
        process = subprocess.Popen([sys.executable, str(ROOT / PROGRAM), str(port)], cwd=tmp_path,
                                   env=environment(tmp_path, {}), stdin=subprocess.DEVNULL)

        def listens() -> bool:
            assert process.poll() is None, "the program has ended"
            with socket.socket() as visitor:
                return visitor.connect_ex(("127.0.0.1", port)) == 0

        try:
            eventually(listens)
            yield f"http://127.0.0.1:{port}", model
        finally:
            process.kill()
            process.wait()


def ask(address: str, question: str, **headers: str) -> list[dict]:
    answer = requests.post(f"{address}/ask", question.encode(), headers=headers, timeout=PATIENCE)
    assert answer.status_code == 200 and "text/event-stream" in answer.headers["Content-Type"]
    return [json.loads(part.removeprefix("data: ")) for part in
            answer.content.decode().replace("\r\n", "\n").split("\n\n") if part]


def texts(events: list[dict]) -> str:
    return "".join(one["text"] for one in events if one["event"] == "Text")


def test_the_page(site):
    answer = requests.get(site[0], timeout=PATIENCE)
    assert answer.status_code == 200 and "text/html" in answer.headers["Content-Type"]
    assert "<form" in answer.text and "/ask" in answer.text
    assert "innerHTML" not in answer.text, "what the model says would become HTML"


def test_a_conversation(site):
    address, model = site
    model.script[:] = [wants("toy__add", {"a": 2, "b": 40}), says("It is ", "42."), says("Yes.")]
    events = ask(address, "What is 2 + 40?", Origin=address)
    assert {"ToolCall", "ToolResult", "Text"} <= {one["event"] for one in events}
    assert texts(events) == "It is 42."
    assert texts(ask(address, "Sure, Ærøskøbing?")) == "Yes."
    said = [one.get("content") for one in model.was_sent[-1]["messages"] if one["role"] == "user"]
    assert said == ["What is 2 + 40?", "Sure, Ærøskøbing?"], "each question was a new conversation"


def test_words_come_while_the_model_still_speaks(site):
    address, model = site
    the_rest = threading.Event()
    model.script[:] = [says("It is ", the_rest, "42.")]
    with requests.post(f"{address}/ask", b"Hello", stream=True, timeout=PATIENCE) as answer:
        lines = answer.iter_lines()
        assert any(b"It is" in line for line in lines), "nothing came before the end"
        the_rest.set()
        assert any(b"42." in line for line in lines)


def test_what_fails_is_said_and_the_next_question_works(site):
    address, model = site
    model.script[:] = [refusal(401, "Wrong key"), says("Hi.")]
    assert ask(address, "Hello")[-1]["event"] == "Note"
    assert texts(ask(address, "Hello again")) == "Hi."


def test_another_site_may_not_ask(site):
    answer = requests.post(f"{site[0]}/ask", b"Hello", headers={"Origin": "https://evil.example"},
                           timeout=PATIENCE)
    assert answer.status_code == 403
    assert not site[1].was_sent, "the model was asked all the same"
