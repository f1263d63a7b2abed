"""Rules for anything that comes from outside. Hypothesis looks for what breaks them."""

import json
import re
import tempfile
from pathlib import Path

import pytest
from anything import ANYTHING, MESSAGES, PLACES, cut, json_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scripted_server import new, result

from chapters.outside import Problem
from chapters.replies import Reply
from chapters.server_sent_events import read_events
from chat import LLM, MAX_TOOLS, Chat, Connection, Server, list_tools, load_servers, make_tool


def straightforward(stream: bytes) -> list[dict]:
    """What https://html.spec.whatwg.org/multipage/server-sent-events.html says, all at once. (A
    browser would not tell us of events without data. Nobody looks at those here.)"""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _unfinished = re.split("\r\n|\n|\r", text)
    events, event, data = [], {}, []
    for line in lines:
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if line == "":
            if data:
                events.append({**event, "data": "\n".join(data)})
            elif event:
                events.append(event)
            event, data = {}, []
        elif name == "data":
            data.append(value)
        elif name in ("event", "id", "retry"):
            event[name] = value
    return events


STREAMS = st.lists(st.binary(max_size=4) | st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"data:", b"data: ", b"data:  ", b"data",
     b"event", b"event: x", b"event:", b"id: 5", b"id: \0", b"retry: 10", b": comment", b":", b"::",
     b" ", b" data: x", b"Data: x", b"unknown: x", b"\xef\xbb\xbf", b"\xef\xbb", b"\xc3",
     b"\xf0\x9f", b"\xff", "é😀\u2028\x85\x0b\x0c".encode(), b'{"a": 1}', b"\0"]),
    max_size=40).map(b"".join)


@settings(max_examples=400)
@given(STREAMS, st.lists(PLACES, max_size=20))
@example(b"data: a\r\ndata: b\n\n", [8, 8])  # an empty chunk between \r and \n
@example(b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [1])  # only the first mark goes
@pytest.mark.line(4)
def test_events_are_read_however_the_bytes_are_cut_up(stream, places):
    assert list(read_events(cut(stream, places))) == straightforward(stream)
    assert list(read_events(bytes([byte]) for byte in stream)) == straightforward(stream)


class Listed:
    """The way to a server that has these tools."""

    probe, notices_a_closed_connection = "", True

    def __init__(self, tools: list[str]):
        self.tools = tools

    def open(self):
        return False

    def send(self, message, inbox):
        inbox.put(result(message, new({"tools": [{"name": name} for name in self.tools]})))


NAMES = st.sampled_from(["a", "a_", "_b", "b", "b_2", "read.file", "日本", "x" * 80, "x" * 61]) | \
    st.text("ab_-. /é\n\0", max_size=70) | st.text()


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=50), max_size=5))
@example({"a": ["b", "b_2", "b.2"], "a_": ["_b"], "a__b": [""]})
@example({"x" * 80: [f"{number}" for number in range(MAX_TOOLS)], "y": ["one more"]})
def test_each_full_name_is_acceptable_and_leads_back_to_one_tool(lists):
    names: dict[tuple, str] = {}
    tools = []
    for server, listed in lists.items():
        connection = Connection(Server(server, url="http://x"))
        connection.transport = Listed(listed)
        tools += [make_tool(connection, found, names) for found in list_tools(connection)]
    pairs = [(server, name) for server in lists for name in dict.fromkeys(lists[server])]
    assert [(one.connection.server.name, one.name) for one in tools] == pairs
    assert len({one.full_name for one in tools}) == len(tools)
    for one in tools:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", one.full_name)  # or it is refused
        assert names[one.connection.server.name, one.name, "tools/call"] == one.full_name


BLOCKS = json_of("type text data blob mimeType resource uri", st.sampled_from(
    ["text", "image", "resource", "resource_link", "aGk=", "!", "image/png", "audio/../x"]))


@given(st.fixed_dictionaries({}, optional={"content": BLOCKS | st.lists(BLOCKS),
                                           "structuredContent": BLOCKS}))
def test_a_result_may_be_nonsense(answer):
    with tempfile.TemporaryDirectory() as folder:
        chat = Chat(LLM("none", "no-key"), {})
        chat.folder.path = folder  # in place of one that nobody removes
        text, files = chat.as_text(answer)
        assert isinstance(text, str) and isinstance(files, list)
        assert all(Path(file).is_file() and Path(file).parent == Path(folder) for file in files)


TEXTS = st.sampled_from(["https://a.b/mcp", "http://[", "npx", "${HOME}", "${é}", "oauth", "stdio"]
                        ) | st.text()
THINGS = json_of("client_id scopes grant_type login_form required", TEXTS)
ENTRIES = st.builds(lambda *dicts: {key: one[key] for one in dicts for key in one},
    st.sampled_from([{"name": "a", "url": "https://a.b"}, {"name": "b", "command": "npx"}, {}]),
    st.fixed_dictionaries({}, optional={
        "name": TEXTS, "url": TEXTS, "command": TEXTS, "args": st.lists(TEXTS), "cwd": TEXTS,
        "env": st.dictionaries(TEXTS, TEXTS), "oauth": THINGS, "timeout": ANYTHING}),
    st.dictionaries(st.sampled_from([*Server.__annotations__, "auth"]), THINGS, max_size=1))
CONFIGS = THINGS | st.fixed_dictionaries({"servers": st.lists(ENTRIES | THINGS)}) | st.dictionaries(
    st.sampled_from(["mcpServers", "mcp_servers"]), st.dictionaries(TEXTS, ENTRIES | THINGS))


def check_what_is_loaded(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mcp_servers.json")
        path.write_bytes(content)
        try:
            found = load_servers(path)
        except Problem as problem:
            assert str(path) in str(problem)
        else:
            assert all(isinstance(one, (Server, Problem)) for one in found.values())


@settings(max_examples=300)
@given(CONFIGS.map(json.dumps).map(str.encode) | st.binary())
def test_a_configuration_may_hold_anything(content):
    check_what_is_loaded(content)


@pytest.mark.parametrize("value", [b'"cwd": "~\\u0000"', b'"cwd": "~\\ud83d"',
                                   b'"timeout": ' + b"9" * 5000], ids=lambda it: str(it[:20]))
def test_a_configuration_may_hold_this_too(value):
    check_what_is_loaded(b'{"servers": [{"name": "x", "command": "y", %s}]}' % value)


@given(st.lists(st.tuples(st.sampled_from(["s__f", "s__g"]), MESSAGES.map(bytes.decode) | st.text(),
                          st.lists(PLACES, max_size=6)), max_size=5), st.randoms())
def test_a_call_is_the_same_however_the_model_cuts_it_up(calls, random):
    # As OpenAI does it: the index is in each piece, the id and the name in a call's first.
    streams = []
    for index, (name, arguments, places) in enumerate(calls):
        streams.append([{"index": index, "function": {"arguments": piece}}
                        for piece in cut(arguments, places)])
        streams[-1][0] |= {"id": f"call_{index}", "type": "function"}
        streams[-1][0]["function"]["name"] = name
    reply, begun = Reply(), 0
    while any(streams):  # in any mixture, but that the calls begin in their order
        index = random.choice([index for index in range(len(streams)) if streams[index]
                               and index <= begun])
        begun = max(begun, index + 1)
        reply.add({"choices": [{"delta": {"tool_calls": [streams[index].pop(0)]}}]})
    assert reply.message().get("tool_calls", []) == [
        {"id": f"call_{index}", "type": "function", "function": {
            "name": name, "arguments": arguments}}
        for index, (name, arguments, _) in enumerate(calls)]
    assert reply.size >= sum(len(arguments) for _, arguments, _ in calls)
