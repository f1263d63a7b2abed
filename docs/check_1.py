"""Exercise 1: a tool `reverse` for the toy server."""

import contextlib
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
        with contextlib.closing(Connection(server, person=threading.Lock())) as connection:
            names = [one["name"] for one in list_tools(connection)]
            assert "reverse" in names, f'no tool "reverse" yet, only {", ".join(names)}'
            yield connection


def test_the_server_lists_it_with_a_description_and_its_argument(toy):
    tools = {one["name"]: one for one in list_tools(toy)}
    assert tools["reverse"].get("description"), "without a description, no model knows what it does"
    assert "words" in tools["reverse"]["inputSchema"].get("properties", {}), \
        'its inputSchema has no property "words"'


@pytest.mark.parametrize("words, turned", [
    ("stressed", "desserts"), ("An Åse", "esÅ nA"), ("", "")])
def test_it_reverses(toy, words, turned):
    result = toy.ask("tools/call", {"name": "reverse", "arguments": {"words": words}})
    assert not result.get("isError"), result["content"][0]["text"]
    assert [one["text"] for one in result["content"]] == [turned]


def test_a_call_without_words_is_told_what_is_missing(toy):
    result = toy.ask("tools/call", {"name": "reverse", "arguments": {}})
    assert result.get("isError") and "words" in result["content"][0]["text"], \
        f"the model should read what was wrong, but gets {result}"
