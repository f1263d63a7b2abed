"""Exercise 5: chat-diary.py."""

import json
import time

import pytest
from folder import configure, model_for
from little_server import LittleServer, text
from scripted_model import says, wants
from terminal import ROOT, run

PROGRAM = "chat-diary.py"


@pytest.fixture(autouse=True)
def there_is_one():
    assert (ROOT / PROGRAM).exists(), f"there is no {PROGRAM} beside chat.py yet"


def test_each_event_of_each_turn_is_in_the_diary_and_on_the_screen(tmp_path):
    written = []

    def add(arguments):
        file = tmp_path / "diary.jsonl"
        written.append(file.read_text("utf-8") if file.exists() else "")
        time.sleep(1.2)  # long enough for a Waiting
        return text("17 + 25 = 42")

    with model_for(tmp_path) as model, LittleServer({"add": {"answer": add}}) as toy:
        configure(tmp_path, toy=toy)
        model.script[:] = [wants("toy__add", {"a": 17, "b": 25}), says("It is ", "42."),
                           says("Bye.")]
        done = run(PROGRAM, cwd=tmp_path, stdin="What is 17 + 25?\nThank you\nquit\n")
    assert done.returncode == 0, done.stderr
    assert "It is 42." in done.stdout and "[Calling add" in done.stdout
    lines = (tmp_path / "diary.jsonl").read_text("utf-8").splitlines()
    diary = [json.loads(line) for line in lines]
    assert '"ToolCall"' in written[0], "while the tool runs, its call isn't in the file"
    assert [one["event"] for one in diary] == [
        "ToolCall", "ToolResult", "Text", "Text", "Text"], f"the diary has other lines: {lines}"
    assert diary[0]["arguments"] == {"a": 17, "b": 25}
    assert [one.get("text") for one in diary[1:]] == ["17 + 25 = 42", "It is ", "42.", "Bye."]


def test_the_diary_goes_on_the_next_day(tmp_path):
    (tmp_path / "diary.jsonl").write_text('{"event": "Text", "text": "Yesterday."}\n', "utf-8")
    with model_for(tmp_path) as model:
        configure(tmp_path)
        model.script[:] = [says("Today.")]
        run(PROGRAM, cwd=tmp_path, stdin="Hello\nquit\n")
    lines = (tmp_path / "diary.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(line).get("text") for line in lines]
    assert texts == ["Yesterday.", "Today."], f"the diary of two days has {lines}"


def test_without_a_model_people_read_what_to_do(tmp_path):
    configure(tmp_path)
    done = run(PROGRAM, cwd=tmp_path, stdin="quit\n")
    said = done.stdout + done.stderr
    assert "OPENAI_API_KEY" in said and "Traceback" not in said, said
