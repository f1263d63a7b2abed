"""Versions and the handshake: which generation a server belongs to, and which version it gets.

The rows are those of the table in section 1.1 of the protocol's reference, and the answers of
real servers are what they were seen to say.
"""

import json
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from patience import eventually
from scripted_server import HANDSHAKE, SILENCE, Reply, ScriptedHttp, error, new, result

from chapters.jobs import finish, together
from chapters.outside import Failure
from chapters.versions import ABOUT_US, NEWEST, OLDER
from chat import Server, list_tools

TOOLS = {"tools": [{"name": "add", "inputSchema": {"type": "object"}}]}
FUTURE, PAST = "2027-01-01", "2024-10-07"


def no_id(code, text="No.", number=None, **more):
    """An error whose id is not the request's."""
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": text, **more}}


def unsupported(*versions):
    return -32022, "Unsupported protocol version", {"supported": list(versions),
                                                   "requested": NEWEST}


# ── Over HTTP: we just ask ───────────────────────────────────────────────────────────────


@dataclass
class Row:
    """What a server answers to its first request, and what we should make of that."""

    says: Any                # the answer to tools/list, in the new form
    verdict: str             # "new" or "old", or words of the failure
    sends: list[str] | None = None


def refuses(status, code, text="No.", data=None, headers=None):
    return lambda message: Reply(status, error(message, code, text, data), headers or {})


HTTP = {
    # inline: what a new server says
    "a result with a type": Row(new(TOOLS), "new", ["tools/list"]),
    "row 9, -32601 at 404: new, but without tools": Row(refuses(404, -32601, "Not here."),
                                                        "none", ["tools/list", "tools/list"]),
    "row 8, -32020": Row(refuses(400, -32020, "Header mismatch"), "mismatch", ["tools/list"]),
    "row 8, -32021": Row(refuses(400, -32021, "Missing capability"), "capability",
                         ["tools/list"]),
    "row 4, -32022 lists ours": Row([refuses(400, *unsupported(NEWEST)), new(TOOLS)], "new",
                                    ["tools/list", "tools/list"]),
    "row 4, with others": Row([refuses(400, *unsupported(FUTURE, NEWEST, PAST)), new(TOOLS)],
                              "new", ["tools/list", "tools/list"]),
    "row 4, at 200": Row([refuses(200, *unsupported(NEWEST)), new(TOOLS)], "new"),
    # what an old one says
    "inline: a result without": Row(TOOLS, "old"),
    "inline: an empty result": Row({}, "old"),
    "row 5": Row(refuses(400, *unsupported("2025-06-18", PAST)), "old"),
    "row 5, with a future one": Row(refuses(400, *unsupported(FUTURE, "2025-11-25")), "old"),
    "row 6": Row(refuses(400, *unsupported(FUTURE, PAST)), f"{FUTURE}, {PAST}.*{NEWEST}",
                 ["tools/list"]),
    "row 7, no list": Row(refuses(400, -32022), "old"),
    "row 7, an empty list": Row(refuses(400, *unsupported()), "old"),
    "row 7, no list but a text": Row(refuses(400, -32022, "No.", {"supported": NEWEST}), "old"),
    "row 9, -32601 at 200": Row(refuses(200, -32601), "old"),
    "row 9, -32601 at 400": Row(refuses(400, -32601), "old"),
    "row 10, -32600": Row(refuses(400, -32600), "old"),
    "row 10, -32602": Row(refuses(400, -32602), "old"),
    "row 10, -32000": Row(refuses(400, -32000), "old"),
    "row 10, -32001": Row(refuses(404, -32001), "old"),
    "row 10, -32603 at 200": Row(refuses(200, -32603), "old"),
    "row 10, id null": Row(Reply(400, no_id(-32600)), "old"),
    "row 10, an id of its own": Row(Reply(400, no_id(-32600, number="server-error")), "old"),
    "row 10, no code": Row(Reply(400, {"jsonrpc": "2.0", "error": "bad", "id": None}), "old"),
    "row 10, in a stream": Row(lambda message: (part for part in [error(message, -32600)]), "old"),
    "row 11, an empty 400": Row(Reply(400), "old"),
    "row 11, an empty 404": Row(Reply(404), "old"),
    "row 11, 405": Row(Reply(405), "old"),
    "row 11, 422 in words": Row(Reply(422, b"expect initialize request"), "old"),
    "row 11, html": Row(Reply(400, b"<html>", {"Content-Type": "text/html"}), "old"),
    "row 11, other json": Row(Reply(400, {"message": "Bad Request"}), "old"),
    "row 11, 200 with html": Row(Reply(200, b"<html>", {"Content-Type": "text/html"}), "old"),
    "row 11, an empty 200": Row(Reply(200), "old"),
    "row 11, 202": Row(Reply(202), "old"),
    # what real servers said
    "Python SDK 1.30 with sessions": Row(Reply(400, no_id(
        -32600, "Bad Request: Missing session ID", "server-error"), {
        "Mcp-Session-Id": "not-this-one"}), "old"),
    "Python SDK 1.30, stateless": Row(Reply(400, no_id(
        -32600, "Bad Request: Unsupported protocol version: 2026-07-28.", "server-error")), "old"),
    "TypeScript SDK 1.32": Row(Reply(400, no_id(-32000, "Bad Request: Server not initialized")),
                               "old"),
    "TypeScript SDK 1.32, again": Row(Reply(400, no_id(
        -32000, "Bad Request: Mcp-Session-Id header is required")), "old"),
    "TypeScript SDK 1.32, once more": Row(Reply(400, no_id(
        -32000, "Bad Request: Unsupported protocol version")), "old"),
    "a hosted one, in words": Row(Reply(404, b"Invalid session ID"), "old"),
    "a hosted one, a code in letters": Row(Reply(400, {
        "jsonrpc": "2.0", "id": None, "error": {"code": "BAD_REQUEST", "message": "No."}}), "old"),
    "a hosted one, 401 with a good key": Row(Reply(401, {"error": "unauthorized"}), "old"),
}


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.line(8, 9, 10)
def test_the_first_answer_over_http_tells_the_generation(http_server, connect, name):
    row = HTTP[name]
    answers = row.says if isinstance(row.says, list) else [row.says]
    first = [*answers, *([TOOLS] if row.verdict == "old" else [])]
    script = {"tools/list": first}
    if row.verdict == "old":
        script |= {"initialize": HANDSHAKE}
    server = http_server(script)
    connection = connect(server.entry())
    if row.verdict == "none":
        assert list_tools(connection) == [] and connection.version == NEWEST
    elif row.verdict not in ("new", "old"):
        with pytest.raises(Failure, match=row.verdict):
            list_tools(connection)
    else:
        assert [tool["name"] for tool in list_tools(connection)] == ["add"]
        assert connection.version == (NEWEST if row.verdict == "new" else OLDER[0])
        assert server.seen[-1].headers["MCP-Protocol-Version"] == connection.version
    assert server.methods == (row.sends or server.methods)
    if row.verdict == "old":
        assert server.methods == ["tools/list", "initialize", "notifications/initialized",
                                  "tools/list"]


@pytest.mark.line(12, 30, 31, 37)
def test_how_we_introduce_ourselves_to_an_old_server(http_server, connect):
    server = http_server({"tools/list": TOOLS}, old="2025-06-18", session="visit-1")
    connection = connect(server.entry(headers={"X-Key": "k"}))
    list_tools(connection)
    connection.close()

    first, hello, thanks, again, goodbye = server.seen
    assert hello.message == {
        "jsonrpc": "2.0", "id": hello.message["id"], "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": ABOUT_US}}
    for name in "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Session-Id":
        assert hello.headers[name] is None, "the answer before had a session id; it isn't ours"
    assert hello.headers["X-Key"] == "k"
    assert thanks.message == {"jsonrpc": "2.0", "method": "notifications/initialized",
                              "params": {}}
    assert again.message["params"] == {}
    assert goodbye.verb == "DELETE"
    for seen in thanks, again, goodbye:
        assert seen.headers["Mcp-Session-Id"] == "visit-1"
        assert seen.headers["MCP-Protocol-Version"] == "2025-06-18"
        assert seen.headers["X-Key"] == "k"


@pytest.mark.line(37)
def test_without_a_session_there_is_none_to_end(http_server, connect):
    server = http_server({"tools/list": TOOLS}, old="2025-06-18")
    connection = connect(server.entry())
    list_tools(connection)
    connection.close()
    assert "DELETE" not in server.methods
    assert all(seen.headers["Mcp-Session-Id"] is None for seen in server.seen)


@pytest.mark.line(31)
def test_a_session_id_comes_from_initialize_only(http_server, connect):
    def with_another(message):
        return Reply(200, result(message, TOOLS), {"Mcp-Session-Id": "visit-2"})

    server = http_server({"tools/list": with_another}, old="2025-06-18", session="visit-1")
    connection = connect(server.entry())
    for _ in range(2):
        list_tools(connection)
    assert [seen.headers["Mcp-Session-Id"] for seen in server.saw("tools/list")] == [
        None, "visit-1", "visit-1"]


def test_the_answer_to_initialize_may_be_a_stream(http_server, connect):
    def stream(message):
        yield b"id: 1\ndata:\n\n"
        yield result(message, HANDSHAKE)

    server = http_server({"initialize": stream, "tools/list": TOOLS}, old="2025-11-25")
    assert list_tools(connect(server.entry()))


@pytest.mark.parametrize("status", [404, 405, 500])
@pytest.mark.line(37)
def test_a_server_that_does_not_let_us_end_a_session_is_left_anyway(http_server, connect, status):
    server = http_server({"tools/list": TOOLS, "": Reply(status)}, old="2025-06-18",
                         session="visit-1")
    connection = connect(server.entry())
    list_tools(connection)
    connection.close()
    assert server.methods[-1] == "DELETE"


@pytest.mark.parametrize("version", OLDER)
@pytest.mark.line(30)
def test_the_version_that_the_server_offers_instead_is_taken(http_server, connect, version):
    server = http_server({"tools/list": TOOLS}, old=version)
    connection = connect(server.entry())
    list_tools(connection)
    assert connection.version == version
    assert server.seen[-1].headers["MCP-Protocol-Version"] == version


@pytest.mark.parametrize("version", [PAST, FUTURE, NEWEST, "x" * 5000, None, 3, {}], ids=str)
@pytest.mark.line(30)
def test_a_handshake_must_be_for_a_version_of_ours_that_has_one(http_server, connect, version):
    hello = {"protocolVersion": version, "capabilities": {}}
    server = http_server({"initialize": hello}, old=OLDER[0])
    with pytest.raises(Failure) as caught:
        list_tools(connect(server.entry()))
    assert f"shakes hands for MCP {str(version)[:10]}" in str(caught.value)
    assert OLDER[0] in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert server.methods == ["tools/list", "initialize"]


@pytest.mark.parametrize("code", [-32602, -32022])
def test_initialize_is_tried_again_with_a_version_that_the_server_names(http_server, connect, code):
    server = http_server({"tools/list": TOOLS, "initialize": [
        refuses(400, code, "No.", {"supported": [PAST, "2025-03-26", "2025-06-18"]}),
        {**HANDSHAKE, "protocolVersion": "2025-06-18"}]}, old="2025-06-18")
    assert list_tools(connect(server.entry()))
    assert [seen.message["params"]["protocolVersion"] for seen in server.saw("initialize")] == [
        "2025-11-25", "2025-06-18"]


def test_a_new_server_whose_first_answer_got_lost_is_still_a_new_one(http_server, connect):
    server = http_server({"tools/list": [Reply(502, b"<html>"), new(TOOLS)],
                          "initialize": refuses(400, *unsupported(NEWEST))})
    connection = connect(server.entry())
    assert list_tools(connection) and connection.version == NEWEST
    assert server.methods == ["tools/list", "initialize", "tools/list"]


def hangs_up(message):
    yield b": wait\n\n"


@pytest.mark.parametrize("code", [-32600, -32601, -32602, -32020, -32022])
@pytest.mark.parametrize("first", [Reply(500), Reply(502, b"<html>"), hangs_up],
                         ids=["500", "502", "it hangs up"])
def test_a_new_server_whose_first_answer_got_lost_has_no_handshake(http_server, connect, first,
                                                                   code):
    server = http_server({"tools/list": [first, new(TOOLS)], "initialize": refuses(400, code)})
    connection = connect(server.entry())
    assert list_tools(connection) and connection.version == NEWEST
    assert server.methods == ["tools/list", "initialize", "tools/list"]


def test_an_older_server_whose_session_is_in_use_is_no_new_one_even_if_an_answer_got_lost(
        http_server, connect):
    # (These are the words of the TypeScript SDK, where one transport serves one session.)
    server = http_server({
        "tools/list": [Reply(502, b"<html>"),
                       Reply(400, no_id(-32000, "Bad Request: Mcp-Session-Id header is required"))],
        "initialize": Reply(400, no_id(-32600, "Invalid Request: Server already initialized"))})
    connection = connect(server.entry())
    with pytest.raises(Failure, match="Server already initialized"):
        list_tools(connection)
    assert server.methods == ["tools/list", "initialize"] and connection.version == ""


@pytest.mark.line(9)
def test_a_version_refused_twice_is_not_asked_for_a_third_time(http_server, connect):
    server = http_server({"tools/list": refuses(400, *unsupported(NEWEST))})
    with pytest.raises(Failure, match="Unsupported"):
        list_tools(connect(server.entry()))
    assert server.methods == ["tools/list", "tools/list"]


# ── What says nothing about the generation ───────────────────────────────────────────────


@pytest.mark.parametrize("status, words", [(401, "token"), (403, "403")])
@pytest.mark.line(11)
def test_a_server_that_does_not_let_us_in(http_server, connect, status, words):
    server = http_server({"tools/list": [Reply(status), Reply(status), new(TOOLS)],
                          "initialize": Reply(status)})
    connection = connect(server.entry())
    with pytest.raises(Failure, match=words) as caught:
        list_tools(connection)
    assert caught.value.status == status
    assert server.methods == ["tools/list", "initialize"]
    assert connection.version == ""
    server.script["tools/list"] = new(TOOLS)  # somebody has renewed the token
    assert list_tools(connection) and connection.version == NEWEST


@pytest.mark.parametrize("status", [401, 403])
def test_an_error_with_such_a_status_is_the_gateway_s(http_server, connect, status):
    server = http_server({"tools/list": refuses(status, *unsupported(FUTURE)),
                          "initialize": refuses(status, -32600)})
    with pytest.raises(Failure) as caught:
        list_tools(connect(server.entry()))
    assert (caught.value.kind, caught.value.status) == ("status", status)


def test_a_server_with_too_much_to_do_is_asked_again_after_the_time_it_names(http_server, connect):
    server = http_server({"tools/list": [Reply(429, b"", {"Retry-After": "0"}), new(TOOLS)]})
    connection = connect(server.entry())
    assert list_tools(connection)
    assert server.methods == ["tools/list", "tools/list"]


def test_a_server_with_too_much_to_do_for_long_is_left_alone(http_server, connect):
    server = http_server({"tools/list": Reply(429, b"", {"Retry-After": "0"})})
    connection = connect(server.entry())
    with pytest.raises(Failure, match="429"):
        list_tools(connection)
    assert server.methods == ["tools/list", "tools/list"] and connection.version == ""


@pytest.mark.line(11)
def test_a_server_with_a_problem_is_asked_a_second_time(http_server, connect):
    problem = Reply(503, b"<html>", {"Retry-After": "0"})
    server = http_server({"tools/list": [problem, new(TOOLS)], "initialize": problem})
    connection = connect(server.entry())
    assert list_tools(connection) and connection.version == NEWEST

    server = http_server({"tools/list": problem, "initialize": problem})
    connection = connect(server.entry())
    with pytest.raises(Failure, match="503"):
        list_tools(connection)
    assert len(server.seen) <= 4 and connection.version == ""


def test_a_server_that_says_nothing_at_first(http_server, connect):
    server = http_server({"tools/list": [SILENCE, TOOLS], "initialize": HANDSHAKE})
    connection = connect(server.entry(timeout=2))
    assert list_tools(connection) and connection.version == OLDER[0]


def test_a_new_server_that_is_slow_at_first(http_server, stdio_server, connect):
    # Like one that has to be fetched from somewhere before it can start.
    server = http_server({"tools/list": [SILENCE, new(TOOLS)],
                          "initialize": lambda message: Reply(404, error(message, -32601))})
    connection = connect(server.entry(timeout=2))
    assert list_tools(connection) and connection.version == NEWEST
    assert server.methods == ["tools/list", "initialize", "tools/list"]
    program = stdio_server(f"""
        late = None
        for message in incoming():
            if message["method"] == "initialize":
                refuse(message, -32601)
                answer(late, {new({"supportedVersions": [NEWEST]})})
            elif message["method"] == "server/discover" and not late:
                late = message
            elif "id" in message:
                answer(message, {new({**TOOLS, "supportedVersions": [NEWEST]})})
    """)
    connection = connect(program.entry(timeout=2))
    assert list_tools(connection) and connection.version == NEWEST


@pytest.mark.line(11)
def test_a_server_that_says_nothing_at_all(http_server, connect):
    server = http_server({"tools/list": SILENCE, "initialize": SILENCE})
    connection = connect(server.entry(timeout=0.3))
    with pytest.raises(Failure) as caught:
        list_tools(connection)
    assert caught.value.kind == "timeout" and "0.3" in str(caught.value)
    assert connection.version == ""
    assert server.saw("notifications/cancelled") == [], "initialize is never cancelled"


def test_nobody_there_is_no_verdict(connect):
    connection = connect(Server("lost", url="http://127.0.0.1:9/mcp"))
    with pytest.raises(Failure) as caught:
        list_tools(connection)
    assert caught.value.kind == "unreachable" and connection.version == ""


# ── Over stdio: server/discover comes first ──────────────────────────────────────────────


@dataclass
class Program:
    """What a program says to server/discover, and what we should make of that."""

    says: Any       # a result; or [code, text, data]; or "silence", "exit", a line to print
    verdict: str    # "new" or "old", or words of the failure
    initialize: Any = field(default_factory=lambda: HANDSHAKE)


STDIO = {
    "row 1": Program(new({"supportedVersions": [NEWEST], "capabilities": {}}), "new"),
    "row 1, with others": Program(new({"supportedVersions": [FUTURE, NEWEST, PAST]}), "new"),
    "row 1, no type": Program({"supportedVersions": [NEWEST]}, "new"),
    "row 2": Program(new({"supportedVersions": ["2025-06-18"]}), "old"),
    "row 2, only others": Program(new({"supportedVersions": [FUTURE]}), f"{FUTURE}.*{NEWEST}"),
    "row 3, {}": Program({}, "old"),
    "row 3, no list": Program(new({"supportedVersions": NEWEST}), "old"),
    "row 3, no texts": Program(new({"supportedVersions": [[NEWEST], {}, None, 3]}), "old"),
    "row 4": Program([*unsupported(NEWEST)], "new"),
    "row 4, with others": Program([*unsupported(FUTURE, NEWEST, PAST)], "new"),
    "row 5": Program([*unsupported("2025-06-18")], "old"),
    "row 5, with a future one": Program([*unsupported(FUTURE, "2025-11-25")], "old"),
    "row 6": Program([*unsupported(FUTURE, PAST)], f"{FUTURE}, {PAST}.*{NEWEST}"),
    "row 7, no list": Program([-32022], "old"),
    "row 7, an empty list": Program([*unsupported()], "old"),
    "row 8, -32020": Program([-32020, "Header mismatch"], "mismatch"),
    "row 8, -32021": Program([-32021, "Missing capability"], "capability"),
    "row 9": Program([-32601], "old"),
    "row 10, -32600": Program([-32600], "old"),
    "row 10, -32602, as Python SDK 1.30": Program([-32602, "Invalid request parameters"], "old"),
    "row 10, -32000": Program([-32000], "old"),
    "row 10, -32001": Program([-32001], "old"),
    # On stdio, an answer with another id is nobody's: it is as if nothing had come. But an error
    # without any, while we wait for only this one answer, is that.
    "row 10, id null": Program(json.dumps(no_id(-32600)), "old"),
    "row 10, an id of its own": Program(json.dumps(no_id(-32600, number="server-error")), "old"),
    "row 11, words": Program("Unknown command.", "old"),
    "row 11, other json": Program('{"message": "Bad Request"}', "old"),
    "row 17, as rmcp 1.7 in Rust": Program("exit", "old"),
    "row 18, as some in TypeScript": Program("silence", "old"),
    "initialize says it's new": Program("silence", "new", [*unsupported(NEWEST)]),
    "Python SDK 2.3": Program(new({"supportedVersions": [NEWEST], "capabilities": {"tools": {}},
                                   "ttlMs": 0, "cacheScope": "public"}), "new", [-32022]),
}


@pytest.mark.parametrize("name", STDIO)
@pytest.mark.line(8, 10, 13, 14)
def test_the_answer_to_discover_tells_the_generation(stdio_server, connect, name):
    row = STDIO[name]
    is_new = row.verdict == "new"
    program = stdio_server({"server/discover": row.says, "initialize": row.initialize,
                            "tools/list": new(TOOLS) if is_new else TOOLS})
    # What says nothing is given up after its "timeout", or after ten seconds.
    connection = connect(program.entry(timeout=2 if isinstance(row.says, str) else 60))
    if row.verdict not in ("new", "old"):
        with pytest.raises(Failure, match=row.verdict):
            list_tools(connection)
        assert program.methods == ["server/discover"]
        return
    assert [tool["name"] for tool in list_tools(connection)] == ["add"]
    assert connection.version == (NEWEST if is_new else OLDER[0])
    hello = [] if is_new and row.says != "silence" else ["initialize"]
    thanks = [] if is_new else ["notifications/initialized"]
    assert program.methods == ["server/discover", *hello, *thanks, "tools/list"]
    assert ("_meta" in program.seen[-1]["params"]) == is_new
    assert not program.saw("notifications/cancelled"), "neither of these two is ever cancelled"


@pytest.mark.line(14)
def test_a_program_that_contradicts_itself_is_asked_once_more_and_then_left(stdio_server, connect):
    refused = [*unsupported(NEWEST)]
    program = stdio_server({"server/discover": "silence", "initialize": refused,
                            "tools/list": refused})
    with pytest.raises(Failure, match="Unsupported"):
        list_tools(connect(program.entry(timeout=2)))
    assert program.methods == ["server/discover", "initialize", "tools/list"]


def test_a_late_answer_to_discover_confuses_nobody(stdio_server, connect):
    program = stdio_server(f"""
        first = None
        for message in incoming():
            if message["method"] == "server/discover":
                first = message
            elif message["method"] == "initialize":
                answer(first, {new({"supportedVersions": [NEWEST]})})
                answer(message, {HANDSHAKE})
            elif "id" in message:
                answer(message, {TOOLS})
    """)
    connection = connect(program.entry(timeout=2))
    assert list_tools(connection) and connection.version == OLDER[0]


def test_a_program_that_ends_whatever_we_say(stdio_server, connect):
    program = stdio_server({"server/discover": "exit", "initialize": "exit"})
    connection = connect(program.entry())
    with pytest.raises(Failure, match="ended"):
        connection.ask("tools/call", {"name": "add", "arguments": {}})
    assert program.methods == ["server/discover", "initialize"] and connection.version == ""


# ── The verdict is remembered ────────────────────────────────────────────────────────────


def test_hello_is_said_once(http_server, stdio_server, connect):
    server = http_server({"tools/list": TOOLS, "tools/call": {"content": []}}, old="2025-11-25")
    program = stdio_server({"initialize": HANDSHAKE, "tools/list": TOOLS,
                            "tools/call": {"content": []}})
    for one in server, program:
        connection = connect(one.entry())
        for _ in range(3):
            list_tools(connection)
            connection.ask("tools/call", {"name": "add", "arguments": {}})
        assert one.methods.count("initialize") == 1
        assert one.methods.count("notifications/initialized") == 1


def test_two_who_call_first_at_the_same_time_say_hello_once(http_server, stdio_server, connect):
    server = http_server({"tools/call": {"content": []}}, old="2025-11-25", session="visit-1")
    program = stdio_server({"initialize": HANDSHAKE, "tools/call": {"content": []}})
    for one in server, program:
        connection = connect(one.entry())
        answers: list = []
        threads = [threading.Thread(target=lambda connection=connection, answers=answers:
                                    answers.append(connection.ask("tools/call", {
                                        "name": "add", "arguments": {}}))) for _ in range(8)]
        for thread in threads:
            thread.start()
        eventually(lambda answers=answers: len(answers) == 8)
        assert one.methods.count("initialize") == 1
        assert one.methods.count("notifications/initialized") == 1


class Exchanged(ScriptedHttp):
    """A server in whose place there is one of the other generation, as soon as `old` is another.
    Each refuses the version of the other (-32022)."""

    def __init__(self, old):
        super().__init__({"tools/list": new(TOOLS), "tools/call": new({"content": []})}, old)
        self.ran = self.refused = 0  # how often the tool has, and how often we were

    def answer_to(self, seen):
        ours = self.old or NEWEST
        named = seen.headers["MCP-Protocol-Version"] or self.old  # (initialize names it inside)
        if named != ours:
            self.refused += 1
            return Reply(400, error(seen.message, *unsupported(ours)))
        self.ran += seen.method == "tools/call"
        return super().answer_to(seen)


@pytest.mark.parametrize("before, after", [("", "2025-11-25"), ("2025-11-25", "")],
                         ids=["by an older one", "by a new one"])
@pytest.mark.parametrize("method", ["tools/list", "tools/call"])
def test_a_server_that_is_exchanged_meanwhile_is_asked_in_its_own_version(connect, before, after,
                                                                          method):
    with Exchanged(before) as server:
        connection = connect(server.entry())
        list_tools(connection)
        assert connection.version == (before or NEWEST)
        server.old, server.refused = after, 0
        for _ in range(2):
            connection.ask(method, {"name": "add", "arguments": {}})
        assert connection.version == (after or NEWEST)
        assert server.ran == (2 if method == "tools/call" else 0)
        assert server.refused == 1 + bool(after), "an older one also refuses to be asked as a new"
        assert connection.offers.is_old("tools"), "it may have others"


class RefusedOneByOne(Exchanged):
    """It refuses the first of two calls when both are there, and the second when the first has come
    again."""

    def answer_to(self, seen):
        answer, calls = super().answer_to(seen), self.saw("tools/call")
        if seen in calls[:2]:
            needed = 2 + calls.index(seen)
            eventually(lambda: len(self.saw("tools/call")) >= needed)
        return answer


def test_two_calls_that_an_exchanged_server_refuses_shake_hands_once(connect):
    with RefusedOneByOne("") as server:
        connection = connect(server.entry())
        list_tools(connection)
        server.old = "2025-11-25"
        call = partial(connection.ask, "tools/call", {"name": "add", "arguments": {}})
        both = finish(together([call, call]))
    assert [answer["content"] for answer in both] == [[], []]
    assert server.methods == ["tools/list", "tools/call", "tools/call",
                              "tools/list", "initialize", "notifications/initialized",
                              "tools/call", "tools/call"]


def test_a_handshake_in_mid_run_is_not_cancelled(http_server, connect):
    server = http_server({
        "tools/list": [new(TOOLS), refuses(400, -32022, "No.", {"supported": [OLDER[0]]})],
        "initialize": SILENCE})
    connection = connect(server.entry(timeout=1))
    list_tools(connection)
    with pytest.raises(Failure, match="no answer"):
        connection.ask("tools/list")
    assert "initialize" in server.methods and "notifications/cancelled" not in server.methods


def test_the_toy_speaks_both(toy_http, toy_stdio):
    for connection in toy_http, toy_stdio:
        assert len(list_tools(connection)) == 5 and connection.version == NEWEST
    # The other generation is there for those who ask in its way.
    hello = toy_http.request("server/discover")
    assert hello["supportedVersions"] == [NEWEST, *OLDER[:3]]
