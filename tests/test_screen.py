"""The screen: what a person sees and types in a terminal (terminal.py). The model and the servers
are listening in the test; the program is a process of its own."""

import re
import threading
from collections.abc import Iterator

import pytest
from folder import configure, model_for, needs_terminal, tools
from little_server import LittleServer, text
from patience import PATIENCE, eventually
from scripted_model import HANG, ScriptedModel, refusal, says, wants
from scripted_server import ScriptedHttp, new, progress, result
from terminal import CTRL_C, CTRL_D, ROOT, Terminal, as_seen, run

from chapters.events import ToolResult
from chapters.screen import Screen, chosen


@pytest.fixture
def model(tmp_path) -> Iterator[ScriptedModel]:
    """A model, and a .env in the current folder which says where it is."""
    with model_for(tmp_path) as model:
        yield model


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
        assert "Slow down." in terminal.ask("Who am I?")  # an error is no end
        assert terminal.ask("") == ""                    # an empty line is no question
        assert as_seen(terminal.ask("  Who am I?  ")) == "\nA: Ann.\n"
        terminal.type(CTRL_D)
        assert terminal.exit_status() == 0
    assert [message["content"] for message in model.was_sent[-1]["messages"][1:]] == [
        "I am Ann.", "Hi, Ann.", "Who am I?"]


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


@pytest.mark.parametrize("text, shown", [
    ("### Error\nThere is no such page.", "### Error There is no such page."),
    ("### Error\n\n```\nTimeout 5000ms\n```\n", "### Error ``` Timeout 5000ms ```"),
    ('{\n  "error": "No such town."\n}', '{ "error": "No such town." }'),
    ("Traceback (most recent call last):\n" + "  File x\n" * 60 + "ValueError: 5\n",
     "Traceback (most recent call last):" + " File x" * 6 + " F ... x" + " File x" * 40 +
     " ValueError: 5"),
    ("エラー\n詳細", "エラー 詳細"), ("", ""), ("Error\n\n", "Error")])
def test_an_error_is_shown_in_one_line_with_its_beginning_and_its_end(capsys, text, shown):
    failed = ToolResult("f", f"Error calling tool f: {text}", True, [])
    Screen().show(one for one in [failed])
    assert capsys.readouterr().out.strip() == f"[Error calling tool f: {shown}".strip() + "]"


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
def test_a_tab_does_not_make_that_line_wider_than_the_screen(tmp_path, model):
    def count(message):
        yield progress(message, 1, 2, "one\ttwo" + "\tmore" * 9)
        assert shown.wait(PATIENCE)
        yield result(message, new({"content": []}))

    model.script += [wants("s__count", {}), says("Counted.")]
    shown = threading.Event()
    with ScriptedHttp({"tools/list": new({"tools": [{"name": "count"}]}), "tools/call": count,
                       }) as server:
        configure(tmp_path, s={"url": server.url})
        with Terminal("chat.py", cwd=tmp_path, columns=50) as terminal:
            terminal.wait_for("You: ")
            terminal.type("Count\n")
            terminal.wait_for("count: 1 of 2 one two more")
            shown.set()
            terminal.wait_for("You: ")
    assert "\t" not in terminal.text


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


@pytest.mark.parametrize("typed, answer", [
    ("y", "y"), ("Yes", "y"), ("n", "n"), ("no", "n"), ("A", "a"), ("abort", "abort"),
    ("ye", "ye"), ("", "")])
def test_a_word_is_a_choice_only_where_it_is_its_meaning(typed, answer):
    choices = {"y": "yes", "n": "no", "a": "yes, and don't ask again for this tool"}
    assert chosen(typed, choices) == answer
