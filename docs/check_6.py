"""Exercise 6: pizza_server.py, a server that asks you something."""

import json
import subprocess
import sys
import threading

import pytest
from chats import go
from patience import PATIENCE
from scripted_model import ScriptedModel, says, wants
from terminal import ROOT, environment

from chat import Chat, Server

PROGRAM = "pizza_server.py"


@pytest.fixture(autouse=True, scope="module")
def there_is_one():
    assert (ROOT / PROGRAM).exists(), f"there is no {PROGRAM} beside chat.py yet"
    # Here, because a chat would wait for a minute, in each test.
    with subprocess.Popen([sys.executable, PROGRAM], cwd=ROOT, env=environment(ROOT, {}),
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b'{"jsonrpc": "2.0", "id": 1, "method": "server/discover"}\n')
        process.stdin.flush()
        reader = threading.Thread(target=process.stdout.readline)
        reader.start()
        reader.join(PATIENCE / 4)
        answers = not reader.is_alive()
        process.kill()
    assert answers, "no answer comes before the end of its input"


def answer_to(message: dict) -> str:
    """What the program prints when this is all that it gets."""
    done = subprocess.run([sys.executable, PROGRAM], cwd=ROOT, capture_output=True,
                          input=json.dumps(message).encode() + b"\n", timeout=PATIENCE)
    assert done.returncode == 0, f"it doesn't end with its input: {done.stderr.decode()}"
    return done.stdout.decode()


def ordered(*answers: str) -> tuple[str, list]:
    """What the model reads when somebody gives these answers, and all that happens."""
    server = Server("pizza", command="python", args=[PROGRAM], cwd=str(ROOT))
    with ScriptedModel(wants("pizza__order", {}), says("Done.")) as model, \
            Chat(model.llm, {"pizza": server}, person=True) as chat:
        met = go(chat.meet_servers())
        assert "order" in [tool.name for tool in chat.tools.values()], f"no tool: {met}"
        seen = go(chat.ask("A pizza, please"), *answers)
    return model.was_sent[1]["messages"][-1]["content"], seen


@pytest.mark.parametrize("size", ["small", "large"])
def test_it_asks_and_delivers(size):
    result, seen = ordered(size, "y")
    assert any("Which size?" in event.text for event in seen if type(event).__name__ == "Question")
    assert result == f"One {size} pizza."


@pytest.mark.parametrize("no", ["d", "c"])  # decline, cancel
def test_without_a_yes_there_is_no_pizza(no):
    result, _ = ordered("large", no)
    assert result == "No pizza."


def test_other_requests_are_refused_and_notifications_not_answered():
    refused = json.loads(answer_to({"jsonrpc": "2.0", "id": 7, "method": "weather/tell"}))
    assert refused["id"] == 7 and refused["error"]["code"] == -32601
    assert answer_to({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {}}) == ""
