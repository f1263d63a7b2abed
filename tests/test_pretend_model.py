"""The pretend model: its rules, arguments for any schema, and how it streams to the real openai
package."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import PATIENCE
from terminal import ROOT

from demo.pretend_model import I_AM, reply, serve_model
from demo.toy_server import TOOLS


def for_model(server: str, tools: list[dict]) -> list[dict]:
    return [{"type": "function", "function": {
        "name": f"{server}__{tool['name']}", "description": tool["description"],
        "parameters": tool["inputSchema"]}} for tool in tools]


def tool(name: str, description: str = "", **properties: Any) -> dict:
    return {"type": "function", "function": {"name": name, "description": description,
            "parameters": {"type": "object", "properties": properties,
                           "required": list(properties)}}}


TOYS = for_model("toy-http", TOOLS) + for_model("toy-stdio", TOOLS)


def calls(question: str, tools: list[dict] = TOYS) -> list[tuple[str, dict]]:
    message = reply([{"role": "user", "content": question}], tools)
    return [(call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in message.get("tool_calls", [])]


def says(question: str, tools: list[dict] = TOYS) -> str:
    return reply([{"role": "user", "content": question}], tools)["content"]


# ── The rules ────────────────────────────────────────────────────────────────────────────

@pytest.mark.parametrize("question, expected", [
    ("What is 17 + 25?", [("toy-http__add", {"a": 17, "b": 25})]),
    ("add 17 and 25", [("toy-http__add", {"a": 17, "b": 25})]),
    ("-1.5 + 2", [("toy-http__add", {"a": -1.5, "b": 2})]),
    ("What's the weather in Oslo?", [("toy-http__weather", {"town": "Oslo"})]),
    ("weather in 'São Tomé'", [("toy-http__weather", {"town": "São Tomé"})]),
    ("What's the weather in Oslo and in Lima?",
     [("toy-http__weather", {"town": "Oslo"}), ("toy-http__weather", {"town": "Lima"})]),
    ("The weather in New York, and what is 2 + 3?",
     [("toy-http__weather", {"town": "New York"}), ("toy-http__add", {"a": 2, "b": 3})]),
    ("Count slowly to 5", [("toy-http__slow_count", {"to": 5})]),
    ("Draw a red picture", [("toy-http__picture", {"colour": "red"})]),
    ("What is 1 + 2 on toy-stdio?", [("toy-stdio__add", {"a": 1, "b": 2})]),
    ("Hello!", []),
    ("Quark", []),
    ("", []),
])
def test_it_picks_tools_by_the_words_of_the_question(question, expected):
    assert calls(question) == expected


@pytest.mark.parametrize("question, words", [
    ("Hello!", I_AM), ("What can you do?", I_AM), ("Quark", "don't understand"),
    ("Quark", "- weather: Tell today's weather"), ("Thanks!", "welcome"), ("add 1", "tell me"),
])
def test_it_says_what_it_is_and_what_it_can(question, words):
    assert words in says(question)


def test_without_tools_it_says_that_it_can_do_nothing():
    assert "no tools" in says("What is 17 + 25?", [])


def test_a_question_of_its_own_can_be_answered():
    asked = {"role": "assistant", "content": says("What's the weather?")}
    message = reply([{"role": "user", "content": "What's the weather?"}, asked,
                     {"role": "user", "content": "In Oslo"}], TOYS)
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"town": "Oslo"}


def test_it_answers_with_what_the_tools_have_said_in_the_order_of_its_calls():
    asked = reply([{"role": "user", "content": "1 + 2 and 3 + 4"}], TOYS)
    first, second = asked["tool_calls"]
    answer = reply([asked, {"role": "tool", "tool_call_id": second["id"], "content": "7"},
                    {"role": "tool", "tool_call_id": first["id"], "content": "Error: no"}], TOYS)
    assert answer["content"] == "The tool add failed: Error: no. The tool add says: 7."


OTHER = [
    tool("github__list_issues", "List the issues of a repository.", repo={"type": "string"}),
    tool("dexcom__readings", "Glucose readings.", hours={"type": "integer"}),
    tool("files__tag", "Tag a file.", tags={"type": "array", "items": {"type": "string"}}),
    tool("lamp__switch", "Switch the lamp.", on={"type": "boolean"}),
]


@pytest.mark.parametrize("question, expected", [
    ("List the issues of 'me/mine'", [("github__list_issues", {"repo": "me/mine"})]),
    ("Show the glucose readings of the last 8 hours", [("dexcom__readings", {"hours": 8})]),
    ('tag the file "a" "b"', [("files__tag", {"tags": ["a", "b"]})]),
    ("switch the lamp", [("lamp__switch", {"on": False})]),
])
def test_it_works_with_tools_of_any_server(question, expected):
    assert calls(question, OTHER) == expected


# ── Any schema ───────────────────────────────────────────────────────────────────────────

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner,
                                                                max_size=3), max_leaves=8)
types = st.sampled_from(["string", "integer", "number", "boolean", "array", "object", "null", "x"])
a_schema = st.recursive(
    st.fixed_dictionaries({"type": types | st.lists(types, max_size=3)}) | json_values,
    lambda inner: st.fixed_dictionaries({}, optional={
        "type": types, "items": inner, "anyOf": st.lists(inner, max_size=2) | json_values,
        "$ref": st.sampled_from(["#", "#/$defs/a", "#/properties/b", "x"]), "default": json_values,
        "enum": st.lists(json_values, max_size=3), "required": json_values,
        "properties": st.dictionaries(st.sampled_from(["a", "b", "town"]), inner, max_size=3)}),
    max_leaves=6)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(schema=a_schema, question=st.sampled_from(
    ["use the frob", "frob 3 and 'x'", "frob in Oslo, true"]) | st.text(max_size=30))
def test_any_schema_gives_a_message_that_chat_can_read(schema, question):
    offered = [{"type": "function", "function": {"name": "s__frob", "description": "Frob it.",
                                                 "parameters": schema}}]
    message = reply([{"role": "user", "content": question}], offered)
    assert message["role"] == "assistant"
    for call in message.get("tool_calls", []):
        assert call["function"]["name"] == "s__frob"
        assert isinstance(json.loads(call["function"]["arguments"]), dict)
    assert message["content"] or message["tool_calls"]


@settings(max_examples=100)
@given(messages=st.lists(st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system"]),
     "content": st.none() | st.text(max_size=20) | st.lists(
         st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=9)}),
         max_size=2)}), max_size=4))
def test_any_conversation_has_an_answer(messages):
    assert reply(messages, TOYS)["role"] == "assistant"


# ── The server ───────────────────────────────────────────────────────────────────────────

@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve_model(pause=0) as base_url:
        yield base_url


@pytest.fixture(scope="module")
def client(address) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="none", base_url=address, max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, question: str, **more: Any) -> Any:
    return client.chat.completions.create(
        model="pretend-model", messages=[{"role": "user", "content": question}], **more)


def test_the_openai_package_reads_its_answers(client):
    choice = ask(client, "Hello").choices[0]
    assert choice.message.content.startswith("Hello!")
    assert choice.finish_reason == "stop"
    choice = ask(client, "What is 17 + 25?", tools=TOYS).choices[0]
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"a": 17, "b": 25}
    assert choice.finish_reason == "tool_calls"


def test_words_are_streamed_one_by_one(client):
    pieces = [piece.choices[0] for piece in ask(client, "Hello", stream=True)]
    words = [piece.delta.content for piece in pieces if piece.delta.content]
    assert len(words) > 3
    assert "".join(words) == ask(client, "Hello").choices[0].message.content
    assert [piece.finish_reason for piece in pieces[-2:]] == [None, "stop"]


def test_calls_are_streamed_in_pieces_with_an_index(client):
    pieces = [piece.choices[0] for piece in
              ask(client, "1 + 2 and 3 + 4", tools=TOYS, stream=True)]
    found: dict[int, list] = {}
    for piece in pieces:
        for call in piece.delta.tool_calls or []:
            found.setdefault(call.index, []).append(call)
    assert list(found) == [0, 1]
    for calls_of_one in found.values():
        first, *rest = calls_of_one
        assert first.id and first.function.name == "toy-http__add"
        assert len(rest) > 1 and not any(call.id or call.function.name for call in rest)
    assert [json.loads("".join(call.function.arguments for call in some))
            for some in found.values()] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert pieces[-1].finish_reason == "tool_calls"


def test_usage_comes_in_a_piece_without_choices_when_it_is_asked_for(client):
    *_, last = ask(client, "Hello", stream=True, stream_options={"include_usage": True})
    assert last.choices == [] and last.usage.total_tokens > 0


def test_a_model_that_may_call_nothing_calls_nothing(client):
    choice = ask(client, "What is 17 + 25?", tools=TOYS, tool_choice="none").choices[0]
    assert choice.message.tool_calls is None


def test_its_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["pretend-model"]


@pytest.mark.parametrize("change, status", [
    ({"model": "gpt-4o"}, 404), ({"messages": "Hello"}, 400), ({"messages": [1]}, 400),
    ({"tools": {"a": 1}}, 400)])
def test_what_it_does_not_take_is_refused_as_openai_would(client, change, status):
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**{"model": "pretend-model", "messages": [], **change})
    assert caught.value.status_code == status
    assert caught.value.body["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 100_000, b"\xff", b"null"])
def test_a_body_that_is_no_request_is_refused(address, body):
    request = urllib.request.Request(f"{address}/chat/completions", data=body, method="POST")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE)
    assert caught.value.code == 400
    assert json.load(caught.value)["error"]["message"]


def test_other_programs_can_use_it_too(tmp_path):
    with subprocess.Popen([sys.executable, str(ROOT / "demo" / "pretend_model.py"), "--port", "0"],
                          stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            address = next(word for word in process.stdout.readline().split() if "://" in word)
            with openai.OpenAI(api_key="none", base_url=address) as client:
                assert "Hello!" in ask(client, "Hello").choices[0].message.content
        finally:
            process.terminate()
