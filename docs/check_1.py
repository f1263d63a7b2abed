"""Exercise 1: a tool `reverse` for the toy server."""

import threading

import pytest
from terminal import ROOT

from chat import Connection, Server, list_tools
from demo.toy_server import serve_http


@pytest.fixture(params=["http", "stdio"])
def toy(request):
    with serve_http() as url:
        server = Server("toy", url=url) if request.param == "http" else \
            Server("toy", command="python", args=["demo/toy_server.py"], cwd=str(ROOT))
        connection = Connection(server, person=threading.Lock())
        names = [one["name"] for one in list_tools(connection)]
        assert "reverse" in names, f'no tool "reverse" yet, only {", ".join(names)}'
        yield connection
        connection.close()


def test_the_server_lists_it_with_a_description_and_its_argument(toy):
    tools = {one["name"]: one for one in list_tools(toy)}
    assert tools["reverse"].get("description"), "without a description, no model knows what it does"
    assert "text" in tools["reverse"]["inputSchema"].get("properties", {}), \
        'its inputSchema has no property "text"'


@pytest.mark.parametrize("text, turned", [("stressed", "desserts"), ("Åse", "esÅ"), ("", "")])
def test_it_reverses(toy, text, turned):
    result = toy.ask("tools/call", {"name": "reverse", "arguments": {"text": text}})
    assert not result.get("isError"), result["content"][0]["text"]
    assert [one["text"] for one in result["content"]] == [turned]


def test_a_call_without_a_text_is_told_what_is_missing(toy):
    result = toy.ask("tools/call", {"name": "reverse", "arguments": {}})
    assert result.get("isError") and "text" in result["content"][0]["text"], \
        f"the model should read what was wrong, but gets {result}"
