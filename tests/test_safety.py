"""What servers and models send may hold codes that a terminal obeys. None gets there: chat.py runs
whole, and all that it prints is looked at."""

import json
import os
import re
import threading
from collections.abc import Iterator

import pytest
from patience import PATIENCE
from scripted_model import ScriptedModel, delta, pieces, refusal, says, wants
from scripted_server import Reply, ScriptedHttp, ScriptedStdio, error, new, progress, result
from terminal import Terminal, run

from chapters.tools import full_name
from chapters.versions import NEWEST

WHOLE = "👨‍👩‍👧 می‌خواهم e\u0301"  # some are made of several: joiners are no danger
CODES = ("\x1b[2J\x1b[0m\x1b[2m\x1b[31;1H\x1b]0;title\x1b\\\x1b]52;c;Y2xpcA==\x07\x1bc\x1b"
         "\x1b]8;;http://a.b\x1b\\here\x1b]8;;\x1b\\\x1bP1$r\x1b\\\x9b2J\x9d52;c;Y2xpcA==\x9c\x90\x85"
         "\x07\x08\x00\x7f\x0b\x0c\rOver. \u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
         "\u2028\u2029\u200b\ufeff")
EVIL = CODES + WHOLE + CODES
IN_HTTP = "No\x1b[31m \x1b]52;c;Y2xpcA==\x07\x9b2J\x08 evil reason"  # as far as HTTP takes them

# Our own: the line that is written over, what readline says of pasting; and a colour.
OURS, COLOURS = r"\r\n|\r\x1b\[K|\x1b\[\?2004[hl]\r?", r"|\x1b\[[02]m"


def hidden_codes(shown: str, ours: str) -> list[str]:
    return re.findall("[\0-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2066-\u2069\ufeff]",
                      re.sub(ours, "", shown))


class EvilHttp(ScriptedHttp):
    def start(self, handler, status, headers):
        handler.server_version = IN_HTTP
        handler.send_response(status, IN_HTTP)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()


NAMES = {kind: kind + EVIL for kind in ("slow", "fails", "refuses", "breaks", "erase")}


@pytest.fixture
def world(tmp_path) -> Iterator[tuple[ScriptedModel, threading.Event]]:
    """Servers and a model, all of them evil. The event lets a slow tool go on."""
    gate = threading.Event()

    def slow(message: dict) -> Iterator[dict]:
        gate.wait(PATIENCE)
        yield progress(message, 1, 2, EVIL)
        yield result(message, new({"content": [{"type": "text", "text": EVIL}]}))

    def call(message: dict) -> object:
        said = {NAMES["slow"]: slow(message), NAMES["refuses"]: error(message, -1, EVIL, EVIL),
                NAMES["breaks"]: Reply(500)}
        return said.get(message["params"]["name"]) or \
            new({"content": [{"type": "text", "text": EVIL}], "isError": True})

    listed = new({"tools": [
        {"name": name, "description": EVIL, "annotations": {"destructiveHint": kind == "erase"}}
        for kind, name in NAMES.items()]})
    program = ScriptedStdio(tmp_path / "program", f"""
        sys.stderr.buffer.write({EVIL!r}.encode() + b"\\n")
        sys.stderr.flush()
        serve({{"server/discover": {{"supportedVersions": ["{NEWEST}"]}},
               "tools/list": {{"tools": [{{"name": "ends"}}]}}, "tools/call": "exit"}})
    """).entry()
    called = [one for name in NAMES.values() for one in (full_name("s", name, []), {"x": EVIL})]
    with EvilHttp({"tools/list": listed, "tools/call": call}) as server, \
            EvilHttp({"tools/list": Reply(403), "initialize": Reply(403)}) as closed, \
            ScriptedModel(
                wants(*called, "p__ends", {}, "s__" + EVIL, {}),
                says(EVIL, "a\x1b", "[31mred\x1b]52;c;", "Y2xpcA==\x07 \U0001f469", "\u200d",
                     "\U0001f52c", finish=EVIL),
                pieces(delta(refusal=EVIL), delta("stop")), refusal(400, EVIL),
                pieces(delta(content=EVIL), {"error": {"message": EVIL}})) as model:
        (tmp_path / "mcp_servers.json").write_text(json.dumps({"servers": [
            {"name": "s", "url": server.url}, {"name": "closed", "url": closed.url},
            {"name": "p", "command": "python", "args": program.args, "cwd": program.cwd},
            {"name": "lost" + EVIL, "command": EVIL.replace("\0", "")},
            {"name": "wrong", "url": server.url, EVIL: 1}]}))
        yield model, gate


@pytest.mark.skipif(os.name != "posix", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize("words, env", [([], {}), ([], {"NO_COLOR": "1"}),
                                        (["--trace"], {"NO_COLOR": "1"})])
@pytest.mark.line(49)
def test_no_hidden_codes_of_others_reach_the_terminal(tmp_path, world, words, env):
    model, gate = world
    env = {**env, "OPENAI_BASE_URL": model.base_url}
    with Terminal("chat.py", *words, cwd=tmp_path, columns=500, **env) as terminal:
        terminal.wait_for("You: ")
        terminal.type("/tools\n/servers\nGo\n")
        terminal.wait_for("\n> ")
        terminal.type("y\n")
        terminal.wait_for("[Calling erase" if words else "... 1 s")  # a sign of life
        gate.set()
        terminal.wait_for("\nYou: ")
        for _ in range(3):
            assert WHOLE in terminal.ask("Again")
    for start in ["  s slow", "  lost", "to run erase", "Calling fails", "tool refuses", "A: ",
                  "the program has ended", "The model called s__", "It says: ",
                  *([] if words else ["Waiting for slow", "slow.*1 of 2"])]:
        assert re.search(f"{start}.*{WHOLE}", terminal.text), start
    # Of the two times that the model's service says no.
    assert len(re.findall(f"\nIt says: .*{WHOLE}", terminal.text)) == 2
    assert terminal.text.count("evil reason") >= 2 and "👩‍🔬" in terminal.text
    assert hidden_codes(terminal.raw, OURS if "NO_COLOR" in env else OURS + COLOURS) == []


@pytest.mark.parametrize("words", [["--trace"], []])
def test_nor_a_pipe(tmp_path, world, words):
    model, gate = world
    gate.set()
    for _ in range(4):  # an answer, a refusal, and two errors
        done = run("chat.py", *words, "Go", cwd=tmp_path, OPENAI_BASE_URL=model.base_url)
        assert WHOLE in done.stdout + done.stderr.rpartition("Type")[2]
        assert hidden_codes(done.stdout + done.stderr, "$^") == []
    assert model.script == []
