"""The demo, end to end: chat.py, the pretend model and the two toy servers, in a terminal."""

import re
from pathlib import Path

from folder import needs_terminal
from terminal import CTRL_C, CTRL_D, Terminal, as_seen, run


@needs_terminal
def test_the_questions_that_it_suggests(tmp_path):
    with Terminal("chat.py", "--demo", cwd=tmp_path) as terminal:
        start = terminal.wait_for("You: ")
        assert start.index("model is pretend") < start.index("MCP traffic is real") \
            < start.index("Discovering tools")
        assert "  - toy-http: 5 tools\n  - toy-stdio: 5 tools\n" in start
        suggested = start.partition("Try: ")[2].partition("\n\n")[0].splitlines()
        assert len(suggested) == 4

        add, weather, count, poem = (as_seen(terminal.ask(question.strip()))
                                     for question in suggested)

        assert add == "\n[Calling add...]\n\nA: The tool add says: 17 + 25 = 42.\n"
        assert weather.startswith("\n[Calling weather...]\n[Calling weather...]\n\nA: ")
        assert weather.index("Oslo") < weather.index("Lima")
        assert count == "\n[Calling slow_count...]\n\nA: The tool slow_count says: " \
                        "Counted to 5.\n"
        assert poem.startswith("\n[Calling read_resource...]\n\nA: The tool read_resource says: A ")
        assert "slow_count: 3 of 5" in terminal.text  # it was seen for a second

        assert "MCP 2026-07-28 over HTTP" in terminal.ask("/servers")
        assert "MCP 2026-07-28 over stdio" in terminal.text
        terminal.type(CTRL_D)
        assert terminal.exit_status() == 0


@needs_terminal
def test_failing_drawing_and_stopping(tmp_path):
    with Terminal("chat.py", "--demo", cwd=tmp_path) as terminal:
        terminal.wait_for("You: ")
        assert "[Error calling tool fail: This tool always fails." in terminal.ask("Fail")
        drawn = terminal.ask("Draw a red picture on toy-stdio")
        file = re.search(r"\[Saved (.*\.png)\]", drawn)
        assert file and Path(file[1]).read_bytes().startswith(b"\x89PNG")
        terminal.type("Count slowly to 50\n")
        terminal.wait_for("1 of 50")
        terminal.type(CTRL_C)
        assert "Stopped" in terminal.wait_for("You: ")
        assert "42" in terminal.ask("What is 17 + 25 on toy-stdio?")


def test_a_trace_shows_both_ways_to_travel(tmp_path):
    done = run("chat.py", "--demo", "--trace", "What is 17 + 25?", cwd=tmp_path)
    assert done.stdout == "The tool add says: 17 + 25 = 42.\n"
    for shown in ("--> toy-http  POST http://127.0.0.1:", "<-- toy-http  HTTP 200",
                  "--> toy-stdio  {", "<-- toy-stdio  {", '"method": "tools/call"',
                  "Mcp-Name: add"):
        assert shown in done.stderr
