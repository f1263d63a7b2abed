"""What has failed is asked for again, where that certainly does no harm (chapters/failures.py)."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from patience import eventually
from scripted_server import HANDSHAKE, Reply, error, new

from chapters.failures import does_no_harm
from chapters.outside import Failure
from chapters.versions import NEWEST
from chat import list_tools

CALL = {"name": "count", "arguments": {}}


def tools(*names, **more):
    return new({"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names],
                **more})


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
    assert does_no_harm(failure, "tools/list") is a_list
    assert does_no_harm(failure, "tools/call") is a_call


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
            connection.ask("tools/call", CALL)
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
            connection.ask(method, CALL)
    assert server.methods == ["tools/list", "tools/list", "tools/call"]


def test_a_call_that_was_certainly_not_looked_at_is_sent_again(http_server, connect):
    busy = Reply(429, b"", {"Retry-After": "0"})
    server = http_server({"tools/list": tools("a"), "tools/call": [busy, new({"content": []})]})
    connection = connect(server.entry())
    list_tools(connection)
    connection.ask("tools/call", CALL)
    assert len(server.saw("tools/call")) == 2


def test_a_call_to_a_program_that_dies_is_sent_once(stdio_server, connect):
    program = stdio_server({"server/discover": new({"supportedVersions": [NEWEST]}),
                            "tools/list": tools("a"), "tools/call": "exit"})
    connection = connect(program.entry())
    list_tools(connection)
    with pytest.raises(Failure, match="ended"):
        connection.ask("tools/call", CALL)
    assert len(program.saw("tools/call")) == 1
    eventually(lambda: not connection.transport.alive)
    assert list_tools(connection), "and then it is started again"


def test_a_call_whose_connection_breaks_is_sent_once(http_server, connect):
    def breaks(message):
        raise ConnectionError

    server = http_server({"tools/list": tools("a"), "tools/call": breaks})
    connection = connect(server.entry())
    list_tools(connection)
    with pytest.raises(Failure) as caught:
        connection.ask("tools/call", CALL)
    assert caught.value.kind == "broken" and len(server.saw("tools/call")) == 1


PAID = "The bank didn't answer, but the money is gone."


@pytest.mark.parametrize("old", [False, True], ids=["a new program", "an older one"])
def test_an_error_minus_32020_of_a_program_is_no_reason_to_call_again(stdio_server, connect, old):
    # (There, no headers can be wrong. So it means something else.)
    meets = {"initialize": HANDSHAKE} if old else {
        "server/discover": new({"supportedVersions": [NEWEST]})}
    program = stdio_server({**meets, "tools/list": tools("pay"), "tools/call": [-32020, PAID]})
    connection = connect(program.entry())
    list_tools(connection)
    with pytest.raises(Failure, match=PAID):
        connection.ask("tools/call", CALL)
    assert len(program.saw("tools/call")) == 1


def test_an_error_minus_32020_of_an_older_server_is_no_reason_to_call_again(http_server, connect):
    server = http_server({"tools/list": tools("pay"), "tools/call":
                          lambda message: Reply(200, error(message, -32020, PAID))}, "2025-06-18")
    connection = connect(server.entry())
    list_tools(connection)
    with pytest.raises(Failure, match=PAID):
        connection.ask("tools/call", CALL)
    assert len(server.saw("tools/call")) == 1
