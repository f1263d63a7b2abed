"""Jobs: several things at the same time, stopping them, and how long we wait."""

import json
import socket
import threading
import time
from functools import partial

import pytest
from patience import PATIENCE, eventually
from scripted_server import HANDSHAKE, SILENCE, new, progress, result

from chapters.events import (
    Event,
    Found,
    Note,
    Progress,
    Question,
    Text,
    ToolCall,
    ToolResult,
    Waiting,
)
from chapters.jobs import Job, finish, together
from chapters.outside import Failure
from chapters.versions import NEWEST
from chat import Server, list_tools

CALL = {"name": "count", "arguments": {}}
DONE = {"content": [{"type": "text", "text": "done"}]}


# ── together() ───────────────────────────────────────────────────────────────────────────


def test_the_results_are_in_the_order_of_the_works_whichever_is_ready_first():
    gates = [threading.Event() for _ in range(5)]

    def work(number, job):
        if number < 4:
            gates[number].wait(PATIENCE)  # for the one after it
        gates[number - 1].set()
        return number

    assert finish(together([partial(work, number) for number in range(5)])) == [0, 1, 2, 3, 4]


def test_all_works_run_at_the_same_time():
    meet = threading.Barrier(50)
    finish(together([lambda job: meet.wait(PATIENCE)] * 50))


def test_no_work_is_soon_done():
    assert list(together([])) == []
    assert finish(together([])) == []


def test_what_the_works_report_is_yielded_while_they_run():
    go_on = threading.Event()

    def work(job):
        job.report(Text("first"))
        go_on.wait(PATIENCE)
        job.report(Text("second"))
        return 3

    events = together([work])
    assert next(event for event in events if not isinstance(event, Waiting)) == Text("first")
    go_on.set()
    rest: list = []
    assert finish(events, rest.append) == [3]
    assert [event for event in rest if not isinstance(event, Waiting)] == [Text("second")]


def test_while_nothing_happens_that_is_said():
    done = threading.Event()
    seconds: list = []

    def show(event):
        assert isinstance(event, Waiting)
        seconds.append(event.seconds)
        if len(seconds) == 2:
            done.set()

    finish(together([lambda job: done.wait(PATIENCE)]), show)
    assert seconds == sorted(seconds) and seconds[0] > 0.4


@pytest.mark.parametrize("error", [Failure("broken", "x"), ValueError("a bug"), SystemExit(3)])
def test_an_exception_reaches_the_main_thread_when_all_have_ended(error):
    ended: list = []

    def wrong(job):
        raise error

    def right(job):
        time.sleep(0.05)
        ended.append(True)

    with pytest.raises(type(error)) as caught:
        finish(together([right, wrong, right]))
    assert caught.value is error and len(ended) == 2


def test_who_does_not_want_the_rest_stops_the_works():
    cancelled: list = []

    def work(job):
        job.report(Text("begun"))
        assert job.cancelled.wait(PATIENCE)
        cancelled.append(True)

    events = together([work] * 3)
    while not isinstance(next(events), Text):
        pass
    events.close()
    eventually(lambda: len(cancelled) == 3)


def test_a_work_that_does_not_stop_does_not_keep_us():
    stubborn, ended = threading.Event(), threading.Event()
    events = together([lambda job: stubborn.wait(PATIENCE) and ended.set()])
    next(events)
    events.close()
    assert not ended.is_set()
    stubborn.set()
    assert ended.wait(PATIENCE)


@pytest.mark.parametrize("event", [
    Text("é"), Waiting(0.5), Note("n"), Found("s", 3), Found("s", problem="p"),
    ToolCall("s", "t", {"a": [1, None]}), Progress("t", 1, None, "m"),
    ToolResult("t", "text", True, ["/tmp/x.png"]), Question("q", {"y": "yes"})])
def test_every_event_can_be_a_line_of_json(event: Event):
    line = event.json
    assert "\n" not in line
    assert json.loads(line) == {"event": type(event).__name__, **vars(event)}


# ── Stopping what waits for a server ─────────────────────────────────────────────────────


def stop(connection, is_waiting=None, params=CALL):
    """Call a tool, and stop as soon as the server is at it (None: as it says how far it is)."""
    failures: list = []

    def call(job):
        try:
            connection.ask("tools/call", params, job)
        except Failure as failure:
            failures.append(failure)
            raise

    def look(job):
        eventually(is_waiting)
        job.report(Text("Now."))

    events = together([call, look] if is_waiting else [call])
    for event in events:
        if isinstance(event, (Text, Progress)):
            break
    events.close()
    eventually(lambda: failures)
    assert failures[0].kind == "cancelled"  # so nobody has waited for the server's "timeout"


def silent(message):
    return SILENCE


def streams_for_ever(message):
    yield b": here I am\n\n"
    yield SILENCE


def progresses(message):
    yield progress(message, 1)
    yield SILENCE


WAYS = pytest.mark.parametrize("answer", [silent, streams_for_ever, progresses])


@WAYS
@pytest.mark.line(26)
def test_a_new_server_over_http_notices_that_we_have_hung_up(http_server, connect, answer):
    server = http_server({"tools/list": new({"tools": []}), "tools/call": answer})
    connection = connect(server.entry())
    connection.ask("tools/list")
    stop(connection, lambda: server.saw("tools/call"))
    assert server.hung_up.wait(PATIENCE)
    assert server.methods == ["tools/list", "tools/call"], "and nothing about cancelling"
    server.script["tools/call"] = new(DONE)
    assert connection.ask("tools/call", CALL) == new(DONE), "the next call works"


@WAYS
@pytest.mark.line(36)
def test_an_old_server_over_http_is_told(http_server, connect, answer):
    server = http_server({"tools/list": {"tools": []}, "tools/call": answer}, old="2025-06-18",
                         session="visit-1")
    connection = connect(server.entry())
    connection.ask("tools/list")
    stop(connection, lambda: server.saw("tools/call"))
    call, = server.saw("tools/call")
    note, = eventually(lambda: server.saw("notifications/cancelled"))
    assert note.message["params"]["requestId"] == call.message["id"]
    assert note.headers["Mcp-Session-Id"] == "visit-1"
    server.script["tools/call"] = DONE
    assert connection.ask("tools/call", CALL) == DONE, "the next call works"


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.line(36)
def test_a_program_is_told(stdio_server, connect, is_new):
    script = {"tools/call": "silence", "tools/list": new({"tools": []})}
    script |= {"server/discover": new({"supportedVersions": [NEWEST]})} if is_new \
        else {"initialize": HANDSHAKE}
    program = stdio_server(script)
    connection = connect(program.entry())
    connection.ask("tools/list")
    stop(connection, lambda: program.saw("tools/call"))
    call, = program.saw("tools/call")
    note, = eventually(lambda: program.saw("notifications/cancelled"))
    assert note["params"]["requestId"] == call["id"] and "id" not in note
    assert connection.ask("tools/list"), "the next request works"


def test_the_toy_stops_counting(toy_http, toy_stdio):
    for connection in toy_http, toy_stdio:
        list_tools(connection)
        stop(connection, None, {"name": "slow_count", "arguments": {"to": 60, "pause": 5}})
        assert len(list_tools(connection)) == 5


@pytest.mark.line(36)
def test_a_server_that_is_being_greeted_can_be_left_too(http_server, stdio_server, connect):
    server = http_server({"initialize": SILENCE}, old="2025-06-18")
    stop(connect(server.entry()), lambda: server.saw("initialize"))
    program = stdio_server({"server/discover": "silence"})
    stop(connect(program.entry()), lambda: program.saw("server/discover"))
    assert not server.saw("notifications/cancelled") and not program.saw("notifications/cancelled")


def test_what_was_stopped_before_it_began_does_not_begin(http_server, connect):
    server = http_server({"tools/list": new({"tools": []})})
    job = Job()
    job.cancelled.set()
    with pytest.raises(Failure) as caught:
        connect(server.entry()).ask("tools/list", job=job)
    assert caught.value.kind == "cancelled" and server.seen == []


def test_what_was_never_asked_is_not_cancelled_either(stdio_server, connect):
    program = stdio_server({"server/discover": new({"supportedVersions": [NEWEST]}),
                            "tools/list": new({"tools": []})})
    connection = connect(program.entry())
    connection.ask("tools/list")
    job = Job()
    job.cancelled.set()
    with pytest.raises(Failure):
        connection.ask("tools/call", CALL, job)
    connection.ask("tools/list")
    assert program.methods == ["server/discover", "tools/list", "tools/list"]


def test_a_server_that_is_only_half_there_can_be_left(connect):
    # It takes the connection, but nobody ever looks at what comes.
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        since = time.monotonic()
        stop(connect(Server("half", url=url)), lambda: time.monotonic() > since + 0.3)


# ── Time ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("answer", [silent, streams_for_ever])
@pytest.mark.line(45, 50)
def test_a_server_that_says_nothing_is_given_up(http_server, connect, answer):
    server = http_server({"tools/list": new({"tools": []}), "tools/call": answer})
    connection = connect(server.entry())
    connection.ask("tools/list")
    connection.server.timeout = 0.4
    begin = time.monotonic()
    with pytest.raises(Failure, match="0.4 seconds") as caught:
        connection.ask("tools/call", CALL)
    assert caught.value.kind == "timeout" and time.monotonic() - begin >= 0.4
    assert server.hung_up.wait(PATIENCE)
    assert server.methods == ["tools/list", "tools/call"], "a call is not sent again"


def test_a_program_that_says_nothing_is_given_up_and_told(stdio_server, connect):
    program = stdio_server({"server/discover": new({"supportedVersions": [NEWEST]}),
                            "tools/call": "silence"})
    connection = connect(program.entry())
    connection.ask("server/discover")
    connection.server.timeout = 0.4
    with pytest.raises(Failure, match="0.4 seconds") as caught:
        connection.ask("tools/call", CALL)
    assert caught.value.kind == "timeout"
    call, = program.saw("tools/call")
    note, = eventually(lambda: program.saw("notifications/cancelled"))
    assert note["params"]["requestId"] == call["id"]


def test_a_server_that_says_how_far_it_is_gets_more_time(http_server, connect):
    def slow(message):
        for number in range(8):
            time.sleep(0.3)
            yield progress(message, number, 8)
        yield result(message, new(DONE))

    server = http_server({"tools/list": new({"tools": []}), "tools/call": slow})
    connection = connect(server.entry(timeout=2))
    connection.ask("tools/list")
    assert connection.ask("tools/call", CALL) == new(DONE)


@pytest.mark.parametrize("what", ["progress", "comments", "notifications"])
@pytest.mark.line(45, 50)
def test_but_not_for_ever(http_server, connect, what):
    def for_ever(message):
        number = 0
        while True:
            time.sleep(0.02)
            number += 1
            yield {"progress": progress(message, number), "comments": b": still here\n\n",
                   "notifications": {"jsonrpc": "2.0", "method": "notifications/message",
                                     "params": {}}}[what]

    server = http_server({"tools/list": new({"tools": []}), "tools/call": for_ever})
    connection = connect(server.entry())
    connection.ask("tools/list")
    connection.server.timeout = 0.2
    begin = time.monotonic()
    with pytest.raises(Failure) as caught:
        connection.ask("tools/call", CALL)
    assert caught.value.kind == "timeout"
    assert time.monotonic() - begin >= 0.2


@pytest.mark.line(45)
def test_a_program_that_is_never_done_is_given_up_too(stdio_server, connect):
    program = stdio_server(f"""
        for message in incoming():
            if message["method"] == "server/discover":
                answer(message, {new({"supportedVersions": [NEWEST]})})
                continue
            for number in range(100_000):
                send({{"jsonrpc": "2.0", "method": "notifications/progress", "params": {{
                    "progressToken": message["id"], "progress": number}}}})
                time.sleep(0.02)
    """)
    connection = connect(program.entry())
    connection.ask("server/discover")
    connection.server.timeout = 0.1
    with pytest.raises(Failure) as caught:
        connection.ask("tools/call", CALL)
    assert caught.value.kind == "timeout"
    connection.transport.process.kill()


def test_one_byte_at_a_time_is_no_answer(http_server, connect):
    def drips(message):
        for byte in b"data: this takes very long, and longer, and longer, and longer still" * 9:
            time.sleep(0.02)
            yield bytes([byte])

    server = http_server({"tools/list": new({"tools": []}), "tools/call": drips})
    connection = connect(server.entry())
    connection.ask("tools/list")
    connection.server.timeout = 0.3
    with pytest.raises(Failure) as caught:
        connection.ask("tools/call", CALL)
    assert caught.value.kind == "timeout"
