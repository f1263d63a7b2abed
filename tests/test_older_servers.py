"""Older servers over HTTP: their sessions, the stream for what they say unasked, and the rest of an
answer that was broken off."""

import itertools
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import pytest
from patience import PATIENCE, eventually
from scripted_server import HANDSHAKE, SILENCE, Reply, error, new, progress, result

from chapters.events import Question
from chapters.jobs import Job, finish, with_logins
from chapters.outside import Failure
from oauth_handler import LoginNeeded

CALL = {"name": "count", "arguments": {}}
DONE = new({"content": [{"type": "text", "text": "done"}]})


@pytest.fixture
def in_session(http_server, connect):
    """in_session(script): an old server, and a connection that is in its session "visit-1"."""
    def in_session(script, **more):
        server = http_server({"tools/list": new({"tools": []}), **script}, old="2025-06-18",
                             session="visit-1")
        connection = connect(server.entry(**more))
        connection.ask("tools/list")
        return server, connection

    return in_session


def gets(server):
    return [seen for seen in server.seen if seen.verb == "GET"]


def closes(message):
    """A stream that ends early, but says how to go on: the 5th event, in so many milliseconds."""
    yield b"id: 5\nretry: 20\ndata:\n\n"


@pytest.mark.line(2)
def test_the_headers_to_an_old_server(http_server, connect):
    server = http_server({"tools/list": {"tools": []}, "tools/call": DONE}, old="2025-06-18",
                         session="visit-1")
    connection = connect(server.entry())
    connection.ask("tools/list")
    connection.ask("tools/call", CALL)
    for seen in server.seen:
        assert seen.headers["Accept"] == "application/json, text/event-stream"
        assert seen.headers["Content-Type"] == "application/json"
    for seen in server.seen[2:]:
        assert seen.headers["MCP-Protocol-Version"] == "2025-06-18"
        assert seen.headers["Mcp-Session-Id"] == "visit-1"
        assert seen.headers["Mcp-Method"] is seen.headers["Mcp-Name"] is None


@pytest.mark.line(18)
def test_to_a_new_server_we_only_post_requests_whatever_it_sends(http_server, connect):
    def in_a_session(message):
        return Reply(200, b"id: 5\nretry: 1\ndata:\n\nid: 6\ndata: %s\n\n" % json.dumps(
            result(message, DONE)).encode(), {"Content-Type": "text/event-stream",
                                              "Mcp-Session-Id": "visit-1"})

    def breaks_off(message):
        yield b"id: 7\nretry: 1\ndata:\n\n"

    server = http_server({"tools/list": in_a_session, "tools/call": [breaks_off, SILENCE]})
    connection = connect(server.entry())
    connection.ask("tools/list")
    for kind in "broken", "timeout":  # no GET for the rest, and no notifications/cancelled
        with pytest.raises(Failure) as caught:
            connection.ask("tools/call", CALL)
        assert caught.value.kind == kind
        connection.server.timeout = 0.3
    connection.close()
    assert [(seen.verb, seen.method) for seen in server.seen] == [
        ("POST", "tools/list"), ("POST", "tools/call"), ("POST", "tools/call")], "and no DELETE"
    for seen in server.seen:
        assert seen.headers["Mcp-Session-Id"] is seen.headers["Last-Event-ID"] is None


# ── Sessions ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.line(32)
def test_a_lost_session_is_opened_anew_once_for_all(in_session):
    server, connection = in_session({"tools/call": DONE})
    server.session = "visit-2"  # it has forgotten the first
    start = threading.Barrier(8)

    def call(number):
        start.wait(PATIENCE)
        return connection.ask("tools/call", CALL)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, range(8))) == [DONE] * 8
    assert [seen.headers["Mcp-Session-Id"] for seen in server.saw("initialize")] == [None, None]
    sessions = [seen.headers["Mcp-Session-Id"] for seen in server.saw("tools/call")]
    assert sessions.count("visit-2") == 8 and 1 <= sessions.count("visit-1") <= 8


@pytest.mark.line(32)
def test_a_session_that_is_lost_twice_is_a_failure(in_session):
    server, connection = in_session({"tools/call": Reply(404)})
    with pytest.raises(Failure):
        connection.ask("tools/call", CALL)
    assert len(server.saw("tools/call")) == 2 == len(server.saw("initialize"))


def test_who_knows_us_and_speaks_of_sessions_is_not_called_twice(in_session):
    text = "Paid, but there is no tmux session called dev."
    server, connection = in_session(
        {"tools/call": lambda message: Reply(400, error(message, -32602, text))})
    with pytest.raises(Failure, match=text):
        connection.ask("tools/call", CALL)
    assert len(server.saw("tools/call")) == 1 == len(server.saw("initialize"))
    server.script["tools/call"] = DONE  # (if it did mean ours, the next call begins anew)
    assert connection.ask("tools/call", CALL) == DONE and len(server.saw("initialize")) == 2


@pytest.mark.parametrize("status", [402, 408, 409, 412, 425])
def test_a_status_that_says_nothing_of_lost_sessions_does_not_mean_one(in_session, status):
    words = b"Your session is at work. The call waits in line."
    server, connection = in_session({"tools/call": Reply(status, words)})
    with pytest.raises(Failure, match="waits in line") as caught:
        connection.ask("tools/call", CALL)
    assert caught.value.kind == "status"
    assert len(server.saw("tools/call")) == 1 == len(server.saw("initialize"))


def test_a_goodbye_without_end_is_not_read(in_session):
    server, connection = in_session({"": lambda message: itertools.repeat(b"x" * 2**20)})
    connection.close()
    assert server.hung_up.wait(PATIENCE) and server.seen[-1].verb == "DELETE"


# ── The rest of an answer ────────────────────────────────────────────────────────────────


@pytest.mark.line(35)
def test_a_stream_that_was_closed_on_purpose_goes_on_in_a_get(in_session):
    times: list = []

    def begins(message):
        yield b"id: 4\nretry: 300\ndata:\n\n"
        yield progress(message, 1)
        times.append(time.monotonic())

    def goes_on(message):
        times.append(time.monotonic())
        yield from closes(message)

    def ends(message):
        yield result(server.saw("tools/call")[0].message, DONE)

    server, connection = in_session({"tools/call": begins, "GET": [goes_on, ends]})
    assert connection.ask("tools/call", CALL) == DONE
    assert len(server.saw("tools/call")) == 1
    assert [seen.headers["Last-Event-ID"] for seen in gets(server)] == ["4", "5"]
    for seen in gets(server):
        assert seen.headers["Mcp-Session-Id"] == "visit-1"
        assert seen.headers["MCP-Protocol-Version"] == "2025-06-18"
        assert seen.headers["Accept"] == "text/event-stream"
    assert times[1] - times[0] > 0.25, "300 ms, as it said"


@pytest.mark.line(35)
def test_a_stream_that_leads_nowhere_is_given_up(in_session):
    server, connection = in_session({"tools/call": closes, "GET": closes}, timeout=2)
    with pytest.raises(Failure, match="no answer for 2 seconds"):
        connection.ask("tools/call", CALL)
    assert len(server.saw("tools/call")) == 1 <= len(gets(server)) <= 10


@pytest.mark.parametrize("page", [Reply(200, b"<h1>It works!</h1>"), Reply(200, {"status": "ok"})])
def test_where_a_get_leads_to_a_page_there_is_no_stream_to_come_back_to(http_server, connect, page):
    # Some have a page at their address, to show that they run.
    server = http_server({"tools/list": {"tools": []}, "GET": page}, old="2025-06-18")
    connection = connect(server.entry(), person=threading.Lock())
    connection.ask("tools/list")
    with pytest.raises(Failure, match="not with MCP"):
        list(connection.transport.listener.each(PATIENCE))
    assert len(gets(server)) == 1


@pytest.mark.parametrize("refusal", [
    Reply(405), Reply(405, error({"id": "server-error"}, -32600, "Method Not Allowed")),
    Reply(400, error({}, -32000, "No streams here."))], ids=["405", "in JSON", "without an id"])
def test_an_answer_that_broke_off_is_what_counts_if_its_rest_is_refused(in_session, refusal):
    server, connection = in_session({"tools/call": closes, "GET": refusal})
    with pytest.raises(Failure, match="it hung up without answering tools/call") as caught:
        connection.ask("tools/call", CALL)
    assert caught.value.kind == "broken" and len(server.saw("tools/call")) == 1


# ── Where side roads cross ───────────────────────────────────────────────────────────────
#
# A session that is lost while a person thinks, a login in the middle of a call, a redirect of the
# other stream. Each of these was a defect once.


def old_server(http_server, script, **more):
    return http_server({"tools/list": new({"tools": []}), "tools/call": DONE} | script,
                       old="2025-06-18", **more)


@pytest.fixture
def meet(connect):
    """meet(server) is a connection that has said hello. Somebody is there."""
    def meet(server, person=True, **more):
        connection = connect(server.entry(), person=threading.Lock() if person else None, **more)
        connection.ask("tools/list")
        return connection

    return meet


def call(connection, person=lambda asked: None, *beside):
    """Call a tool, and do other things beside it: what comes of each. The person answers."""
    def show(event):
        if isinstance(event, Question):
            event.answer = person(event)

    return finish(with_logins([
        lambda job: connection.ask("tools/call", CALL, job), *beside]), show)


def question(number, **fields):
    return {"jsonrpc": "2.0", "id": number, "method": "elicitation/create", "params": {
        "message": "Really?", "requestedSchema": {"type": "object", "properties": fields}}}


def replies(server):
    return [seen.message for seen in server.seen if {"result", "error"} & set(seen.message)]


def says(*steps):
    """An event stream. A threading.Event in it is waited for, and DONE is sent as the result."""
    return lambda message: (
        result(message, DONE) if step is DONE else step for step in steps
        if not isinstance(step, threading.Event) or not step.wait(PATIENCE))


STAYS = says(b": here\n\n", SILENCE)
STOPS = says(b"id: 1\nretry: 10\ndata:\n\n")  # early, but it says how to go on
PING = {"jsonrpc": "2.0", "id": "p", "method": "ping"}
NO_STREAM = Reply(405, error({}, -32000, "Not allowed."))  # so do servers in TypeScript say it


def test_an_answer_does_not_reach_the_next_visit(http_server, meet):
    # Servers count their questions, so the first one of each visit has the same id.
    shown, heard = threading.Event(), threading.Event()

    def agrees_too_late(asked):
        server.session = "visit-2"
        connection.ask("tools/list")  # this finds out, and shakes hands again
        shown.set()
        return "y"

    server = old_server(http_server, {
        "tools/call": [says(question(0), shown), says(question(0), heard, DONE)],
        "": lambda message: message and heard.set() or Reply(202)}, session="visit-1")
    connection = meet(server)
    assert "hung up" in str(call(connection, agrees_too_late))
    assert call(connection, lambda asked: "d") == [DONE]
    assert [one["result"] for one in replies(server)] == [{"action": "decline"}]


def test_a_new_handshake_hangs_up_on_nobody(http_server, meet):
    # The connection of the GET that was refused may serve somebody else by then.
    both = threading.Barrier(2)

    def do(message):
        if both.wait(PATIENCE) == 0:
            server.session = "visit-2"
            connection.ask("tools/list")
        both.wait(PATIENCE)
        return DONE

    server = old_server(http_server, {"GET": NO_STREAM, "tools/call": do}, session="visit-1")
    connection = meet(server)
    eventually(lambda: gets(server))
    two = call(connection, None, lambda job: connection.ask("tools/call", CALL, job))
    assert two == [DONE] * 2 and len(server.saw("tools/call")) == 2


def test_no_second_hello_is_said_with_a_call(http_server, meet):
    # This server doesn't mind what is new in our request, and so would do at once what it says.
    def shake(message):
        return Reply(200, result(message, HANDSHAKE), {"Mcp-Session-Id": "visit"})

    server = http_server({
        "initialize": [shake, Reply(503), shake], "tools/list": {"tools": []}, "tools/call": [
            Reply(400, error({}, -32000, "No store of sessions.")), {"content": []}]})
    connection = meet(server)
    assert "503" in str(call(connection)) and call(connection) == [{"content": []}]
    assert len(server.saw("tools/call")) == 2, "the one that was refused, and this one"


def test_after_a_second_handshake_the_end_of_the_old_stream_is_no_news(http_server, meet):
    server = old_server(http_server, {"GET": [STAYS, SILENCE], "tools/call": [
        DONE, lambda message: times.append(time.monotonic()) or DONE]}, session="visit-1")
    connection, times = meet(server), []
    connection.ask("tools/call", CALL)
    assert len(gets(server)) == 1
    server.session = "visit-2"
    connection.ask("tools/list")  # this finds out, and shakes hands again
    assert server.hung_up.wait(PATIENCE), "nobody needs the first stream any more"
    times.append(time.monotonic())
    connection.ask("tools/call", CALL)
    assert times[1] - times[0] > 0.9, "a call waits for the new stream, although not for ever"


def test_a_get_stream_that_is_elsewhere_and_breaks(http_server, meet):
    def breaks(message):
        yield b"retry: 20\n\n"
        raise ConnectionResetError

    server = old_server(http_server, {
        "notifications/initialized": STOPS,  # though it says how, there is nothing to go on with
        "GET": [Reply(307, b"", {"Location": "/x"}), breaks, STAYS]})
    connection = meet(server)
    assert eventually(lambda: gets(server)[2:]) and call(connection) == [DONE]
    assert [seen.path for seen in server.seen if seen.path != "/mcp"] == ["/x"]
    assert {seen.headers["Last-Event-ID"] for seen in gets(server)} == {None}


@pytest.mark.parametrize("status", [409, 502])
def test_after_one_refusal_the_stream_for_what_it_says_unasked_is_heard_again(
        http_server, meet, status):
    # It hasn't noticed yet that a proxy has cut the first (409), or the proxy begins anew (502).
    called, answered = threading.Event(), threading.Event()

    def do(message):
        called.set()
        assert answered.wait(PATIENCE)
        return DONE

    server = old_server(http_server, {
        "GET": [STOPS, Reply(status), says(called, question(0), SILENCE)], "tools/call": do,
        "": lambda message: message and answered.set() or Reply(202)})
    connection = meet(server)
    assert eventually(lambda: gets(server)[2:])
    assert call(connection, lambda asked: "y") == [DONE]
    assert [one["result"]["action"] for one in replies(server)] == ["accept"]


def test_a_server_that_refuses_that_stream_again_and_again_is_soon_left_alone(http_server, meet):
    server = old_server(http_server, {"GET": [STOPS, STOPS, Reply(409)]})
    connection = meet(server)
    assert list(connection.transport.listener.each(PATIENCE)) == [], "to its end"
    assert 3 < len(gets(server)) < 10 and call(connection) == [DONE]


def test_a_call_that_is_resumed_again_and_again_has_its_time_too(http_server, meet):
    def part(message):
        if len(gets(server)) == 100:  # after 5 seconds at least
            yield result(server.saw("tools/call")[0].message, DONE)
        yield b"id: %d\nretry: 0\ndata:\n\n" % len(server.seen)

    server = old_server(http_server, {"tools/call": part, "GET": part})
    connection = meet(server, person=False)
    connection.server.timeout = 0.5
    assert "no answer for 0.5 seconds" in str(call(connection))


@pytest.mark.parametrize("do", [STOPS, says(PING, DONE), SILENCE], ids=["GET", "ping", "late"])
def test_a_call_that_runs_is_not_made_again_after_a_login(http_server, meet, do):
    def credentials(request):  # once we have met, they are good for calls only
        if met and "tools/call" not in str(request.body):
            needed.append(LoginNeeded(SimpleNamespace(name="s"), {}, "", ""))
            needed[-1].login = lambda: None  # after it, the call could be made again
            raise needed[-1]
        return request

    server, needed, met = old_server(http_server, {"tools/call": do}), [], []
    connection = meet(server, person=False, auth=credentials)
    met.append(True)
    connection.server.timeout = 0.5
    call(connection)
    assert needed and len(server.saw("tools/call")) == 1


def test_a_flood_of_questions_is_no_flood_of_threads(http_server, meet):
    questions = [question(number, **{f"f{number}": {}}) for number in range(1000)]
    def waits(asked):
        eventually(lambda: len(replies(server)) > 900 or threading.active_count() > before + 100)
        most.append(threading.active_count())
        ends.set()

    ends, most = threading.Event(), []
    server = old_server(http_server, {"tools/call": says(*questions, ends, DONE)})
    connection, before = meet(server), threading.active_count()
    assert call(connection, waits) == [DONE] and max(most) < before + 30


def test_a_form_whose_call_has_ended_is_answered_all_the_same(http_server, meet):
    shown, ended = threading.Event(), threading.Event()

    def do(message):
        yield question(0, a={}, b={})
        assert shown.wait(PATIENCE)
        yield result(message, DONE)
        ended.set()

    def types(asked):
        shown.set()
        assert ended.wait(PATIENCE)
        return "y"

    server = old_server(http_server, {"tools/call": do})
    assert call(meet(server), types) == [DONE]
    assert [one["result"] for one in replies(server)] == [
        {"action": "accept", "content": {"a": "y", "b": "y"}}]


@pytest.mark.parametrize("code", [-32022, -32042, -32020])
def test_an_error_in_place_of_the_rest_of_an_answer_does_not_repeat_the_call(in_session, code):
    refuses = Reply(200, error({}, code, "No.", {"supported": ["2026-07-28"], "elicitations": []}))
    server, connection = in_session({"tools/call": closes, "GET": refuses})
    connection.offers.fetch("tools", Job())
    with pytest.raises(Failure):
        connection.ask("tools/call", CALL)
    assert len(server.saw("tools/call")) == 1


def test_the_answer_to_a_handshake_may_come_in_two_parts(http_server, connect):
    server = http_server({"tools/list": {"tools": []}}, old="2025-11-25", session="visit-1")
    begin = Reply(200, b"id: 5\nretry: 20\ndata:\n\n", {
        "Content-Type": "text/event-stream", "Mcp-Session-Id": "visit-1"})

    def ends(message):
        yield result(server.saw("initialize")[0].message, {
            "protocolVersion": "2025-11-25", "capabilities": {}})

    server.script |= {"initialize": begin, "GET": ends}
    assert connect(server.entry()).ask("tools/list") == {"tools": []}
    assert gets(server)[0].headers["Mcp-Session-Id"] == "visit-1"


@pytest.mark.parametrize("status", [404, 429, 401])
def test_an_answer_that_a_server_does_not_take_is_no_reason_to_call_again(
        http_server, connect, status):
    # The tool is at work there: sent again, the call would be done twice.
    def asks_us(message):
        yield {"jsonrpc": "2.0", "id": "s-1", "method": "elicitation/create", "params": {
            "message": "Which?", "requestedSchema": {"properties": {"key": {"type": "string"}}}}}
        yield SILENCE

    server = http_server({"tools/list": {"tools": []}, "tools/call": asks_us,
                          "": Reply(status, b"", {"Retry-After": "0"})}, old="2025-06-18")
    connection = connect(server.entry(), person=threading.Lock())

    def show(event):
        if isinstance(event, Question):
            event.answer = "y" if event.choices else "open"

    [failure] = finish(with_logins([partial(
        connection.ask, "tools/call", {"name": "do", "arguments": {}})]), show)
    assert "our answer didn't reach it" in str(failure)
    assert len(server.saw("tools/call")) == 1


def test_a_session_is_ended_once_however_often_we_close(http_server, connect):
    server = http_server({"tools/list": {"tools": []}}, old="2025-06-18", session="visit-1")
    connection = connect(server.entry())
    connection.ask("tools/list")
    connection.close()
    connection.close()
    assert [seen.verb for seen in server.seen].count("DELETE") == 1
