"""Parts 8 and 9: the program as a person runs it, in a terminal and in pipes (terminal.py). The
model and the servers are listening in the test; the program is a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from little_server import LittleServer, text
from patience import PATIENCE, eventually
from scripted_model import HANG, ScriptedModel, refusal, says, wants
from scripted_server import Reply, ScriptedHttp, error
from terminal import (
    CTRL_C,
    CTRL_D,
    ROOT,
    Terminal,
    as_seen,
    environment,
    programs,
    run,
)

needs_terminal = pytest.mark.skipif(os.name != "posix", reason="Windows has no pseudo-terminals")
posix_only = pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")


@pytest.fixture
def model(tmp_path) -> Iterator[ScriptedModel]:
    """A model, and a .env in the current folder which says where it is."""
    with ScriptedModel() as model:
        (tmp_path / ".env").write_text(
            f"OPENAI_BASE_URL={model.base_url}\nMODEL=scripted\n", encoding="utf-8")
        yield model


def configure(folder: Path, **servers: Any) -> None:
    """Write an mcp_servers.json: each server is a LittleServer, or an entry of the file."""
    (folder / "mcp_servers.json").write_text(json.dumps({"servers": [
        {"name": name, **(one if isinstance(one, dict) else {"url": one.url})}
        for name, one in servers.items()]}), encoding="utf-8")


def tools(*names: str) -> dict[str, dict]:
    return {name: {"answer": lambda arguments: text("Done.")} for name in names}


# ── A conversation ───────────────────────────────────────────────────────────────────────

@needs_terminal
def test_a_conversation_looks_like_this(tmp_path, model):
    model.script += [
        wants("dexcom__Get_Data_Range_v1", {}),
        says("I have glucose data available ", "from January 15, 2024 to January 22, 2024.")]
    with LittleServer(tools("Get_Data_Range_v1", "b", "c", "d", "e")) as dexcom, \
            LittleServer(tools("query", "create", "delete")) as salesforce:
        configure(tmp_path, dexcom=dexcom, salesforce=salesforce)
        with Terminal("chat.py", cwd=tmp_path) as terminal:
            terminal.wait_for("You: ")
            terminal.ask("What glucose data do you have available?")
            terminal.type("quit\n")
            assert terminal.exit_status() == 0
            terminal.rest()

    assert as_seen(terminal.text).strip() == """\
MCP Chat - Discovering tools...
  - dexcom: 5 tools
  - salesforce: 3 tools

Connected to 2 server(s) with 8 total tools
Type 'quit' or 'exit' to end
----------------------------------------

You: What glucose data do you have available?

[Calling Get_Data_Range_v1...]

A: I have glucose data available from January 15, 2024 to January 22, 2024.

You: quit"""


@needs_terminal
def test_the_conversation_goes_on_and_the_model_remembers_it(tmp_path, model):
    model.script += [says("Hi, Ann."), refusal(429, "Slow down.", {"Retry-After": "7"}),
                     says("Ann.")]
    with Terminal("chat.py", cwd=tmp_path) as terminal:
        assert "No MCP servers configured" in terminal.wait_for("You: ")
        assert "--demo" in terminal.text
        assert as_seen(terminal.ask("I am Ann.")) == "\nA: Hi, Ann.\n"
        assert "7 seconds" in terminal.ask("Who am I?")  # an error is no end
        assert terminal.ask("") == ""                    # an empty line is no question
        assert as_seen(terminal.ask("  Who am I?  ")) == "\nA: Ann.\n"
        terminal.type(CTRL_D)
        assert terminal.exit_status() == 0
    assert [message["content"] for message in model.was_sent[-1]["messages"][1:]] == [
        "I am Ann.", "Hi, Ann.", "Who am I?"]


@needs_terminal
@pytest.mark.parametrize("words", ["quit", "exit", "  QUIT "])
def test_the_chat_ends_with_a_word(tmp_path, model, words):
    with Terminal("chat.py", cwd=tmp_path) as terminal:
        terminal.wait_for("You: ")
        terminal.type(words + "\n")
        assert terminal.exit_status() == 0


@needs_terminal
def test_the_arrow_up_brings_back_the_last_question(tmp_path, model):
    pytest.importorskip("readline")
    model.script += [says("One."), says("Two.")]
    with Terminal("chat.py", cwd=tmp_path) as terminal:
        terminal.wait_for("You: ")
        terminal.ask("Say a number")
        assert "Two." in terminal.ask("\x1b[A")
    assert model.was_sent[1]["messages"][-1]["content"] == "Say a number"


@needs_terminal
def test_a_pasted_text_of_several_lines_is_one_question(tmp_path, model):
    readline = pytest.importorskip("readline")
    if "libedit" in (readline.__doc__ or ""):
        pytest.skip("this Python's readline is libedit, which can't do that")
    model.script += [says("I see.")]
    with Terminal("chat.py", cwd=tmp_path) as terminal:
        terminal.wait_for("You: ")
        terminal.type("\x1b[200~one\ntwo\n\nthree\x1b[201~")
        terminal.wait_for("three")
        assert model.was_sent == []
        terminal.type("\n")
        terminal.wait_for("I see.")
    assert model.was_sent[0]["messages"][-1]["content"] == "one\ntwo\n\nthree"


@needs_terminal
def test_a_server_that_is_down_costs_only_its_own_tools(tmp_path, model):
    with LittleServer({}) as gone:
        pass
    with LittleServer(tools("a", "b")) as server:
        configure(tmp_path, gone=gone, works=server, typo={"ulr": "x"}, off={"enabled": False},
                  no_program={"command": "no-such-program-anywhere"})
        with Terminal("chat.py", cwd=tmp_path) as terminal:
            start = terminal.wait_for("You: ")
            servers = terminal.ask("/servers")
    assert "- works: 2 tools\n" in start
    assert "- gone: nobody answers at 127.0.0.1:" in start
    assert '- typo: "ulr" is not a setting' in start
    assert "no-such-program-anywhere" in start
    assert "Connected to 1 server(s) with 2 total tools" in start
    assert "works: MCP 2026-07-28 over HTTP" in servers
    assert "nobody answers" in servers
    assert "off" not in re.sub(r"\boffline\b", "", start + servers)


@needs_terminal
def test_a_person_is_asked_before_something_is_destroyed(tmp_path, model):
    model.script += [wants("s__erase", {"file": "a.txt"}), says("Not erased."),
                     wants("s__erase", {"file": "b.txt"}), says("Not erased."),
                     wants("s__erase", {"file": "c.txt"}), says("Erased.")]
    with LittleServer({"erase": {"annotations": {"destructiveHint": True},
                                 "answer": lambda arguments: text("Gone.")}}) as server:
        configure(tmp_path, s=server)
        with Terminal("chat.py", cwd=tmp_path) as terminal:
            terminal.wait_for("You: ")
            terminal.type("Erase a.txt\n")
            question = terminal.wait_for("\n> ")
            assert "erase" in question and '"file": "a.txt"' in question
            assert "[y]" in question and "[n]" in question and "[a]" in question
            assert "Not erased." in terminal.ask("n")
            terminal.type("Erase b.txt\n")
            terminal.wait_for("\n> ")
            terminal.press_until(CTRL_D, "Not erased.")
            terminal.wait_for("You: ")
            terminal.type("Erase c.txt\n")
            terminal.wait_for("\n> ")
            assert "[Calling erase...]" in terminal.ask("y")
        assert [call["arguments"] for call in server.calls] == [{"file": "c.txt"}]


def test_where_nobody_can_be_asked_nothing_is_destroyed(tmp_path, model):
    model.script += [wants("s__erase", {}), says("I may not.")]
    with LittleServer({"erase": {"annotations": {"destructiveHint": True}}}) as server:
        configure(tmp_path, s=server)
        done = run("chat.py", "Erase it", cwd=tmp_path)
        assert server.calls == []
    assert done.stdout == "I may not.\n"


# ── Signs of life ────────────────────────────────────────────────────────────────────────

@needs_terminal
def test_while_you_wait_a_line_says_for_what_and_then_goes(tmp_path, model):
    gate, tool_gate = threading.Event(), threading.Event()

    def slow(arguments: dict) -> dict:
        tool_gate.wait(PATIENCE)
        return text("Done.")

    model.script += [wants("s__slow", {}), says(gate, "Finished.")]
    with LittleServer({"slow": {"answer": slow}}) as server:
        configure(tmp_path, s=server)
        with Terminal("chat.py", cwd=tmp_path) as terminal:
            terminal.wait_for("You: ")
            terminal.type("Go\n")
            terminal.wait_for("Waiting for slow... 1 s")
            tool_gate.set()
            terminal.wait_for("Waiting for the model")
            gate.set()
            terminal.wait_for("You: ")
    assert as_seen(terminal.text).endswith(
        "\nYou: Go\n\n[Calling slow...]\n\nA: Finished.\n\nYou:")


@needs_terminal
def test_a_long_tool_tells_how_far_it_is_in_place(tmp_path, model):
    model.script += [wants("toy__slow_count", {"to": 2, "pause": 0.3}), says("Counted.")]
    configure(tmp_path, toy={"command": "python", "args": [str(ROOT / "demo/toy_server.py")]})
    with Terminal("chat.py", cwd=tmp_path) as terminal:
        terminal.wait_for("You: ")
        answer = terminal.ask("Count")
    assert "slow_count: 1 of 2 Counted 1 of 2" in answer
    assert as_seen(answer) == "\n[Calling slow_count...]\n\nA: Counted.\n"


@needs_terminal
@pytest.mark.parametrize("env, coloured", [({}, True), ({"NO_COLOR": "1"}, False),
                                           ({"TERM": "dumb"}, False)])
def test_colours_are_only_where_they_are_wanted(tmp_path, model, env, coloured):
    model.script += [wants("s__f", {}), says("Done.")]
    with LittleServer(tools("f")) as server:
        configure(tmp_path, s=server)
        with Terminal("chat.py", cwd=tmp_path, **env) as terminal:
            terminal.wait_for("You: ")
            terminal.ask("Go")
    assert ("\x1b[2m\n[Calling f...]" in terminal.raw.replace("\r", "")
            or "\n\x1b[2m[Calling f...]" in terminal.raw.replace("\r", "")) == coloured
    assert bool(re.search(r"\x1b\[[\d;]*m", terminal.raw)) == coloured


# ── Stopping ─────────────────────────────────────────────────────────────────────────────

@needs_terminal
def test_ctrl_c_stops_an_answer_and_forgets_the_question(tmp_path, model):
    model.script += [says("One ", HANG), says("Here.")]
    with Terminal("chat.py", cwd=tmp_path) as terminal:
        terminal.wait_for("You: ")
        terminal.type("Count to a million\n")
        terminal.wait_for("One")
        terminal.type(CTRL_C)
        assert "Stopped" in terminal.wait_for("You: ")
        assert "Here." in terminal.ask("Still there?")
        # At the prompt, it is the end.
        assert terminal.exit_status(lambda: terminal.type(CTRL_C)) == 130
        assert "Traceback" not in terminal.text
    assert [message["content"] for message in model.was_sent[1]["messages"][1:]] == ["Still there?"]


@needs_terminal
def test_ctrl_c_stops_a_tool_and_its_server_gets_to_know(tmp_path, model):
    model.script += [wants("s__wait", {}), says("Here.")]
    with LittleServer({"wait": {"answer": lambda arguments: None}}) as server:
        configure(tmp_path, s=server)
        with Terminal("chat.py", cwd=tmp_path) as terminal:
            terminal.wait_for("You: ")
            terminal.type("Go\n")
            terminal.wait_for("[Calling wait...]")
            assert eventually(lambda: server.calls)
            terminal.type(CTRL_C)
            terminal.wait_for("You: ")
            assert server.somebody_hung_up.wait(PATIENCE)
            assert "Here." in terminal.ask("Still there?")


@needs_terminal
def test_ctrl_c_stops_a_program_that_works_for_us_without_ending_it(tmp_path, model):
    model.script += [wants("toy__slow_count", {"to": 60}), wants("toy__add", {"a": 1, "b": 1}),
                     says("Two.")]
    configure(tmp_path, toy={"command": "python", "args": [str(ROOT / "demo/toy_server.py")]})
    with Terminal("chat.py", "--trace", cwd=tmp_path) as terminal:
        terminal.wait_for("You: ")
        terminal.type("Go\n")
        terminal.wait_for("Counted 1 of 60")
        terminal.type(CTRL_C)
        terminal.wait_for("You: ")
        assert eventually(lambda: "notifications/cancelled" in terminal.text)
        assert "Two." in terminal.ask("1 + 1?")
    assert terminal.text.count('"method": "server/discover"') == 1


@needs_terminal
def test_ctrl_c_in_a_question_of_ours_stops_the_turn_too(tmp_path, model):
    model.script += [wants("s__erase", {}), says("Here.")]
    with LittleServer({"erase": {"annotations": {"destructiveHint": True}}}) as server:
        configure(tmp_path, s=server)
        with Terminal("chat.py", cwd=tmp_path) as terminal:
            terminal.wait_for("You: ")
            terminal.type("Erase it\n")
            terminal.wait_for("\n> ")
            terminal.press_until(CTRL_C, "You: ")
            assert "Here." in terminal.ask("Still there?")
        assert server.calls == []


@needs_terminal
def test_ctrl_c_while_the_servers_are_asked_ends_the_program(tmp_path, model):
    with LittleServer(None) as server:
        configure(tmp_path, s=server)
        with Terminal("chat.py", cwd=tmp_path) as terminal:
            terminal.wait_for("Waiting for s...")
            assert terminal.exit_status(lambda: terminal.type(CTRL_C)) == 130
            assert "Traceback" not in terminal.rest()


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
        terminal.wait_for("Waiting for toy...")
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


# ── Commands ─────────────────────────────────────────────────────────────────────────────

@needs_terminal
def test_commands(tmp_path, model):
    model.script += [wants("s__look", {"n": 1}), says("It is **2**.\nReally."), says("Who?")]
    with LittleServer({"look": {"description": "Look at it.\nCarefully.",
                                "answer": lambda arguments: text("two\nlines")}}) as server:
        configure(tmp_path, s=server)
        with Terminal("chat.py", cwd=tmp_path) as terminal:
            terminal.wait_for("You: ")

            listed = terminal.ask("/help")
            for name in ("/help", "/tools", "/servers", "/model", "/clear", "/save", "quit"):
                assert name in listed

            assert terminal.ask("/tools").strip() == "s\n    look: Look at it."
            assert terminal.ask("/servers").strip() == "s: MCP 2026-07-28 over HTTP"

            terminal.ask("What is it?")
            assert "night.md" in terminal.ask("/save night.md")
            assert (tmp_path / "night.md").read_text() == """\
# A conversation

**You:** What is it?

*Called s__look* `{"n": 1}`

    two
    lines

**A:** It is **2**.
Really.
"""
            refused = terminal.ask("/save night.md")  # it is there already
            assert "night.md" in refused and "exists" in refused
            assert "no/such/folder.md: No such" in terminal.ask("/save no/such/folder.md")
            assert "/save" in terminal.ask("/save")

            assert "better" in terminal.ask("/model better")
            assert "better" in terminal.ask("/model")
            terminal.ask("/clear")
            terminal.ask("Who am I?")
            assert model.was_sent[-1]["model"] == "better"
            assert len(model.was_sent[-1]["messages"]) == 2

            unknown = terminal.ask("/hlep")
            assert "/hlep" in unknown and "/help" in unknown
    assert len(model.was_sent) == 3
    assert "Traceback" not in terminal.text


@needs_terminal
def test_a_question_may_begin_with_a_path(tmp_path, model):
    model.script += [says("A file.")]
    with Terminal("chat.py", cwd=tmp_path) as terminal:
        terminal.wait_for("You: ")
        assert "A file." in terminal.ask("/etc/hosts: what is that?")


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
    assert "usage:" in done.stderr and "Traceback" not in done.stderr
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


@needs_terminal
def test_where_there_are_no_tools_the_list_of_servers_shows_why(tmp_path, model):
    with LittleServer({}) as server:
        configure(tmp_path, s=server, gone={"url": "http://127.0.0.1:9/mcp"})
        with Terminal("chat.py", cwd=tmp_path) as terminal:
            assert "No tools discovered" in terminal.wait_for("You: ")
            shown = terminal.ask("/servers")
    assert "  s: MCP 2026-07-28 over HTTP, without tools\n  gone: nobody answers" in shown


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
