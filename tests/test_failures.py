"""Failures: what it means when no answer comes back, in words, and what is asked again."""

import contextlib
import threading

import pytest
from scripted_server import Reply, new

from chapters.outside import Failure
from chat import Server

CALL = {"name": "count", "arguments": {}}


@pytest.mark.parametrize("status, words", [
    (400, "400"), (401, "token"), (403, "403"), (404, "no MCP server at this address"),
    (405, "405"), (406, "406"), (413, "413"), (418, "418"), (429, "429"), (500, "500"),
    (502, "502"), (503, "503"), (599, "599")])
def test_an_http_status_in_place_of_an_answer(http_server, connect, status, words):
    server = http_server({"tools/call": Reply(status, b"<html>Sorry</html>",
                                              {"Content-Type": "text/html"})})
    with pytest.raises(Failure, match=words) as caught:
        connect(server.entry()).request("tools/call", CALL)
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
        connect(Server("lost", url=url)).ask("tools/list")
    message = str(caught.value)
    assert words in message and "s3cret" not in message


def test_a_server_that_speaks_no_https(http_server, connect):
    server = http_server({})
    with pytest.raises(Failure, match="https") as caught:
        connect(server.entry(url=server.url.replace("http:", "https:"))).request("tools/list")
    assert caught.value.kind == "unreachable"


@pytest.mark.parametrize("headers", [{"X-Key": "käse 世界"}, {"X-Key": "two\nlines"},
                                     {"X-Key": " padded"}, {"X Key:": "x"}, {"": "x"}, {"Ä": "x"}],
                         ids=str)
def test_headers_that_cannot_be_sent_are_a_failure_like_others(http_server, connect, headers):
    server = http_server({"tools/list": new({"tools": []})})
    with contextlib.suppress(Failure):
        connect(server.entry(headers=headers)).ask("tools/list")


def test_questions_in_a_wrong_shape_end_the_call(http_server, connect):
    question = {"method": "elicitation/create", "params": {
        "mode": "form", "message": "Really?", "requestedSchema": {"type": "object"}}}
    server = http_server({"tools/list": new({"tools": []}), "tools/call": {
        "resultType": "input_required", "inputRequests": [question]}})
    connection = connect(server.entry(), person=threading.Lock())
    connection.ask("tools/list")
    with pytest.raises(Failure, match="say to what"):
        connection.ask("tools/call", CALL)
    assert len(server.saw("tools/call")) == 1
