"""Rules for anything that comes from outside. Hypothesis looks for what breaks them."""

import itertools
import json
import re
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scripted_server import new, result

import chat
from chat import MAX_TOOLS, NEWEST, Problem, Server, clean, loads, read_events

ANYTHING = st.none() | st.booleans() | st.integers() | st.floats(
    allow_nan=False, allow_infinity=False) | st.text()


def json_of(keys: str, leaves: st.SearchStrategy = ANYTHING) -> st.SearchStrategy:
    """Any JSON; these are the likely keys of its objects."""
    return st.recursive(ANYTHING | leaves, lambda inner: st.lists(inner, max_size=3)
                        | st.dictionaries(st.sampled_from(keys.split()) | st.text(max_size=3),
                                          inner, max_size=4), max_leaves=10)


def cut(whole, places: list[int]) -> list:
    """The pieces of some bytes, or of a text."""
    edges = [0, *sorted(place % (len(whole) + 1) for place in places), len(whole)]
    return [whole[start:end] for start, end in itertools.pairwise(edges)]


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
@given(STREAMS, st.lists(st.integers(0, 2**16), max_size=20))
@example(b"data: a\r\ndata: b\n\n", [8, 8])  # an empty chunk between \r and \n
@example(b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [1])  # only the first mark goes
@pytest.mark.line(4)
def test_events_are_read_however_the_bytes_are_cut_up(stream, places):
    assert list(read_events(cut(stream, places))) == straightforward(stream)
    assert list(read_events(bytes([byte]) for byte in stream)) == straightforward(stream)


class Listed(chat.Connection):
    """A server that has these tools, and is known already."""

    version, ready = NEWEST, True

    def __init__(self, name: str, tools: list[str]):
        super().__init__(Server(name, url="http://x"))
        self.tools = tools

    def send(self, message, job):
        yield result(message, new({"tools": [{"name": name} for name in self.tools]}))


NAMES = st.sampled_from(["a", "a_", "_b", "b", "b_2", "read.file", "日本", "x" * 80, "x" * 61]) | \
    st.text("ab_-. /é\n\0", max_size=70) | st.text()


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=50), max_size=5))
@example({"a": ["b", "b_2", "b.2"], "a_": ["_b"], "a__b": [""]})
@example({"x" * 80: [f"{number}" for number in range(MAX_TOOLS)], "y": ["one more"]})
def test_each_full_name_is_acceptable_and_leads_back_to_one_tool(lists):
    connections = {name: Listed(name, tools) for name, tools in lists.items()}
    servers = {name: one.server for name, one in connections.items()}
    names: dict[tuple, str] = {}
    found = chat.finish(chat.discover(servers, connections, names))
    tools = [tool for name in lists for tool in found[name]]
    pairs = [(name, tool) for name in lists for tool in dict.fromkeys(lists[name])]
    assert [(one.connection.server.name, one.name) for one in tools] == pairs
    assert len({one.full_name for one in tools}) == len(tools)
    for one in tools:
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", one.full_name)  # or OpenAI refuses it
        assert names[one.connection.server.name, one.name] == one.full_name


BLOCKS = json_of("type text data blob mimeType resource uri", st.sampled_from(
    ["text", "image", "resource", "resource_link", "aGk=", "!", "image/png", "audio/../x"]))


@given(st.fixed_dictionaries({}, optional={"content": BLOCKS | st.lists(BLOCKS),
                                           "structuredContent": BLOCKS}))
def test_a_result_may_be_nonsense(answer):
    with tempfile.TemporaryDirectory() as folder:
        one = chat.Chat(chat.LLM("none", "no-key"), {})
        one.folder = folder  # in place of one that nobody removes
        text, files = chat.as_text(answer, one.save)
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
    st.dictionaries(st.sampled_from([*Server.__dataclass_fields__, "auth"]), THINGS, max_size=1))
CONFIGS = THINGS | st.fixed_dictionaries({"servers": st.lists(ENTRIES | THINGS)}) | st.dictionaries(
    st.sampled_from(["mcpServers", "mcp_servers"]), st.dictionaries(TEXTS, ENTRIES | THINGS))


def check_what_is_loaded(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mcp_servers.json")
        path.write_bytes(content)
        try:
            found = chat.load_servers(path)
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


MESSAGES = json_of("jsonrpc id method result error").map(json.dumps).map(str.encode)
SPOILT = st.lists(MESSAGES | st.binary(max_size=3) | st.sampled_from(
    [b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b"NaN", b"-Infinity", b"1e999", b"-0", b" ",
     rb'"\ud83d"', rb'"\uDE00', rb"\\ud83d", b'"result":', b'"error": null', b'{"method":',
     b"]" * 99, b"[" * 99, b"\xef\xbb\xbf", b"\xff", b"\xed\xa0\xbd", b"9" * 5000])).map(b"".join)


@settings(max_examples=400)
@given(MESSAGES | SPOILT)
@example(rb'{"result": 1, "\ud83d": ["\udc00", "\ud83d\ude00"]}')
def test_what_is_read_can_be_sent_on_and_all_else_is_a_value_error(text):
    messages = chat.messages_in(text, "x")
    assert all({"method", "result", "error"} & set(one) for one in messages)
    try:
        found = loads(text)
    except ValueError:
        assert all("can't be read" in one["error"]["message"] for one in messages)
    else:
        sent = json.dumps(found, ensure_ascii=False, allow_nan=False).encode("utf-8")
        assert loads(sent) == found


@given(st.lists(st.tuples(st.sampled_from(["s__f", "s__g"]), MESSAGES.map(bytes.decode) | st.text(),
                          st.lists(st.integers(0, 2**16), max_size=6)), max_size=5), st.randoms())
def test_a_call_is_the_same_however_the_model_cuts_it_up(calls, random):
    # As OpenAI does it: the index is in each piece, the id and the name in a call's first.
    streams = []
    for index, (name, arguments, places) in enumerate(calls):
        streams.append([{"index": index, "function": {"arguments": piece}}
                        for piece in cut(arguments, places)])
        streams[-1][0] |= {"id": f"call_{index}", "type": "function"}
        streams[-1][0]["function"]["name"] = name
    found, size = [], 0
    while any(streams):  # in any mixture, but that the calls begin in their order
        index = random.choice([index for index in range(len(streams)) if streams[index]
                               and index <= len(found)])
        size += chat.add_piece(found, streams[index].pop(0))
    assert [(one["id"], one["name"], "".join(one["pieces"])) for one in found] == [
        (f"call_{index}", name, arguments) for index, (name, arguments, _) in enumerate(calls)]
    assert size >= sum(len(arguments) for _, arguments, _ in calls)


# U+202A and the others turn a whole passage around. The marks U+200E, U+200F and U+061C stay:
# each is like a letter that nobody sees. It moves a comma, turns no other letter around, and
# Hebrew, Arabic and Persian are written with it.
GONE = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A)),
        "\u200b", "\u2028", "\u2029", "\ufeff"}
PARTS = st.text() | st.characters(categories=["Cc", "Cf", "Zl", "Zp"]) | st.sampled_from(
    ["\x1b", "\x1b[", "\x1b]", "\x1bP", "\x9b31m", "\x9d52;c;", "\x1b]8;;http://a\x1b\\", "\x07",
     "\x1b\\", "2J", "[31m", "0;", "\r", "\n", "\u202e", "\u200d", "\u200c", "\u200f", "👨"])


def is_safe(letter: str) -> bool:
    return letter in "\n\t" or unicodedata.category(letter) != "Cc" and letter not in GONE


@settings(max_examples=400)
@given(st.lists(PARTS).map("".join))
def test_what_is_shown_moves_no_cursor_and_turns_no_line_around(text):
    shown = clean(text)
    assert all(map(is_safe, shown)) and clean(shown) == shown
    assert shown == text or not all(map(is_safe, text))


def test_every_letter_by_itself_is_shown_or_is_not():
    assert [one for one in map(chr, range(0x110000)) if clean(one) != one * is_safe(one)] == []


def test_a_sequence_without_end_costs_only_its_own_line():
    # It may be an HTTP reason, which stands in the middle of what we say ourselves.
    assert clean("It says (500 \x1b]oops).\nTry again.") == "It says (500 \nTry again."
