"""--trace: it shows what travels, and no secret."""

import logging

import pytest
from scripted_server import new, result

from chapters import trace
from chapters.header_arguments import header_value
from chapters.versions import NEWEST

CALL = {"name": "count", "arguments": {"to": 3}}
PING = {"jsonrpc": "2.0", "id": "s-1", "method": "ping"}
SECRET = "s3cret-value"


def test_a_trace_shows_what_travels_and_no_secret(http_server, stdio_server, connect, caplog):
    def asks(message):
        yield PING
        yield result(message, {"content": [{"type": "text", "text": "hello"}]})

    server = http_server({"tools/call": asks, "tools/list": {"tools": []}},
                         old="2025-06-18", session=SECRET)
    entry = server.entry(headers={"Authorization": f"Bearer {SECRET}", "X-Api-Key": SECRET,
                                  "Cookie": SECRET})
    entry.url = entry.url.replace("//", f"//me:{SECRET}@") + f"?token={SECRET}&{SECRET}"
    program = stdio_server({"server/discover": new({"supportedVersions": [NEWEST]}),
                            "tools/list": new({"tools": []})})
    with caplog.at_level(logging.DEBUG, logger="mcp.wire"):
        web = connect(entry)
        web.ask("tools/list")
        web.ask("tools/call", CALL)
        web.close()
        files = connect(program.entry(name="files", env={"KEY": SECRET}))
        files.ask("tools/list")

    shown = "\n".join(record.getMessage() for record in caplog.records
                      if record.name == "mcp.wire")
    assert SECRET not in shown and "cret-v" not in shown
    for words in ["--> scripted", "<-- scripted", "POST http://***@127.0.0.1", "?token=***&***",
                  "Authorization: ***", "HTTP 200", "HTTP 400", "HTTP 202",
                  '"method": "tools/call"', '"text": "hello"', '"method": "ping"', "--> files",
                  "<-- files",
                  '"supportedVersions"', "Content-Type: application/json"]:
        assert words in shown, words
    assert server.seen[0].headers["X-Api-Key"] == SECRET, "though it was sent"


@pytest.mark.parametrize("uri", [f"s:x?key={SECRET}", f"s:ä?key={SECRET}",
                                 f"https://example.com/?{SECRET}"])
def test_a_trace_shows_no_query_in_any_header_either(http_server, connect, caplog, uri):
    server = http_server({"resources/read": new({"contents": []})})
    with caplog.at_level(logging.DEBUG, logger="mcp.wire"):
        connect(server.entry()).request("resources/read", {"uri": uri})
    shown = "\n".join(record.getMessage() for record in caplog.records)
    assert "Mcp-Name: " in shown and SECRET not in shown
    assert header_value(uri)[:30] not in shown


def test_without_trace_nothing_is_logged(toy_http, caplog):
    toy_http.ask("tools/list")
    assert not [record for record in caplog.records if record.name == "mcp.wire"]


def test_a_trace_is_as_harmless_to_the_terminal_as_all_else(http_server, connect, caplog):
    server = http_server({"tools/call": new({"content": [
        {"type": "text", "text": "\x1b]52;c;Y2xpcA==\x07\x1b[31m\u202e\x9b1m" + "x" * 5000}]})})
    with caplog.at_level(logging.DEBUG, logger="mcp.wire"):
        connect(server.entry(name="\x1b[2Jname")).request("tools/call", CALL)
    for record in caplog.records:
        if record.name == "mcp.wire":
            assert not set(record.getMessage()) & set("\x1b\x07\x9b\u202e\r")
            assert len(record.getMessage()) < 20_000


def nested(depth):
    value: object = "deep"
    for _ in range(depth):
        value = [value]
    return new({"supportedVersions": [NEWEST], "content": [], "structuredContent": value})


def test_a_trace_of_something_nested(http_server, stdio_server, connect, caplog):
    server = http_server({"tools/call": nested(50)})
    program = stdio_server({"server/discover": nested(50), "tools/call": nested(50)})
    with caplog.at_level(logging.DEBUG, logger="mcp.wire"):
        for entry in server.entry(), program.entry():
            assert connect(entry).ask("tools/call", CALL) == nested(50)


def test_a_trace_shows_no_state_of_a_server_and_no_query_in_a_message(http_server, connect, caplog):
    server = http_server({"tools/list": new({"requestState": f'a "{SECRET}', "tools": [
        {"name": "go", "url": f"https://example.com/?key={SECRET}"}]})})
    with caplog.at_level(logging.DEBUG, logger="mcp.wire"):
        connect(server.entry()).request("tools/list", {"requestState": SECRET})
    assert '"requestState": "***"' in caplog.text and "example.com/?key=***" in caplog.text
    assert SECRET not in caplog.text


def test_of_a_long_message_a_trace_shows_the_beginning(http_server, connect, caplog):
    server = http_server({"tools/list": new({"tools": [{"name": f"tool-{number}"}
                                                       for number in range(500)]})})
    with caplog.at_level(logging.DEBUG, logger="mcp.wire"):
        assert len(connect(server.entry()).request("tools/list")["tools"]) == 500
    assert "tool-40" in caplog.text and "tool-499" not in caplog.text
    assert "more lines" in caplog.text


def test_no_secret_of_an_address_is_in_the_trace(http_server, connect, caplog):
    url = "https://example.com/?key=SECRET"
    server = http_server({"tools/list": new({"tools": [], "url": 'https://a.b/"?key=SECRET'}),
                          "resources/read": new({"contents": [{"uri": url, "text": ""}]})})
    connection = connect(server.entry())
    with caplog.at_level(logging.DEBUG, logger="mcp.wire"):
        connection.ask("tools/list")
        connection.ask("resources/read", {"uri": url})
    assert caplog.text.count("example.com/?key=***") == 3 and "SECRET" not in caplog.text


IN_THE_PATH = "NjQ4ZjEyM2MtYWJjZC00ZWYw"


def test_a_secret_in_the_path_is_not_in_the_trace(http_server, connect, caplog):
    server = http_server({"tools/list": new({"tools": []})})
    url = server.url.replace("/mcp", f"/api/mcp/s/{IN_THE_PATH}/mcp")
    with caplog.at_level(logging.DEBUG, logger="mcp.wire"):
        connect(server.entry(url=url)).ask("tools/list")
        connect(server.entry(url=f"{server.url}/{IN_THE_PATH}?team=blue")).ask("tools/list")
    assert server.seen[0].path == f"/api/mcp/s/{IN_THE_PATH}/mcp", "though it was sent"
    host = server.url.split("/")[2]
    assert f"POST http://{host}/api/mcp/s/***/mcp\n" in caplog.text
    assert f"POST http://{host}/mcp/***?team=***\n" in caplog.text
    assert IN_THE_PATH not in caplog.text


def test_a_host_with_a_long_name_stays_in_the_trace():
    url = "https://a-very-long-name-of-a-host.example.com/mcp"
    assert url in trace.shown("-->", "toy", None, f"POST {url}", [])
