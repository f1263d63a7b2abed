"""chat-lmstudio.py, the other program: what differs from chat.py, and nothing else."""

import importlib

import pytest
from folder import configure, needs_terminal, tools
from little_server import LittleServer
from scripted_model import ScriptedModel, refusal, says, wants
from terminal import Terminal, as_seen, run

PROGRAM = "chat-lmstudio.py"
chat_lmstudio = importlib.import_module("chat-lmstudio")


@needs_terminal
def test_a_conversation_looks_like_this(tmp_path):
    with ScriptedModel(wants("dexcom__b", {}), says("Hi."), names=("qwen3-8b",)) as model, \
            LittleServer(tools("a", "b", "c", "d", "e")) as dexcom, \
            LittleServer(tools("f", "g", "h")) as salesforce:
        configure(tmp_path, dexcom=dexcom, salesforce=salesforce)
        with Terminal(PROGRAM, cwd=tmp_path, LMSTUDIO_BASE_URL=model.base_url) as terminal:
            terminal.wait_for("You: ")
            terminal.ask("Hello")
            terminal.type("quit\n")
            assert terminal.exit_status() == 0
            terminal.rest()

    assert as_seen(terminal.text).strip() == f"""\
LM Studio MCP Chat - Discovering tools...
  - dexcom: 5 tools
  - salesforce: 3 tools

Connected to LM Studio at {model.base_url}
Connected to 2 MCP server(s) with 8 total tools

Note: Make sure you have a model loaded in LM Studio!
For best results, use a model that supports function calling.
Type 'quit' or 'exit' to end
----------------------------------------

You: Hello

[Calling b...]

A: Hi.

You: quit"""
    assert model.was_sent[0]["model"] == "qwen3-8b"


@pytest.mark.parametrize("names, env, chosen", [
    (("text-embedding-nomic", "qwen3-8b"), {}, "qwen3-8b"),
    (("qwen3-8b", "gemma-3"), {"LMSTUDIO_MODEL": "gemma-3"}, "gemma-3"),
    (("qwen3-8b",), {"MODEL": "gpt-4o", "OPENAI_BASE_URL": "http://127.0.0.1:1"}, "qwen3-8b"),
])
def test_the_model_is_the_one_that_is_named_or_the_only_one(tmp_path, names, env, chosen):
    with ScriptedModel(says("Hi."), names=names) as model:
        done = run(PROGRAM, "Hello", cwd=tmp_path, LMSTUDIO_BASE_URL=model.base_url, **env)
    assert (done.returncode, done.stdout) == (0, "Hi.\n")
    assert model.was_sent[0]["model"] == chosen


@pytest.mark.parametrize("listed, chosen", [
    ({"data": [{"id": "qwen3-8b"}]}, "qwen3-8b"), ({"data": [{"id": 5}]}, "5"),
    *[(nothing, "local-model") for nothing in (
        {}, {"data": []}, {"data": None}, {"data": "x"}, {"data": [None, "x", {}]},
        {"data": [{"id": "text-embedding-nomic"}]})]])
def test_where_lm_studio_lists_no_model_we_take_any(listed, chosen):
    assert chat_lmstudio.only_model(listed) == chosen


def test_with_several_models_you_have_to_choose(tmp_path):
    with ScriptedModel(names=("qwen3-8b", "text-embedding-nomic", "gemma-3")) as model:
        done = run(PROGRAM, "Hello", cwd=tmp_path, LMSTUDIO_BASE_URL=model.base_url)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "LMSTUDIO_MODEL=qwen3-8b" in done.stderr and "LMSTUDIO_MODEL=gemma-3" in done.stderr
    assert "text-embedding" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("url, words", [
    ("http://127.0.0.1:1/v1", "Could not connect to LM Studio at http://127.0.0.1:1/v1"),
    ("http://127.0.0.1:99999/v1", "Could not connect to LM Studio at http://127.0.0.1:99999/v1"),
    ("127.0.0.1:1", "must be a whole address"), ("nonsense", "must be a whole address")])
def test_without_lm_studio_the_chat_does_not_start(tmp_path, url, words):
    done = run(PROGRAM, cwd=tmp_path, stdin="Hello", LMSTUDIO_BASE_URL=url)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Discovering" not in done.stderr and "Traceback" not in done.stderr


def test_its_settings_may_stand_in_env(tmp_path):
    with ScriptedModel(says("Hi."), names=("one", "two")) as model:
        (tmp_path / ".env").write_text(
            f"LMSTUDIO_BASE_URL={model.base_url}\nLMSTUDIO_MODEL=two\nOPENAI_API_KEY=sk-secret\n")
        done = run(PROGRAM, "Hello", cwd=tmp_path)
    assert done.stdout == "Hi.\n"
    assert model.was_sent[0]["model"] == "two"
    assert "sk-secret" not in str(model.headers[0])  # that key is for somebody else


def test_an_error_of_lm_studio_is_a_sentence(tmp_path):
    with ScriptedModel(refusal(500, "No models loaded."), names=("one",)) as model:
        done = run(PROGRAM, "Hello", cwd=tmp_path, LMSTUDIO_BASE_URL=model.base_url)
    assert done.returncode == 1
    assert "No models loaded." in done.stderr and "Traceback" not in done.stderr


def test_help_names_no_demo_for_there_is_none(tmp_path):
    done = run(PROGRAM, "-h", cwd=tmp_path)
    assert done.returncode == 0
    assert "--config" in done.stdout and "--demo" not in done.stdout
    assert run(PROGRAM, "--demo", "Hello", cwd=tmp_path).returncode == 2
