"""chapters/tools.py and chat.py's Part 5: what happens to tools on their way to a model, and to
their results."""

import base64
import contextlib
import re
import threading
from pathlib import Path

import pytest
from chats import go
from patience import PATIENCE
from scripted_server import Reply, error, new

from chapters.events import Found, Note
from chapters.outside import Failure, Problem
from chapters.tools import full_name, must_be_confirmed
from chat import LLM, MAX_TOOLS, Chat, Server, list_tools, make_tool

CALL = {"name": "count", "arguments": {}}
NOBODY = LLM("none", "none")


def tools(*names, **more):
    return new({"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names],
                **more})


@pytest.fixture
def meet():
    """meet(server, ...): (a chat that has met these servers, the events meanwhile)"""
    with contextlib.ExitStack() as at_the_end:
        def meet(*servers):
            by_name = {f"entry {number}" if isinstance(server, Problem) else server.name: server
                       for number, server in enumerate(servers)}
            chat = at_the_end.enter_context(Chat(NOBODY, by_name))
            return chat, go(chat.meet_servers())

        yield meet


@pytest.fixture
def read(tmp_path):
    """read(result): (what the model reads of a tool's result, the names of the files made of it)"""
    with Chat(NOBODY, {}) as chat:
        chat.folder.path = str(tmp_path)

        def read(result):
            text, files = chat.as_text(result, "draw")
            assert all(Path(file).parent == tmp_path for file in files)
            return text, [Path(file).name for file in files]

        yield read


# ── Names ────────────────────────────────────────────────────────────────────────────────

ACCEPTED = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")  # by OpenAI, and the letter by Gemini


@pytest.mark.parametrize("server, name, taken, full", [
    ("dexcom", "readings", [], "dexcom__readings"),
    ("my files", "read.file", [], "my_files__read_file"),
    ("日本", "é", [], "mcp______"),
    ("12306", "search", [], "mcp_12306__search"),
    ("_", "a", ["mcp____a"], "mcp____a_2"),
    ("1", "b" * 70, [], "mcp_1__" + "b" * 57),
    ("a", "b", ["a__b"], "a__b_2"),
    ("a", "b", ["a__b", "a__b_2"], "a__b_3"),
    ("a", "b" * 70, [], "a__" + "b" * 61),
    ("a", "b" * 70, ["a__" + "b" * 61], "a__" + "b" * 59 + "_2"),
    ("a", "", [], "a__"),
])
def test_examples_of_names(server, name, taken, full):
    assert full_name(server, name, taken) == full and ACCEPTED.fullmatch(full)


def test_many_tools_with_nearly_the_same_name(connect):
    connection = connect(Server("a", url="http://x"))
    names: dict = {}
    for number in range(MAX_TOOLS):
        make_tool(connection, {"name": f"{'long ' * 20}{number}"}, names)
    assert len(set(names.values())) == MAX_TOOLS and all(map(ACCEPTED.fullmatch, names.values()))


def test_the_thousandth_name_is_not_too_long():
    taken: list[str] = []
    while len(taken) < 1001:
        taken.append(full_name("s", "a" * 70, taken))
    assert len({*taken}) == 1001 and max(map(len, taken)) == 64


def test_two_servers_may_have_a_tool_of_the_same_name(http_server, meet):
    first = http_server({"tools/list": tools("search", "b c"), "tools/call": new({"of": "first"})})
    second = http_server({"tools/list": tools("search", "b.c", "b_c"),
                          "tools/call": new({"of": "second"})})
    chat, events = meet(first.entry(name="x"), second.entry(name="y y"))
    assert list(chat.tools) == ["x__search", "x__b_c", "y_y__search", "y_y__b_c", "y_y__b_c_2"]
    one = chat.tools["y_y__b_c_2"]
    assert one.name == "b_c"
    assert one.connection.ask("tools/call", {"name": "b_c", "arguments": {}})["of"] == "second"
    assert second.saw("tools/call")[-1].message["params"]["name"] == "b_c"


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
    chat, _ = meet(server.entry(name="toy"))
    assert chat.tools["toy__weather"].for_model() == {"type": "function", "function": {
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
    chat, events = meet(server.entry(name="x", tools=["c", "a", "no such"]))
    assert list(chat.tools) == ["x__a", "x__c"], "in the order of the server"
    count, note = events
    assert isinstance(note, Note) and "no such" in note.text and '"tools"' in note.text
    assert count == Found("x", 2)


def test_more_tools_than_a_model_takes(http_server, meet):
    first = http_server({"tools/list": tools(*(f"a{number}" for number in range(100)))})
    second = http_server({"tools/list": tools(*(f"b{number}" for number in range(100)))})
    chat, events = meet(first.entry(name="x"), second.entry(name="y"))
    half = range(MAX_TOOLS // 2)  # no server takes the place of another
    assert list(chat.tools) == [f"x__a{one}" for one in half] + [f"y__b{one}" for one in half]
    note = events[-1]
    assert isinstance(note, Note) and "128" in note.text
    assert '"tools"' in note.text


def test_as_many_tools_as_a_model_takes_are_nothing_to_talk_about(http_server, meet):
    server = http_server({"tools/list": tools(*map(str, range(MAX_TOOLS)))})
    chat, events = meet(server.entry(name="x"))
    assert len(chat.tools) == MAX_TOOLS and events == [Found("x", MAX_TOOLS)]


def test_a_server_that_is_down_costs_only_its_own_tools(http_server, stdio_server, meet):
    server = http_server({"tools/list": tools("a")})
    chat, events = meet(
        Problem("needs a \"url\""), Server("gone", url="http://127.0.0.1:9/mcp"),
        server.entry(name="here"), Server("lost", command="no-such-program"),
        stdio_server("sys.exit('Goodbye.')").entry(name="dead"))
    assert list(chat.tools) == ["here__a"]
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
    chat, _ = meet(*(server.entry(name=f"s{number}") for number in range(8)))
    assert list(chat.tools) == [f"s{number}__a" for number in range(8)]


# ── Results ──────────────────────────────────────────────────────────────────────────────

PNG = base64.b64encode(b"\x89PNG...").decode()
TEXT = base64.b64encode("Größe".encode()).decode()


@pytest.mark.parametrize("answer, text, files", [
    ({"content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
     "one\ntwo", []),
    ({"content": [{"type": "text", "text": "a"}], "structuredContent": {"a": 1}},
     'a\n{"a": 1}', []),
    ({"content": [{"type": "text", "text": "22°"}], "structuredContent": {"grad": 22}}, "22°", []),
    ({"content": [{"type": "text", "text": '{"a":[1,true]}'}],
      "structuredContent": {"a": [1, True]}}, '{"a":[1,true]}', []),
    ({"content": [{"type": "text", "text": "Done."}], "structuredContent": {"of": {"n": ["é"]}}},
     'Done.\n{"of": {"n": ["é"]}}', []),
    ({"content": [], "structuredContent": {"grad": "22°"}}, '{"grad": "22°"}', []),
    ({"structuredContent": [1, None]}, "[1, null]", []),
    ({"content": [], "structuredContent": None}, "null", []),
    ({"content": [], "structuredContent": 0}, "0", []),
    ({"content": [], "structuredContent": []}, "[]", []),
    ({"content": [], "structuredContent": False}, "false", []),
    ({"content": [], "structuredContent": ""}, '""', []),
    ({"content": []}, "", []),
    ({"content": [], "toolResult": {"celsius": 22}}, '{"toolResult": {"celsius": 22}}', []),
    ({"content": [], "resultType": "complete", "_meta": {"a": 1}, "isError": False}, "", []),
    ({}, "", []),
    ({"content": None}, "", []),
    ({"content": [{"type": "text", "text": ""}]}, "", []),
    ({"content": [{"type": "resource", "resource": {
        "uri": "toy://poem", "mimeType": "text/plain", "text": "A line"}}]}, "A line", []),
    ({"content": [{"type": "text", "text": ""}], "structuredContent": {"items": ["Moon"]}},
     '{"items": ["Moon"]}', []),
    ({"content": [{"type": "text", "text": " \n"}], "structuredContent": {}}, "{}", []),
    ({"content": [{"type": "text", "text": " \n"}]}, "", []),
    ({"content": [{"type": "text", "text": ""}], "items": ["Moon"]}, '{"items": ["Moon"]}', []),
    ({"items": ["Moon"], "isError": True}, '{"items": ["Moon"]}', []),
    ({"content": "Moon"}, "Moon", []),
    ({"content": ["Moon"]}, "Moon", []),
    ({"content": {"type": "text", "text": "Moon"}}, "Moon", []),
    ({"content": ["Moon", {"type": "text", "text": "Sun"}]}, "Moon\nSun", []),
    ({"content": [{"type": "json", "json": {"a": 1}}]}, '{"type": "json", "json": {"a": 1}}', []),
    ({"content": [{"type": "text", "text": {"a": 1}}]}, '{"type": "text", "text": {"a": 1}}', []),
    # The data is in the text only if it is there by itself, not in a part of another word.
    ({"content": [{"type": "text", "text": "It took 120 ms."}], "structuredContent": {"n": 12}},
     'It took 120 ms.\n{"n": 12}', []),
    ({"content": [{"type": "text", "text": "It is 22.5."}], "structuredContent": {"n": 22}},
     'It is 22.5.\n{"n": 22}', []),
    ({"content": [{"type": "text", "text": "A banana"}], "structuredContent": {"mark": "an"}},
     'A banana\n{"mark": "an"}', []),
    ({"content": [{"type": "text", "text": "22: Oslo, and -3.5"}],
      "structuredContent": {"a": [22, -3.5, {"town": "Oslo"}]}}, "22: Oslo, and -3.5", []),
    ({"content": [{"type": "text", "text": '{"t": "\\u00e9\\n\\"x\\""}'}],
      "structuredContent": {"t": 'é\n"x"'}}, '{"t": "\\u00e9\\n\\"x\\""}', []),
    ({"content": [{"type": "text", "text": '"\\u00e9 x"'}, {"type": "text", "text": "5"}],
      "structuredContent": {"result": ["é x", 5]}}, '"\\u00e9 x"\n5', []),
])
@pytest.mark.line(41)
def test_a_result_as_the_model_reads_it(read, answer, text, files):
    assert read(answer) == (text, files)


@pytest.mark.parametrize("block, words, files", [
    ({"type": "image", "data": PNG, "mimeType": "image/png"}, ["image", "draw-1.png"],
     ["draw-1.png"]),
    ({"type": "audio", "data": PNG, "mimeType": "audio/mpeg"}, ["audio", "draw-1.mp3"],
     ["draw-1.mp3"]),
    ({"type": "resource", "resource": {"uri": "toy://p", "mimeType": "image/png", "blob": PNG}},
     ["image/png", "draw-1.png"], ["draw-1.png"]),
    ({"type": "resource", "resource": {"uri": "toy://p", "blob": PNG}}, ["resource", "draw-1.bin"],
     ["draw-1.bin"]),
    ({"type": "resource", "resource": {"uri": "toy://p", "mimeType": "text/csv", "blob": TEXT}},
     ["Größe"], []),
    ({"type": "resource", "resource": {"uri": "toy://p", "mimeType": "text/csv", "blob": PNG}},
     ["text/csv", "could not"], []),
    ({"type": "resource", "resource": {"mimeType": "TEXT/CSV; charset=utf-8", "blob": TEXT}},
     ["Größe"], []),
    *(({"type": "resource", "resource": {"mimeType": f"application/{kind}", "blob": TEXT}},
       ["Größe"], []) for kind in ("json", "xml", "ld+json", "x-yaml", "json; charset=utf-8")),
    ({"type": "resource", "resource": {"mimeType": "application/pdf", "blob": TEXT}},
     ["draw-1.bin"], ["draw-1.bin"]),
    ({"type": "resource", "resource": {"mimeType": "image/svg+xml", "blob": TEXT}},
     ["draw-1.svg"], ["draw-1.svg"]),
    ({"type": "image", "data": f"{PNG[:5]}\n{PNG[5:]}\n", "mimeType": "image/png"},
     ["draw-1.png"], ["draw-1.png"]),
    ({"type": "image", "data": "!!!", "mimeType": "image/png"}, ["image", "could not"], []),
    ({"type": "image", "data": "", "mimeType": "image/png"}, ["image"], ["draw-1.png"]),
    ({"type": "image", "data": "é", "mimeType": "image/png"}, ["image", "could not"], []),
    ({"type": "image", "data": 3, "mimeType": 3}, ["image"], []),
    ({"type": "image", "data": PNG}, ["image"], ["draw-1.bin"]),
    ({"type": "resource_link", "uri": "toy://poem", "name": "poem"}, ["toy://poem", "poem"], []),
    ({"type": "resource"}, ["resource"], []),
    ({"type": "resource", "resource": {"uri": "toy://x"}}, ["resource"], []),
    ({"type": "hologram", "waves": [1]}, ["hologram"], []),
    ({"type": "text"}, ["text"], []),
    ({"type": "text", "text": 3}, ["text"], []),
    ({}, [""], []),
    ("nonsense", ["nonsense"], []),
])
@pytest.mark.line(41)
def test_other_kinds_of_content(read, block, words, files):
    text, made = read({"content": [{"type": "text", "text": "Look:"}, block]})
    assert text.startswith("Look:") and all(word in text for word in words) and made == files


def test_a_picture_with_structured_content(read):
    text, files = read({"content": [{"type": "image", "data": PNG, "mimeType": "image/png"}],
                        "structuredContent": {"width": 32}})
    assert '{"width": 32}' in text and "draw-1.png" in text


def test_the_toy_s_results(read, toy_http, toy_stdio):
    for number, connection in enumerate([toy_http, toy_stdio], 1):
        def call(name, connection=connection, **arguments):
            return connection.ask("tools/call", {"name": name, "arguments": arguments})

        assert read(call("add", a=2, b=40))[0] == "2 + 40 = 42"
        assert '"town": "Oslo"' in read(call("weather", town="Oslo"))[0]
        assert call("fail")["isError"] is True
        assert read(call("picture", colour="red"))[1] == [f"draw-{number}.png"]
        with pytest.raises(Failure, match="no tool"):
            call("no such tool")


# ── Asking first ─────────────────────────────────────────────────────────────────────────


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
    assert must_be_confirmed(one.annotations, connection.server.confirm) is is_asked


@pytest.mark.line(42)
def test_a_result_may_say_that_the_tool_has_failed(http_server, connect):
    server = http_server({"tools/list": tools("count"), "tools/call": [
        new({"content": [{"type": "text", "text": "No such town."}], "isError": True}),
        lambda message: Reply(200, error(message, -32602, "No such tool."))]})
    connection = connect(server.entry())
    list_tools(connection)
    assert connection.ask("tools/call", CALL)["isError"] is True  # to the model, not an exception
    with pytest.raises(Failure, match="No such tool") as caught:
        connection.ask("tools/call", CALL)
    assert caught.value.code == -32602


def test_the_model_is_told_where_a_file_is(read, tmp_path):
    text, _ = read({"content": [{"type": "image", "data": PNG, "mimeType": "image/png"}]})
    assert str(tmp_path / "draw-1.png") in text
    assert (tmp_path / "draw-1.png").read_bytes() == b"\x89PNG..."


def test_each_file_has_a_name_of_its_own(read):
    two = {"content": [{"type": "image", "data": PNG, "mimeType": "image/png"}] * 2}
    assert [read(two)[1], read(two)[1]] == [["draw-1.png", "draw-2.png"],
                                            ["draw-3.png", "draw-4.png"]]


@pytest.mark.parametrize("tool, start", [
    ("../../etc/pass wd", "______etc_pass_wd"), ("日本", "__"), ("", "file"), ("x" * 99, "x" * 40)])
def test_a_tool_s_name_leads_its_files_nowhere_else(tmp_path, tool, start):
    with Chat(NOBODY, {}) as chat:
        chat.folder.path = str(tmp_path)
        path = chat.folder.save(tool, b"", "image/png")
    assert path == str(tmp_path / f"{start}-1.png")


@pytest.mark.parametrize("mime, ending", [
    ("image/png", ".png"), ("application/x-sh", ".bin"), ("image/../../x", ".bin"), ("", ".bin"),
    ("text/html", ".bin")])
def test_only_pictures_and_sounds_have_an_ending_that_opens_a_program(tmp_path, mime, ending):
    with Chat(NOBODY, {}) as chat:
        chat.folder.path = str(tmp_path)
        assert Path(chat.folder.save("draw", b"", mime)).name == f"draw-1{ending}"


@pytest.mark.parametrize("server, found, description", [
    ("dexcom", {"name": "readings", "description": "Get them."}, "Get them."),
    ("日本", {"name": "é", "description": "Get them."}, "é, a tool of 日本. Get them."),
    ("dexcom", {"name": "größe"}, "größe, a tool of dexcom."),
    ("???", {"name": "find", "description": "Get them."}, "find, a tool of ???. Get them."),
    ("a" * 64, {"name": "find"}, f"find, a tool of {'a' * 64}."),
    ("12306", {"name": "search", "description": "Get them."}, "Get them."),
])
def test_where_a_full_name_says_little_the_description_says_more(
        connect, server, found, description):
    one = make_tool(connect(Server(server, url="http://x")), found, {})
    assert one.for_model()["function"]["description"] == description


def test_tools_whose_names_have_no_letter_stay_different(http_server, meet):
    first, second = (http_server({"tools/list": tools("é", "è", "!")}) for _ in range(2))
    chat, _ = meet(first.entry(name="日本"), second.entry(name="中国"))
    assert len(chat.tools) == 6 and all(map(ACCEPTED.fullmatch, chat.tools))
    assert [one.description for one in chat.tools.values()] == [
        f"{name}, a tool of {server}." for server in ("日本", "中国") for name in ("é", "è", "!")]


@pytest.mark.parametrize("execution, is_offered", [
    ({"taskSupport": "required"}, False), ({"taskSupport": "optional"}, True),
    ({"taskSupport": "forbidden"}, True), ({}, True), (None, True), ("required", True)])
@pytest.mark.parametrize("version", ["", "2025-11-25"])
def test_a_tool_that_only_runs_as_a_task_is_not_offered(
        http_server, meet, execution, is_offered, version):
    one = {"name": "a", "inputSchema": {}, "execution": execution}
    server = http_server({"tools/list": new({"tools": [one, {"name": "b", "inputSchema": {}}]})},
                         version)
    chat, events = meet(server.entry(name="x"))
    assert list(chat.tools) == ["x__a"] * is_offered + ["x__b"]
    assert events == [Found("x", 1 + is_offered)]
