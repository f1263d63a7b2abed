"""Part 6: what servers can do, how the model is told, and what comes of a call."""

import base64
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from patience import PATIENCE, eventually
from scripted_server import Reply, error, new

from chat import (
    AGAIN,
    LLM,
    MAX_PAGES,
    MAX_TOOLS,
    NEWEST,
    Chat,
    Failure,
    Found,
    Note,
    Problem,
    Server,
    StdioConnection,
    Waiting,
    as_text,
    ask,
    discover,
    finish,
    full_name,
    list_tools,
    make_tool,
)

CALL = {"name": "count", "arguments": {}}


def tool(name, **more):
    return {"name": name, "inputSchema": {"type": "object"}, **more}


def tools(*names, **more):
    return new({"tools": [tool(name) for name in names], **more})


@pytest.fixture
def meet(connect):
    """meet(server, ...): (the tools of these servers by full name, the events meanwhile)"""
    def meet(*servers):
        by_name = {f"entry {number}" if isinstance(server, Problem) else server.name: server
                   for number, server in enumerate(servers)}
        connections = {name: connect(server) for name, server in by_name.items()
                       if isinstance(server, Server)}
        events: list = []
        found = finish(discover(by_name, connections, {}), events.append)
        found = {tool.full_name: tool for tools in found.values() for tool in tools}
        return found, [event for event in events if not isinstance(event, Waiting)]

    return meet


# ── Lists ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.line(39)
def test_a_list_may_come_in_pages(http_server, connect):
    # "" is a bookmark like any other; null, or none, is the end.
    pages = {None: tools("a", nextCursor="2"), "2": tools("b", nextCursor=""),
             "": tools("c", "d", nextCursor=None)}
    server = http_server({"tools/list": lambda message: pages[message["params"].get("cursor")]})
    assert [one["name"] for one in list_tools(connect(server.entry()))] == ["a", "b", "c", "d"]
    assert [seen.message["params"].get("cursor") for seen in server.seen] == [None, "2", ""]


@pytest.mark.line(39)
def test_over_stdio_too(stdio_server, connect):
    program = stdio_server(f"""
        pages = {{None: {tools("a", nextCursor="2")}, "2": {tools("b")}}}
        for message in incoming():
            if message["method"] == "server/discover":
                answer(message, {{"supportedVersions": ["{NEWEST}"]}})
            else:
                answer(message, pages[message["params"].get("cursor")])
    """)
    assert [one["name"] for one in list_tools(connect(program.entry()))] == ["a", "b"]


@pytest.mark.parametrize("cursors", [["x"], [""], ["1", "2", "3"]], ids=str)
@pytest.mark.line(39)
def test_bookmarks_that_lead_in_a_circle_are_not_followed(http_server, connect, cursors):
    count = iter(range(1000))
    server = http_server({"tools/list": lambda message: tools(
        "a", "b", nextCursor=cursors[next(count) % len(cursors)])})
    assert [one["name"] for one in list_tools(connect(server.entry()))] == ["a", "b"]
    assert len(server.seen) <= len(cursors) + 1


@pytest.mark.line(50)
def test_a_list_without_end_ends(http_server, connect):
    count = iter(range(10_000))
    server = http_server({"tools/list": lambda message: tools(nextCursor=f"{next(count)}")})
    assert list_tools(connect(server.entry(timeout=PATIENCE))) == []
    assert len(server.seen) == MAX_PAGES


def test_a_bookmark_that_is_too_old_means_to_begin_again_but_not_for_ever(http_server, connect):
    def too_old(message):
        return Reply(400, error(message, -32602, "Invalid cursor"))

    server = http_server({"tools/list": [
        tools("a", nextCursor="2"), too_old, tools("b", nextCursor="2"), tools("c")]})
    assert [one["name"] for one in list_tools(connect(server.entry()))] == ["b", "c"]
    server = http_server({"tools/list": lambda message: too_old(message) if "cursor" in str(
        message["params"]) else tools("a", nextCursor="2")})
    with pytest.raises(Failure, match="Invalid cursor"):
        list_tools(connect(server.entry()))
    assert len(server.seen) == 4


@pytest.mark.parametrize("code", [-32601, -32602, -32600, -32000])
def test_a_server_without_tools_may_say_so_in_many_ways(http_server, connect, code):
    about = {"protocolVersion": "2025-06-18", "capabilities": {"prompts": {}}}
    refuses = http_server({"tools/list": lambda message: Reply(200, error(message, code)),
                           "initialize": about}, old="2025-06-18")
    assert list_tools(connect(refuses.entry())) == []
    about["capabilities"] = {"tools": {}}
    if code != -32601:
        with pytest.raises(Failure):
            list_tools(connect(refuses.entry()))


def test_a_tool_that_is_on_two_pages_is_one_tool(http_server, connect):
    server = http_server({"tools/list": [tools("a", "b", nextCursor="2"), tools("b", "c")]})
    assert [one["name"] for one in list_tools(connect(server.entry()))] == ["a", "b", "c"]


@pytest.mark.parametrize("wrong", [{}, {"tools": None}, {"tools": {}}, {"tools": "add"},
                                   {"tools": [None, 3, "add", [], {}, {"name": None}]},
                                   {"tools": [], "nextCursor": 3}, {"tools": [], "nextCursor": []}],
                         ids=str)
def test_a_list_may_be_nonsense(http_server, connect, wrong):
    server = http_server({"tools/list": new(wrong)})
    assert list_tools(connect(server.entry())) == []
    assert len(server.seen) == 1


# ── Names ────────────────────────────────────────────────────────────────────────────────

ACCEPTED = re.compile(r"[A-Za-z0-9_-]{1,64}")  # by OpenAI


@pytest.mark.parametrize("server, name, taken, full", [
    ("dexcom", "readings", [], "dexcom__readings"),
    ("my files", "read.file", [], "my_files__read_file"),
    ("日本", "é", [], "____" + "_"),
    ("a", "b", ["a__b"], "a__b_2"),
    ("a", "b", ["a__b", "a__b_2"], "a__b_3"),
    ("a", "b" * 70, [], "a__" + "b" * 61),
    ("a", "b" * 70, ["a__" + "b" * 61], "a__" + "b" * 59 + "_2"),
    ("a", "", [], "a__"),
])
def test_examples_of_names(server, name, taken, full):
    assert full_name(server, name, taken) == full


def test_many_tools_with_nearly_the_same_name(connect):
    connection = connect(Server("a", url="http://x"))
    names: dict = {}
    for number in range(MAX_TOOLS):
        make_tool(connection, {"name": f"{'long ' * 20}{number}"}, names)
    assert len(set(names.values())) == MAX_TOOLS and all(map(ACCEPTED.fullmatch, names.values()))


def test_two_servers_may_have_a_tool_of_the_same_name(http_server, meet):
    first = http_server({"tools/list": tools("search", "b c"), "tools/call": new({"of": "first"})})
    second = http_server({"tools/list": tools("search", "b.c", "b_c"),
                          "tools/call": new({"of": "second"})})
    found, events = meet(first.entry(name="x"), second.entry(name="y y"))
    assert list(found) == ["x__search", "x__b_c", "y_y__search", "y_y__b_c", "y_y__b_c_2"]
    one = found["y_y__b_c_2"]
    assert one.name == "b_c"
    assert ask(one.connection, "tools/call", {"name": one.name, "arguments": {}})["of"] == "second"
    assert second.seen[-1].message["params"]["name"] == "b_c"


# ── To the model ─────────────────────────────────────────────────────────────────────────

SCHEMA = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
          "$defs": {"town": {"$anchor": "t", "type": "string"}}, "title": "T",
          "properties": {"town": {"$ref": "#/$defs/town"}, "n": {"type": ["integer", "null"]}},
          "if": {"required": ["n"]}, "then": {"minProperties": 2}, "else": False,
          "anyOf": [{"required": ["town"]}, True], "additionalProperties": False,
          "x-vendor": {"deep": [1.5, None, "é"]}, "required": ["town"]}


@pytest.mark.line(40)
def test_a_schema_goes_to_the_model_as_it_is(http_server, meet):
    elsewhere = http_server({})
    schema = {**SCHEMA, "allOf": [{"$ref": elsewhere.url}]}
    server = http_server({"tools/list": new({"tools": [
        {"name": "weather", "description": "Tell the weather.", "inputSchema": schema}]})})
    found, _ = meet(server.entry(name="toy"))
    assert found["toy__weather"].for_model() == {"type": "function", "function": {
        "name": "toy__weather", "description": "Tell the weather.", "parameters": schema}}
    assert elsewhere.connections == 0, "nobody has looked what is there"


@pytest.mark.parametrize("schema, parameters", [
    ({}, {"type": "object", "properties": {}}),
    (None, {"type": "object", "properties": {}}),
    ("nonsense", {"type": "object", "properties": {}}),
    ({"type": "object"}, {"type": "object", "properties": {}}),
    ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
])
def test_what_openai_insists_on_is_added(connect, schema, parameters):
    one = make_tool(connect(Server("a", url="http://x")), {"name": "b", "inputSchema": schema}, {})
    assert one.for_model()["function"]["parameters"] == parameters


@pytest.mark.parametrize("found, description", [
    ({"description": "d", "title": "t"}, "d"), ({"title": "t"}, "t"), ({}, ""),
    ({"description": None}, ""), ({"description": "", "title": "t"}, "t")])
def test_a_tool_without_a_description_has_a_title_or_nothing(connect, found, description):
    one = make_tool(connect(Server("a", url="http://x")), {"name": "b", **found}, {})
    assert one.for_model()["function"]["description"] == description


# ── Which tools ──────────────────────────────────────────────────────────────────────────


def test_only_the_tools_that_are_wanted(http_server, meet):
    server = http_server({"tools/list": tools("a", "b", "c")})
    found, events = meet(server.entry(name="x", tools=["c", "a", "no such"]))
    assert list(found) == ["x__a", "x__c"], "in the order of the server"
    count, note = events
    assert isinstance(note, Note) and "no such" in note.text and '"tools"' in note.text
    assert count == Found("x", 2)


def test_more_tools_than_a_model_takes(http_server, meet):
    first = http_server({"tools/list": tools(*(f"a{number}" for number in range(100)))})
    second = http_server({"tools/list": tools(*(f"b{number}" for number in range(100)))})
    chat = Chat(LLM("none", "none"), {"x": first.entry(name="x"), "y": second.entry(name="y")})
    events: list = []
    with chat:
        finish(chat.meet_servers(), events.append)
    half = range(MAX_TOOLS // 2)  # no server takes the place of another
    assert list(chat.tools) == [f"x__a{one}" for one in half] + [f"y__b{one}" for one in half]
    note = events[-1]
    assert isinstance(note, Note) and "128" in note.text
    assert '"tools"' in note.text


def test_as_many_tools_as_a_model_takes_are_nothing_to_talk_about(http_server, meet):
    server = http_server({"tools/list": tools(*map(str, range(MAX_TOOLS)))})
    found, events = meet(server.entry(name="x"))
    assert len(found) == MAX_TOOLS and events == [Found("x", MAX_TOOLS)]


def test_a_server_that_is_down_costs_only_its_own_tools(http_server, stdio_server, meet):
    server = http_server({"tools/list": tools("a")})
    found, events = meet(
        Problem("needs a \"url\""), Server("gone", url="http://127.0.0.1:9/mcp"),
        server.entry(name="here"), Server("lost", command="no-such-program"),
        stdio_server("sys.exit('Goodbye.')").entry(name="dead"))
    assert list(found) == ["here__a"]
    assert [(event.server, event.tools, bool(event.problem)) for event in events] == [
        ("entry 0", 0, True), ("gone", 0, True), ("here", 1, False), ("lost", 0, True),
        ("dead", 0, True)], "in the order of the file"
    assert "Goodbye" in events[-1].problem


def test_servers_are_asked_at_the_same_time(http_server, meet):
    gate = threading.Barrier(8)

    def waits_for_the_others(message):
        gate.wait(PATIENCE)
        return tools("a")

    server = http_server({"tools/list": waits_for_the_others})
    found, _ = meet(*(server.entry(name=f"s{number}") for number in range(8)))
    assert list(found) == [f"s{number}__a" for number in range(8)]


# ── Results ──────────────────────────────────────────────────────────────────────────────

PNG = base64.b64encode(b"\x89PNG...").decode()


def save(data, mime):
    base64.b64decode(data, validate=True)
    return f"/tmp/file.{mime.partition('/')[2]}"


@pytest.mark.parametrize("answer, text, files", [
    ({"content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
     "one\ntwo", []),
    ({"content": [{"type": "text", "text": "a"}], "structuredContent": {"a": 1}}, "a", []),
    ({"content": [], "structuredContent": {"grad": "22°"}}, '{"grad": "22°"}', []),
    ({"structuredContent": [1, None]}, "[1, null]", []),
    ({"content": [], "structuredContent": None}, "null", []),
    ({"content": [], "structuredContent": 0}, "0", []),
    ({"content": [], "structuredContent": []}, "[]", []),
    ({"content": [], "structuredContent": False}, "false", []),
    ({"content": [], "structuredContent": ""}, '""', []),
    ({"content": []}, "", []),
    ({}, "", []),
    ({"content": None}, "", []),
    ({"content": [{"type": "text", "text": ""}]}, "", []),
    ({"content": [{"type": "resource", "resource": {
        "uri": "toy://poem", "mimeType": "text/plain", "text": "A line"}}]}, "A line", []),
])
@pytest.mark.line(41)
def test_a_result_as_the_model_reads_it(answer, text, files):
    assert as_text(answer, save) == (text, files)


@pytest.mark.parametrize("block, words, files", [
    ({"type": "image", "data": PNG, "mimeType": "image/png"}, ["image", "/tmp/file.png"],
     ["/tmp/file.png"]),
    ({"type": "audio", "data": PNG, "mimeType": "audio/wav"}, ["audio", "/tmp/file.wav"],
     ["/tmp/file.wav"]),
    ({"type": "resource", "resource": {"uri": "toy://p", "mimeType": "image/png", "blob": PNG}},
     ["image/png", "/tmp/file.png"], ["/tmp/file.png"]),
    ({"type": "image", "data": "!!!", "mimeType": "image/png"}, ["image", "could not"], []),
    ({"type": "image", "data": "", "mimeType": "image/png"}, ["image"], ["/tmp/file.png"]),
    ({"type": "image", "data": "é", "mimeType": "image/png"}, ["image", "could not"], []),
    ({"type": "image", "data": 3, "mimeType": 3}, ["image"], []),
    ({"type": "image", "data": PNG}, ["image"], ["/tmp/file."]),
    ({"type": "resource_link", "uri": "toy://poem", "name": "poem"}, ["toy://poem", "poem"], []),
    ({"type": "resource"}, ["resource"], []),
    ({"type": "resource", "resource": {"uri": "toy://x"}}, ["resource"], []),
    ({"type": "hologram", "waves": [1]}, ["hologram"], []),
    ({"type": "text"}, ["text"], []),
    ({"type": "text", "text": 3}, ["text"], []),
    ({}, [""], []),
    ("nonsense", [""], []),
])
@pytest.mark.line(41)
def test_other_kinds_of_content(block, words, files):
    text, made = as_text({"content": [{"type": "text", "text": "Look:"}, block]}, save)
    assert text.startswith("Look:") and all(word in text for word in words) and made == files


def test_a_picture_with_structured_content(connect):
    text, files = as_text({"content": [{"type": "image", "data": PNG, "mimeType": "image/png"}],
                           "structuredContent": {"width": 32}}, save)
    assert '{"width": 32}' in text and "/tmp/file.png" in text


def test_the_toy_s_results(toy_http, toy_stdio):
    for connection in toy_http, toy_stdio:
        def call(name, connection=connection, **arguments):
            return ask(connection, "tools/call", {"name": name, "arguments": arguments})

        assert as_text(call("add", a=2, b=40), save)[0] == "2 + 40 = 42"
        assert '"town": "Oslo"' in as_text(call("weather", town="Oslo"), save)[0]
        assert call("fail")["isError"] is True
        assert as_text(call("picture", colour="red"), save)[1] == ["/tmp/file.png"]
        with pytest.raises(Failure, match="no tool"):
            call("no such tool")


# ── Asking first, and trying again ───────────────────────────────────────────────────────


@pytest.mark.parametrize("confirm, annotations, is_asked", [
    ("destructive", {}, False),
    ("destructive", {"destructiveHint": True}, True),
    ("destructive", {"destructiveHint": True, "readOnlyHint": False}, True),
    ("destructive", {"destructiveHint": True, "readOnlyHint": True}, False),
    ("destructive", {"destructiveHint": False}, False),
    ("destructive", {"readOnlyHint": False}, False),
    ("destructive", {"destructiveHint": None}, False),
    ("destructive", {"destructiveHint": "true"}, False),
    ("destructive", {"destructiveHint": True, "readOnlyHint": "true"}, True),
    ("destructive", "nonsense", False),
    ("every", {}, True),
    ("every", {"readOnlyHint": True}, True),
    ("never", {"destructiveHint": True}, False),
])
def test_which_calls_a_person_is_asked_about(connect, confirm, annotations, is_asked):
    connection = connect(Server("a", url="http://x", confirm=confirm))
    one = make_tool(connection, {"name": "b", "annotations": annotations}, {})
    assert one.must_be_confirmed() is is_asked


@pytest.mark.parametrize("failure, a_list, a_call", [
    (Failure("status", "", 429), True, True),
    (Failure("status", "", 500), True, False),
    (Failure("status", "", 503), True, False),
    (Failure("broken", ""), True, False),
    (Failure("timeout", ""), False, False),
    (Failure("cancelled", ""), False, False),
    (Failure("status", "", 401), False, False),
    (Failure("status", "", 404), False, False),
    (Failure("refused", "", 200, -32602), False, False),
])
def test_what_may_be_sent_a_second_time(failure, a_list, a_call):
    rows = [row for row in AGAIN if row[0](failure)]
    assert [row[1:3] for row in rows][:1] == ([(a_list, a_call)] if a_list or a_call else [])


def breaks_off(message):
    yield b": wait\n\n"


BROKEN = {"nothing": Reply(200), "202": Reply(202), "502": Reply(502), "503": Reply(503),
          "html": Reply(200, b"<html>"), "cut off": Reply(200, b'{"jsonrpc": "2.0", "id": 1, "re'),
          "no answer in the stream": breaks_off}


@pytest.mark.line(27)
def test_after_a_broken_answer_a_list_is_asked_for_again_and_a_call_never(http_server, connect):
    def check(name):
        server = http_server({"tools/list": [tools("a"), BROKEN[name], tools("a", "b")],
                              "tools/call": [BROKEN[name], new({"content": []})]})
        connection = connect(server.entry())
        list_tools(connection)
        with pytest.raises(Failure):
            ask(connection, "tools/call", CALL)
        assert len(server.saw("tools/call")) == 1, name
        assert len(list_tools(connection)) == 2, name
        ids = [seen.message["id"] for seen in server.saw("tools/list")]
        assert len(ids) == 3 == len(set(ids)), "a new request has a new id"

    with ThreadPoolExecutor(len(BROKEN)) as pool:  # before it asks again, it waits a second
        list(pool.map(check, BROKEN))


def test_a_list_that_stays_broken_is_given_up(http_server, connect):
    server = http_server({"tools/list": [tools("a"), Reply(200)]})
    connection = connect(server.entry())
    list_tools(connection)
    with pytest.raises(Failure):
        list_tools(connection)
    assert len(server.seen) == 3


@pytest.mark.parametrize("answer", [
    lambda message: Reply(200, error(message, -32602)), lambda message: Reply(400, b"What?"),
    Reply(401), Reply(403), Reply(404), Reply(413)],
    ids=["an error", "400", "401", "403", "404", "413"])
def test_a_refusal_is_final(http_server, connect, answer):
    server = http_server({"tools/list": [tools("a"), answer], "tools/call": answer})
    connection = connect(server.entry())
    list_tools(connection)
    for method in "tools/list", "tools/call":
        with pytest.raises(Failure):
            ask(connection, method, CALL)
    assert server.methods == ["tools/list", "tools/list", "tools/call"]


def test_a_call_that_was_certainly_not_looked_at_is_sent_again(http_server, connect):
    busy = Reply(429, b"", {"Retry-After": "0"})
    server = http_server({"tools/list": tools("a"), "tools/call": [busy, new({"content": []})]})
    connection = connect(server.entry())
    list_tools(connection)
    ask(connection, "tools/call", CALL)
    assert len(server.saw("tools/call")) == 2


def test_a_call_to_a_program_that_dies_is_sent_once(stdio_server, connect):
    program = stdio_server({"server/discover": new({"supportedVersions": [NEWEST]}),
                            "tools/list": tools("a"), "tools/call": "exit"})
    connection = connect(program.entry())
    list_tools(connection)
    with pytest.raises(Failure, match="ended"):
        ask(connection, "tools/call", CALL)
    assert len(program.saw("tools/call")) == 1
    assert isinstance(connection, StdioConnection)
    eventually(lambda: not connection.alive)
    assert list_tools(connection), "and then it is started again"


def test_a_call_whose_connection_breaks_is_sent_once(http_server, connect):
    def breaks(message):
        raise ConnectionError

    server = http_server({"tools/list": tools("a"), "tools/call": breaks})
    connection = connect(server.entry())
    list_tools(connection)
    with pytest.raises(Failure) as caught:
        ask(connection, "tools/call", CALL)
    assert caught.value.kind == "broken" and len(server.saw("tools/call")) == 1


@pytest.mark.line(42)
def test_a_result_may_say_that_the_tool_has_failed(http_server, connect):
    server = http_server({"tools/list": tools("count"), "tools/call": [
        new({"content": [{"type": "text", "text": "No such town."}], "isError": True}),
        lambda message: Reply(200, error(message, -32602, "No such tool."))]})
    connection = connect(server.entry())
    list_tools(connection)
    assert ask(connection, "tools/call", CALL)["isError"] is True  # to the model, not an exception
    with pytest.raises(Failure, match="No such tool") as caught:
        ask(connection, "tools/call", CALL)
    assert caught.value.code == -32602
