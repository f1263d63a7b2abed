"""Parts 6, 7 and 9: what servers offer besides tools, and offers that change. The servers and the
model follow scripts (scripted_server.py, scripted_model.py); at the end, the demo as it is."""

import base64
import contextlib
import os
import re
import threading
import time
from pathlib import Path

import pytest
from patience import PATIENCE, eventually
from scripted_model import ScriptedModel, refusal, says, wants
from scripted_server import HANDSHAKE, SILENCE, Reply, error, new, result
from terminal import Terminal

from chat import COMMANDS, HELLO_SECONDS, NEWEST, Chat, Note, Problem, Question, Screen, Waiting

HOUR, OK = 3_600_000, says("Ok.")
POEM = {"uri": "s://poem", "name": "poem", "title": "A poem"}
TOWNS = {"uriTemplate": "s://towns/{town}", "name": "towns"}
CARD = {"name": "card", "description": "Write a card.", "arguments": [
    {"name": "town", "description": "where you are", "required": True}, {"name": "mood"}]}
PNG = {"data": base64.b64encode(b"\x89PNG").decode(), "mimeType": "image/png", "type": "image"}
FORM = {"resultType": "input_required", "inputRequests": {"q": {"method": "elicitation/create",
        "params": {"message": "Which key?", "requestedSchema": {"properties": {"key": {}}}}}}}
CHANGED = {what: {"jsonrpc": "2.0", "method": f"notifications/{what}/list_changed"}
           for what in ("tools", "resources", "prompts")}
WORDS = {"role": "user", "content": {"type": "text", "text": "Write."}}


def listing(*names, **more):
    return new({"tools": [{"name": name, "inputSchema": {}} for name in names], **more})


def script(changes=(), ttl=HOUR, old=None, offers=("tools", "resources", "prompts")):
    """What a server says that has all kinds of offers; `old`: what it offers in a handshake."""
    said = {"tools/list": listing("add"), "resources/list": new({"resources": [POEM]}),
            "resources/templates/list": new({"resourceTemplates": [TOWNS]}),
            "prompts/list": new({"prompts": [CARD]}), "tools/call": new({"content": []}),
            "resources/read": new({"contents": [{"text": "Roses are red."}]}),
            "prompts/get": new({"messages": [WORDS]})}
    said = {method: {**found, "ttlMs": ttl} for method, found in said.items()}
    said["server/discover"] = new({"supportedVersions": [NEWEST],
                                   "capabilities": dict.fromkeys(offers, {})})
    if old is not None:
        said["initialize"] = {**HANDSHAKE, "capabilities": old}
    return {**said, **dict(changes)}


@pytest.fixture
def meet(http_server):
    """meet({"tools/list": ...}) is a chat, its model, and a server "s" that has said so."""
    with contextlib.ExitStack() as at_the_end:
        def meet(changes=(), *replies, server=None, old=None, timeout=60, good=None, **more):
            server = server or http_server(script(changes, old=old, **more),
                                           "" if old is None else "2025-11-25")
            entries = {name: one.entry(name=name, timeout=timeout)
                       for name, one in [("s", server), ("good", good)] if one}
            model = at_the_end.enter_context(ScriptedModel(*replies, *[OK] * 5))
            chat = at_the_end.enter_context(Chat(model.llm, entries, "Hi.", person=True))
            go(chat.meet_servers())
            return chat, model, server
        yield meet


def go(events, *answers):
    """All that happens, while a person gives these answers."""
    seen, left = [], list(answers)
    for event in events:
        if isinstance(event, Question):
            event.answer = left.pop(0) if left else None
        seen += [] if isinstance(event, Waiting) else [event]
    return seen


def type_in(chat, line):
    COMMANDS[line.split()[0]](chat, line.partition(" ")[2], Screen())


def asked(server, method):
    return [seen.message["params"] for seen in server.saw(method)]


def said_to(model):
    return [(one["role"], one["content"]) for one in model.was_sent[-1]["messages"][1:]]


def test_what_there_is_is_listed_for_the_model_and_for_you(meet, capsys):
    chat, model, _ = meet()
    assert list(chat.tools) == ["s__add"], "at the start, nobody waits for it"
    go(chat.ask("Go"))
    tool = model.was_sent[0]["tools"][1]["function"]
    assert tool["name"] == "s__read_resource" and tool["description"].endswith(
        "There are: s://poem (A poem); s://towns/{town} (towns).")
    type_in(chat, "/resources")
    type_in(chat, "/prompts")
    assert capsys.readouterr().out == ("  s s://poem: A poem\n  s s://towns/{town}: towns\n"
                                       "  s card town=... mood=...: Write a card.\n")

    many = [{"uri": f"s://{number:0100}", "name": "x" * 1000} for number in range(100)]
    chat, _, _ = meet({"resources/list": new({"resources": many})})
    go(chat.ask("Go"))
    text = chat.tools["s__read_resource"].description  # only the first are in it
    assert f" and {101 - text.count('s://')} more, " in text and len(text) < 2500


@pytest.mark.parametrize("old", [None, {"prompts": {}, "resources": {}}])
def test_a_server_without_tools_has_other_things(meet, old):
    chat, _, _ = meet({"tools/list": lambda it: Reply(404 if old is None else 200, error(
        it, -32601))}, old=old)
    go(chat.ask("Go"))
    assert list(chat.tools) == ["s__read_resource"]
    assert list(chat.all_of("prompts")) == [("s", CARD)]


@pytest.mark.parametrize("answer, told", [
    (new({"contents": [{"text": "Roses"}, {"text": "Violets"}]}), "Roses\nViolets"),
    (new({"contents": [{"blob": PNG["data"], "mimeType": "image/png"}]}), "[file, image/png"),
    (lambda it: error(it, -32602, "Gone"), "Error calling tool read_resource: Gone"),
    (lambda it: error(it, -32002, "Gone"), "Error calling tool read_resource: Gone")])
def test_what_the_model_reads(meet, answer, told):
    chat, model, server = meet({"resources/read": answer},
                               wants("s__read_resource", {"uri": "s://poem"}))
    _, done, _ = go(chat.ask("Go"))
    assert said_to(model)[-1][1].startswith(told) and done.failed == told.startswith("Error")
    assert [Path(file).read_bytes() for file in done.files] == [b"\x89PNG"] * ("[file" in told)
    assert asked(server, "resources/read")[0]["uri"] == "s://poem"


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("feature, lists", [
    ("tools", []), ("prompts", ["prompts/list"]),
    ("resources", ["resources/list", "resources/templates/list"])])
def test_a_server_is_asked_only_for_what_it_offers(meet, is_old, feature, lists):
    chat, model, server = meet(offers=[feature], old={feature: {}} if is_old else None)
    assert "server/discover" not in server.methods, "nobody waits for it at the start"
    go(chat.ask("Go"))
    assert [one for one in server.methods if re.match("[rp].*/list", one)] == lists
    assert ("s__read_resource" in chat.tools) == (feature == "resources")
    assert ("server/discover" in server.methods) == (not is_old)


def test_a_silent_server_delays_the_first_question_a_little(meet):
    gate = threading.Event()
    about = new({"capabilities": {"resources": {}}})
    chat, _, _ = meet({"server/discover": lambda it: gate.wait(PATIENCE) and about})
    go(chat.ask("Go"))
    assert "s__read_resource" not in chat.tools
    gate.set()
    assert list(chat.all_of("resources")) == [("s", POEM)]
    go(chat.ask("And now?"))
    assert "s__read_resource" in chat.tools


def test_and_nothing_else(meet, http_server):
    chat, _, _ = meet({"server/discover": SILENCE}, good=http_server(script()))
    for question in "Go", "Go on", "And on":
        go(chat.ask(question))
    go(chat.use_prompt("good", "card", {"town": "Lima"}))
    # Whoever waits for the silent one itself does so until then.
    assert time.monotonic() < chat.explorers["s"].began + HELLO_SECONDS


@pytest.mark.parametrize("method, old", [("server/discover", None), ("prompts/list", None),
                                         ("prompts/list", {"prompts": {}})])
def test_what_has_failed_once_is_asked_for_again_after_a_minute(meet, method, old):
    chat, _, server = meet({}, old=old)
    fine = server.script.get(method)
    server.script[method] = Reply(503)
    assert list(chat.all_of("prompts")) == []
    server.script[method] = fine
    until = chat.connections["s"].fresh_until
    assert 0 < until["prompts"] - time.monotonic() <= 60
    until.clear()  # a minute later
    assert list(chat.all_of("prompts")) == [("s", CARD)]


@pytest.mark.parametrize("method", [
    "server/discover", "prompts/list", "resources/list"])
def test_one_failure_does_not_disturb_the_rest(meet, http_server, method):
    chat, _, _ = meet({method: lambda it: error(it, -32603)}, good=http_server(script()))
    prompts = list(chat.all_of("prompts"))
    assert ("good", CARD) in prompts and (("s", CARD) in prompts) == (method == "resources/list")
    go(chat.ask("Go"))
    assert {"s__add", "good__add", "good__read_resource"} <= set(chat.tools)


def test_what_you_read_goes_with_the_next_question(meet, monkeypatch):
    monkeypatch.setenv("MAX_RESULT_CHARS", "50")
    chat, model, server = meet({}, refusal(500))
    type_in(chat, "/read s s://poem")
    with contextlib.suppress(Problem):  # the model's
        go(chat.ask("Who wrote it?"))
    go(chat.ask("Who wrote it?"))
    assert said_to(model) == [
        ("user", "The resource s://poem of s:\nRoses are red.\n\nWho wrote it?")]
    server.script["resources/read"] = new({"contents": [{"text": "x" * 99}]})
    type_in(chat, "/read s s://poem")
    go(chat.ask("And that?"))
    *_, (role, text) = said_to(model)
    assert text.count("x") < 50 and "more characters were cut off" in text
    note = str(go(chat.read("s", "s://poem"))[0].text)
    assert re.fullmatch(r"The model gets s://poem \(the first \d+ of \d+ char.* question\.", note)
    type_in(chat, "/read s s://poem")
    type_in(chat, "/clear")
    go(chat.ask("What?"))
    assert said_to(model) == [("user", "What?")]


def test_a_prompt_is_asked_with_what_it_needs(meet):
    said = [WORDS, {"role": "user", "content": {"type": "resource", "resource": {"text": "Map"}}},
            {"role": "assistant", "content": {"type": "text", "text": "I see."}},
            {"role": "user", "content": PNG}]
    chat, model, server = meet({"prompts/get": new({"messages": said})})
    type_in(chat, """/prompt s card town="New York" mood='a = b'""")
    assert asked(server, "prompts/get")[0]["arguments"] == {"town": "New York", "mood": "a = b"}
    *texts, (_, picture) = said_to(model)
    assert texts == [("user", "Write.\n\nMap"), ("assistant", "I see.")]
    assert Path(re.findall(r"/\S+\.png", picture)[0]).read_bytes() == b"\x89PNG"

    # What is missing is asked for: by us, or by the server.
    for no in None, "":
        with pytest.raises(Problem, match="Nothing was asked"):
            go(chat.use_prompt("s", "card", {"mood": "sad"}), no)
    assert len(server.saw("prompts/get")) == 1
    server.script |= {method: [FORM, new({"contents": [], "messages": [WORDS]})]
                      for method in ("prompts/get", "resources/read")}
    ours, theirs, *_ = go(chat.use_prompt("s", "card", {"mood": "sad"}), "Lima", "open", "y")
    assert ours.text == "card needs town: where you are" and "Which key?" in theirs.text
    assert asked(server, "prompts/get")[2]["arguments"] == {"mood": "sad", "town": "Lima"}
    assert "Which key?" in go(chat.read("s", "s://poem"), "open", "y")[0].text
    for method in "prompts/get", "resources/read":
        assert asked(server, method)[-1]["inputResponses"]["q"]["content"] == {"key": "open"}


@pytest.mark.parametrize("line, says", [
    ("/read", "Type /read"), ("/read s", "Type /read, a server and an address."),
    ("/read x s://poem", 'There is no server called "x"'), ("/read s s://x", "s: No."),
    *[("/prompt " + rest, "Type /prompt") for rest in ("", "s", "s card town", "s card town='")],
    ("/prompt x card", 'There is no server called "x"'),
    ("/prompt s x", "s has no prompt called x."), ("/prompt s card town=x", "s: No.")])
def test_what_cannot_be_done_is_said_in_one_line(meet, line, says):
    chat, _, _ = meet({"resources/read": lambda it: error(it, -32002),
                       "prompts/get": lambda it: error(it, -32602)})
    with pytest.raises(Problem) as caught:
        type_in(chat, line)
    assert str(caught.value).startswith(says) and "\n" not in str(caught.value)


@pytest.mark.parametrize("way", ["call", "stream", "stdio"])
def test_an_old_server_tells_us_that_its_tools_have_changed(meet, stdio_server, way):
    old, now = {"tools": {"listChanged": way == "stream"}}, threading.Event()
    program = way == "stdio" and stdio_server(f"""
        for message in incoming():
            if "id" in message:
                answer(message, {script({"server/discover": {}}, old=old)}[message["method"]])
            if message["method"] == "tools/call":
                send({CHANGED["tools"]})
    """)
    chat, _, server = meet(
        {"tools/call": lambda it: iter([CHANGED["tools"]] * (way == "call") + [result(it, {})]),
         "GET": lambda it: (one for one in (now.wait(PATIENCE) and CHANGED["tools"], SILENCE))},
        OK, wants("s__add", {}), server=program, old=old)
    go(chat.ask("Go"))
    so_far = len(server.saw("tools/list"))
    now.set()
    go(chat.ask("Call it"))
    eventually(lambda: chat.connections["s"].fresh_until == {})
    assert server.saw("tools/call") and len(server.saw("tools/list")) == so_far
    for question in "And now?", "And now?":
        go(chat.ask(question))
        assert len(server.saw("tools/list")) == so_far + 1


@pytest.mark.parametrize("before, questions", [
    ([POEM], ["Call it", "Go on"]), ([], ["Call it", "Go on"]), ([POEM], ["Call it"])])
@pytest.mark.parametrize("what", ["resources", "prompts"])
def test_or_what_else_it_offers(meet, what, before, questions):
    chat, _, server = meet(
        {f"{what}/list": {what: before}, "resources/templates/list": {},
         "tools/call": lambda it: iter([CHANGED[what], result(it, {"content": []})])},
        OK, wants("s__add", {}), old={what: {}})
    go(chat.ask("Go"))
    assert [one for _, one in chat.all_of(what)] == before
    server.script[f"{what}/list"] = {what: [CARD, POEM]}
    for question in questions:
        go(chat.ask(question))
    assert [one for _, one in chat.all_of(what)] == [CARD, POEM]


def test_tools_come_and_go_and_keep_their_full_names(meet):
    lists = [["a.b", "a_b", "read_resource"], ["a_b", "read_resource"], [], ["a_b", "a.b"]]
    chat, model, server = meet({"tools/list": [listing(*names) for names in lists]},
                               wants("s__read_resource", {}), OK, OK, wants("s__a_b", {}))
    assert list(chat.tools) == ["s__a_b", "s__a_b_2", "s__read_resource"]
    ours = "s__read_resource_2"
    for names in ["s__a_b_2", "s__read_resource", ours], [ours], ["s__a_b_2", "s__a_b", ours]:
        go(chat.ask("Go"))
        assert list(chat.tools) == names
    assert [one["name"] for one in asked(server, "tools/call")] == ["read_resource", "a.b"]


@pytest.mark.parametrize("old, pages, times", [
    (None, [0], 3), (None, [None], 3), (None, [-5], 3), (None, [1], 3), (None, [HOUR], 1),
    (None, [0, HOUR], 3), (None, [HOUR, 0], 3), (None, [HOUR, HOUR], 1), ({}, [0], 1)])
def test_a_list_is_asked_for_again_when_its_time_is_over(meet, old, pages, times):
    def answer(message):
        threading.Event().wait(0.005)  # it takes longer than a ttlMs of 1
        page = int(message["params"].get("cursor", 0))
        return listing(str(page), ttlMs=pages[page],
                       nextCursor=str(page + 1) if pages[page + 1:] else None)

    chat, _, server = meet({"tools/list": answer}, old=old, offers=["tools"])
    go(chat.ask("Go"))
    go(chat.ask("Go on"))
    first = [params for params in asked(server, "tools/list") if "cursor" not in params]
    assert len(first) == times + (old is not None) and len(chat.tools) == len(pages)


def test_a_program_that_has_just_been_started_is_asked_for_its_tools_once(stdio_server):
    program = stdio_server({"server/discover": new({"supportedVersions": [NEWEST]}),
                            "tools/list": new({"tools": [], "ttlMs": HOUR})})
    with ScriptedModel(OK) as model, Chat(model.llm, {"s": program.entry(name="s")}) as chat:
        go(chat.meet_servers())
        go(chat.ask("Go"))
    assert len(program.saw("tools/list")) == 1


@pytest.mark.parametrize("code", [-32602, -32000])
def test_a_list_of_templates_is_not_lost(meet, code):
    towns = new({"resourceTemplates": [TOWNS], "nextCursor": "2"})
    pages = [towns, lambda it: error(it, code), new({"resourceTemplates": [TOWNS]})]
    chat, _, server = meet({"resources/templates/list": pages})
    found = list(chat.all_of("resourceTemplates"))
    assert found == ([("s", TOWNS)] if code == -32602 else [])
    assert (chat.connections["s"].fresh_until["resourceTemplates"] < time.monotonic() + 61) or \
        code == -32602


@pytest.mark.parametrize("method, features, note", [
    ("tools/list", ["tools"], ["s can't list its tools again, so we keep those we know: No."]),
    ("tools/list", ["resources"], ["s can't list its tools again, so we keep those we know: No."]),
    ("resources/list", ["resources"], [])])
def test_a_list_that_fails_leaves_what_was_there(meet, method, features, note):
    chat, model, server = meet({"resources/templates/list": new({})}, ttl=0, offers=features)
    go(chat.ask("Go"))
    before = list(chat.tools)
    server.script[method] = lambda it: error(it, -32603)
    for expected in note, [], []:
        list(chat.all_of("resources"))  # so that nothing is under way
        assert [one.text for one in go(chat.ask("Go")) if isinstance(one, Note)] == expected
        assert list(chat.tools) == before


@pytest.mark.skipif(os.name != "posix", reason="Windows has no pseudo-terminals")
def test_the_commands_in_the_demo(tmp_path):
    with Terminal("chat.py", "--demo", cwd=tmp_path) as terminal:
        assert "10 total tools" in terminal.wait_for("You: ")
        assert "  toy-http toy://poem: poem\n" in terminal.ask("/resources")
        assert "  toy-stdio postcard town=... mood=...: Write a " in terminal.ask("/prompts")
        assert "[The model gets toy://poem (" in terminal.ask("/read toy-http toy://poem")
        assert "A: I have read: The resource toy://poem of toy-http: " in terminal.ask("And?")
        terminal.ask("/read toy-http toy://poem")
        assert "17 + 25 = 42" in terminal.ask("What is 17 + 25?")
        assert "very sad" in terminal.ask("/prompt toy-stdio postcard town=Oslo mood='very sad'")
        terminal.type("/prompt toy-http postcard\n")
        assert "postcard needs town: where you are\n" in terminal.wait_for("\n> ")
        assert "weather in Lima?" in terminal.ask("Lima")


def test_each_list_has_a_clock_of_its_own(meet):
    chat, _, server = meet({"resources/list": new({"resources": [POEM], "ttlMs": 0})})
    for _ in range(3):
        go(chat.ask("Go"))
        chat.explorers["s"].join(PATIENCE)
    assert (len(asked(server, "tools/list")), len(asked(server, "resources/list"))) == (1, 3)
