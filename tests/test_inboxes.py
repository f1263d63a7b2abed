"""Requests, results, errors and notifications, whichever way they travel; and what servers ask."""

import contextlib
import json
import logging
import sys
import threading

import pytest
from patience import eventually
from scripted_server import SILENCE, Reply, error, new, progress, result

from chapters.jobs import Job
from chapters.outside import Failure
from chapters.versions import ABOUT_US, NEWEST

CALL = {"name": "count", "arguments": {"to": 3}}
DONE = {"content": [{"type": "text", "text": "done"}]}
PREFIX = "io.modelcontextprotocol/"


# ── What we send ─────────────────────────────────────────────────────────────────────────


@pytest.mark.line(15)
def test_every_request_to_a_new_server_says_who_we_are(http_server, connect):
    server = http_server({"tools/list": new({"tools": []}), "tools/call": new(DONE)})
    connection = connect(server.entry())
    connection.request("tools/list", {"cursor": "3"})
    connection.request("tools/call", CALL)

    listing, call = [seen.message for seen in server.seen]
    about = {PREFIX + "protocolVersion": NEWEST, PREFIX + "clientInfo": ABOUT_US,
             PREFIX + "clientCapabilities": {}}
    assert listing == {"jsonrpc": "2.0", "id": listing["id"], "method": "tools/list",
                       "params": {"cursor": "3", "_meta": about}}
    assert call == {"jsonrpc": "2.0", "id": call["id"], "method": "tools/call", "params": {
        **CALL, "_meta": {**about, "progressToken": call["id"]}}}


@pytest.mark.line(15)
def test_a_new_server_on_stdio_is_told_the_same(stdio_server, connect):
    program = stdio_server({"server/discover": new({"supportedVersions": [NEWEST]}),
                            "tools/list": new({"tools": []}), "tools/call": new(DONE)})
    connection = connect(program.entry())
    connection.ask("tools/list")
    connection.ask("tools/call", CALL)
    for message in program.seen:
        meta = message["params"]["_meta"]
        assert meta[PREFIX + "protocolVersion"] == NEWEST
        assert meta[PREFIX + "clientCapabilities"] == {}
        assert meta[PREFIX + "clientInfo"] == ABOUT_US
        assert ("progressToken" in meta) == (message["method"] == "tools/call")


def test_an_old_server_is_told_nothing_of_that(http_server, connect):
    server = http_server({"tools/list": {"tools": []}, "tools/call": DONE}, old="2025-06-18")
    connection = connect(server.entry())
    connection.ask("tools/list")
    connection.ask("tools/call", CALL)
    assert "_meta" not in server.saw("tools/list")[-1].message["params"]
    call = server.saw("tools/call")[0].message
    assert call["params"] == {**CALL, "_meta": {"progressToken": call["id"]}}


@pytest.mark.line(1)
@pytest.mark.parametrize("kind", ["new", "old", "stdio"])
def test_each_message_is_one_object(http_server, stdio_server, connect, kind):
    script = {"server/discover": new({"supportedVersions": [NEWEST]}),
              "tools/list": new({"tools": []}), "tools/call": new(DONE)}
    server = stdio_server(script) if kind == "stdio" else \
        http_server(script, old="2025-11-25" if kind == "old" else "")
    connection = connect(server.entry())
    text = "día\r\n🙂\u2028"
    connection.ask("tools/list")
    connection.ask("tools/call", {"name": "say", "arguments": {"text": text}})

    messages = [getattr(seen, "message", seen) for seen in server.seen]
    assert all(message["jsonrpc"] == "2.0" for message in messages)
    ids = [message["id"] for message in messages if "id" in message]
    assert len(ids) == len(set(ids)) and all(type(number) is int for number in ids)
    assert messages[-1]["params"]["arguments"] == {"text": text}


@pytest.mark.line(1)
def test_no_two_requests_share_an_id(http_server, connect):
    server = http_server({"tools/list": new({"tools": []})})
    connection = connect(server.entry())
    threads = [threading.Thread(target=lambda: [connection.ask("tools/list") for _ in range(10)])
               for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [seen.message["id"] for seen in server.seen]
    assert len(ids) == 80 == len(set(ids)) and all(type(number) is int for number in ids)


@pytest.mark.parametrize("reply", [
    Reply(202), Reply(202, b"Accepted"), Reply(202, b"", {"Content-Type": "application/json"}),
    Reply(204), Reply(200), Reply(200, {}), Reply(200, b"null"), Reply(200, b"ok", {
        "Content-Type": "text/plain"})], ids=str)
@pytest.mark.line(7)
def test_a_notification_has_no_id_and_needs_no_answer(http_server, connect, reply):
    server = http_server({"notifications/initialized": reply})
    connect(server.entry()).notify("notifications/initialized")
    assert server.seen[0].message == {"jsonrpc": "2.0", "method": "notifications/initialized",
                                      "params": {}}


# ── What we get ──────────────────────────────────────────────────────────────────────────


def as_stream(message):
    yield result(message, new(DONE))


@pytest.mark.parametrize("answer", [new(DONE), as_stream], ids=["JSON", "a stream"])
@pytest.mark.line(3)
def test_a_result_comes_as_json_or_in_an_event_stream(http_server, connect, answer):
    server = http_server({"tools/call": answer})
    assert connect(server.entry()).request("tools/call", CALL) == new(DONE)


@pytest.mark.parametrize("kind", ["application/json", "APPLICATION/JSON; charset=utf-8", ""])
def test_json_is_json_under_any_name(http_server, connect, kind):
    server = http_server({"tools/list": lambda message: Reply(
        200, json.dumps(result(message, new({"tools": []}))).encode(), {"Content-Type": kind})})
    assert connect(server.entry()).request("tools/list")["tools"] == []


@pytest.mark.parametrize("number", ["ours", None, "server-error", "0", "missing"])
@pytest.mark.parametrize("status", [200, 400, 404, "a stream"])
@pytest.mark.line(5)
def test_an_error_is_taken_whatever_its_status_and_its_id(http_server, connect, status, number):
    def refuse(message):
        body = error(message, -32602, "There is no tool count.", {"name": "count"})
        if number == "missing":
            del body["id"]
        elif number != "ours":
            body["id"] = number
        return (part for part in [body]) if status == "a stream" else Reply(status, body)

    server = http_server({"tools/call": refuse})
    with pytest.raises(Failure, match="There is no tool count") as caught:
        connect(server.entry()).request("tools/call", CALL)
    assert caught.value.kind == "refused"
    assert (caught.value.code, caught.value.data) == (-32602, {"name": "count"})


@pytest.mark.line(44)
@pytest.mark.parametrize("old", ["", "2025-06-18"])
@pytest.mark.parametrize("code", [-32002, -32602])
def test_two_codes_say_that_a_resource_is_not_there(http_server, connect, old, code):
    server = http_server({"tools/list": new({"tools": []}), "resources/read": lambda message: Reply(
        200 if old else 400, error(message, code, "There is no toy://poem."))}, old=old)
    connection = connect(server.entry())
    connection.ask("tools/list")
    with pytest.raises(Failure, match="There is no toy://poem.") as caught:
        connection.ask("resources/read", {"uri": "toy://poem"})
    assert caught.value.kind == "refused" and len(server.saw("resources/read")) == 1


@pytest.mark.parametrize("wrong", [None, "it broke", 3, [], {}, {"code": "E1", "message": "it"},
                                   {"code": None, "message": None}, {"message": {"deep": 1}},
                                   {"code": 1e30, "message": ["a"]}], ids=json.dumps)
@pytest.mark.parametrize("status", [200, 400])
def test_an_error_may_be_of_any_shape(http_server, connect, wrong, status):
    server = http_server({"tools/call": lambda message: Reply(status, {
        "jsonrpc": "2.0", "id": message["id"], "error": wrong})})
    with pytest.raises(Failure) as caught:
        connect(server.entry()).request("tools/call", CALL)
    assert caught.value.kind == "refused" and str(caught.value)


@pytest.mark.line(4, 6)
def test_what_comes_before_the_answer_does_not_end_the_call(http_server, connect):
    def talkative(message):
        yield b": keep-alive\n\n"
        yield b"id: 1\nretry: 500\ndata: \n\n"
        yield {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "hm"}}
        yield progress(message, 1)
        yield result({"id": 99_999}, "the answer to somebody else")
        yield result({"id": str(message["id"])}, "a text is no number")
        yield b"event: ping\ndata: {}\n\n"
        yield b"data: this is no JSON\n\n"
        yield b"data: 3\n\ndata: [3]\n\ndata: null\n\n"
        yield result(message, new(DONE))

    server = http_server({"tools/call": talkative})
    assert connect(server.entry()).request("tools/call", CALL) == new(DONE)


@pytest.mark.line(6)
def test_on_stdio_too(stdio_server, connect):
    program = stdio_server("""
        for message in incoming():
            send({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "hm"}})
            answer({"id": 99999}, {"resultType": "complete", "of": "somebody else"})
            answer({"id": str(message["id"])}, {"a text": "is no number"})
            answer({"id": None}, {"and": "null neither"})
            answer({"id": [1]}, {"nor": "a list"})
            for nonsense in [3, [3], None, "text", {}, {"id": message["id"]}]:
                send(nonsense)
            answer(message, {"resultType": "complete", "supportedVersions": ["2026-07-28"]})
            answer(message, {"the same": "again"})
    """)
    connection = connect(program.entry())
    for _ in range(2):
        assert connection.ask("tools/list") == new({"supportedVersions": [NEWEST]})


def test_progress_is_heard(http_server, connect):
    def count(message):
        yield progress(message, 0.5, 2, "half")
        yield {"jsonrpc": "2.0", "method": "notifications/progress", "params": {
            "progressToken": 99_999, "progress": 1, "message": "of somebody else"}}
        for wrong in [None, {}, {"progressToken": message["id"]},
                      {"progressToken": message["id"], "progress": "half"}]:
            yield {"jsonrpc": "2.0", "method": "notifications/progress", "params": wrong}
        yield result(message, new(DONE))

    heard: list = []
    job = Job(heard.append)
    job.about = "count"
    server = http_server({"tools/call": count})
    connect(server.entry()).request("tools/call", CALL, job)
    assert [json.loads(event.json) for event in heard] == [
        {"event": "Progress", "tool": "count", "progress": 0.5, "total": 2, "message": "half"}]


def test_of_a_thousand_reports_only_some_are_shown(http_server, connect):
    def count(message):
        for number in range(1000):
            yield progress(message, number)
        yield result(message, new(DONE))

    heard: list = []
    server = http_server({"tools/call": count})
    connect(server.entry()).request("tools/call", CALL, Job(heard.append))
    assert 1 <= len(heard) < 300


@pytest.mark.line(38)
@pytest.mark.parametrize("kind", ["JSON", "a stream", "stdio"])
def test_several_messages_may_come_in_a_list(http_server, stdio_server, connect, kind):
    # 2025-03-26 had that, and only that.
    def batch(message):
        return [QUESTIONS[0], {"jsonrpc": "2.0", "method": "notifications/message", "params": {}},
                result(message, {"tools": []})]

    def stream(message):
        yield batch(message)

    if kind == "stdio":
        server = stdio_server(f"""
            for message in incoming():
                if message.get("method") == "initialize":
                    answer(message, {{"protocolVersion": "2025-03-26", "capabilities": {{}}}})
                elif message.get("method") == "tools/list":
                    send([one | {{"id": message["id"]}} if "result" in one else one
                          for one in {batch({})}])
                elif message.get("method") == "server/discover":
                    refuse(message, -32601)
        """)
    else:
        server = http_server({"tools/list": stream if kind == "a stream" else
                              lambda message: Reply(200, batch(message))}, old="2025-03-26")
    assert connect(server.entry()).ask("tools/list") == {"tools": []}
    eventually(lambda: {"jsonrpc": "2.0", "id": "s-1", "result": {}} in [
        getattr(seen, "message", seen) for seen in server.seen])


@pytest.mark.line(19)
def test_a_result_without_a_type_is_complete(http_server, connect):
    server = http_server({"tools/list": [new({"tools": []}), {"tools": [3]}]})
    connection = connect(server.entry())
    connection.ask("tools/list")
    assert connection.ask("tools/list") == {"tools": [3]}


@pytest.mark.parametrize("wrong", [{"resultType": "riddle"}, {"resultType": None}, None, 3, "text",
                                   [], True], ids=json.dumps)
@pytest.mark.line(19)
def test_a_result_of_another_kind_is_no_result(http_server, connect, wrong):
    server = http_server({"tools/call": lambda message: Reply(200, result(message, wrong))})
    with pytest.raises(Failure, match="tools/call"):
        connect(server.entry()).request("tools/call", CALL)


@pytest.mark.parametrize("reply", [
    Reply(202), Reply(204), Reply(200), Reply(200, b"<html>Welcome!</html>", {
        "Content-Type": "text/html"}), Reply(200, {"message": "hello"}), Reply(200, b"[]"),
    Reply(200, b"\xff\xfe"), Reply(200, b'{"jsonrpc": "2.0", "id": 1, "resu', {})], ids=str)
def test_what_is_no_message_is_no_answer(http_server, connect, reply):
    server = http_server({"tools/call": reply})
    with pytest.raises(Failure) as caught:
        connect(server.entry()).request("tools/call", CALL)
    assert caught.value.kind == "broken"


def test_the_answer_to_another_request_is_no_answer(http_server, connect):
    server = http_server({"tools/call": Reply(200, result({"id": 99_999}, new(DONE)))})
    with pytest.raises(Failure):
        connect(server.entry()).request("tools/call", CALL)


def test_requests_and_answers_do_not_get_mixed_up(stdio_server, connect):
    program = stdio_server("""
        waiting = []
        for message in incoming():
            if message["method"] == "server/discover":
                answer(message, {"resultType": "complete", "supportedVersions": ["2026-07-28"]})
                continue
            waiting.append(message)
            if len(waiting) == 8:
                for message in reversed(waiting):
                    answer(message, {"name": message["params"]["name"]})
    """)
    connection = connect(program.entry())
    answers: dict = {}
    threads = [threading.Thread(target=lambda number=number: answers.update({
        number: connection.ask("tools/call", {"name": number, "arguments": {}})}))
        for number in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(answers) == 8)
    assert answers == {number: {"name": number} for number in range(8)}


@pytest.mark.parametrize("depth", [300, 50_000])
def test_what_is_nested_too_deeply_is_no_answer(http_server, stdio_server, connect, caplog, depth):
    deep = b'{"jsonrpc": "2.0", "id": 2, "result": {"content": %s}}' % (
        b"[" * depth + b"]" * depth)
    server = http_server({"tools/list": new({"tools": []}), "tools/call": Reply(200, deep)})
    program = stdio_server(f"""
        for message in incoming():
            if message["method"] == "server/discover":
                answer(message, {{"resultType": "complete", "supportedVersions": ["{NEWEST}"]}})
            elif message["method"] == "tools/call":
                os.write(1, {deep!r} + b"\\n")
    """)
    with caplog.at_level(logging.DEBUG, logger="mcp.wire"):
        connection = connect(server.entry())
        connection.ask("tools/list")
        for one in connection, connect(program.entry()):
            with pytest.raises(Failure, match="can't be read: it is nested too deeply"):
                one.ask("tools/call", CALL)


@pytest.fixture
def threads_in_turn():
    """Threads take turns far more often than usual, so what can happen between them does."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.parametrize("answer", [new(DONE), as_stream], ids=["JSON", "a stream"])
def test_calls_at_the_same_time_do_not_break_each_other(http_server, connect, threads_in_turn,
                                                        answer):
    server = http_server({"tools/list": new({"tools": []}), "tools/call": answer})
    connection = connect(server.entry())
    connection.ask("tools/list")
    failures = []

    def call():
        try:
            for _ in range(50):
                assert connection.ask("tools/call", CALL) == new(DONE)
        except Failure as failure:
            failures.append(str(failure))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_half_a_letter_does_not_come_through(http_server, connect, stdio_server):
    broken = rb'"content": [{"type": "text", "text": "\ud83d"}]'

    def half(message):
        return Reply(200, b'{"jsonrpc": "2.0", "id": %d, "result": {%s}}' % (message["id"], broken))

    server = http_server({"tools/call": half})
    answer = connect(server.entry()).request("tools/call", CALL)
    assert answer["content"][0]["text"] == "?"


# ── What a server asks us ────────────────────────────────────────────────────────────────

QUESTIONS = [{"jsonrpc": "2.0", "id": "s-1", "method": "ping"},
             {"jsonrpc": "2.0", "id": 2, "method": "sampling/createMessage", "params": {}},
             {"jsonrpc": "2.0", "id": 3, "method": "roots/list"}]


def check_our_answers(messages):
    ping, *others = [message for message in messages if "method" not in message]
    assert ping == {"jsonrpc": "2.0", "id": "s-1", "result": {}}
    assert [(other["id"], other["error"]["code"]) for other in others] == [
        (2, -32601), (3, -32601)]


@pytest.mark.line(33)
def test_an_old_server_may_ask_on_the_stream_and_gets_an_answer(http_server, connect):
    def asks(message):
        yield from QUESTIONS
        yield result(message, DONE)

    server = http_server({"tools/call": asks}, old="2025-06-18", session="visit-1")
    assert connect(server.entry()).ask("tools/call", CALL) == DONE
    answers = [seen for seen in server.seen if not seen.method]
    check_our_answers([seen.message for seen in answers])
    for seen in answers:
        assert seen.headers["Mcp-Session-Id"] == "visit-1"
        assert seen.headers["MCP-Protocol-Version"] == "2025-06-18"


@pytest.mark.line(33)
def test_an_old_server_may_ask_over_stdio(stdio_server, connect):
    program = stdio_server(f"""
        for message in incoming():
            if message.get("method") == "initialize":
                answer(message, {{"protocolVersion": "2025-06-18", "capabilities": {{}}}})
            elif message.get("method") == "tools/call":
                for question in {QUESTIONS}:
                    send(question)
                    next(incoming())  # it waits for each
                answer(message, {DONE})
            elif "id" in message:
                refuse(message, -32601)
    """)
    assert connect(program.entry()).ask("tools/call", CALL) == DONE
    check_our_answers(program.seen)


def test_a_new_server_may_not_ask_and_gets_none(http_server, connect):
    def asks(message):
        yield from QUESTIONS
        yield result(message, new(DONE))

    server = http_server({"tools/list": new({"tools": []}), "tools/call": asks})
    connection = connect(server.entry())
    connection.ask("tools/list")
    assert connection.ask("tools/call", CALL) == new(DONE)
    assert server.methods == ["tools/list", "tools/call"]


def asks_first(message):
    yield QUESTIONS[0]
    yield result(message, DONE)


def test_a_server_that_never_takes_our_answer_cannot_keep_us(http_server, connect):
    server = http_server({"tools/call": asks_first, "": SILENCE}, old="2025-06-18")
    with contextlib.suppress(Failure):
        connect(server.entry(timeout=1)).ask("tools/call", CALL)
    assert server.saw("")


@pytest.mark.parametrize("status", [200, 400, 404, 500])
def test_a_server_that_refuses_our_answer_may_still_answer_us(http_server, connect, status):
    server = http_server({"tools/call": asks_first, "": Reply(status, b"What?")}, old="2025-06-18")
    assert connect(server.entry()).ask("tools/call", CALL) == DONE
