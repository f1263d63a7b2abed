"""chapters/replies.py: one message from the pieces of a reply, as real services send them. The
model follows a script (scripted_model.py), and is reached through the real openai package."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from chats import chat_with, repeating, without_waiting
from little_server import LittleServer
from scripted_model import (
    DONE,
    cut_into,
    delta,
    event,
    pieces,
    raw,
    says,
    texts_of,
    wants,
)

from chapters.events import Note, Text
from chapters.jobs import finish
from chapters.outside import Problem


@pytest.fixture(scope="module")
def two_tools() -> Iterator[LittleServer]:
    """A server "s" with the tools f and g, which repeat what they are given."""
    with repeating() as server:
        yield server


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
    "lines that are no events": [b"oops\n\n", delta(content="It is 42.")],
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
    "a list of parts": [delta(content=[{"type": "text", "text": "It is "}, {"type": "x"},
                                       {"type": "text", "text": "42."}])],
    "a whole message": [{"choices": [{"message": {"role": "assistant", "content": "It is 42."},
                                      "finish_reason": "stop"}]}],
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


def test_pieces_that_say_done_are_no_answer():
    assert DONE == b"data: [DONE]\n\n"
    with chat_with(raw(DONE)) as (chat, _):
        assert [type(one) for one in without_waiting(chat.ask("Hello"))] == [Note]


@pytest.mark.parametrize("stream", [
    [delta(reasoning_content="Hm. "), delta(reasoning_content="Yes."), delta(content="It is 42.")],
    [delta(content="It is 42.", reasoning_content="Hm. "), delta(reasoning_content="Yes.")]])
def test_what_a_service_puts_into_its_message_is_not_shown_but_goes_back_to_it(stream):
    with chat_with(pieces(*stream, delta("stop")), says("Yes.")) as (chat, model):
        assert texts_of(chat.ask("Well?")) == "It is 42."
        finish(chat.ask("Really?"))
    assert model.was_sent[1]["messages"][2] == {
        "role": "assistant", "reasoning_content": "Hm. Yes.", "content": "It is 42."}


def test_and_so_does_what_it_puts_into_a_call(two_tools):
    stream = pieces(delta(reasoning_details=[{"a": 1}]), delta(reasoning_details=[{"b": 2}]),
                    call_piece("s__f", A, index=0, id="x", extra_content={"signature": "y"}))
    with chat_with(stream, says("Done."), s=two_tools.url) as (chat, model):
        finish(chat.ask("Go"))
    assert model.was_sent[1]["messages"][2] == {
        "role": "assistant", "reasoning_details": [{"a": 1}, {"b": 2}],
        "tool_calls": [{"id": "x", "type": "function", "extra_content": {"signature": "y"},
                        "function": {"name": "s__f", "arguments": A}}]}


def test_a_message_without_words_has_no_content(two_tools):
    # Some services refuse one that is empty, or null.
    with chat_with(wants("s__f", {}), says("Done."), s=two_tools.url) as (chat, model):
        finish(chat.ask("Go"))
    assert set(model.was_sent[1]["messages"][2]) == {"role", "tool_calls"}


@pytest.mark.parametrize("end", [[], [event(delta("length")), DONE], [event(delta("length"))]])
@pytest.mark.parametrize("arguments", [A, '{"n": '])
def test_a_call_in_a_reply_that_breaks_off_is_not_made(arguments, end, two_tools):
    before = len(two_tools.calls)
    stream = raw(event(call_piece("s__f", arguments, index=0, id="x")), *end)
    with chat_with(stream, says("Here."), s=two_tools.url) as (chat, _):
        with pytest.raises(Problem, match="in the middle of a tool call, so nothing was called"):
            finish(chat.ask("Go"))
        assert chat.messages == [] and len(two_tools.calls) == before
        assert texts_of(chat.ask("Still there?")) == "Here."


@pytest.mark.parametrize("empty", [
    pieces(delta("stop")), pieces(), raw(DONE), pieces(delta("content_filter"))])
def test_an_empty_answer_does_not_enter_the_conversation(empty):
    # Services refuse a conversation that has one in it.
    with chat_with(says("Hi."), empty, says("Here.")) as (chat, model):
        finish(chat.ask("Hello"))
        before = list(chat.messages)
        assert [type(one) for one in without_waiting(chat.ask("Well?"))] == [Note]
        assert chat.messages == before
        finish(chat.ask("Still there?"))
    assert [one["content"] for one in model.was_sent[2]["messages"][1:]] == [
        "Hello", "Hi.", "Still there?"]


def test_a_letter_may_come_in_two_halves():
    halves = [b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n' % half
              for half in (b"Hi \\ud83d", b"\\ude42!")]
    with chat_with(raw(*halves, DONE)) as (chat, _):
        assert texts_of(chat.ask("Hello")) == chat.messages[-1]["content"] == "Hi 🙂!"
