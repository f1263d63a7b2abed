"""Exercise 7: chat-web.py, a page around chat.ask."""

import json
import re
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
    assert "<form" in answer.text.lower(), "the page has no form"
    html = re.search("innerHTML|outerHTML|insertAdjacentHTML|document.write", answer.text)
    assert not html, f"with {html and html[0]}, what the model says would become HTML"


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


def test_a_question_waits_until_the_one_before_is_answered(site):
    address, model = site
    the_rest = threading.Event()
    model.script[:] = [says("One", the_rest, "."), says("Two.")]
    second = threading.Thread(target=ask, args=(address, "And then?"))
    with requests.post(f"{address}/ask", b"First?", stream=True, timeout=PATIENCE) as answer:
        lines = answer.iter_lines()
        assert any(b"One" in line for line in lines)
        second.start()
        second.join(2)  # time enough to do it wrong
        the_rest.set()
        assert any(b'"."' in line for line in lines)
    second.join(PATIENCE)
    said = [one.get("content") for one in model.was_sent[-1]["messages"][1:]]
    assert said == ["First?", "One.", "And then?"], "two turns ran at the same time"


@pytest.mark.parametrize("origin", [
    "https://evil.example", "{}.evil.example", "http://127.0.0.1:1", "null"])
def test_another_site_may_not_ask(site, origin):
    answer = requests.post(f"{site[0]}/ask", b"Hello", timeout=PATIENCE,
                           headers={"Origin": origin.format(site[0])})
    assert answer.status_code == 403, f"{origin.format('ours')} may ask"
    assert not site[1].was_sent, "the model was asked all the same"


def test_only_this_computer_gets_in(site):
    # On Linux, 127.0.0.2 is this computer, too: whoever listens on all addresses hears it.
    with socket.socket() as visitor:
        assert visitor.connect_ex(("127.0.0.2", int(site[0].rpartition(":")[2]))) != 0, \
            "it listens on more than 127.0.0.1"
