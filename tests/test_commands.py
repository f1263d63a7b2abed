"""Commands: what can be typed besides a question (/help, /save), in a terminal."""

from collections.abc import Iterator

import pytest
from chats import type_in
from folder import configure, model_for, needs_terminal
from little_server import LittleServer, text
from scripted_model import ScriptedModel, says, wants
from terminal import Terminal

from chapters.jobs import finish
from chapters.outside import Problem
from chat import LLM, Chat, Server


@pytest.fixture
def model(tmp_path) -> Iterator[ScriptedModel]:
    """A model, and a .env in the current folder which says where it is."""
    with model_for(tmp_path) as model:
        yield model


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

            assert terminal.ask("/tools").strip() == "s look: Look at it."
            assert terminal.ask("/servers").strip() == "s: MCP 2026-07-28 over HTTP"

            terminal.ask("What is it?")
            assert "night.md" in terminal.ask("/save night.md")
            assert (tmp_path / "night.md").read_text() == """\
# A conversation

**You:** What is it?

*Called s__look* `{"n": 1}`

**Tool:** two
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


@needs_terminal
def test_where_there_are_no_tools_the_list_of_servers_shows_why(tmp_path, model):
    with LittleServer({}) as server:
        configure(tmp_path, s=server, gone={"url": "http://127.0.0.1:9/mcp"})
        with Terminal("chat.py", cwd=tmp_path) as terminal:
            assert "No tools discovered" in terminal.wait_for("You: ")
            shown = terminal.ask("/servers")
    assert "  s: MCP 2026-07-28 over HTTP, without tools\n  gone: nobody answers" in shown


@needs_terminal
@pytest.mark.parametrize("words", ["quit", "exit", "  QUIT "])
def test_the_chat_ends_with_a_word(tmp_path, model, words):
    with Terminal("chat.py", cwd=tmp_path) as terminal:
        terminal.wait_for("You: ")
        terminal.type(words + "\n")
        assert terminal.exit_status() == 0


GONE = {"url": "http://127.0.0.1:9/mcp"}


@pytest.mark.parametrize("servers", [
    {}, {"gone": Server("gone", **GONE)}, {"typo": Problem('"ulr" is not a setting.')},
    {"typo": Problem("No."), "gone": Server("gone", **GONE)}])
def test_where_no_server_works_tools_says_where_to_see_why(capsys, servers):
    with Chat(LLM("none", "none"), servers) as chat:
        finish(chat.meet_servers())
        type_in(chat, "/tools")
        assert capsys.readouterr().out == (
            "  There are none. /servers shows which servers work.\n")
        type_in(chat, "/servers")
        assert list(servers or ["There are none."])[0] in capsys.readouterr().out


def test_tools_of_a_server_that_works_are_listed_beside_one_that_does_not(capsys):
    with LittleServer({"look": {"description": "Look at it."}}) as server, Chat(
            LLM("none", "none"), {"gone": Server("gone", **GONE), "s": Server("s", server.url)}
            ) as chat:
        finish(chat.meet_servers())
        type_in(chat, "/tools")
    assert capsys.readouterr().out == "  s look: Look at it.\n"
