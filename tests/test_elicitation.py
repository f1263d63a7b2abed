"""Elicitation: a server has a question. The servers are scripted (asking.py), and ask in either
generation."""

import functools
import json
import os
import queue
import re
import sys
import threading
import time
import webbrowser

import pytest
from asking import (
    CALL,
    MRTR,
    POST,
    SECRET,
    WAYS,
    connecting,
    form,
    page,
    server_that_asks,
    string,
    talk,
)
from patience import PATIENCE, eventually
from scripted_model import ScriptedModel, says, wants
from scripted_server import Reply, error, result
from terminal import CTRL_D, ROOT, Terminal, as_seen, run

from chapters.elicitation import MAX_QUESTIONS
from chapters.events import Question
from chapters.jobs import together
from chapters.versions import OLDER

META = "io.modelcontextprotocol/clientCapabilities"
ABLE = {"elicitation": {"form": {}, "url": {}}}


@pytest.fixture
def asks(http_server, stdio_server):
    """asks(POST, {"message": ...}) asks that, and tells in its result's "replies" what was said."""
    return functools.partial(server_that_asks, http_server, stdio_server)


@pytest.fixture
def connected():
    """connected(server, ...) are connections to these, of a Chat with a person."""
    with connecting() as connected:
        yield connected


# ── Whichever way it comes, and what is not put to a person ──────────────────────────────

@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", [{}, {"mode": "form"}])
def test_whichever_way_it_comes_the_answer_is_the_same(asks, connected, mode, way):
    server = asks(way, mode | form(it=string(enum=["eu", "us"])))
    replies, heard = talk(connected(server), "us", "y")
    assert replies == [{"action": "accept", "content": {"it": "us"}}]
    assert heard[1].text == "Send this to db?\n  it: us"


@pytest.mark.parametrize("asked, code, words", [
    ({"mode": "telepathy"}, -32602, "in a way that we don't know"),
    ({"method": "sampling/createMessage", "params": {}}, -32601, "sampling/createMessage"),
    *((page(url=url), -32602, "isn't a safe one") for url in [
        "http://example.com/", "http://127.0.0.1.no/", "javascript:alert(1)", "file:///etc", "/key",
        "https://a.com@b.com/", "https:\\\\a.com", "https://a.com\\@b.com", "https://a.com/\x1b[2K",
        "https://a.com/\n", "https://a.com/a b", "https://bücher.de", "https://", None, ["x"],
        "https://%78n--pple-43d.com/", "https://good.example%2f.evil.example/"])])
def test_what_we_do_not_do_is_refused_and_not_sent_again(asks, connected, asked, code, words):
    why, heard = talk(connected(server := asks(MRTR, asked)), "y", "y")
    assert words in why and heard == [] and len(server.saw("tools/call")) == 1
    assert talk(connected(asks(POST, asked)), "y", "y") == ([code], [])


def test_servers_are_told_whether_somebody_is_there(asks, connected):
    new, old = asks(MRTR, form()), asks(POST, form())
    assert "don't do: elicitation/create" in talk(connected(new, person=False))[0]
    assert talk(connected(old, person=False)) == ([-32601], []) and "GET" not in old.methods
    for server in new, old:  # nobody watches these calls, and so nobody answers
        [connection] = connected(server)
        assert connection.ask("tools/call", CALL)["replies"] == [{"action": "cancel"}]
    called = [one.message["params"]["_meta"] for one in new.saw("tools/call")]
    assert [meta[META] for meta in called] == [{}, ABLE, ABLE]
    assert [one.message["params"]["capabilities"] for one in old.saw("initialize")] == [{}, ABLE]


@pytest.mark.parametrize("said", "dc")
@pytest.mark.parametrize("way", [MRTR, POST])
def test_who_has_said_no_is_not_asked_the_same_again(asks, connected, way, said):
    replies, heard = talk(connected(asks(way, form(), form())), said, "y")
    assert len(heard) == 1
    assert "asks the same again" in replies if way == MRTR else replies[1] == -32602


@pytest.mark.parametrize("way", [POST, MRTR])
def test_there_is_an_end_of_questions_and_no_answer_is_thrown_away(asks, connected, way):
    server = asks(way, *[form()] * (MAX_QUESTIONS + 1))
    _, heard = talk(connected(server), *"y" * 20)
    sent = [json.dumps(one.message).count('"action": "accept"') for one in server.seen]
    assert MAX_QUESTIONS - 1 <= len(heard) == sum(sent) <= MAX_QUESTIONS


def test_while_a_person_thinks_a_ping_is_answered_and_the_clock_stands(http_server, connected):
    heard: queue.Queue = queue.Queue()

    def call(message):
        yield {"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": form()}
        yield {"jsonrpc": "2.0", "id": "p", "method": "ping"}
        yield result(message, {"replies": [heard.get(timeout=PATIENCE)["id"] for _ in range(2)]})

    server = http_server({"tools/call": call, "": lambda message: Reply(405) if not message
                          else heard.put(message) or Reply(202)}, OLDER[0])
    end = time.monotonic() + 2.5  # that is longer than the server may be silent
    think = functools.partial(eventually, lambda: time.monotonic() > end and "y")
    assert talk(connected(server, timeout=2), think)[0] == ["p", "q"]


def test_a_question_that_is_withdrawn_when_it_is_shown_is_answered(http_server, connected):
    heard: queue.Queue = queue.Queue()

    def call(message):
        yield {"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": form()}
        yield {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "q"}}
        yield {"jsonrpc": "2.0", "id": "p", "method": "ping"}
        yield result(message, {"replies": [heard.get(timeout=PATIENCE)]})

    server = http_server({"tools/call": call, "": lambda message: Reply(405) if not message
                          else message["id"] == "q" and heard.put(message) or Reply(202)}, OLDER[0])

    def think():  # until the server's words after the question have been heard
        return eventually(lambda: [one for one in server.seen if one.message.get("id") == "p"]) \
            and "y"

    [reply], questions = talk(connected(server), think)
    assert reply["result"]["action"] == "accept" and len(questions) == 1


@pytest.mark.parametrize("way", WAYS)
def test_who_leaves_while_a_question_is_open_leaves_nothing_behind(asks, connected, way):
    [connection] = connected(server := asks(way, form()))
    events = together([functools.partial(connection.ask, "tools/call", CALL)])
    next(event for event in events if isinstance(event, Question))
    events.close()
    eventually(lambda: not connection.inboxes and not connection.person.locked())
    # A new server isn't at work for us meanwhile, so there is nothing to cancel.
    eventually(lambda: len(server.saw("notifications/cancelled")) == (way != MRTR))


class Watched:
    """The lock that stands for the person, and how many have come to ask."""

    def __init__(self):
        self.lock, self.comers = threading.Lock(), 0
        self.locked = self.lock.locked

    def __enter__(self):
        self.comers += 1
        self.lock.acquire()

    def __exit__(self, *error):
        self.lock.release()


@pytest.mark.parametrize("count", [1, 2])
def test_of_two_calls_the_questions_come_one_form_after_the_other(asks, connected, count):
    # The second question of a form doesn't say any more whose it is.
    forms = [asks(MRTR, form(a=string(), b=string())) for _ in range(count)]
    two, person = connected(*forms) * (2 // count), Watched()
    for connection in two:
        connection.person = person
    replies, _ = talk(two, lambda: eventually(lambda: person.comers == 2) and "1", *"2y34y")
    assert sorted("".join(reply["content"].values()) for reply in replies) == ["12", "34"]


# ── Pages to open ────────────────────────────────────────────────────────────────────────

@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """opened(whether it should be) is what the browser was given since the last time, or False."""
    if os.name != "posix":
        pytest.skip("Windows has another way to name a browser")
    path = tmp_path_factory.mktemp("browser") / "opened"
    script = 'import sys; open(sys.argv[1], "a").write(sys.argv[2])'
    # For this process, which looks at the environment only once; and for a program's.
    command = [sys.executable, "-c", script, str(path), "%s"]
    webbrowser.register("records", None, webbrowser.GenericBrowser(command), preferred=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BROWSER", f"{sys.executable} -c '{script}' {path} %s")

        def opened(is_expected):
            if is_expected:  # it is started in the background
                eventually(lambda: path.exists() and path.read_text())
            return path.exists() and (path.read_text(), path.unlink())[0]

        yield opened


@pytest.mark.parametrize("way, said, action", [*((way, "yy", "accept") for way in WAYS), (
    MRTR, "yc", "cancel"), (MRTR, "n", "cancel"), (MRTR, "d", "decline"), (MRTR, "c", "cancel"),
    (MRTR, "", "cancel"), (MRTR, [""], "cancel")])
def test_a_page_is_opened_only_after_a_yes(asks, connected, opened, way, said, action):
    assert talk(connected(asks(way, page())), *said)[0] == [{"action": action}]
    assert opened("y" in said) == ("y" in said and SECRET)


def test_a_name_that_may_only_look_like_another_is_pointed_out(asks, connected):
    for url, more in {"https://b.XN--a.de": "\nThis name may only look like one that you know.",
                      SECRET + "/xn--": "", "http://localhost:1/": ""}.items():
        assert talk(connected(asks(MRTR, page(url=url))), "d")[1][0].text.endswith(url + more)


@pytest.mark.parametrize("said, count", [("yy", 2), ("d", 1)])
def test_a_call_that_wants_a_page_is_sent_again(http_server, connected, opened, said, count):
    data = {"elicitations": [{**page(), "elicitationId": "1"}]}
    server = http_server({"tools/list": {}, "tools/call": [
        lambda message: error(message, -32042, "Go.", data), {"replies": []}]}, OLDER[0])
    [connection] = connected(server)
    connection.ask("tools/list")  # now it knows the generation
    talk([connection], *said)
    assert opened(count == 2) == (count == 2 and SECRET)
    sent = [one.message["params"] for one in server.saw("tools/call")]
    assert [{key: one[key] for key in one if key != "_meta"} for one in sent] == [CALL] * count


# ── The whole program ────────────────────────────────────────────────────────────────────

REGION = form("Where shall the new database live?", ["region"],
              region=string(enum=["eu", "us"], default="eu"))
PAGE = f"""db asks you to open a page: I need a key.\nThe page is at example.com:\n  {SECRET}
[y] open it  [d] decline  [c] cancel\n> y\n
Your browser shows it. When you are done there, go on here.\n[y] go on  [c] cancel\n> y\n"""


@pytest.fixture
def program(tmp_path):
    """program(server) is how to start one that has this server, and a model that calls its tool."""
    with ScriptedModel(wants("db__provision", {}), says("Done.")) as model:
        def program(server) -> dict:
            entry = {"name": "db", "url": server.url}
            (tmp_path / "mcp_servers.json").write_text(json.dumps({"servers": [entry]}))
            return {"cwd": tmp_path, "OPENAI_BASE_URL": model.base_url}
        yield program


@pytest.mark.parametrize("way", [MRTR, POST])
def test_questions_look_as_the_readme_says(asks, program, opened, way):
    readme = (ROOT / "README.md").read_text("utf-8")
    [example] = re.findall(r"```\n(db asks: .*?)```", readme, re.S)
    server = asks(way, REGION, page(), form("Really?"))
    with Terminal("chat.py", **program(server), BROWSER=os.environ["BROWSER"]) as terminal:
        terminal.wait_for("You: ")
        for keys in "Go\n", "us\n", "y\n", "y\n", "y\n", CTRL_D:
            terminal.type(keys)
            seen = terminal.wait_for("Done." if keys == CTRL_D else "\n> ")
            is_shown = "Your browser shows it." in seen
            assert opened(is_shown) == (is_shown and SECRET)
    assert f"...]\n\n{example}\n{PAGE}\ndb asks: Really?\n" in as_seen(terminal.text)
    assert terminal.text.count("\n\nA: Done.") == 1


def test_in_pipes_nobody_is_there(asks, program):
    done = run("chat.py", "Go", **program(server := asks(MRTR, REGION)))
    assert (done.returncode, done.stdout) == (0, "Done.\n") and "Where shall" not in done.stderr
    assert "[Error calling tool provision: it wants something of us" in done.stderr
    assert server.seen[0].message["params"]["_meta"][META] == {}
