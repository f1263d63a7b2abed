"""The command line: what the program is asked for, and how it ends, in pipes and in a terminal
(terminal.py). The model and the servers are listening in the test."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from folder import (
    configure,
    is_running,
    model_for,
    needs_terminal,
    posix_only,
    stubborn,
    tools,
)
from little_server import LittleServer, text
from patience import PATIENCE, eventually
from scripted_model import HANG, ScriptedModel, refusal, says, wants
from scripted_server import Reply, ScriptedHttp, error
from terminal import CTRL_C, ROOT, Terminal, environment, programs, run


@pytest.fixture
def model(tmp_path) -> Iterator[ScriptedModel]:
    """A model, and a .env in the current folder which says where it is."""
    with model_for(tmp_path) as model:
        yield model


# ── In a pipe ────────────────────────────────────────────────────────────────────────────

@pytest.mark.parametrize("words", [["What is 2 + 40?"], ["What", "is", "2", "+", "40?"]])
def test_a_question_on_the_command_line_prints_only_the_answer(tmp_path, model, words):
    model.script += [wants("s__f", {}), says("It is ", "42.")]
    with LittleServer(tools("f")) as server:
        configure(tmp_path, s=server)
        done = run("chat.py", *words, cwd=tmp_path, stdin=None)  # which nobody writes to
    assert done.returncode == 0
    assert done.stdout == "It is 42.\n"
    assert "Discovering tools" in done.stderr and "[Calling f...]" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert model.was_sent[0]["messages"][-1]["content"] == "What is 2 + 40?"


@needs_terminal
def test_a_question_on_the_command_line_prints_only_the_answer_from_a_terminal_too(
        tmp_path, model):
    model.script += [says("It is 42.")]
    with (tmp_path / "answer").open("wb") as file, \
            Terminal("chat.py", "What is it?", cwd=tmp_path, stdout=file) as terminal:
        assert terminal.exit_status() == 0
        assert "Discovering tools" in terminal.rest()
    assert (tmp_path / "answer").read_text() == "It is 42.\n"


@pytest.mark.parametrize("words, stdin, question", [
    ([], "one\ntwo\n", "one\ntwo"),
    (["review this: -"], "+ x = 1\n", "review this: + x = 1\n"),
    (["review", "this:", "-"], "+ x = 1\n", "review this: + x = 1\n"),
    (["-"], "Hello\n", "Hello"),
    (["2 -1"], "not read", "2 -1"),
    (["Hello"], "not read", "Hello"),
])
def test_standard_input_is_read_when_it_is_meant(tmp_path, model, words, stdin, question):
    model.script += [says("Yes.")]
    done = run("chat.py", *words, cwd=tmp_path, stdin=stdin)
    assert done.stdout == "Yes.\n"
    assert model.was_sent[0]["messages"][-1]["content"].strip() == question.strip()


def test_options_may_stand_anywhere(tmp_path, model):
    model.script += [says("Arr.")]
    done = run("chat.py", "Who", "-s", "You are a pirate.", "are", "you?", cwd=tmp_path)
    assert done.stdout == "Arr.\n"
    assert [message["content"] for message in model.was_sent[0]["messages"]] == [
        "You are a pirate.", "Who are you?"]


@pytest.mark.parametrize("words, stdin", [([], ""), ([], " \n"), (["--nonsense"], ""),
                                          (["--config"], "")])
def test_wrong_usage_is_status_2(tmp_path, model, words, stdin):
    done = run("chat.py", *words, cwd=tmp_path, stdin=stdin)
    assert done.returncode == 2
    assert done.stdout == ""
    assert ("usage:" if words else "There is no question") in done.stderr
    assert "Traceback" not in done.stderr
    assert model.was_sent == []


def test_help_needs_nothing(tmp_path):
    done = run("chat.py", "-h", cwd=tmp_path)
    assert done.returncode == 0
    for word in ("--demo", "--config", "--system-prompt", "--trace", "question"):
        assert word in done.stdout


def test_a_failure_is_status_1_and_no_answer(tmp_path, model):
    model.script += [refusal(401, "Incorrect API key provided")]
    done = run("chat.py", "Hello", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Invalid API key" in done.stderr and "Traceback" not in done.stderr


def test_an_answer_ends_with_a_line_end_also_when_it_is_cut(tmp_path, model):
    model.script += [says("One ", b'data: {"error": {"message": "GPU lost"}}\n\n')]
    done = run("chat.py", "Hello", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "One \n")
    assert "GPU lost" in done.stderr


@posix_only
def test_a_reader_that_has_enough_ends_it_quietly(tmp_path, model):
    gate = threading.Event()
    model.script += [says("one\n", gate, "two\n", "three\n", *["more\n"] * 10, "end")]
    with subprocess.Popen(
            [sys.executable, str(programs() / "chat.py"), "Count"], cwd=tmp_path,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment(tmp_path, {})) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == b"one\n"
        process.stdout.close()
        gate.set()
        complaints = process.stderr.read().decode()
        process.wait(PATIENCE)
    assert "Traceback" not in complaints and "BrokenPipe" not in complaints


@pytest.mark.parametrize("stdin", [b"\xff\xfe is that a letter?", "Ünï 🙂?".encode()])
def test_letters_that_cannot_be_read_or_printed_are_no_crash(tmp_path, model, stdin):
    model.script += [says("Ünï 🙂")]
    done = run("chat.py", cwd=tmp_path, stdin=stdin, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0
    assert "?n? ?" in done.stdout


# ── Streams that are closed, or missing ──────────────────────────────────────────────────

CLOSED = [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&-", "<&- 2>&-", "<&- >&- 2>&-"]


def redirected(folder: Path, how: str, *words: str) -> subprocess.CompletedProcess:
    """Run chat.py from a shell, with such redirections."""
    return subprocess.run(
        ["sh", "-c", f'"$@" {how}', "sh", sys.executable, str(programs() / "chat.py"), *words],
        cwd=folder, env=environment(folder, {}), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=PATIENCE)


@posix_only
@pytest.mark.parametrize("how", CLOSED)
def test_a_stream_that_is_closed_is_no_matter(tmp_path, model, how):
    model.script += [wants("s__f", {}), says("It is 42.")]
    with LittleServer(tools("f")) as server:
        configure(tmp_path, s=server, toy=stubborn(tmp_path))
        done = redirected(tmp_path, how, "What is it?")
    assert done.returncode == 0 and len(model.was_sent) == 2
    assert done.stdout == ("" if how.startswith(">") or " >" in how else "It is 42.\n")
    assert ("[Calling f...]" in done.stderr) == ("2>" not in how)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


@posix_only
@pytest.mark.parametrize("how", CLOSED)
@pytest.mark.parametrize("words, status", [
    (["--demo", "What is 17 + 25?"], 0), ([], 2), (["-h"], 0), (["--nonsense"], 2), (["Hello"], 1)])
def test_however_it_would_have_ended_it_ends_so_without_a_stream(tmp_path, how, words, status):
    done = redirected(tmp_path, how, *words)
    assert done.returncode == status
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


@posix_only
@pytest.mark.parametrize("how, words", [
    ("1</dev/null", "Bad file"), ("2</dev/null", ""), ("2>/dev/full", ""),
    (">/dev/full", "No space left")])
def test_a_stream_that_takes_nothing_ends_it_with_a_status(tmp_path, model, how, words):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    model.script += [says("It is 42.")]
    done = redirected(tmp_path, how, "What is it?")
    assert done.returncode == 1 and words in done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


@posix_only
def test_an_input_that_cannot_be_read_ends_it_with_a_status(tmp_path, model):
    done = redirected(tmp_path, "0>/dev/null")  # nohup does that
    assert done.returncode == 1 and "Can't read" in done.stderr and "Traceback" not in done.stderr


@posix_only
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stream_that_is_closed_in_the_middle_is_no_traceback(tmp_path, model, stream):
    gate = threading.Event()
    model.script += [says("one\n", gate, *["more\n"] * 10), says("never asked")]
    with subprocess.Popen(
            [sys.executable, str(programs() / "chat.py"), "--trace", "Count"], cwd=tmp_path,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment(tmp_path, {})) as process:
        closed, other = process.stdout, process.stderr
        if stream == "stderr":
            closed, other = other, closed
        assert closed and other and closed.read(3)
        closed.close()
        gate.set()
        rest = other.read().decode()
        assert process.wait(PATIENCE) in (0, 1)
    assert "Traceback" not in rest and "Exception" not in rest


IN_IDLE = """
import io, sys

class Shell(io.TextIOBase):  # like the streams of IDLE and Jupyter, it has no reconfigure()
    def __init__(self, real):
        self.readline, self.write, self.flush = real.readline, real.write, real.flush

sys.stdin, sys.stdout, sys.stderr = map(Shell, (sys.stdin, sys.stdout, sys.stderr))
import chat
chat.run(words=["What is it?"])
"""


def test_a_shell_with_streams_of_its_own_can_run_it(tmp_path, model):
    model.script += [says("It is 42.")]
    done = subprocess.run(
        [sys.executable, "-c", IN_IDLE], cwd=tmp_path, capture_output=True, text=True,
        timeout=PATIENCE, env=environment(tmp_path, {"PYTHONPATH": str(programs())}))
    assert (done.returncode, done.stdout) == (0, "It is 42.\n")
    assert "Discovering tools" in done.stderr and "Traceback" not in done.stderr


# ── How it ends ──────────────────────────────────────────────────────────────────────────

@needs_terminal
@pytest.mark.parametrize("way, status", [("quit", 0), ("SIGTERM", 143), ("SIGHUP", 129),
                                         ("ctrl-c", 130), ("window", None)])
def test_however_it_ends_it_leaves_no_process_behind(tmp_path, model, way, status):
    configure(tmp_path, toy=stubborn(tmp_path))
    with Terminal("chat.py", cwd=tmp_path) as terminal:
        terminal.wait_for("You: ")
        numbers = [int(number) for number in (tmp_path / "running").read_text().split()]
        assert len(numbers) == 2 and all(map(is_running, numbers))
        number = getattr(signal, way, 0)
        found = terminal.exit_status({
            "quit": lambda: terminal.type("quit\n"), "ctrl-c": lambda: terminal.type(CTRL_C),
            "window": terminal.close_window,
        }.get(way, lambda: terminal.process.send_signal(number)))
        assert status in (found, None)
        assert "Traceback" not in terminal.text
    assert eventually(lambda: not any(map(is_running, numbers)))


@needs_terminal
def test_who_is_in_a_hurry_leaves_no_process_behind_either(tmp_path, model):
    (tmp_path / "server.py").write_text(f"""
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
toy = subprocess.Popen([sys.executable, {str(ROOT / "demo/toy_server.py")!r}])
open("running", "w").write(str(os.getpid()))
toy.wait()
open("ending", "w").close()
time.sleep(600)
""")
    configure(tmp_path, toy={"command": "python", "args": ["server.py"]})
    with Terminal("chat.py", cwd=tmp_path) as terminal:
        terminal.wait_for("You: ")
        terminal.type("quit\n")
        eventually((tmp_path / "ending").exists)
        terminal.wait_for("Waiting for the servers...")
        assert terminal.exit_status(lambda: terminal.type(CTRL_C)) == 130
        assert "Traceback" not in terminal.text
    assert not is_running(int((tmp_path / "running").read_text()))


@posix_only
def test_the_servers_end_too_when_a_signal_comes_in_the_middle_of_an_answer(tmp_path, model):
    model.script += [says("One ", HANG)]
    configure(tmp_path, toy=stubborn(tmp_path))
    process = subprocess.Popen(
        [sys.executable, str(programs() / "chat.py"), "Go"], cwd=tmp_path, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(tmp_path, {}))
    assert process.stdout and process.stdout.read(4) == b"One "
    process.terminate()
    _, complaints = process.communicate(timeout=PATIENCE)
    numbers = [int(number) for number in (tmp_path / "running").read_text().split()]
    assert process.returncode == 143
    assert b"Traceback" not in complaints
    assert eventually(lambda: not any(map(is_running, numbers)))


# ── Settings ─────────────────────────────────────────────────────────────────────────────

def test_without_a_key_one_friendly_message_names_the_demo(tmp_path):
    done = run("chat.py", "Hello", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    for word in ("OPENAI_API_KEY", ".env", "--demo"):
        assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_without_servers_it_is_a_plain_chatbot_and_says_so(tmp_path, model):
    model.script += [says("Hi.")]
    done = run("chat.py", "Hello", cwd=tmp_path)
    assert done.stdout == "Hi.\n"
    assert "No MCP servers configured" in done.stderr and "--demo" in done.stderr


def test_servers_without_tools_are_mentioned(tmp_path, model):
    model.script += [says("Hi.")]
    with LittleServer({}) as server:
        configure(tmp_path, s=server)
        done = run("chat.py", "Hello", cwd=tmp_path)
    assert done.stdout == "Hi.\n"
    assert "No tools discovered" in done.stderr


@pytest.mark.parametrize("content, words", [
    (None, ["other.json"]), ("{", ["other.json", "not valid JSON", "line 1"]),
    ("[]", ["other.json", "must look like"]), (b"\xff\xfe\xff", ["other.json"])])
def test_a_bad_config_file_is_explained(tmp_path, model, content, words):
    if content is not None:
        (tmp_path / "other.json").write_bytes(
            content if isinstance(content, bytes) else content.encode())
    done = run("chat.py", "--config", "other.json", "Hello", cwd=tmp_path)
    assert done.returncode == 1
    assert all(word in done.stderr for word in words)
    assert "Traceback" not in done.stderr
    assert model.was_sent == []


def test_another_config_file_can_be_named(tmp_path, model):
    model.script += [says("Hi.")]
    (tmp_path / "mcp_servers.json").write_text("{")
    with LittleServer(tools("f", "g")) as server:
        (tmp_path / "other.json").write_text(
            json.dumps({"mcpServers": {"theirs": {"url": server.url}}}))
        done = run("chat.py", "--config", "other.json", "Hello", cwd=tmp_path)
    assert "theirs: 2 tools" in done.stderr
    assert done.stdout == "Hi.\n"


def test_the_model_is_told_the_date_the_weekday_and_the_time_zone(tmp_path, model):
    model.script += [says("Hi.")]
    env = {} if os.name == "nt" else {"TZ": "UTC"}
    before = time.gmtime() if env else time.localtime()
    run("chat.py", "Hello", cwd=tmp_path, **env)
    told = model.was_sent[0]["messages"][0]["content"]
    assert any(time.strftime(form, before) in told for form in ("%d %B %Y", "%Y-%m-%d"))
    assert time.strftime("%A", before) in told
    assert not env or "UTC" in told
    assert "terminal" in told


@pytest.mark.parametrize("words, env, prompt, name", [
    ([], {}, "From .env.", "scripted"),
    ([], {"SYSTEM_PROMPT": "From the environment.", "MODEL": "other"},
     "From the environment.", "other"),
    (["-s", "From the command line."], {"SYSTEM_PROMPT": "From the environment."},
     "From the command line.", "scripted"),
])
def test_the_command_line_goes_before_the_environment_and_that_before_env(
        tmp_path, model, words, env, prompt, name):
    with (tmp_path / ".env").open("a") as file:
        file.write("SYSTEM_PROMPT=From .env.\n")
    model.script += [says("Hi.")]
    run("chat.py", *words, "Hello", cwd=tmp_path, **env)
    assert model.was_sent[0]["messages"][0]["content"] == prompt
    assert model.was_sent[0]["model"] == name


def test_the_key_reaches_the_model_and_secrets_their_server(tmp_path, model):
    model.script += [says("Hi.")]
    with (tmp_path / ".env").open("a") as file:
        file.write("OPENAI_API_KEY=the-key\nTOKEN=the-token\n")
    with LittleServer(tools("f")) as server:
        configure(tmp_path, s={"url": server.url + "?token=${TOKEN}"})
        done = run("chat.py", "Hello", cwd=tmp_path)
    assert model.headers[0]["Authorization"] == "Bearer the-key"
    assert "s: 1 tool" in done.stderr


# ── What must never be shown ─────────────────────────────────────────────────────────────

SECRETS = {"OPENAI_API_KEY": "sk-planted-key", "TOKEN": "planted-token", "BEARER": "planted-bearer",
           "PLANTED": "planted-env"}


@pytest.mark.parametrize("words, env", [(["--trace"], {}), ([], {"MCP_TRACE": "1"})])
def test_a_trace_shows_every_message_and_no_secret(tmp_path, model, words, env):
    model.script += [wants("http__add", {"a": 1, "b": 1}), says("Two.")]
    with LittleServer({"add": {"answer": lambda arguments: text("1 + 1 = 2")}}) as server:
        configure(
            tmp_path,
            http={"url": server.url + "?token=${TOKEN}&k",
                  "headers": {"Authorization": "Bearer ${BEARER}", "X-Api-Key": "${BEARER}",
                              "Cookie": "c=${BEARER}"}},
            stdio={"command": "python", "args": [str(ROOT / "demo/toy_server.py")],
                   "env": {"KEY": "${PLANTED}"}},
            broken={"url": "http://127.0.0.1:1/mcp?token=${TOKEN}"})
        done = run("chat.py", *words, "1 + 1?", cwd=tmp_path, **SECRETS, **env)
    assert done.stdout == "Two.\n"
    for shown in ("--> http", "<-- http", "--> stdio", "<-- stdio", '"method": "tools/list"',
                  '"method": "tools/call"', '"method": "server/discover"', "POST http://",
                  "HTTP 200", "MCP-Protocol-Version: 2026-07-28", "token=***", "1 + 1 = 2"):
        assert shown in done.stderr
    assert "planted" not in done.stderr


def test_what_a_server_repeats_of_our_secrets_reaches_neither_the_person_nor_the_model(
        tmp_path, model):
    model.script += [wants("s__f", {}), says("I see.")]
    dies = "import os, sys; sys.exit('my key is ' + os.environ['API_KEY'])"
    with LittleServer({"f": {"answer": lambda arguments: text("")}}) as server, \
            ScriptedHttp({}) as other:
        other.script["tools/list"] = other.script["initialize"] = lambda message: Reply(400, error(
            message, -32602, f"I know no {other.seen[-1].headers['Authorization']} here, at "
                             f"{other.seen[-1].path}."))
        configure(tmp_path, s=server, echo={
            "url": other.entry().url + "?token=planted-query",
            "headers": {"Authorization": "Bearer planted-header"}},
            dies={"command": "python", "args": ["-c", dies], "env": {"API_KEY": "planted-key"}})
        done = run("chat.py", "Go", cwd=tmp_path)
    assert "I know no Bearer *** here" in done.stderr and "my key is ***" in done.stderr
    assert "planted" not in done.stderr + done.stdout + str(model.was_sent)


@pytest.mark.parametrize("words", [["--trace"], []])
def test_secrets_are_in_no_error_either(tmp_path, words):
    (tmp_path / ".env").write_text(
        "OPENAI_BASE_URL=http://me:planted@127.0.0.1:1/v1?key=planted-key\n")
    configure(tmp_path, a={"url": "http://me:planted@127.0.0.1:1/mcp?token=planted"},
              b={"url": "http://127.0.0.1:99999/mcp?token=planted"},
              c={"url": "http://127.0.0.1:1/", "headers": {"X-Key": "planted\nkey"}},
              d={"url": "http://127.0.0.1:1/", "headers": {"X-Key": "planted ключ"}})
    done = run("chat.py", *words, "Hello", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "planted" not in done.stderr


# ── The demo ─────────────────────────────────────────────────────────────────────────────

def test_a_demo_reads_no_settings_and_needs_no_network(tmp_path):
    for name, content in {".env": "OPENAI_BASE_URL=http://127.0.0.1:9/v1\nMODEL=wrong\n"
                                  "HTTP_PROXY=http://127.0.0.1:9\nSYSTEM_PROMPT=${oops\n",
                          "mcp_servers.json": "{oops"}.items():
        (tmp_path / name).write_text(content)
    dead = "http://127.0.0.1:9"
    done = run("chat.py", "--demo", "What is 17 + 25?", cwd=tmp_path, stdin=None,
               OPENAI_API_KEY="ключ", OPENAI_BASE_URL=f"{dead}/v1", OPENAI_ORG_ID="x",
               OPENAI_PROJECT_ID="y", MODEL="wrong", HTTP_PROXY=dead, http_proxy=dead,
               HTTPS_PROXY=dead, ALL_PROXY=dead, all_proxy=dead)
    assert done.stderr.count(": 5 tools") == 2
    assert done.stdout == "The tool add says: 17 + 25 = 42.\n"
    assert done.returncode == 0


def test_nothing_is_left_in_the_folder(tmp_path):
    run("chat.py", "--demo", "What is 17 + 25?", cwd=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == []
