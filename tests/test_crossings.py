"""Where side roads cross: a session that is lost while a person thinks, a login in the middle of
a call, a redirect of the other stream. Each of these was a defect once."""

import contextlib
import logging
import select
import threading
import time
from http.server import HTTPServer

import pytest
from patience import PATIENCE, eventually
from scripted_server import HANDSHAKE, SILENCE, Reply, error, new, result
from test_checklist import CALL, CAN_ASK, DONE, asks, form, gets, happening, offers, old_server

from chat import Failure, HttpConnection, StdioConnection, ask, full_name, mirrored_in, with_logins
from oauth_handler import LoginNeeded


@pytest.fixture
def meet(connect):
    """meet(server) is a connection that has said hello. Somebody is there."""
    def meet(server, able=CAN_ASK, **more):
        connection = connect(server.entry(**more))
        connection.capabilities = able
        ask(connection, "tools/list")
        return connection
    return meet


def call(connection, person=lambda asked: None, *beside):
    """Call "do", and do other things beside it: what comes of each."""
    return happening(with_logins([
        lambda job: ask(connection, "tools/call", CALL, job), *beside]), person)[0]


def question(number, **fields):
    return {"jsonrpc": "2.0", "id": number, **form("Really?", **fields)}


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
        ask(connection, "tools/list")  # this finds out, and shakes hands again
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
    # The line of the GET that was refused may be somebody else's by then.
    both = threading.Barrier(2)
    def do(message):
        if both.wait(PATIENCE) == 0:
            server.session = "visit-2"
            ask(connection, "tools/list")
        both.wait(PATIENCE)
        return DONE
    server = old_server(http_server, {"GET": NO_STREAM, "tools/call": do}, session="visit-1")
    connection = meet(server)
    connection.listener.join(PATIENCE)
    two = call(connection, None, lambda job: ask(connection, "tools/call", CALL, job))
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
    server = old_server(http_server, {"GET": [STAYS, SILENCE]})
    connection = meet(server)
    first = connection.listener
    assert connection.listens.wait(PATIENCE)
    connection.ready = False
    ask(connection, "tools/list")
    first.join(PATIENCE)
    assert not connection.listens.is_set(), "a call still waits for the new one"


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


@pytest.mark.parametrize("able", [{}, CAN_ASK], ids=["nobody is there", "somebody is"])
def test_a_server_may_serve_one_connection_after_the_other(http_server, able):
    class GetComesFirst(HttpConnection):
        def listen(self):  # which of the two comes first is else left to chance
            super().listen()
            eventually(lambda: not self.lines)
    def get(message):  # it lasts until the next one stands in line
        return select.select([one.socket], [], [], 20) and NO_STREAM
    server = old_server(http_server, {"GET": get}, session="visit-1")
    one = HTTPServer(("127.0.0.1", 0), server.listener.RequestHandlerClass)  # it has no threads
    threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
    connection = GetComesFirst(server.entry(
        url=f"http://127.0.0.1:{one.server_address[1]}/mcp", timeout=10))
    connection.capabilities = able
    with contextlib.ExitStack() as at_the_end:
        for end in one.server_close, one.shutdown, connection.close:
            at_the_end.callback(end)
        assert call(connection) == [DONE]
    assert server.methods[-1] == "DELETE" and len(gets(server)) == bool(able)


def test_a_call_that_is_resumed_again_and_again_has_its_time_too(http_server, meet):
    def part(message):
        if len(gets(server)) == 100:  # after 5 seconds at least
            yield result(server.saw("tools/call")[0].message, DONE)
        yield b"id: %d\nretry: 0\ndata:\n\n" % len(server.seen)
    server = old_server(http_server, {"tools/call": part, "GET": part})
    connection = meet(server, able={})
    connection.server.timeout = 0.5
    assert "no answer for 0.5 seconds" in str(call(connection))


@pytest.mark.parametrize("do", [STOPS, says(PING, DONE), SILENCE], ids=["GET", "ping", "late"])
def test_a_call_that_runs_is_not_made_again_after_a_login(http_server, meet, do):
    def credentials(request):  # they are no longer good for anything else
        if "tools/call" not in str(request.body):
            needed.append(LoginNeeded(None, {}, "", ""))
            needed[-1].login = lambda: None  # after it, the call could be made again
            raise needed[-1]
        return request
    server, needed = old_server(http_server, {"tools/call": do}), []
    connection = meet(server, able={})
    connection.auth, connection.server.timeout = credentials, 0.5
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


def test_a_form_ends_with_its_call(http_server, meet):
    shown, over, questions = threading.Event(), threading.Event(), []
    def types(asked):
        questions.append(asked)
        for job in [] if shown.is_set() else [*connection.jobs]:
            shown.set()
            job.join(PATIENCE)
        return "y"
    server = old_server(http_server, {"tools/call": says(question(0, a={}, b={}), shown, DONE),
                                      "": lambda message: over.set() or Reply(202)})
    connection = meet(server)
    call(connection, types, lambda job: over.wait(PATIENCE))  # so that more could be asked
    assert len(questions) == 1 and replies(server)[0]["result"] == {"action": "cancel"}


def test_questions_in_a_wrong_shape_end_the_call(http_server, meet):
    server = http_server({"tools/list": offers(), "tools/call": asks([form()])})
    assert "say to what" in str(call(meet(server))) and len(server.saw("tools/call")) == 1


def test_a_program_that_ends_with_its_hello_is_started_again(stdio_server):
    class SlowHello(StdioConnection):
        def listen(self):  # the first hello isn't through before the program has ended
            eventually(lambda: self.visits > 1 or not self.alive)
    program = stdio_server(f"""
        script = {{"initialize": {HANDSHAKE}, "tools/call": {DONE}}}
        serve(script if log.tell() else script | {{"notifications/initialized": "exit"}})
    """)
    with contextlib.closing(SlowHello(program.entry())) as connection:
        connection.capabilities = CAN_ASK  # so that it listens
        assert "ended" in str(call(connection)) and call(connection) == [DONE]


def test_a_program_that_starts_while_we_close_is_ended(stdio_server, connect):
    class Arguments(list):
        def __iter__(self):  # they are looked at just before it starts
            connection.close()
            return super().__iter__()
    connection = connect(stdio_server({}).entry(args=Arguments(["program.py"])))
    with pytest.raises(Failure, match="stopped"):
        ask(connection, "tools/list")
    assert connection.process.poll() is not None


def test_nothing_listens_to_a_server_that_is_closed(http_server, connect):
    server = old_server(http_server, {"GET": STAYS, "notifications/initialized":
                                      lambda message: connection.close() or Reply(202)})
    connection = connect(server.entry())
    connection.capabilities = CAN_ASK
    ask(connection, "tools/list")
    connection.listener.join(PATIENCE)
    assert not connection.listener.is_alive() and gets(server) == []


def test_the_thousandth_name_is_not_too_long():
    taken: list[str] = []
    while len(taken) < 1001:
        taken.append(full_name("s", "a" * 70, taken))
    assert len({*taken}) == 1001 and max(map(len, taken)) == 64


def test_many_headers_take_no_longer_for_each_than_a_few():
    def seconds(count):
        schema = {"properties": {f"a{number}": {"type": "string", "x-mcp-header": f"H{number}"}
                                 for number in range(count)}}
        begin = time.thread_time()
        return mirrored_in(schema) and time.thread_time() - begin
    few, many = (min(map(seconds, [count] * 5)) for count in (1000, 8000))  # (Python tidies up)
    assert many < 24 * max(few, 0.001)  # 8 would do; squared, it is 64


def test_no_secret_of_an_address_is_in_the_trace(http_server, meet, caplog):
    url = "https://example.com/?key=SECRET"
    server = http_server({"tools/list": new({"tools": [], "url": 'https://a.b/"?key=SECRET'}),
                          "resources/read": new({"contents": [{"uri": url, "text": ""}]})})
    with caplog.at_level(logging.DEBUG, logger="mcp.wire"):
        ask(meet(server), "resources/read", {"uri": url})
    assert caplog.text.count("example.com/?key=***") == 3 and "SECRET" not in caplog.text
