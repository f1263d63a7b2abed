"""Part 8: a server has a question. The servers are scripted, and ask in either generation."""

import contextlib
import functools
import itertools
import json
import os
import queue
import re
import sys
import threading
import time
import webbrowser
from typing import Any

import pytest
from patience import PATIENCE, eventually
from scripted_model import ScriptedModel, says, wants
from scripted_server import HANDSHAKE, SILENCE, Reply, error, result
from terminal import CTRL_D, ROOT, Terminal, as_seen, run

from chat import LLM, MAX_QUESTIONS, OLDER, Chat, Failure, Question, ask, finish, together

CALL = {"name": "provision", "arguments": {"name": "db1"}}
MRTR = "in a result"  # the new generation's way, and the older ones':
POST, GET, STDIO = "in the call's stream", "in the stream of a GET", "over stdio"
WAYS = [MRTR, POST, GET, STDIO]
META = "io.modelcontextprotocol/clientCapabilities"
ABLE = {"elicitation": {"form": {}, "url": {}}}
TITLED = [{"const": "s", "title": "Small one"}, {"const": "l", "title": "Large one"}]
SECRET = "https://example.com:8443/key?a=%20b&c=$(d)#'e'"
PROGRAM = """
for message in incoming():
    if message.get("method") == "initialize":
        answer(message, %s)
    elif message.get("method") == "tools/call" and (call := message):
        send({"jsonrpc": "2.0", "id": "s-0", **%s})
    elif "result" in message:
        answer(call, {"replies": [message["result"]]})
    elif "id" in message:
        refuse(message, -32601)
"""


@pytest.fixture
def asks(http_server, stdio_server):
    """asks(POST, {"message": ...}) asks that, and tells in its result's "replies" what was said."""
    def asks(way: str, *asked: dict):
        questions = [{"method": "elicitation/create", "params": one, **one} for one in asked]
        if way == STDIO:
            return stdio_server(PROGRAM % (HANDSHAKE, questions[0]))
        to_ask, replies = queue.Queue(), queue.Queue()

        def new_call(message):  # it remembers nothing in between
            so_far = json.loads(message["params"].get("requestState", "[]"))
            so_far += message["params"].get("inputResponses", {}).values()
            return {"resultType": "input_required", "requestState": json.dumps(so_far),
                    "inputRequests": {"q": questions[len(so_far)]}} \
                if len(so_far) < len(questions) else {"resultType": "complete", "replies": so_far}

        def old_call(message):
            so_far = []
            for number, one in enumerate(questions):
                to_ask.put({"jsonrpc": "2.0", "id": f"s-{number}", **one})
                if way == POST:
                    yield to_ask.get()
                reply = replies.get(timeout=PATIENCE)
                so_far.append(reply.get("result") or reply["error"]["code"])
            yield result(message, {"replies": so_far})

        def other(message):
            asking = (to_ask.get(timeout=PATIENCE) for _ in questions)
            return (replies.put(message) or Reply(202)) if message else \
                itertools.chain(asking, [SILENCE]) if way == GET else Reply(405)

        tools = {"tools": [{"name": "provision"}], "resultType": "complete", "ttlMs": 1e6}
        return http_server({"tools/list": tools, "": other, "GET": other, "tools/call":
                            new_call if way == MRTR else old_call}, "" if way == MRTR else OLDER[0])
    return asks


@pytest.fixture
def connected():
    """connected(server, ...) are connections to these, of a Chat with a person."""
    with contextlib.ExitStack() as at_the_end:
        def connected(*servers, person: bool = True, **more) -> list:
            names = zip(["db", "other"], servers, strict=False)
            chat = Chat(LLM("", "", "http://127.0.0.1:9"), {
                name: one.entry(name=name, **more) for name, one in names}, person=person)
            return [*at_the_end.enter_context(chat).connections.values()]
        yield connected


def talk(connections: list, *says: Any) -> tuple[Any, list[Question]]:
    """Call, and answer like that. Returns what came of it, and the questions."""
    works = [functools.partial(ask, one, "tools/call", CALL) for one in connections]
    says, heard = list(says), []

    def show(event) -> None:
        if isinstance(event, Question):
            heard.append(event)
            said = says.pop(0) if says else None
            event.answer = said() if callable(said) else said
    try:
        return sum((one["replies"] for one in finish(together(works), show)), []), heard
    except Failure as failure:
        return str(failure), heard


def form(message: str = "Where?", required: tuple | list = (), **fields: dict) -> dict:
    return {"message": message, "requestedSchema": {
        "type": "object", "properties": fields, "required": [*required]}}


page = functools.partial(dict, mode="url", message="I need a key.", url=SECRET)
string = functools.partial(dict, type="string")

# ── Forms, and what is not put to a person ─────────────────────────────────────────────

# By kind of field: its schema; how it is described; what is typed -> what is sent ("" is Enter,
# and takes the default); what is typed -> why it is refused.
FIELDS: dict[str, tuple[dict, str, dict, dict]] = {
    "length": (string(minLength=2, maxLength=3, default="db"),
               "at least 2 letters, at most 3 letters", {"": "db", " a b ": "a b"}, {"a":
               "It must be at least 2 letters.", "abcd": "It must be at most 3 letters."}),
    "email": (string(format="email", default="a@b.no"), "like name@example.com", {
        "": "a@b.no", "ø@b.no": "ø@b.no"}, {"a@b c": "It must be like name@example.com."}),
    "uri": (string(format="uri", default="urn:x"), "like https://example.com", {
        "": "urn:x", "http://x/?y": "http://x/?y"}, {"x.y": "It must be like https://example.com."}),
    "date": (string(format="date", default="2026-07-28"), "like 2026-07-28", {
        "": "2026-07-28", "1999-12-31": "1999-12-31"}, {"28.7.26": "It must be like 2026-07-28."}),
    "date-time": (string(format="date-time", default="1999-12-31T23:59:59+01:00"),
                  "like 2026-07-28T18:30:00Z", {"": "1999-12-31T23:59:59+01:00"}, {
        "2026-07-28": "It must be like 2026-07-28T18:30:00Z."}),
    "integer": ({"type": "integer", "minimum": 0, "maximum": 9, "default": 0},
                "a whole number, at least 0, at most 9", {"": 0, "9": 9}, {
        "10": "It must be at most 9.", "-1": "It must be at least 0.",
        "1.5": "It must be a whole number.", "two": "It must be a whole number."}),
    "number": ({"type": "number", "minimum": -1.5, "default": 2.5}, "a number, at least -1.5", {
        "": 2.5, "3": 3, "1e3": 1000.0, "-1.5": -1.5}, {"-2": "It must be at least -1.5.",
        "NaN": "It must be a number.", "1e999": "That number is too large."}),
    "boolean": ({"type": "boolean", "default": False}, "yes or no", {
        "": False, "y": True, "Yes": True, "n": False}, {"1": "It must be yes or no."}),
    "enum": (string(enum=["eu", "us"], default="eu"), "eu, us", {
        "": "eu", "us": "us", "US": "us"}, {"asia": "asia is not one of them."}),
    "names": (string(enum=["s", "l"], enumNames=["S.", "L."], default="s"), "s = S., l = L.", {
        "": "s", "l": "l", "l.": "l"}, {"m": "m is not one of them."}),
    "oneOf": (string(oneOf=TITLED, default="s"), "s = Small one, l = Large one", {
        "": "s", "l": "l", "Large one": "l"}, {"Large": "Large is not one of them."}),
    "several": ({"type": "array", "items": string(enum=["a", "b", "c"]), "minItems": 2,
                 "maxItems": 2, "default": ["a", "b"]},
                "a, b, c; several, with commas between them, at least 2 of them, "
                "at most 2 of them", {
        "": ["a", "b"], "c,a": ["c", "a"]}, {"a": "It must be at least 2 of them.",
        "a, b, c": "It must be at most 2 of them.", "a, x": "x is not one of them."}),
    "commas": ({"type": "array", "items": string(enum=["Red, dark", "Blue"]),
                "default": ["Red, dark"]}, "Red, dark, Blue; several, with commas between them", {
        "": ["Red, dark"], 'Blue, "red, dark"': ["Blue", "Red, dark"]}, {
        "Red, Blue": "Red is not one of them."}),
    "quotes": ({"type": "array", "items": string(), "default": ['1/2" pipe', '"a", b']},
               "several, with commas between them", {
        "": ['1/2" pipe', '"a", b'], '27" screen, desk': ['27" screen', "desk"],
        'Dwayne "The Rock" Johnson': ['Dwayne "The Rock" Johnson']}, {}),
    "whole": ({"type": "integer", "default": 5.0}, "a whole number", {"": 5}, {
        "9" * 5000: "That number is too large."}),
    "anyOf": ({"type": "array", "items": {"anyOf": TITLED}, "default": ["s"]},
              "s = Small one, l = Large one; several, with commas between them", {
        "": ["s"], "large ONE, s": ["l", "s"]}, {"s;l": "s;l is not one of them."}),
}


@pytest.mark.parametrize("kind", FIELDS)
def test_what_is_typed_and_what_is_sent(asks, connected, kind):
    schema, described, good, bad = FIELDS[kind]
    server = asks(MRTR, form(it=schema, required=["it"]))
    for typed, sent in good.items():
        replies, (first, *others, _) = talk(connected(server), *bad, typed, "y")
        assert replies == [{"action": "accept", "content": {"it": sent}}]
        assert type(replies[0]["content"]["it"]) is type(sent)
        assert first.text == f"db asks: Where?\nit ({described})"
        assert [again.text.partition("\n")[0] for again in others] == [*bad.values()]


def test_choices_that_look_alike_can_all_be_made(asks, connected):
    titles = {"mW": "mW", "MW": "MW", "s": "l", "l": "s"}
    server = connected(asks(MRTR, form(it=string(oneOf=[
        {"const": value, "title": title} for value, title in titles.items()]))))
    assert [talk(server, value, "y")[0][0]["content"]["it"] for value in titles] == [*titles]


def test_defaults_are_sent_what_has_no_value_is_left_out_and_all_can_be_edited(asks, connected):
    replies, heard = talk(connected(asks(MRTR, form(
        "Where?", ["region", "size", "more"], region=string(default="eu"), size={"type": "integer"},
        note=string(), more={"type": "boolean", "title": "More", "description": "or not",
                             "default": True}))), "", "", "3", "", "", "e", "us", "", "", "", "y")
    assert replies == [{"action": "accept", "content": {"region": "us", "size": 3, "more": True}}]
    assert [(one.text, one.default) for one in heard[:5]] == [
        ("db asks: Where?\nregion", "eu"), ("db: size (a whole number)", ""),
        ("It is needed.\ndb: size (a whole number)", ""), ("db: note (optional)", ""),
        ("db: More: or not (yes or no)", "yes")]
    assert {"  region: eu", "  size: 3", "  more: yes"} < set(heard[5].text.split("\n"))
    assert [one.default for one in heard[6:]] == ["eu", "3", "", "yes", ""]


def test_a_default_is_checked_like_what_is_typed(asks, connected):
    server = asks(MRTR, form(it={"type": "integer", "maximum": 5, "default": 10}))
    assert talk(connected(server), "", "4", "y")[0] == [{"action": "accept", "content": {"it": 4}}]


def test_no_field_is_ever_null(asks, connected):
    server = asks(MRTR, form(note=string(default=None)))  # in Python, "str | None = None"
    assert talk(connected(server), "", "y")[0] == [{"action": "accept", "content": {}}]


def test_what_is_needed_may_be_an_empty_text_if_the_server_says_so(asks, connected):
    server = asks(MRTR, form(required=["a", "b"], a=string(default=""), b=string()))
    replies, heard = talk(connected(server), "", "", "x", "y")
    assert replies[0]["content"] == {"a": "", "b": "x"} and "needed" in heard[2].text


def test_what_is_not_needed_can_be_left_out_again(asks, connected):
    server = asks(MRTR, form(required=["b"], a=string(default="x"), b=string(default="-")))
    assert talk(connected(server), "-", "-", "y")[0][0]["content"] == {"b": "-"}
    assert talk(connected(server), "", "", "e", "-", "", "y")[0][0]["content"] == {"b": "-"}


@pytest.mark.parametrize("ask", [form, page])
def test_no_word_of_a_servers_can_be_taken_for_ours(asks, connected, ask):
    server = asks(MRTR, ask(message="Hi.\nThe page is at bank.example:\ngithub asks: your key"))
    [first, *_] = talk(connected(server), "c", "c")[1]
    assert "\n  | The page is at bank.example:\n  | github asks: your key" in first.text
    server = asks(MRTR, form(a={"title": "A\ngithub asks: B"}, b={"title": "> y\nYou: "}))
    assert [one.text for one in talk(connected(server), "x", "y", "c")[1]] == [
        "db asks: Where?\nA github asks: B (optional)", "db: > y You: (optional)",
        "Send this to db?\n  a: x\n  b: y"]


def test_where_there_is_nothing_to_fill_in_there_is_nothing_to_edit(asks, connected):
    [reply], [first, again] = talk(connected(asks(MRTR, form("Launch the rocket?"))), "x", "y")
    assert reply == {"action": "accept", "content": {}}
    assert first.text == "db asks: Launch the rocket?" and list(first.choices) == ["y", "d", "c"]
    assert again.text == "Please type one of these: y, d, c."


@pytest.mark.parametrize("fields, said, action", [
    ({}, "y", "accept"), ({}, "d", "decline"), ({}, "c", "cancel"), ({}, "", "cancel"),
    ({"it": {}}, ["us", "d"], "decline"), ({"it": {}}, ["us", "c"], "cancel"),
    ({"it": {}}, ["us", ""], "cancel"), ({"it": {}}, ["us", "e"], "cancel")])
def test_without_a_yes_nothing_is_sent(asks, connected, fields, said, action):
    [reply], heard = talk(connected(asks(MRTR, form(**fields))), *said)
    assert reply["action"] == action and bool(said) + (said == ["us", "e"]) <= len(heard)
    assert reply.get("content") == ({} if action == "accept" else None)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", [{}, {"mode": "form"}])
def test_whichever_way_it_comes_the_answer_is_the_same(asks, connected, mode, way):
    server = asks(way, mode | form(it=string(enum=["eu", "us"])))
    replies, heard = talk(connected(server), "us", "y")
    assert replies == [{"action": "accept", "content": {"it": "us"}}]
    assert heard[1].text == "Send this to db?\n  it: us"


@pytest.mark.parametrize("asked, code, words", [
    ({"mode": "telepathy"}, -32602, "in a way that we don't know"),
    (form(**{f"f{n}": {} for n in range(51)}), -32602, "more than 50 things"),
    ({"method": "sampling/createMessage", "params": {}}, -32601, "sampling/createMessage"),
    *((page(url=url), -32602, "isn't a safe one") for url in [
        "http://example.com/", "http://127.0.0.1.no/", "javascript:alert(1)", "file:///etc", "/key",
        "https://a.com@b.com/", "https:\\\\a.com", "https://a.com\\@b.com", "https://a.com/\x1b[2K",
        "https://a.com/\n", "https://a.com/a b", "https://bücher.de", "https://", None, ["x"]])])
def test_what_we_do_not_do_is_refused_and_not_sent_again(asks, connected, asked, code, words):
    why, heard = talk(connected(server := asks(MRTR, asked)), "y", "y")
    assert words in why and heard == [] and len(server.seen) == 1
    assert talk(connected(asks(POST, asked)), "y", "y") == ([code], [])


def test_servers_are_told_whether_somebody_is_there(asks, connected):
    new, old = asks(MRTR, form()), asks(POST, form())
    assert "don't do: elicitation/create" in talk(connected(new, person=False))[0]
    assert talk(connected(old, person=False)) == ([-32601], []) and "GET" not in old.methods
    for server in new, old:  # nobody watches these calls, and so nobody answers
        [connection] = connected(server)
        assert ask(connection, "tools/call", CALL)["replies"] == [{"action": "cancel"}]
    assert [one.message["params"]["_meta"][META] for one in new.seen] == [{}, ABLE, ABLE]
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


def test_a_question_that_is_withdrawn_gets_no_answer(http_server, connected):
    asked = threading.Event()

    def call(message):
        yield {"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": form()}
        asked.wait(PATIENCE)
        yield {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "q"}}
        yield result(message, {"replies": []})

    def think():
        asked.set()
        return eventually(lambda: connection.withdrawn) and "y"

    server = http_server({"tools/call": call}, OLDER[0])
    [connection] = connected(server)
    assert len(talk([connection], think)[1]) == 1
    # When each place for a question is free, nobody is at it any more.
    assert all(connection.places.acquire(timeout=PATIENCE) for _ in range(MAX_QUESTIONS))
    assert not [one for one in server.seen if one.message.get("id") == "q"]


@pytest.mark.parametrize("way", WAYS)
def test_who_leaves_while_a_question_is_open_leaves_nothing_behind(asks, connected, way):
    [connection] = connected(server := asks(way, form()))
    events = together([functools.partial(ask, connection, "tools/call", CALL)])
    next(event for event in events if isinstance(event, Question))
    events.close()
    eventually(lambda: not connection.jobs and not connection.asking.locked())
    # A new server isn't at work for us meanwhile, so there is nothing to cancel.
    eventually(lambda: len(server.saw("notifications/cancelled")) == (way != MRTR))


@pytest.mark.parametrize("count", [1, 2])
def test_of_two_calls_the_questions_come_one_form_after_the_other(asks, connected, count):
    # The second question of a form doesn't say any more whose it is.
    forms = [asks(MRTR, form(a=string(), b=string())) for _ in range(count)]
    two = connected(*forms) * (2 // count)
    replies, _ = talk(two, lambda: eventually(lambda: all(one.asking.locked() for one in two))
                      and "1", *"2y34y")
    assert sorted("".join(reply["content"].values()) for reply in replies) == ["12", "34"]


# ── Pages to open ────────────────────────────────────────────────────────────────────────

@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """opened() is what the browser was given since the last time, or False."""
    if os.name != "posix":
        pytest.skip("Windows has another way to name a browser")
    path = tmp_path_factory.mktemp("browser") / "opened"
    script = 'import sys; open(sys.argv[1], "a").write(sys.argv[2])'
    # For this process, which looks at the environment only once; and for a program's.
    command = [sys.executable, "-c", script, str(path), "%s"]
    webbrowser.register("records", None, webbrowser.GenericBrowser(command), preferred=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BROWSER", f"{sys.executable} -c '{script}' {path} %s")
        yield lambda: path.exists() and (path.read_text(), path.unlink())[0]


@pytest.mark.parametrize("way, said, action", [*((way, "yy", "accept") for way in WAYS), (
    MRTR, "yc", "cancel"), (MRTR, "n", "cancel"), (MRTR, "d", "decline"), (MRTR, "c", "cancel"),
    (MRTR, "", "cancel"), (MRTR, [""], "cancel")])
def test_a_page_is_opened_only_after_a_yes(asks, connected, opened, way, said, action):
    assert talk(connected(asks(way, page())), *said)[0] == [{"action": action}]
    assert opened() == ("y" in said and SECRET)


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
    ask(connection, "tools/list")  # now it knows the generation
    talk([connection], *said)
    assert opened() == (count == 2 and SECRET)
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
            assert opened() == ("Your browser shows it." in seen and SECRET)
    assert f"...]\n\n{example}\n{PAGE}\ndb asks: Really?\n" in as_seen(terminal.text)
    assert terminal.text.count("\n\nA: Done.") == 1


def test_in_pipes_nobody_is_there(asks, program):
    done = run("chat.py", "Go", **program(server := asks(MRTR, REGION)))
    assert (done.returncode, done.stdout) == (0, "Done.\n") and "Where shall" not in done.stderr
    assert "[Error calling tool provision: it wants something of us" in done.stderr
    assert server.seen[0].message["params"]["_meta"][META] == {}
