"""Exercise 4: chat-ollama.py."""

import pytest
from scripted_model import ScriptedModel, says
from terminal import ROOT, run

PROGRAM = "chat-ollama.py"


@pytest.fixture(autouse=True)
def there_is_one():
    assert (ROOT / PROGRAM).exists(), f"there is no {PROGRAM} beside chat.py yet"


def test_the_model_is_the_first_one_that_it_has(tmp_path):
    with ScriptedModel(says("Hi."), names=("qwen3:8b", "gemma3")) as model:
        done = run(PROGRAM, "Hello", cwd=tmp_path, OLLAMA_BASE_URL=model.base_url)
    assert (done.returncode, done.stdout) == (0, "Hi.\n"), done.stderr
    assert model.was_sent[0]["model"] == "qwen3:8b"


def test_or_the_one_that_is_named(tmp_path):
    with ScriptedModel(says("Hi."), names=("qwen3:8b", "gemma3")) as model:
        done = run(PROGRAM, "Hello", cwd=tmp_path, OLLAMA_BASE_URL=model.base_url,
                   OLLAMA_MODEL="gemma3")
    assert (done.returncode, done.stdout) == (0, "Hi.\n"), done.stderr
    assert model.was_sent[0]["model"] == "gemma3"


def test_where_it_has_no_model_people_read_how_to_get_one(tmp_path):
    with ScriptedModel(names=()) as model:
        done = run(PROGRAM, "Hello", cwd=tmp_path, OLLAMA_BASE_URL=model.base_url)
    assert done.returncode == 1
    assert "ollama pull" in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_where_it_is_not_started_people_read_how_to_start_it(tmp_path):
    done = run(PROGRAM, "Hello", cwd=tmp_path, OLLAMA_BASE_URL="http://127.0.0.1:9/v1")
    assert done.returncode == 1
    assert "ollama serve" in done.stderr and "Traceback" not in done.stderr, done.stderr
