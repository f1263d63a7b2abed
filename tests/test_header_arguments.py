"""Headers that say what a request is about, and that repeat some of its arguments."""

import base64
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import new

from chapters.header_arguments import header_value, mirrored_in
from chapters.versions import NEWEST
from chat import list_tools

DONE = new({"content": [{"type": "text", "text": "done"}]})


@pytest.mark.parametrize("text, value", [
    ("us-west1", "us-west1"), ("us west 1", "us west 1"), ("", ""), ("a\"\\~!", "a\"\\~!"),
    ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="), (" padded ", "=?base64?IHBhZGRlZCA=?="),
    ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="), ("a\tb", "=?base64?YQli?="),
    ("=?base64?SGk=?=", "=?base64?PT9iYXNlNjQ/U0dr" + "PT89?="),
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
        connection.request(method, params)
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


@pytest.mark.parametrize("number, digits", [
    (1e16, "1" + 16 * "0"), (-0.0, "0"), (2.0, "2"), (2.5, "2.5")])
def test_a_number_keeps_its_value_in_its_header_and_an_integer_is_digits_there(
        http_server, connect, number, digits):
    server = http_server({"tools/call": DONE, "tools/list": new({"tools": [
        {"name": "count", "inputSchema": {"type": "object", "properties": {
            "to": {"type": "integer", "x-mcp-header": "To"}}}}]})})
    connection = connect(server.entry())
    list_tools(connection)
    connection.ask("tools/call", {"name": "count", "arguments": {"to": number}})
    [seen] = server.saw("tools/call")
    assert seen.headers["Mcp-Param-To"] == digits
    assert seen.message["params"]["arguments"] == {"to": number}


def test_many_headers_take_no_longer_for_each_than_a_few():
    def seconds(count):
        schema = {"properties": {f"a{number}": {"type": "string", "x-mcp-header": f"H{number}"}
                                 for number in range(count)}}
        begin = time.thread_time()
        return mirrored_in(schema) and time.thread_time() - begin
    few, many = (min(map(seconds, [count] * 5)) for count in (1000, 8000))  # (Python tidies up)
    assert many < 24 * max(few, 0.001)  # 8 would do; squared, it is 64
