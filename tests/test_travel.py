"""Part 3: how a message gets to a server and back, over HTTP and over stdio."""

import base64
import contextlib
import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE, eventually
from scripted_server import (
    SILENCE,
    Reply,
    error,
    new,
    progress,
    result,
)

import chat
from chat import (
    MAX_BYTES,
    NEWEST,
    Failure,
    Job,
    Server,
    ask,
    finish,
    header_value,
    list_tools,
    read_events,
    request,
    together,
)

CALL = {"name": "count", "arguments": {}}
DONE = new({"content": [{"type": "text", "text": "done"}]})
MEET = {"server/discover": new({"supportedVersions": [NEWEST]})}


# ── Event streams ────────────────────────────────────────────────────────────────────────

EVENTS = "\ufeff: hi\r\ndata: {\rdata:\t\"é\"\ndata\r\n\r\nid: 7\n\nevent: x\rdata: 😀 \r\rdata: no"
THREE = [{"data": '{\n\t"é"\n'}, {"id": "7"}, {"event": "x", "data": "😀 "}]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.line(4)
def test_an_event_stream_with_everything_in_it(size):
    stream = EVENTS.encode()
    assert list(read_events(stream[at:at + size] for at in range(0, len(stream), size))) == THREE


def test_an_event_is_there_as_soon_as_its_last_line_ends():
    # Not when the next chunk comes: that may be in a minute.
    for end in b"\n\n", b"\r\r", b"\r\n\r\n":
        def chunks(end=end):
            yield b"data: 1" + end
            raise AssertionError("it wanted more")

        assert next(read_events(chunks())) == {"data": "1"}


def test_an_event_whose_type_is_empty_is_a_message(http_server, connect):
    def answer(message):
        yield b"event:\ndata: %s\n\n" % json.dumps(result(message, DONE)).encode()

    server = http_server({"tools/call": answer})
    assert request(connect(server.entry()), "tools/call", CALL) == DONE


@pytest.mark.parametrize("chunk", [b"x" * 65536, b"data: " + b"x" * 65530 + b"\n",
                                   b"data: x\n" * 8192, b"data\n" * 13_000],
                         ids=["a line", "long lines", "short lines", "empty lines"])
def test_an_event_without_end_is_refused(chunk):
    def chunks():
        for _ in range(2 * MAX_BYTES // len(chunk)):
            yield chunk
        raise AssertionError("twice as much as the limit")

    with pytest.raises(Failure, match="more than 32 MB"):
        list(read_events(chunks()))


def test_a_stream_may_be_as_long_as_it_likes():
    # Only one event may not.
    parts = [b": " + b"x" * 40_000 + b"\n", b"data: x\n\n"] * 1000
    assert list(read_events(parts)) == [{"data": "x"}] * 1000


def test_a_long_event_takes_no_longer_per_byte_than_a_short_one():
    def seconds(megabytes):
        begin = time.thread_time()
        assert len(list(read_events([b"data: "] + [b"x" * 4096] * (256 * megabytes)
                                    + [b"\n\n"]))) == 1
        return time.thread_time() - begin

    seconds(1)
    assert seconds(16) < 60 * max(seconds(1), 0.005)  # 16 times would do; squared, it is 256


# ── Headers ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text, value", [
    ("us-west1", "us-west1"), ("us west 1", "us west 1"), ("", ""), ("a\"\\~!", "a\"\\~!"),
    ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="), (" padded ", "=?base64?IHBhZGRlZCA=?="),
    ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="), ("a\tb", "=?base64?YQli?="),
    ("=?base64?SGk=?=", "=?base64?PT9iYXNlNjQ/U0dr" + "PT89?="), (3, "3"),
])
@pytest.mark.line(17)
def test_what_a_header_cannot_hold_travels_in_base64(text, value):
    assert header_value(text) == value


@given(st.text())
def test_a_header_can_always_be_read_back(text):
    value = header_value(text)
    assert re.fullmatch(r"[ -~]*", value) and value == value.strip()
    if value.startswith("=?base64?"):
        value = base64.b64decode(value[9:-2]).decode("utf-8")
    assert value == text.encode("utf-8", "replace").decode()


@pytest.mark.line(2, 16, 17)
def test_the_headers_to_a_new_server(http_server, connect):
    server = http_server({"tools/list": new({"tools": []}), "tools/call": DONE,
                          "prompts/get": new({}), "resources/read": new({})})
    connection = connect(server.entry(headers={"Authorization": "Bearer key", "accept": "x/y",
                                               "mcp-method": "mine"}))
    for method, params in [("tools/list", None), ("tools/call", {"name": "día", "arguments": {}}),
                           ("prompts/get", {"name": "postcard"}),
                           ("resources/read", {"uri": "toy://poem"})]:
        request(connection, method, params)
    for seen in server.seen:
        assert (seen.verb, seen.path) == ("POST", "/mcp")
        assert seen.headers.get_all("Accept") == ["application/json, text/event-stream"]
        assert seen.headers["Content-Type"] == "application/json"
        assert seen.headers["MCP-Protocol-Version"] == NEWEST == \
            seen.message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"]
        assert seen.headers.get_all("Mcp-Method") == [seen.method]
        assert seen.headers["Authorization"] == "Bearer key"
        assert seen.headers["Mcp-Session-Id"] is None and seen.headers["Origin"] is None
    assert [seen.headers["Mcp-Name"] for seen in server.seen] == [
        None, "=?base64?ZMOtYQ==?=", "postcard", "toy://poem"]


@pytest.mark.line(2)
def test_the_headers_to_an_old_server(http_server, connect):
    server = http_server({"tools/list": {"tools": []}, "tools/call": DONE}, old="2025-06-18",
                         session="visit-1")
    connection = connect(server.entry())
    ask(connection, "tools/list")
    ask(connection, "tools/call", CALL)
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
    ask(connection, "tools/list")
    connection.server.timeout = 2
    for kind in "broken", "timeout":  # no GET for the rest, and no notifications/cancelled
        with pytest.raises(Failure) as caught:
            ask(connection, "tools/call", CALL)
        assert caught.value.kind == kind
    connection.close()
    assert [(seen.verb, seen.method) for seen in server.seen] == [
        ("POST", "tools/list"), ("POST", "tools/call"), ("POST", "tools/call")], "and no DELETE"
    for seen in server.seen:
        assert seen.headers["Mcp-Session-Id"] is seen.headers["Last-Event-ID"] is None


@pytest.mark.parametrize("headers", [{"X-Key": "käse 世界"}, {"X-Key": "two\nlines"},
                                     {"X-Key": " padded"}, {"X Key:": "x"}, {"": "x"}, {"Ä": "x"}],
                         ids=str)
def test_headers_that_cannot_be_sent_are_a_failure_like_others(http_server, connect, headers):
    server = http_server({"tools/list": new({"tools": []})})
    with contextlib.suppress(Failure):
        ask(connect(server.entry(headers=headers)), "tools/list")


# ── The way there, over HTTP ─────────────────────────────────────────────────────────────


def answer_as_stream(message):
    yield result(message, DONE)


@pytest.mark.parametrize("answer", [DONE, answer_as_stream], ids=["JSON", "a stream"])
def test_one_connection_serves_all_requests(http_server, connect, answer):
    server = http_server({"tools/list": answer, "tools/call": answer})
    connection = connect(server.entry())
    for _ in range(5):
        ask(connection, "tools/list")
        ask(connection, "tools/call", CALL)
    assert len(server.seen) == 10 and server.connections == 1


def test_one_connection_serves_an_old_server(http_server, connect):
    server = http_server({"tools/call": answer_as_stream}, old="2025-06-18", session="visit-1")
    connection = connect(server.entry())
    for _ in range(5):
        ask(connection, "tools/call", CALL)
    shaken = server.methods.index("initialize")
    assert len({seen.connection for seen in server.seen[shaken:]}) == 1


def test_calls_side_by_side_have_a_connection_each_and_leave_them_to_the_next(http_server, connect):
    gate = threading.Barrier(4)

    def together(message):
        gate.wait(PATIENCE)
        return DONE

    server = http_server({"tools/list": new({"tools": []}), "tools/call": together})
    connection = connect(server.entry())
    ask(connection, "tools/list")
    for _ in range(3):
        threads = [threading.Thread(target=ask, args=(connection, "tools/call", CALL))
                   for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.seen) == 13 and server.connections == 4


def test_a_connection_that_the_server_has_closed_meanwhile_costs_nothing(http_server, connect):
    server = http_server({"tools/list": new({"tools": []}), "tools/call": DONE})
    connection = connect(server.entry())
    ask(connection, "tools/list")
    server.open[0].shutdown(socket.SHUT_RDWR)
    time.sleep(0.05)  # for the news to arrive
    assert ask(connection, "tools/call", CALL) == DONE
    assert server.methods == ["tools/list", "tools/call"]


def test_a_server_that_ends_each_connection(http_server, connect):
    def once(message):
        return Reply(200, result(message, DONE), {"Connection": "close"})

    server = http_server({"tools/call": once})
    connection = connect(server.entry())
    for _ in range(3):
        assert request(connection, "tools/call", CALL) == DONE
    assert server.connections == 3


@pytest.mark.parametrize("answer", [Reply(500), Reply(200, b"<html>"), Reply(302)],
                         ids=["500", "a page", "a redirect"])
def test_a_connection_that_will_not_be_used_again_is_closed_at_once(http_server, connect, answer):
    server = http_server({"tools/call": answer})
    gc.disable()
    try:
        with pytest.raises(Failure):
            request(connect(server.entry()), "tools/call", CALL)
        eventually(lambda: server.open[0].fileno() < 0)
    finally:
        gc.enable()


@pytest.mark.parametrize("rest", [
    [SILENCE],                              # the server keeps the stream open
    [b": more\n\n"] * 50_000,               # and talks on
    [b"data: " + b"x" * 40_000_000],        # for long
], ids=["silence", "more", "much more"])
def test_after_the_answer_nobody_waits_for_more(http_server, connect, rest):
    def talks_on(message):
        yield result(message, DONE)
        yield from rest

    server = http_server({"tools/call": [talks_on, DONE]})
    connection, job = connect(server.entry()), Job()
    assert request(connection, "tools/call", CALL, job) == DONE and not job.late
    assert request(connection, "tools/call", CALL) == DONE


def raw(*parts: bytes, headers=b"Content-Type: text/event-stream\r\n"):
    """A server that says these bytes to whoever comes, and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                visitor, _ = listener.accept()
                with visitor:
                    visitor.recv(65536)
                    for part in parts:
                        visitor.sendall(part)
                    visitor.shutdown(socket.SHUT_WR)
                    visitor.recv(65536)

    threading.Thread(target=serve, daemon=True).start()
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"


ANSWER = b'{"jsonrpc": "2.0", "id": 1, "result": {"resultType": "complete", "content": []}}'
EVENT = b"data: " + ANSWER + b"\n\n"
START = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


@pytest.mark.parametrize("said", [
    START + b"\r\n" + EVENT,  # its end is the end of the connection
    b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + EVENT,
    b"HTTP/1.1 200\r\nContent-Type: application/json\r\n\r\n" + ANSWER,
    START + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(EVENT) + EVENT + b"\r\n",
    START + b"Content-Length: 99999\r\n\r\n" + EVENT,
    START + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(EVENT) + EVENT + b"\r\nnonsense\r\n",
], ids=["to the end", "HTTP/1.0", "no reason", "no last chunk", "too short", "a bad chunk"])
def test_an_answer_that_is_there_counts_whatever_comes_after_it(connect, said):
    listener, url = raw(said)
    with listener:
        assert request(connect(Server("raw", url=url)), "tools/call", CALL)["content"] == []


@pytest.mark.parametrize("said", [
    b"", b"nonsense", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
    START + b"\r\n", START + b"\r\ndata: {", START + b"\r\ndata: " + ANSWER,
    START + b"Transfer-Encoding: chunked\r\n\r\n",
    START + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    START + b"Transfer-Encoding: chunked\r\n\r\nff\r\ndata:",
    START + b"Content-Encoding: gzip\r\n\r\n" + EVENT,
    b"HTTP/1.1 999 What\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n", b"HTTP/1.1 200 OK\r\n" + b"X" * 70_000,
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"HTTP/1.1 200 OK\r\n\xff\xfe: \xff\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.9\r\n",
], ids=lambda said: str(said[-30:]))
def test_an_answer_that_breaks_off_is_a_failure_in_words(connect, said):
    listener, url = raw(said)
    with listener, pytest.raises(Failure) as caught:
        request(connect(Server("raw", url=url)), "tools/call", CALL)
    assert caught.value.kind in ("broken", "status") and str(caught.value)


@pytest.mark.parametrize("status, words", [
    (400, "400"), (401, "token"), (403, "403"), (404, "no MCP server at this address"),
    (405, "405"), (406, "406"), (413, "413"), (418, "418"), (429, "429"), (500, "500"),
    (502, "502"), (503, "503"), (599, "599")])
def test_an_http_status_in_place_of_an_answer(http_server, connect, status, words):
    server = http_server({"tools/call": Reply(status, b"<html>Sorry</html>",
                                              {"Content-Type": "text/html"})})
    with pytest.raises(Failure, match=words) as caught:
        request(connect(server.entry()), "tools/call", CALL)
    assert (caught.value.kind, caught.value.status) == ("status", status)


@pytest.mark.parametrize("url, words", [
    ("http://127.0.0.1:9/mcp", "127.0.0.1:9"),
    ("http://no-such-host.invalid/mcp", "no-such-host.invalid"),
    ("http://[::1/mcp", ""), ("http://[bad]/mcp", ""), ("http://127.0.0.1:99999/mcp", ""),
    ("http://127.0.0.1:port/mcp", ""), ("http://.example.invalid/", ""), ("http://*/", ""),
    ("http://" + "a" * 70 + ".invalid/", ""), ("http://ä" + "a" * 70 + ".invalid/", ""),
    ("http://a b/", ""), ("http://\x7f/", ""), ("http://%/", ""), ("https://x@/", ""),
    ("http://me:s3cret@127.0.0.1:9/mcp?token=s3cret", "127.0.0.1:9"),
])
def test_a_server_that_is_not_there(connect, url, words):
    with pytest.raises(Failure) as caught:
        ask(connect(Server("lost", url=url)), "tools/list")
    message = str(caught.value)
    assert words in message and "s3cret" not in message


def test_a_server_that_speaks_no_https(http_server, connect):
    server = http_server({})
    with pytest.raises(Failure, match="https") as caught:
        request(connect(server.entry(url=server.url.replace("http:", "https:"))), "tools/list")
    assert caught.value.kind == "unreachable"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.line(48)
def test_a_redirect_takes_no_secrets_elsewhere(http_server, connect, status):
    elsewhere = http_server({"tools/list": new({"tools": []})})
    server = http_server({"tools/list": Reply(status, b"", {"Location": elsewhere.url}),
                          "initialize": Reply(status, b"", {"Location": elsewhere.url})})
    with pytest.raises(Failure, match="moved") as caught:
        ask(connect(server.entry(headers={"X-Api-Key": "s3cret"})), "tools/list")
    assert caught.value.status == status
    assert elsewhere.seen == [] and elsewhere.connections == 0


def moving(server, status, ways):
    """Answer at the last of these places; from the others, lead to the next."""
    def answer(message):
        at = [server.url.removesuffix("/mcp") + way if way[:1] == "/" else way
              for way in ["/mcp", *ways]].index(server.url.removesuffix("/mcp")
                                                + server.seen[-1].path)
        return Reply(status, b"", {"Location": ways[at]}) if at < len(ways) else DONE

    return answer


@pytest.mark.line(48)
@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("ways", [["/mcp/"], ["{origin}/other?token=abc"], ["/a", "/b", "/c"]],
                         ids=str)
def test_a_server_may_have_moved_within_its_own_house(http_server, connect, status, ways):
    server = http_server({})
    origin = server.url.removesuffix("/mcp")
    ways = [way.format(origin=origin) for way in ways]
    server.script["tools/call"] = moving(server, status, ways)
    assert request(connect(server.entry(headers={"X-Api-Key": "k"})), "tools/call", CALL) == DONE
    assert [seen.path for seen in server.seen] == [
        "/mcp", *(way.removeprefix(origin) for way in ways)]
    for seen in server.seen:
        assert (seen.verb, seen.message, seen.headers["X-Api-Key"]) == (
            "POST", server.seen[0].message, "k")


@pytest.mark.line(48)
@pytest.mark.parametrize("status, ways, sent", [
    (307, ["/a", "/b", "/c", "/d"], 4), (307, ["/a", "{elsewhere}"], 2), (308, ["{encrypted}"], 1),
    (307, ["{by_another_name}"], 1), (307, ["//{elsewhere_host}/mcp"], 1),
    (301, ["/a"], 1), (302, ["/a"], 1), (303, ["/a"], 1)], ids=str)
def test_but_not_farther(http_server, connect, status, ways, sent):
    elsewhere, server = http_server({"tools/call": DONE}), http_server({})
    server.script["tools/call"] = moving(server, status, [way.format(
        elsewhere=elsewhere.url, elsewhere_host=elsewhere.url.split("/")[2],
        encrypted=server.url.replace("http:", "https:"),
        by_another_name=server.url.replace("127.0.0.1", "localhost")) for way in ways])
    with pytest.raises(Failure, match="moved"):
        request(connect(server.entry(headers={"X-Api-Key": "k"})), "tools/call", CALL)
    assert elsewhere.connections == 0 and server.methods == ["tools/call"] * sent


@pytest.mark.line(48)
def test_passwords_of_other_programs_are_not_used(http_server, connect, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password s3cret\ndefault login me password no\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server = http_server({"tools/list": {"tools": []}, "tools/call": DONE}, old="2025-06-18",
                         session="visit-1")
    for headers in {}, {"Authorization": "Bearer mine"}:
        connection = connect(server.entry(headers=headers))
        ask(connection, "tools/list")
        connection.close()
        assert {seen.headers["Authorization"] for seen in server.seen} == {
            headers.get("Authorization")}
        assert server.methods[-1] == "DELETE"
        server.seen.clear()


# ── Sessions and streams of the old generation ───────────────────────────────────────────


@pytest.fixture
def in_session(http_server, connect):
    """in_session(script): an old server, and a connection that is in its session "visit-1"."""
    def in_session(script, **more):
        server = http_server({"tools/list": new({"tools": []}), **script}, old="2025-06-18",
                             session="visit-1")
        connection = connect(server.entry(**more))
        ask(connection, "tools/list")
        return server, connection

    return in_session


def gets(server):
    return [seen for seen in server.seen if seen.verb == "GET"]


def closes(message):
    """A stream that ends early, but says how to go on: the 5th event, in so many milliseconds."""
    yield b"id: 5\nretry: 20\ndata:\n\n"


@pytest.mark.line(32)
def test_a_lost_session_is_opened_anew_once_for_all(in_session):
    server, connection = in_session({"tools/call": DONE})
    server.session = "visit-2"  # it has forgotten the first
    start = threading.Barrier(8)

    def call(number):
        start.wait(PATIENCE)
        return ask(connection, "tools/call", CALL)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, range(8))) == [DONE] * 8
    assert [seen.headers["Mcp-Session-Id"] for seen in server.saw("initialize")] == [None, None]
    sessions = [seen.headers["Mcp-Session-Id"] for seen in server.saw("tools/call")]
    assert sessions.count("visit-2") == 8 and 1 <= sessions.count("visit-1") <= 8


def test_who_knows_us_and_speaks_of_sessions_is_not_called_twice(in_session):
    text = "Paid, but there is no tmux session called dev."
    server, connection = in_session(
        {"tools/call": lambda message: Reply(400, error(message, -32602, text))})
    with pytest.raises(Failure, match=text):
        ask(connection, "tools/call", CALL)
    assert len(server.saw("tools/call")) == 1 == len(server.saw("initialize"))
    server.script["tools/call"] = DONE  # (if it did mean ours, the next call begins anew)
    assert ask(connection, "tools/call", CALL) == DONE and len(server.saw("initialize")) == 2


def test_a_goodbye_without_end_is_not_read(in_session):
    server, connection = in_session({"": lambda message: endless(message)})
    connection.close()
    assert server.hung_up.wait(PATIENCE) and server.seen[-1].verb == "DELETE"


def test_lines_side_by_side_share_their_cookies(http_server, connect):
    # By a cookie, a machine in front of several servers knows which of them is ours.
    both = threading.Barrier(2)

    def call(message):
        both.wait(PATIENCE)
        return DONE

    server = http_server({"tools/call": call, "tools/list": lambda message: Reply(
        200, result(message, new({"tools": []})), {"Set-Cookie": "backend=3"})})
    connection = connect(server.entry())
    ask(connection, "tools/list")
    finish(together([lambda job: ask(connection, "tools/call", CALL, job)] * 2))
    assert [seen.headers["Cookie"] for seen in server.saw("tools/call")] == ["backend=3"] * 2
    assert server.connections == 2


@pytest.mark.line(32)
def test_a_session_that_is_lost_twice_is_a_failure(in_session):
    server, connection = in_session({"tools/call": Reply(404)})
    with pytest.raises(Failure):
        ask(connection, "tools/call", CALL)
    assert len(server.saw("tools/call")) == 2 == len(server.saw("initialize"))


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
    assert ask(connection, "tools/call", CALL) == DONE
    assert len(server.saw("tools/call")) == 1
    assert [seen.headers["Last-Event-ID"] for seen in gets(server)] == ["4", "5"]
    for seen in gets(server):
        assert seen.headers["Mcp-Session-Id"] == "visit-1"
        assert seen.headers["MCP-Protocol-Version"] == "2025-06-18"
        assert seen.headers["Accept"] == "text/event-stream"
    assert times[1] - times[0] > 0.25, "300 ms, as it said"


@pytest.mark.line(35)
def test_a_stream_that_leads_nowhere_is_given_up(in_session):
    server, connection = in_session({"tools/call": closes, "GET": closes}, timeout=5)
    with pytest.raises(Failure):
        ask(connection, "tools/call", CALL)
    assert len(server.saw("tools/call")) == 1 <= len(gets(server)) <= 10


# ── Limits ───────────────────────────────────────────────────────────────────────────────


def endless(message):
    while True:
        yield b"x" * 2**20


def too_long(message):
    return Reply(200, b"[" + b" " * (33 * 2**20) + b"]")


def too_long_for_an_event(message):
    yield b'data: {"a": "'
    for _ in range(33):
        yield b"x" * 2**20
    yield b"\n\n"


@pytest.mark.parametrize("answer", [too_long, too_long_for_an_event, endless],
                         ids=["JSON", "an event", "endless"])
@pytest.mark.line(50)
def test_more_than_32_mb_is_too_much(http_server, connect, answer):
    server = http_server({"tools/call": answer})
    with pytest.raises(Failure, match="32 MB"):
        request(connect(server.entry()), "tools/call", CALL)


def test_20_mb_are_not(http_server, connect):
    text = "x" * (20 * 2**20)
    server = http_server({"tools/call": new({"content": [{"type": "text", "text": text}]})})
    assert request(connect(server.entry()), "tools/call", CALL)["content"][0]["text"] == text


@pytest.mark.line(46, 50)
def test_more_than_32_mb_in_one_line_is_too_much(stdio_server, connect):
    program = stdio_server(f"""
        for message in incoming():
            if message["method"] == "server/discover":
                answer(message, {MEET["server/discover"]})
            else:
                for _ in range(40):
                    os.write(1, b"x" * 2**20)
    """)
    connection = connect(program.entry())
    with pytest.raises(Failure, match="32 MB"):
        ask(connection, "tools/call", CALL)
    eventually(lambda: connection.process.poll() is not None)


def test_20_mb_in_one_line_are_not(stdio_server, connect):
    program = stdio_server(f"""
        for message in incoming():
            answer(message, {{**{MEET["server/discover"]}, "text": "x" * (20 * 2**20)}})
    """)
    assert len(ask(connect(program.entry()), "tools/call", CALL)["text"]) == 20 * 2**20


# ── Over stdio ───────────────────────────────────────────────────────────────────────────


@pytest.mark.line(46)
def test_what_a_program_prints_besides_is_skipped(stdio_server, connect):
    program = stdio_server(f"""
        os.write(1, b"\\xef\\xbb\\xbfWelcome to my server!\\r\\n\\r\\n\\n   \\n[INFO] {{}}\\n")
        os.write(1, b"\\xff\\xfe\\n")
        for message in incoming():
            os.write(1, b"working...\\n[\\n")
            line = json.dumps({{"jsonrpc": "2.0", "id": message["id"],
                                "result": {MEET["server/discover"]}}})
            os.write(1, b"\\xef\\xbb\\xbf" + line.encode() + b"\\r\\n")
    """)
    assert ask(connect(program.entry()), "tools/list") == MEET["server/discover"]


@pytest.mark.parametrize("result", ['"\\xff"', '{"celsius": NaN}', '{"celsius": 1e999}', "{"])
def test_an_answer_that_cannot_be_read_is_waited_for_no_longer(stdio_server, connect, result):
    program = stdio_server(f"""
        for message in incoming():
            if message["method"] == "server/discover":
                answer(message, {MEET["server/discover"]})
            else:
                # A line that is no message is skipped, and so is what isn't an answer.
                os.write(1, b'This is fine: {{"id": NaN}}\\n{{"jsonrpc": "2.0", "method": NaN}}\\n')
                found = b'{{"jsonrpc": "2.0", "id": %d, "result": {result}}}\\n'
                os.write(1, found % message["id"])
    """)
    with pytest.raises(Failure, match="its answer can't be read: ") as caught:
        ask(connect(program.entry()), "tools/call", CALL)
    assert caught.value.kind == "broken"


def test_a_complaint_about_a_notification_is_no_answer(stdio_server, connect):
    # Home-made servers often answer whatever they don't know.
    program = stdio_server(f"""
        for message in incoming():
            if message["method"] == "tools/list":
                answer(message, {new({"tools": [{"name": "add"}]})})
            elif message["method"] == "initialize":
                answer(message, {{"protocolVersion": "2025-06-18", "capabilities": {{}}}})
            else:
                message.setdefault("id", None)
                time.sleep(0.02 if message["id"] is None else 0)
                refuse(message, -32601)
    """)
    for _ in range(3):
        assert [one["name"] for one in list_tools(connect(program.entry()))] == ["add"]


def test_a_word_with_json_in_it_is_only_a_word(stdio_server, connect):
    program = stdio_server(f"""
        for message in incoming():
            os.write(1, b'[debug] sending {{"jsonrpc": "2.0", "id": 2, "result": {{}}}} now\\n')
            answer(message, {MEET["server/discover"]})
    """)
    assert ask(connect(program.entry()), "tools/list") == MEET["server/discover"]


@pytest.mark.parametrize("text", ["a,b," * 1_500_000, "C:\\users\\" * 900_000,
                                  "x" * 9_000_000 + "\u00e9"], ids=["commas", "paths", "escapes"])
def test_a_large_text_may_have_anything_in_it(http_server, connect, text):
    long = {"content": [{"type": "text", "text": text}]}
    server = http_server({"tools/call": new(long)})
    assert request(connect(server.entry()), "tools/call", CALL) == new(long)


@pytest.mark.line(46)
def test_a_flood_of_complaints_does_not_stop_a_program(stdio_server, connect):
    program = stdio_server(f"""
        for message in incoming():
            for _ in range(64):
                os.write(2, b"oh no! " * 10_000)
            os.write(2, b"\\n" * 70_000)
            answer(message, {MEET["server/discover"]})
    """)
    assert ask(connect(program.entry()), "tools/list") == MEET["server/discover"]


def test_a_program_that_does_not_read_does_not_stop_us(stdio_server, connect):
    program = stdio_server(f"""
        answer(json.loads(sys.stdin.readline()), {MEET["server/discover"]})
        time.sleep(60)
    """)
    connection = connect(program.entry())
    ask(connection, "server/discover")
    connection.server.timeout = 0.5
    with pytest.raises(Failure) as caught:  # far more than a pipe holds
        ask(connection, "tools/call", {"name": "x", "arguments": {"text": "x" * 2**22}})
    assert caught.value.kind == "timeout"
    connection.process.kill()


@pytest.mark.line(47)
def test_a_program_gets_only_some_of_our_environment(stdio_server, connect, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    monkeypatch.setenv("SOME_TOKEN", "s3cret")
    program = stdio_server(f"""
        for message in incoming():
            answer(message, {{**{MEET["server/discover"]}, "env": dict(os.environ)}})
    """)
    env = ask(connect(program.entry(env={"KEY": "k", "LANG": "eo"})), "tools/list")["env"]
    assert env["KEY"] == "k" and env["LANG"] == "eo" and env["PATH"] == os.environ["PATH"]
    set_by_python_itself = {"LC_CTYPE", "__CF_USER_TEXT_ENCODING"}
    assert set(env) - chat.PASSED_ON - set_by_python_itself == {"KEY"}


def test_python_is_this_python(stdio_server, connect, monkeypatch):
    monkeypatch.setenv("PATH", "")
    program = stdio_server(f"""
        for message in incoming():
            answer(message, {{**{MEET["server/discover"]}, "it": [sys.executable, os.getcwd()]}})
    """)
    it = ask(connect(program.entry()), "tools/list")["it"]
    assert it[0] == sys.executable and os.path.samefile(it[1], program.folder)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no #! line")
def test_a_program_may_lie_beside_the_configuration(stdio_server, connect, tmp_path, monkeypatch):
    program = stdio_server(MEET | {"tools/list": new({"tools": []})})
    script = program.folder / "program.py"
    script.write_text(f"#!{sys.executable}\n" + script.read_text("utf-8"), "utf-8")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for command in "./program.py", str(script):
        assert ask(connect(program.entry(command=command, args=[])), "tools/list")["tools"] == []


@pytest.mark.parametrize("entry, words", [
    ({"command": "no-such-program"}, "no-such-program"),
    ({"command": "./no-such-program"}, "no-such-program"),
    ({"command": "~\0"}, "~"),
    ({"command": "python", "cwd": "no-such-folder"}, "python"),
    ({"command": "python", "args": ["a\0b"]}, "python"),
    ({"command": "python", "env": {"A=B": "C", "D": "\0"}}, "python"),
], ids=str)
def test_a_program_that_cannot_be_started(connect, tmp_path, entry, words):
    entry = {"cwd": str(tmp_path), **entry}
    with pytest.raises(Failure, match=words) as caught:
        ask(connect(Server("lost", **entry)), "tools/list")
    assert caught.value.kind == "unreachable"


@pytest.mark.skipif(os.name == "nt", reason="on Windows, a file is a program by its name")
def test_a_file_that_is_no_program(connect, tmp_path):
    (tmp_path / "program").write_text("This is no program.")
    (tmp_path / "program").chmod(0o755)
    with pytest.raises(Failure, match="program"):
        ask(connect(Server("lost", command="./program", cwd=str(tmp_path))), "tools/list")


@pytest.mark.parametrize("body", [
    "sys.exit('Please set MY_KEY first.')",
    "os.close(1); time.sleep(0.1); sys.exit('Please set MY_KEY first.')"])
def test_the_last_words_of_a_program_that_dies_at_once(stdio_server, connect, body):
    program = stdio_server(body)
    for _ in range(3):
        with pytest.raises(Failure, match="MY_KEY first") as caught:
            ask(connect(program.entry()), "tools/call", CALL)
        assert caught.value.kind == "broken"


def test_a_program_that_has_died_is_started_again_for_the_next_call(stdio_server, connect):
    program = stdio_server(f"""
        for message in incoming():
            if message["method"] == "tools/call" and message["params"]["name"] == "die":
                sys.exit("Goodbye.")
            answer(message, {{**{MEET["server/discover"]}, "pid": os.getpid()}})
    """)
    connection = connect(program.entry())
    first = ask(connection, "tools/list")["pid"]
    with pytest.raises(Failure, match="ended.*Goodbye"):
        ask(connection, "tools/call", {"name": "die", "arguments": {}})
    second = ask(connection, "tools/call", CALL)["pid"]
    assert first != second
    os.kill(second, signal.SIGTERM)
    connection.process.wait()
    eventually(lambda: not connection.alive)
    assert ask(connection, "tools/call", CALL)["pid"] not in (first, second)
    assert len(program.saw("tools/call")) == 3, "none was sent twice"


def test_an_old_program_that_has_died_is_greeted_again(stdio_server, connect):
    program = stdio_server("""
        for message in incoming():
            if message["method"] == "initialize":
                answer(message, {"protocolVersion": "2025-06-18", "capabilities": {}})
            elif message["method"] == "tools/call":
                answer(message, {"content": []})
                break
            elif "id" in message:
                refuse(message, -32601)
    """)
    connection = connect(program.entry())
    for _ in range(2):
        ask(connection, "tools/call", CALL)
        eventually(lambda: not connection.alive)
    assert program.methods == ["server/discover", "initialize", "notifications/initialized",
                               "tools/call", "initialize", "notifications/initialized",
                               "tools/call"]


def test_everybody_who_waits_hears_that_a_program_has_died(stdio_server, connect):
    program = stdio_server(f"""
        count = 0
        for message in incoming():
            if message["method"] == "server/discover":
                answer(message, {MEET["server/discover"]})
            else:
                count += 1
            if count == 4:
                sys.exit("All at once is too much.")
    """)
    connection = connect(program.entry(timeout=60))
    failures: list = []

    def call():
        try:
            ask(connection, "tools/call", CALL)
        except Failure as failure:
            failures.append(failure)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert [failure.kind for failure in failures] == ["broken"] * 4


@pytest.mark.line(46)
def test_a_program_ends_when_its_input_does(toy_stdio):
    ask(toy_stdio, "tools/list")
    toy_stdio.close()
    assert toy_stdio.process.returncode == 0  # who must be asked twice ends with another


def test_closing_what_was_never_opened(connect):
    connect(Server("x", command="no-such-program")).close()
    connect(Server("x", url="http://127.0.0.1:9")).close()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    # Who has ended, but nobody has asked how, is no longer running.
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(state.stdout.strip()) and not state.stdout.startswith("Z")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no groups of processes")
@pytest.mark.line(46)
def test_a_program_that_does_not_want_to_end_is_ended_and_its_children_too(stdio_server, connect):
    program = stdio_server(f"""
        import signal, subprocess
        stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", stubborn])
        signal.signal(signal.SIGTERM, lambda *details: log.write('{{"method": "SIGTERM"}}\\n'))
        for message in incoming():
            answer(message, {{**{MEET["server/discover"]}, "pids": [os.getpid(), child.pid]}})
        log.write('{{"method": "the end of the input"}}\\n')
        while True:
            time.sleep(600)
    """)
    connection = connect(program.entry())
    pids = ask(connection, "tools/list")["pids"]
    assert all(map(is_running, pids))
    connection.close()
    assert program.methods[-2:] == ["the end of the input", "SIGTERM"]
    assert connection.process.returncode == -signal.SIGKILL
    eventually(lambda: not any(map(is_running, pids)))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no groups of processes")
@pytest.mark.line(46)
def test_a_program_that_ends_leaves_no_children_behind(stdio_server, connect):
    program = stdio_server(f"""
        import subprocess
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        for message in incoming():
            answer(message, {{**{MEET["server/discover"]}, "pid": child.pid}})
    """)
    connection = connect(program.entry())
    pid = ask(connection, "tools/list")["pid"]
    connection.close()
    eventually(lambda: not is_running(pid))


def test_a_child_that_keeps_the_output_open_does_not_keep_us(stdio_server, connect):
    # A program dies, but what it has started still holds the pipe.
    program = stdio_server(f"""
        import subprocess
        for message in incoming():
            if message["method"] == "tools/call":
                subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
                sys.exit(1)
            answer(message, {MEET["server/discover"]})
    """)
    connection = connect(program.entry(timeout=1))
    with pytest.raises(Failure):
        ask(connection, "tools/call", CALL)
    connection.close()
