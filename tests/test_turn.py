"""Part 7: one turn of the chat. The model follows a script (scripted_model.py), and is reached
through the real openai package; the servers are the demo's toy server, and a little one that
misbehaves (little_server.py). All of them listen on this computer."""

import contextlib
import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from little_server import LittleServer, text
from patience import PATIENCE
from scripted_model import (
    CUT,
    DONE,
    HANG,
    Reply,
    ScriptedModel,
    cut_into,
    delta,
    event,
    pieces,
    raw,
    refusal,
    says,
    texts_of,
    wants,
)
from scripted_server import new

from chat import (
    MAX_CALLS,
    MAX_ROUNDS,
    Chat,
    Event,
    Found,
    Note,
    Problem,
    Progress,
    Question,
    Server,
    Text,
    ToolCall,
    ToolResult,
    Waiting,
    finish,
    open_chat,
)
from demo.toy_server import serve_http

TOY_SERVER = Path(__file__).resolve().parent.parent / "demo" / "toy_server.py"


@contextlib.contextmanager
def chat_with(*script: Any, **urls: str) -> Iterator[tuple[Chat, ScriptedModel]]:
    """A chat whose model follows this script, and which has met the servers at these URLs."""
    servers = {name: Server(name, url) for name, url in urls.items()}
    with ScriptedModel(*script) as model, Chat(model.llm, servers) as chat:
        finish(chat.meet_servers())
        yield chat, model


@pytest.fixture(scope="module")
def toy() -> Iterator[str]:
    """The URL of the demo's toy server."""
    with serve_http() as url:
        yield url


def without_waiting(events: Iterator[Event]) -> list[Event]:
    return [one for one in events if not isinstance(one, Waiting)]


def roles(messages: list[dict]) -> list[str]:
    return [message["role"] for message in messages]


# ── What travels, and what is seen ───────────────────────────────────────────────────────

def test_the_model_sees_what_the_tool_answered(toy):
    with chat_with(wants("toy__add", {"a": 2, "b": 40}),
                   says("It is ", "42."), toy=toy) as (chat, model):
        events = without_waiting(chat.ask("What is 2 + 40?"))

    assert events == [ToolCall("toy", "add", {"a": 2, "b": 40}),
                      ToolResult("add", "2 + 40 = 42", False, []),
                      Text("It is "), Text("42.")]
    assert roles(model.was_sent[1]["messages"]) == ["system", "user", "assistant", "tool"]
    assert model.was_sent[1]["messages"][3]["content"] == "2 + 40 = 42"
    assert roles(chat.messages) == ["user", "assistant", "tool", "assistant"]
    assert chat.messages[-1]["content"] == "It is 42."


def test_the_call_that_the_model_made_goes_back_to_it_with_the_same_id(toy):
    with chat_with(wants("toy__add", {"a": 2, "b": 40}), says("42."), toy=toy) as (chat, model):
        finish(chat.ask("2 + 40?"))

    call, result = model.was_sent[1]["messages"][2:]
    assert call["tool_calls"] == [{"id": "call_0", "type": "function", "function": {
        "name": "toy__add", "arguments": '{"a": 2, "b": 40}'}}]
    assert result["tool_call_id"] == "call_0"


def test_the_model_is_offered_the_tools_and_told_first_who_it_is(toy):
    with ScriptedModel(says("Hi.")) as model, \
            Chat(model.llm, {"toy": Server("toy", toy)}, "You are a pirate.") as chat:
        finish(chat.meet_servers())
        finish(chat.ask("Hello"))

    sent = model.was_sent[0]
    assert sent["model"] == "scripted"
    assert sent["stream"] is True
    assert sent["messages"] == [{"role": "system", "content": "You are a pirate."},
                                {"role": "user", "content": "Hello"}]
    assert [tool["function"]["name"] for tool in sent["tools"]] == [
        "toy__add", "toy__weather", "toy__slow_count", "toy__fail", "toy__picture",
        "toy__read_resource"]


def test_without_tools_the_model_is_not_told_of_any():
    # An empty list of tools is something that services refuse.
    with chat_with(says("Hi.")) as (chat, model):
        finish(chat.ask("Hello"))
    assert "tools" not in model.was_sent[0]


def test_the_whole_conversation_is_sent_again_with_each_question():
    with chat_with(says("Hi, Ann."), says("Ann.")) as (chat, model):
        finish(chat.ask("I am Ann."))
        finish(chat.ask("Who am I?"))
    assert [message["content"] for message in model.was_sent[1]["messages"][1:]] == [
        "I am Ann.", "Hi, Ann.", "Who am I?"]


def test_several_calls_run_at_the_same_time_and_keep_their_order():
    second_is_done = threading.Event()

    def first(arguments: dict) -> dict:
        assert second_is_done.wait(PATIENCE)  # so this can only work if both run
        return text("one")

    with LittleServer({"first": {"answer": first},
                       "second": {"answer": lambda arguments: text("two")}}) as server, \
            chat_with(wants("s__first", {}, "s__second", {}), says("Done."),
                      s=server.url) as (chat, model):
        called, done = [], []
        for one in chat.ask("Go"):
            if isinstance(one, ToolCall):
                called.append(one.tool)
            elif isinstance(one, ToolResult):
                done.append(one.tool)
                second_is_done.set()

    assert called == ["first", "second"]
    assert done == ["second", "first"]
    assert [(message["tool_call_id"], message["content"])
            for message in model.was_sent[1]["messages"][3:]] == [
                ("call_0", "one"), ("call_1", "two")]


def test_a_model_may_talk_and_call_in_one_reply(toy):
    with chat_with(pieces(delta(content="Let me see. "), delta(tool_calls=[
            {"index": 0, "id": "1", "function": {"name": "toy__add",
                                                 "arguments": '{"a": 1, "b": 1}'}}])),
                   says("Two."), toy=toy) as (chat, model):
        events = without_waiting(chat.ask("1 + 1?"))
    assert isinstance(events[0], Text) and isinstance(events[1], ToolCall)
    assert model.was_sent[1]["messages"][2]["content"] == "Let me see. "


def test_a_long_tool_tells_how_far_it_is(toy):
    with chat_with(wants("toy__slow_count", {"to": 2, "pause": 0.2}), says("Done."),
                   toy=toy) as (chat, _):
        progress = [one for one in chat.ask("Count") if isinstance(one, Progress)]
    assert progress[0] == Progress("slow_count", 0, 2, "Starting to count to 2")
    assert len(progress) > 1


def test_while_nothing_comes_the_turn_still_gives_a_sign_of_life():
    gate = threading.Event()
    with chat_with(says("Hm. ", gate, "Yes.")) as (chat, _):
        for one in chat.ask("Well?"):
            if isinstance(one, Waiting):
                gate.set()
        assert gate.is_set()
        assert chat.messages[-1]["content"] == "Hm. Yes."


def test_every_event_is_a_line_of_json(toy):
    with LittleServer({"erase": {"annotations": {"destructiveHint": True}}}) as server, \
            chat_with(wants("toy__slow_count", {"to": 1, "pause": 0.3}, "s__erase", {}),
                      says("D\u2028one.\n", finish="length"), toy=toy, s=server.url) as (chat, _):
        lines = [one.json for one in chat.ask("Go")]

    assert all("\n" not in line for line in lines)
    found = [json.loads(line) for line in lines]
    assert {one["event"] for one in found} >= {"ToolCall", "Question", "Progress", "ToolResult",
                                               "Text", "Note", "Waiting"}
    assert {"event": "Text", "text": "D\u2028one.\n"} in found
    assert json.loads(Found("toy", 5).json) == {
        "event": "Found", "server": "toy", "tools": 5, "problem": ""}


def test_the_chat_itself_can_be_called_like_a_function():
    with chat_with(says("Hi.")) as (chat, _):
        assert texts_of(chat("Hello")) == "Hi."


def test_many_requests_need_one_connection_to_the_model(toy):
    with chat_with(wants("toy__add", {"a": 1, "b": 1}), says("Two."), says("Three."),
                   says("Four."), toy=toy) as (chat, model):
        for question in ("1 + 1?", "2 + 1?", "3 + 1?"):
            finish(chat.ask(question))
    assert len(model.was_sent) == 4
    assert model.connections == 1


def test_the_question_reaches_the_model_as_it_was_typed():
    question = "¿Qué?\n\t\"zwei\" 🙂 \\n </s> \u2028"
    with chat_with(says("Hm.")) as (chat, model):
        finish(chat.ask(question))
    assert model.was_sent[0]["messages"][-1]["content"] == question


# ── Streams as real services send them ───────────────────────────────────────────────────

def call_piece(name: str | None = None, arguments: Any = None, **more: Any) -> dict:
    """A piece that holds a piece of a call: call_piece("s__f", '{"a', index=0, id="1")."""
    function = {} if name is None else {"name": name}
    return delta(tool_calls=[{**more, "function": {**function, "arguments": arguments}}])


A, B = '{"n": 1}', '{"n": 2}'

STREAMS = {
    "a call in pieces, as OpenAI sends it": [
        call_piece("s__f", "", index=0, id="x", type="function"),
        call_piece(None, '{"n"', index=0), call_piece(None, ": 1}", index=0)],
    "a whole call in one piece": [call_piece("s__f", A, index=0, id="x")],
    "no index": [call_piece("s__f", '{"n"', id="x"), call_piece(None, ": 1}")],
    "no index and no id": [call_piece("s__f", '{"n"'), call_piece(None, ": 1}")],
    "an empty id in what follows": [
        call_piece("s__f", "", index=0, id="x"), call_piece("", A, index=0, id="")],
    "an empty id from the beginning": [call_piece("s__f", A, index=0, id="")],
    "an id that is null": [call_piece("s__f", A, index=0, id=None)],
    "the id and the name in every piece": [
        call_piece("s__f", '{"n"', index=0, id="x"), call_piece("s__f", ": 1}", index=0, id="x")],
    "the arguments as an object": [call_piece("s__f", {"n": 1}, index=0, id="x")],
    "an index that begins with 1": [call_piece("s__f", A, index=1, id="x")],
    "content that is null beside the call": [
        {"choices": [{"delta": {"content": None, **call_piece("s__f", A, index=0, id="x")
                                ["choices"][0]["delta"]}}]}],
    "the call and the end in one piece": [
        {"choices": [{**call_piece("s__f", A, index=0, id="x")["choices"][0],
                      "finish_reason": "tool_calls"}]}],
}
STREAMS_OF_TWO = {
    "one after the other": [
        call_piece("s__f", '{"n"', index=0, id="x"), call_piece(None, ": 1}", index=0),
        call_piece("s__g", '{"n"', index=1, id="y"), call_piece(None, ": 2}", index=1)],
    "interleaved": [
        call_piece("s__f", "", index=0, id="x"), call_piece("s__g", "", index=1, id="y"),
        call_piece(None, '{"n"', index=0), call_piece(None, '{"n"', index=1),
        call_piece(None, ": 2}", index=1), call_piece(None, ": 1}", index=0)],
    "each index is 0, but the ids differ (Ollama)": [
        call_piece("s__f", A, index=0, id="x"), call_piece("s__g", B, index=0, id="y")],
    "each index is 0, the ids differ, and they come in pieces": [
        call_piece("s__f", '{"n"', index=0, id="x"), call_piece(None, ": 1}", index=0),
        call_piece("s__g", '{"n"', index=0, id="y"), call_piece(None, ": 2}", index=0)],
    "each index is 0, and no ids": [
        call_piece("s__f", A, index=0), call_piece("s__g", B, index=0)],
    "each index is 0, and the ids are empty": [
        call_piece("s__f", A, index=0, id=""), call_piece("s__g", B, index=0, id="")],
    "no index, but ids": [
        call_piece("s__f", '{"n"', id="x"), call_piece(None, ": 1}"),
        call_piece("s__g", B, id="y")],
    "no index and no ids": [call_piece("s__f", A), call_piece("s__g", B)],
    "both in one piece": [delta(tool_calls=[
        {"index": 0, "id": "x", "function": {"name": "s__f", "arguments": A}},
        {"index": 1, "id": "y", "function": {"name": "s__g", "arguments": B}}])],
}


@pytest.fixture(scope="module")
def two_tools() -> Iterator[LittleServer]:
    """A server "s" with the tools f and g, which repeat what they are given."""
    def repeat(arguments: dict) -> dict:
        return text(json.dumps(arguments))

    with LittleServer({"f": {"answer": repeat}, "g": {"answer": repeat}}) as server:
        yield server


def calls_in(stream: Any, server: LittleServer) -> list[tuple[str, str]]:
    """The calls (name, result) that come of a stream."""
    with chat_with(stream, says("Done."), s=server.url) as (chat, model):
        finish(chat.ask("Go"))
    asked, *results = model.was_sent[1]["messages"][2:]
    ids = [call["id"] for call in asked["tool_calls"]]
    assert all(ids) and len(set(ids)) == len(ids)
    assert [result["tool_call_id"] for result in results] == ids
    return [(call["function"]["name"], result["content"])
            for call, result in zip(asked["tool_calls"], results, strict=True)]


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_a_call_is_put_together(stream, two_tools):
    assert calls_in(pieces(*stream), two_tools) == [("s__f", A)]


@pytest.mark.parametrize("stream", STREAMS_OF_TWO.values(), ids=STREAMS_OF_TWO)
def test_two_calls_are_told_apart(stream, two_tools):
    assert calls_in(pieces(*stream), two_tools) == [("s__f", A), ("s__g", B)]


@pytest.mark.parametrize("arguments", ["", None, "{}", "null", " {} ", {}])
def test_no_arguments_are_an_empty_object(arguments, two_tools):
    stream = pieces(call_piece("s__f", arguments, index=0, id="x"))
    assert calls_in(stream, two_tools) == [("s__f", "{}")]


@pytest.mark.parametrize("arguments", ['{"n": ', "n = 1", "[1]", '"text"', "1", "NaN", [1],
                                       '{"n": NaN}', "[" * 100_000])
def test_the_model_reads_what_is_wrong_with_its_arguments(arguments, two_tools):
    stream = pieces(call_piece("s__f", arguments, index=0, id="x"))
    with chat_with(stream, says("Sorry."), s=two_tools.url) as (chat, model):
        before = len(two_tools.calls)
        events = without_waiting(chat.ask("Go"))

    asked, result = model.was_sent[1]["messages"][2:]
    assert result["content"].startswith("Error")
    assert json.loads(asked["tool_calls"][0]["function"]["arguments"]) == {}  # or it is refused
    assert len(two_tools.calls) == before
    assert [one for one in events if not isinstance(one, Note)] == [Text("Sorry.")]


def test_a_tool_that_does_not_exist_is_an_answer_to_the_model(two_tools):
    with chat_with(wants("s__h", {}, "s__f", {"n": 1}), says("Sorry."),
                   s=two_tools.url) as (chat, model):
        finish(chat.ask("Go"))
    no_such, found = model.was_sent[1]["messages"][3:]
    assert "no such tool" in no_such["content"]
    assert found["content"] == A


ANSWERS = {
    "pieces of words": [delta(content="It is "), delta(content="42.")],
    "content null and delta null": [
        delta(content=None), {"choices": [{"delta": None}]}, delta(content="It is 42.")],
    "a piece without choices, about usage": [
        delta(content="It is 42."), {"choices": [], "usage": {"total_tokens": 9}}],
    "choices null": [{"choices": None}, delta(content="It is 42.")],
    "the role first": [delta(role="assistant", content=""), delta(content="It is 42.")],
    "comments, as OpenRouter sends them": [
        b": OPENROUTER PROCESSING\n\n", delta(content="It is 42.")],
    "garbage that is not JSON": [b"data: {oops\n\n", b"oops\n\n", delta(content="It is 42.")],
    "a list, a number and null": [[1], b"data: 5\n\n", b"data: null\n\n",
                                  delta(content="It is 42.")],
    "other names of events": [b"event: ping\ndata: {}\n\n", delta(content="It is 42.")],
    "hostile shapes": [
        {"choices": "no"}, {"choices": {"delta": 1}}, {"choices": [1, None, "x", []]},
        {"choices": [{"delta": [1]}]}, {"choices": [{"delta": "text"}]},
        delta(content=5), delta(content={"a": 1}), delta(content=["x"]), delta(content=True),
        {"choices": [{"delta": {"content": "It is 42."}, "finish_reason": {"a": []}}]},
        delta(tool_calls="no"), delta(tool_calls=5), delta(tool_calls={"a": 1})],
    "a half of a letter": [b'data: {"choices": [{"delta": {"content": "It is 42.\\ud83d"}}]}\n\n'],
    "thoughts beside the answer": [
        delta(reasoning_content="Let me think."), delta(content="It is 42.")],
}


@pytest.mark.parametrize("stream", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_put_together(stream):
    with chat_with(pieces(*stream)) as (chat, _):
        answer = texts_of(chat.ask("Well?"))
    assert answer.rstrip("?\ufffd") == "It is 42."
    assert chat.messages[-1] == {"role": "assistant", "content": answer}


def test_a_stream_may_end_without_done():
    with chat_with(raw(event(delta(content="Hi.")))) as (chat, _):
        assert texts_of(chat.ask("Hello")) == "Hi."


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_stream_may_be_cut_anywhere_and_end_its_lines_in_three_ways(size, ends):
    words = "Ünï 🙂 \u2028 \u0085 \x0b end"
    whole = b"".join(says(words, "!").chunks).replace(b"\n", ends)
    with chat_with(cut_into(size, raw(whole))) as (chat, _):
        assert texts_of(chat.ask("Hello")) == words + "!"


@pytest.mark.parametrize("stream", [
    [delta(tool_calls=[{"index": {"a": 1}, "id": {"b": 2}, "function": {"name": ["c"]}}])],
    [delta(tool_calls=[{"index": [], "id": 7, "function": "f"}])],
    [delta(tool_calls=[None, 1, "x"])],
    [delta(tool_calls=[{"function": None}]), delta(tool_calls=[{}])],
    [delta(tool_calls=[{"index": 0, "id": "x", "function": {"name": 5, "arguments": 5}}])],
    [delta(tool_calls=[{"index": "zero", "id": "", "function": {"name": "", "arguments": "x"}}])],
])
def test_calls_of_a_strange_shape_never_crash_a_turn(stream, two_tools):
    with chat_with(pieces(*stream), says("Sorry."), s=two_tools.url) as (chat, _):
        assert texts_of(chat.ask("Go")) == "Sorry."


@pytest.mark.parametrize("reply, words", [
    (says("Once upon", finish="length"), "cut off"),
    (says("Once upon", finish="content_filter"), "filter"),
    (pieces(delta("content_filter")), "filter"),
    (pieces(delta("stop")), "empty"),
    (pieces(), "empty"),
    (raw(event(delta(content="Once upon"))), "broke off"),
])
def test_a_note_says_why_an_answer_is_not_whole(reply, words):
    with chat_with(reply) as (chat, _):
        notes = [one.text for one in chat.ask("Tell me a story") if isinstance(one, Note)]
    assert len(notes) == 1
    assert words in notes[0]


def test_a_refusal_of_the_model_is_its_answer():
    with chat_with(pieces(delta(refusal="I'd rather not."))) as (chat, _):
        assert texts_of(chat.ask("Do it")) == "I'd rather not."


# ── When it goes wrong ───────────────────────────────────────────────────────────────────

def assert_fails_and_goes_on(reply: Any, *words: str) -> str:
    """This reply is a Problem with these words; the conversation stays as it was before."""
    with chat_with(says("Hi."), reply, says("Here I am.")) as (chat, _):
        finish(chat.ask("Hello"))
        before = list(chat.messages)
        with pytest.raises(Problem) as caught:
            finish(chat.ask("Are you there?"))
        assert chat.messages == before
        assert texts_of(chat.ask("And now?")) == "Here I am."
        assert [message["content"] for message in chat.messages] == [
            "Hello", "Hi.", "And now?", "Here I am."]
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("reply, words", [
    (refusal(401, "Incorrect API key provided"), ["Invalid API key", "OPENAI_API_KEY", ".env"]),
    (refusal(403, "Country not supported"), ["may not", "Country not supported"]),
    (refusal(404, "The model does not exist"), ["scripted", "MODEL", "/model"]),
    (refusal(429, "Slow down.", {"Retry-After": "7"}), ["7 seconds", "Slow down."]),
    (refusal(429, "You exceeded your current quota"), ["account", "quota"]),
    (refusal(500, "Oops"), ["problem of its own", "Oops"]),
    (refusal(503, "Overloaded"), ["problem of its own", "Overloaded"]),
    (refusal(400, "Bad tools"), ["refused", "Bad tools"]),
    (raw(event({"error": {"message": "Overloaded", "type": "x"}})), ["Overloaded"]),
    (raw(event({"error": "just words"})), ["just words"]),
    (says("It is ", b'data: {"error": {"message": "GPU lost"}}\n\n'), ["GPU lost"]),
    (says("It is ", CUT), ["broke", "again"]),
    (raw(), ["not a model's service", "/v1"]),
    (raw(b"<html>Welcome to the hotel's wifi</html>"), ["not a model's service"]),
    (Reply([b'{"error": "Unexpected endpoint"}']), ["not a model's service"]),
    (Reply([b"not zipped at all"], 400, {"Content-Encoding": "gzip"}), ["can't be read"]),
    (wants(*["s__f", {}] * (MAX_CALLS + 1)), ["without end"]),
    (pieces(delta(tool_calls=[{"index": number} for number in range(60_000)])), ["without end"]),
    (pieces(*[delta(tool_calls=[{"index": 0, "function": {"name": "x" * 2**20}}])] * 40),
     ["without end"]),
    (raw(*[b"data: " + b"x" * 2**20] * 40), ["The model's service", "more than 32 MB"]),
])
def test_an_error_of_the_models_service_is_a_sentence_and_the_chat_goes_on(reply, words):
    assert_fails_and_goes_on(reply, *words)


@pytest.mark.parametrize("reply", [
    refusal(400, "a-key is too old. " * 100), refusal(400, "x" * 497 + "a-key"),
    raw(event({"error": {"message": "a-key is too old."}})), raw(event({"error": "a-key?"}))])
def test_whatever_the_models_service_says_the_key_is_not_shown(reply):
    shown = assert_fails_and_goes_on(reply)
    assert "a-key" not in shown and "a-k" not in shown and len(shown) < 700


@pytest.mark.parametrize("status", [301, 307, 308])
def test_the_conversation_goes_to_no_other_host(status):
    with ScriptedModel(says("Got it.")) as other:
        said = assert_fails_and_goes_on(
            refusal(status, "Moved.", {"Location": f"{other.base_url}/chat/completions"}))
    assert "has moved" in said and other.was_sent == []


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"[1]", b'{"error": "no"}',
                                  b'{"error": {"message": 5}}', b"5", b'{"detail": "x"}'])
@pytest.mark.parametrize("status", [401, 502])
def test_an_error_of_any_shape_is_still_a_sentence(status, body):
    reply = refusal(status)
    reply.chunks = [body] if body else []
    assert_fails_and_goes_on(reply)


def test_a_short_hiccup_of_the_service_goes_unnoticed():
    hiccup = refusal(500, headers={"x-should-retry": "true", "Retry-After-Ms": "1"})
    with chat_with(hiccup, says("Hi.")) as (chat, _):
        assert texts_of(chat.ask("Hello")) == "Hi."


def test_no_connection_is_a_problem_that_says_what_to_do():
    with ScriptedModel() as model:
        pass  # it has ended, so nobody listens there now
    with Chat(model.llm, {}) as chat:
        with pytest.raises(Problem, match="Can't reach"):
            finish(chat.ask("Hello"))
        assert chat.messages == []


def test_a_service_that_hangs_up_at_once_is_a_problem_too():
    with socket.create_server(("127.0.0.1", 0)) as door, ScriptedModel() as model:
        def open_and_shut() -> None:
            with contextlib.suppress(OSError):
                while True:
                    door.accept()[0].close()

        threading.Thread(target=open_and_shut, daemon=True).start()
        model.llm.base_url = f"http://127.0.0.1:{door.getsockname()[1]}/v1"
        with Chat(model.llm, {}) as chat, pytest.raises(Problem):
            finish(chat.ask("Hello"))


def test_an_error_after_a_tool_call_takes_the_call_back_too(toy):
    with chat_with(wants("toy__add", {"a": 1, "b": 1}), refusal(500), says("Hi."),
                   toy=toy) as (chat, model):
        with pytest.raises(Problem):
            finish(chat.ask("1 + 1?"))
        assert chat.messages == []
        finish(chat.ask("Hello"))
    assert roles(model.was_sent[-1]["messages"]) == ["system", "user"]


TOO_LONG = {
    "OpenAI": refusal(400, "This model's maximum context length is 128000 tokens. However, your "
                           "messages resulted in 130001 tokens.", code="context_length_exceeded"),
    "only a code": refusal(400, "Please reduce the length.", code="context_length_exceeded"),
    "newer OpenAI": refusal(400, "Your input exceeds the context window of this model."),
    "Anthropic": refusal(400, "prompt is too long: 210000 tokens > 200000 maximum"),
    "Gemini": refusal(400, "The input token count (1200000) exceeds the maximum number of tokens "
                           "allowed (1048576)."),
    "llama.cpp": refusal(400, "the request exceeds the available context size. try increasing it"),
    "Mistral": refusal(400, "Prompt contains 40000 tokens, too large for model with 32768 maximum "
                            "context length"),
    "413": refusal(413, "The prompt is too long."),
    "LM Studio, in the stream": raw(
        b"event: error\n" + event({"error": {"message": "Trying to keep the first 5000 tokens "
                                             "when context the overflows. However, the model is "
                                             "loaded with context length of only 4096 tokens"}})),
}


@pytest.mark.parametrize("reply", TOO_LONG.values(), ids=TOO_LONG)
def test_when_the_conversation_is_too_long_its_oldest_turn_is_forgotten(reply):
    with chat_with(says("Hi, Ann."), says("Nice."), reply, says("Five.")) as (chat, model):
        finish(chat.ask("I am Ann."))
        finish(chat.ask("I like tea."))
        events = without_waiting(chat.ask("2 + 3?"))

    assert isinstance(events[0], Note) and "forgotten" in events[0].text
    assert texts_of(iter(events)) == "Five."
    assert [message["content"] for message in model.was_sent[3]["messages"][1:]] == [
        "I like tea.", "Nice.", "2 + 3?"]
    assert [message["content"] for message in chat.messages] == [
        "I like tea.", "Nice.", "2 + 3?", "Five."]


def test_a_turn_is_forgotten_with_its_tool_calls(toy):
    with chat_with(wants("toy__add", {"a": 1, "b": 1}), says("Two."), TOO_LONG["OpenAI"],
                   says("Hi."), toy=toy) as (chat, model):
        finish(chat.ask("1 + 1?"))
        finish(chat.ask("Hello"))
    assert roles(model.was_sent[-1]["messages"]) == ["system", "user"]


def test_a_prompt_of_the_models_own_words_can_be_too_long_as_well():
    with chat_with(TOO_LONG["OpenAI"], says("Here.")) as (chat, _):
        with pytest.raises(Problem, match="too long"):
            finish(chat.ask([{"role": "assistant", "content": "Once upon a time"}]))
        assert texts_of(chat.ask("Still there?")) == "Here."


def test_when_one_question_alone_is_too_long_that_is_a_problem(toy):
    with chat_with(says("Hi."), wants("toy__add", {"a": 1, "b": 1}),
                   TOO_LONG["OpenAI"], TOO_LONG["OpenAI"], says("Here."), toy=toy) as (chat, _):
        finish(chat.ask("Hello"))
        before = list(chat.messages)
        with pytest.raises(Problem, match="too long"):
            finish(chat.ask("1 + 1?"))
        assert chat.messages == before
        assert texts_of(chat.ask("Still there?")) == "Here."


# ── Limits ───────────────────────────────────────────────────────────────────────────────

@pytest.mark.line(50)
def test_a_model_that_never_stops_calling_tools_is_stopped(two_tools):
    script = [wants("s__f", {})] * MAX_ROUNDS
    with chat_with(*script, says("Hi."), s=two_tools.url) as (chat, model):
        events = without_waiting(chat.ask("Go"))
        assert len(model.was_sent) == MAX_ROUNDS == 20
        assert isinstance(events[-1], Note) and "20 rounds" in events[-1].text
        assert texts_of(chat.ask("Hello")) == "Hi."  # and the chat goes on


def test_a_long_result_is_cut_and_the_model_is_told_how_much_is_missing(monkeypatch):
    monkeypatch.setenv("MAX_RESULT_CHARS", "100")
    with LittleServer({"read": {"answer": lambda arguments: text("x" * 123)}}) as server, \
            chat_with(wants("s__read", {}), says("Long."), s=server.url) as (chat, model):
        finish(chat.ask("Read"))
    result = model.was_sent[1]["messages"][-1]["content"]
    assert result.startswith("x" * 100 + "\n")
    assert "23 more characters" in result


@pytest.mark.parametrize("text", ["a lot", "-1", "9" * 5000, "٣", "1.5"])
def test_a_limit_that_is_no_number_is_a_problem(monkeypatch, text):
    monkeypatch.setenv("MAX_RESULT_CHARS", text)
    with ScriptedModel() as model, pytest.raises(Problem, match="MAX_RESULT_CHARS"):
        Chat(model.llm, {})


# ── What tools do ────────────────────────────────────────────────────────────────────────

def test_a_picture_is_saved_and_the_model_is_told_where(toy):
    with chat_with(wants("toy__picture", {}), says("Look."), toy=toy) as (chat, model):
        events = list(chat.ask("Draw"))
        folder = Path(chat.folder)
    file, = next(one for one in events if isinstance(one, ToolResult)).files
    try:
        assert Path(file).parent == folder
        assert file.endswith(".png")
        assert Path(file).read_bytes().startswith(b"\x89PNG")
        assert file in model.was_sent[1]["messages"][-1]["content"]
        if os.name == "posix":
            assert folder.stat().st_mode & 0o77 == 0  # nobody else on this computer may look
    finally:
        shutil.rmtree(folder)


def test_a_failing_tool_is_an_answer_to_the_model(toy):
    with chat_with(wants("toy__fail", {}), says("It failed."), toy=toy) as (chat, model):
        events = list(chat.ask("Fail"))
    result = next(one for one in events if isinstance(one, ToolResult))
    assert result.failed
    assert "always fails" in model.was_sent[1]["messages"][-1]["content"]


def test_an_error_of_the_server_is_an_answer_to_the_model():
    refuse = {"error": {"code": -32602, "message": "No such patient."}}
    with LittleServer({"read": {"answer": lambda arguments: refuse}}) as server, \
            chat_with(wants("s__read", {}), says("Hm."), s=server.url) as (chat, model):
        events = list(chat.ask("Read"))
    assert "Error calling tool read: No such patient." in \
        model.was_sent[1]["messages"][-1]["content"]
    assert next(one for one in events if isinstance(one, ToolResult)).failed


def test_a_server_that_is_gone_is_an_answer_to_the_model():
    with ScriptedModel(wants("s__f", {}), says("It is gone.")) as model:
        with LittleServer({"f": {}}) as server:
            chat = Chat(model.llm, {"s": Server("s", server.url)})
            finish(chat.meet_servers())
        with chat:
            assert texts_of(chat.ask("Go")) == "It is gone."
    assert "Error calling tool f" in model.was_sent[1]["messages"][-1]["content"]


def test_a_server_that_needs_too_long_is_an_answer_to_the_model():
    with LittleServer({"f": {"answer": lambda arguments: None}}) as server, \
            ScriptedModel(wants("s__f", {}), says("Too slow.")) as model, \
            Chat(model.llm, {"s": Server("s", server.url)}) as chat:
        finish(chat.meet_servers())
        chat.connections["s"].server.timeout = 0.3
        assert texts_of(chat.ask("Go")) == "Too slow."
        assert server.somebody_hung_up.wait(PATIENCE)
    assert "0.3 seconds" in model.was_sent[1]["messages"][-1]["content"]


@pytest.mark.line(42)
@pytest.mark.parametrize("content", [[{"type": "text", "text": "No such town."}], []])
def test_the_model_is_told_that_a_tool_has_failed(content):
    failed = {"content": content, "isError": True}
    with LittleServer({"f": {"answer": lambda arguments: failed}}) as server, \
            chat_with(wants("s__f", {}), says("I see."), s=server.url) as (chat, model):
        [result] = [one for one in chat.ask("Go") if isinstance(one, ToolResult)]
    told = f"Error calling tool f: {''.join(one['text'] for one in content)}"
    assert result.failed and result.text == model.was_sent[1]["messages"][-1]["content"] == told


def test_of_very_many_pictures_only_some_become_files():
    many = {"content": [{"type": "image", "data": "iVBORw0=", "mimeType": "image/png"}] * 1000}
    with LittleServer({"f": {"answer": lambda arguments: many}}) as server, \
            chat_with(wants("s__f", {}), says("I see."), s=server.url) as (chat, model):
        [result] = [one for one in chat.ask("Go") if isinstance(one, ToolResult)]
    assert len(result.files) == 20 and "too many" in model.was_sent[1]["messages"][-1]["content"]


def test_a_failing_tool_does_not_keep_the_others_from_working(toy, two_tools):
    with chat_with(wants("toy__fail", {}, "s__f", {"n": 1}, "toy__add", {"a": 1, "b": 1}),
                   says("Hm."), toy=toy, s=two_tools.url) as (chat, model):
        finish(chat.ask("Go"))
    contents = [message["content"] for message in model.was_sent[1]["messages"][3:]]
    assert "fails" in contents[0]
    assert contents[1:] == [A, "1 + 1 = 2"]


@pytest.mark.line(29)
@pytest.mark.parametrize("lasts", [3_600_000, 0, -1, 1, "3600000", None, True, "absent"], ids=str)
def test_before_a_question_a_list_of_tools_that_is_stale_is_fetched_anew(http_server, lasts):
    def offers(name):
        return new({"tools": [{"name": name, "inputSchema": {"type": "object"}}],
                    **({} if lasts == "absent" else {"ttlMs": lasts})})

    server = http_server({"tools/list": [offers("older"), offers("newer")]})
    with ScriptedModel(says("Hi."), says("Hi.")) as model, \
            Chat(model.llm, {"s": server.entry(name="s")}) as chat:
        finish(chat.meet_servers())
        for _ in range(2):
            finish(chat.ask("Hello"))
    assert len(server.saw("tools/list")) == (1 if lasts == 3_600_000 else 3)
    assert [sent["tools"][0]["function"]["name"] for sent in model.was_sent] == [
        "s__older" if lasts == 3_600_000 else "s__newer"] * 2


# ── Asking a person first ────────────────────────────────────────────────────────────────

class Eraser(LittleServer):
    """A server with a tool that destroys, one that only looks, and one that says nothing."""

    def __init__(self) -> None:
        done = {"answer": lambda arguments: text("Done.")}
        super().__init__({
            "erase": {**done, "annotations": {"destructiveHint": True}},
            "look": {**done, "annotations": {"readOnlyHint": True, "destructiveHint": True}},
            "plain": done})


def questions(chat: Chat, answer: str) -> list[Question]:
    """Ask the chat to go on, and give this answer to whatever it wants to know."""
    found = []
    for one in chat.ask("Go"):
        if isinstance(one, Question):
            found.append(one)
            one.answer = answer
    return found


def test_a_destructive_tool_runs_only_after_a_yes():
    with Eraser() as server, chat_with(
            wants("s__erase", {"file": "a.txt"}), says("Erased."), s=server.url) as (chat, _):
        question, = questions(chat, "y")
        assert [call["name"] for call in server.calls] == ["erase"]
    assert "erase" in question.text and '"file": "a.txt"' in question.text
    assert set(question.choices) == {"y", "n", "a"}


def test_what_is_to_be_confirmed_can_be_read_and_hides_nothing():
    many = {"more": ["x" * 99] * 1000, "file": "Größe/日本\u202etxt.exe", "so": {"on": True}}
    with Eraser() as server, chat_with(
            wants("s__erase", many), says("Fine."), s=server.url) as (chat, _):
        question, = questions(chat, "y")
        assert server.calls[0]["arguments"] == many
    start, more, *others = question.text.split("\n")
    assert start == "s wants to run erase with {"
    assert more.startswith('  "more": ["xxx') and more.endswith("more") and len(more) < 1000
    assert others == ['  "file": "Größe/日本\\u202etxt.exe"', '  "so": {"on": true}', "}"]


def test_a_no_is_said_to_the_person_too():
    with Eraser() as server, chat_with(
            wants("s__erase", {}), says("Fine."), s=server.url) as (chat, _):
        notes = [one.text for one in chat.ask("Go") if isinstance(one, Note)]
    assert notes == ["erase was not called."]


@pytest.mark.parametrize("answer", ["n", "", "what?"])
def test_anything_but_a_yes_is_a_no_and_the_model_is_told(answer):
    with Eraser() as server, chat_with(
            wants("s__erase", {}, "s__plain", {}), says("Fine."), s=server.url) as (chat, model):
        assert len(questions(chat, answer)) == 1
        assert [call["name"] for call in server.calls] == ["plain"]
    refused, done = model.was_sent[1]["messages"][3:]
    assert "not allow" in refused["content"]
    assert done["content"] == "Done."


def test_always_is_an_answer_for_this_tool_only():
    with Eraser() as server, chat_with(
            wants("s__erase", {}, "s__erase", {}), says("Erased."),
            wants("s__erase", {}), says("Erased."), s=server.url) as (chat, _):
        assert len(questions(chat, "a")) == 1
        assert len(questions(chat, "n")) == 0  # in the next turn, too
        assert len(server.calls) == 3


@pytest.mark.parametrize("confirm, asked_about", [
    ("destructive", ["erase"]), ("never", []), ("every", ["erase", "look", "plain"])])
def test_each_server_has_a_setting_for_what_to_ask_about(confirm, asked_about):
    with Eraser() as server, ScriptedModel(
            wants("s__erase", {}, "s__look", {}, "s__plain", {}), says("Done.")) as model, \
            Chat(model.llm, {"s": Server("s", server.url, confirm=confirm)}) as chat:
        finish(chat.meet_servers())
        found = questions(chat, "y")
        assert len(server.calls) == 3
    assert len(found) == len(asked_about)
    assert all(name in question.text for name, question in zip(asked_about, found, strict=True))


# ── Leaving early ────────────────────────────────────────────────────────────────────────

def leave_at(kind: type, chat: Chat) -> None:
    """Begin a turn, and lose interest at the first event of this kind."""
    events = chat.ask("Go")
    for one in events:
        if isinstance(one, kind):
            break
    events.close()


def test_who_leaves_during_a_tool_call_finds_the_conversation_as_it_was():
    with LittleServer({"wait": {"answer": lambda arguments: None}}) as server, chat_with(
            says("Hi."), wants("s__wait", {}), says("Here."), s=server.url) as (chat, _):
        finish(chat.ask("Hello"))
        before = list(chat.messages)
        events = chat.ask("Go")
        for one in events:
            if isinstance(one, Waiting) and server.calls:
                break
        events.close()
        assert server.somebody_hung_up.wait(PATIENCE)  # so the tool knows that nobody waits for it
        assert chat.messages == before
        assert texts_of(chat.ask("Still there?")) == "Here."


def test_a_program_on_this_computer_is_told_too(tmp_path):
    # What the server gets is written down by a "tee" between us and it.
    tee = tmp_path / "tee.py"
    tee.write_text(f"""
import subprocess, sys
toy = subprocess.Popen([sys.executable, {str(TOY_SERVER)!r}], stdin=subprocess.PIPE)
with open({str(tmp_path / "seen.txt")!r}, "ab", buffering=0) as seen:
    for line in sys.stdin.buffer:
        seen.write(line)
        toy.stdin.write(line)
        toy.stdin.flush()
toy.stdin.close()
toy.wait()
""")
    servers = {"toy": Server("toy", command="python", args=[str(tee)], cwd=str(tmp_path))}
    with ScriptedModel(wants("toy__slow_count", {"to": 60})) as model:
        with Chat(model.llm, servers) as chat:
            finish(chat.meet_servers())
            leave_at(Progress, chat)
        sent = [json.loads(line) for line in (tmp_path / "seen.txt").read_text().splitlines()]
    call = next(one for one in sent if one["method"] == "tools/call")
    cancelled = next(one for one in sent if one["method"] == "notifications/cancelled")
    assert cancelled["params"]["requestId"] == call["id"]


def test_who_leaves_during_an_answer_finds_the_conversation_as_it_was():
    gate = threading.Event()
    with chat_with(says("One ", gate, "two ", HANG), says("Here.")) as (chat, model):
        leave_at(Text, chat)
        assert chat.messages == []
        gate.set()
        assert model.somebody_hung_up.wait(PATIENCE)
        assert texts_of(chat.ask("Still there?")) == "Here."


def test_a_model_that_has_fallen_silent_is_hung_up_on():
    with chat_with(says("One ", HANG), says("Here.")) as (chat, model):
        leave_at(Text, chat)
        assert model.somebody_hung_up.wait(PATIENCE)
        assert texts_of(chat.ask("Still there?")) == "Here."


def test_who_leaves_before_the_first_event_has_asked_nothing():
    with chat_with(says("Hi.")) as (chat, model):
        chat.ask("Hello").close()
        assert model.was_sent == []


# ── From your own code ───────────────────────────────────────────────────────────────────

@pytest.fixture
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """An empty current folder, and an environment that forgets what .env puts into it."""
    before = dict(os.environ)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "MODEL"):
        os.environ.pop(name, None)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


def test_a_program_of_your_own_can_open_a_chat(toy, folder):
    with ScriptedModel(wants("toy__add", {"a": 1, "b": 1}), says("Two.")) as model:
        (folder / ".env").write_text(f"OPENAI_BASE_URL={model.base_url}\nMODEL=mine\n")
        (folder / "mcp_servers.json").write_text(
            json.dumps({"servers": [{"name": "toy", "url": toy}]}))
        lines = []

        with open_chat("mcp_servers.json") as chat:
            for one in chat.ask("1 + 1?"):
                lines.append(one.json)

    assert '{"event": "Text", "text": "Two."}' in lines
    assert model.was_sent[0]["model"] == "mine"


def test_a_program_of_your_own_can_bring_its_model(toy, folder):
    (folder / ".env").write_text("")
    (folder / "mine.json").write_text(json.dumps({"servers": [{"name": "toy", "url": toy}]}))
    with ScriptedModel(says("Hi.")) as model, open_chat("mine.json", model.llm) as chat:
        assert texts_of(chat("Hello")) == "Hi."
        assert len(chat.tools) == 6  # its own five, and the one that reads its resources


def test_pieces_that_say_done_are_no_answer():
    assert DONE == b"data: [DONE]\n\n"
    with chat_with(raw(DONE)) as (chat, _):
        assert [type(one) for one in without_waiting(chat.ask("Hello"))] == [Note]
