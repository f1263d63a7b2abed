"""What model services do differently, as whole conversations: what they put into their messages,
what they refuse, and in which shapes they answer. The service is scripted_model.py, and is reached
through the real openai package."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from chats import chat_with, repeating, roles, type_in, without_waiting
from little_server import LittleServer
from scripted_model import DONE, Reply, delta, event, pieces, raw, refusal, says, texts_of, wants

from chapters.events import Note
from chapters.jobs import finish
from chapters.outside import Problem

A = '{"n": 1}'


@pytest.fixture(scope="module")
def two_tools() -> Iterator[LittleServer]:
    """A server "s" with the tools f and g, which repeat what they are given."""
    with repeating() as server:
        yield server


def call(arguments: Any = A, name: str = "s__f", number: int = 0, **more: Any) -> dict:
    return {"index": number, "id": f"id{number}", "type": "function",
            "function": {"name": name, "arguments": arguments}, **more}


def json_body(body: object, status: int = 200) -> Reply:
    """An answer that isn't streamed."""
    return Reply([body if isinstance(body, bytes) else json.dumps(body).encode()], status,
                 {"Content-Type": "application/json", "x-should-retry": "false"})


def notes_in(events: Any) -> list[str]:
    return [one.text for one in events if isinstance(one, Note)]


# ── What a service has put into its message ──────────────────────────────────────────────

OWN_FIELDS = {
    "DeepSeek and Kimi, in pieces": (
        [{"reasoning_content": "The user "}, {"reasoning_content": "wants to add."}],
        {"reasoning_content": "The user wants to add."}),
    "OpenRouter": (
        [{"reasoning": "Hm", "reasoning_details": [{"type": "reasoning.text", "text": "Hm"}]},
         {"reasoning": ".", "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}],
        {"reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm"},
                                                   {"type": "reasoning.encrypted", "data": "x"}]}),
    "an object": ([{"extra": {"a": [1]}}], {"extra": {"a": [1]}}),
    "an object in two pieces": ([{"extra": {"a": 1}}, {"extra": {"b": 2}}],
                                {"extra": {"a": 1, "b": 2}}),
    "numbers, and what is null": ([{"n": 1, "audio": None}, {"n": 2}], {"n": 2}),
    "fields whose names a call has, too": ([{"id": "m-1", "type": "message"}],
                                           {"id": "m-1", "type": "message"}),
    "a character in two halves": ([{"thoughts": "\ud83d"}, {"thoughts": "\ude42"}],
                                  {"thoughts": "🙂"}),
    "half a character": ([{"thoughts": "\ud83d!"}], {"thoughts": "?!"}),
}


@pytest.mark.parametrize("sent, back", OWN_FIELDS.values(), ids=OWN_FIELDS)
def test_what_is_in_a_message_besides_goes_back_to_its_service(sent, back, two_tools):
    stream = [json.dumps(delta(**one)).encode() for one in sent]
    stream = [b"data: " + one + b"\n\n" for one in stream]
    with chat_with(pieces(*stream, delta("tool_calls", tool_calls=[call()])), says("1."),
                   says("Again 1."), says("Me, too."), s=two_tools.url) as (chat, model):
        finish(chat.ask("Add"))
        finish(chat.ask("Again"))
        type_in(chat, "/model other")
        finish(chat.ask("And you?"))
    plain = {"role": "assistant", "tool_calls": [
        {"id": "id0", "type": "function", "function": {"name": "s__f", "arguments": A}}]}
    assert model.was_sent[1]["messages"][2] == model.was_sent[2]["messages"][2] == {
        **plain, **back}
    assert model.was_sent[3]["messages"][2] == plain, "another model gets none of it"


@pytest.mark.parametrize("more, inner", [
    ({"extra_content": {"google": {"thought_signature": "abc"}}}, {}), ({}, {"signature": "abc"}),
    ({"meta": ["a"], "note": "n"}, {"meta": {"b": 1}})])
def test_what_is_in_a_call_besides_goes_back_too(more, inner, two_tools):
    one = call(**more)
    one["function"] |= inner
    with chat_with(pieces(delta("tool_calls", tool_calls=[one])), says("1."),
                   s=two_tools.url) as (chat, model):
        finish(chat.ask("Add"))
        assert model.was_sent[1]["messages"][2]["tool_calls"] == [
            {key: one[key] for key in one if key != "index"}]
        type_in(chat, "/model other")
        assert chat.messages[1]["tool_calls"][0]["function"] == {"name": "s__f", "arguments": A}


# ── Nothing stays that makes every later question fail ───────────────────────────────────

@pytest.mark.parametrize("empty", [
    says(""), says(" \n"), pieces(delta("stop")), pieces(delta("stop", content=None)), pieces(),
    pieces(delta("stop", content=[])), pieces(delta("stop", reasoning_content="Hm.")),
    json_body({"choices": [{"message": {"role": "assistant", "content": ""}}]})])
def test_an_empty_answer_is_said_and_does_not_stay(empty):
    with chat_with(empty, says("Here.")) as (chat, model):
        assert notes_in(chat.ask("Hello")) == ["The answer is empty."]
        assert chat.messages == []
        finish(chat.ask("Still there?"))
    assert roles(model.was_sent[1]["messages"]) == ["system", "user"]


@pytest.mark.parametrize("content", [None, "", " \n", []])
def test_beside_calls_there_is_no_empty_content(content, two_tools):
    with chat_with(pieces(delta("tool_calls", content=content, tool_calls=[call()])), says("1."),
                   s=two_tools.url) as (chat, model):
        finish(chat.ask("Add"))
    assert "content" not in model.was_sent[1]["messages"][2]


@pytest.mark.parametrize("result", [
    {"content": []}, {}, {"content": [{"type": "text", "text": ""}]},
    {"content": [{"type": "text", "text": " \n "}]}])
def test_an_empty_result_is_a_short_phrase(result):
    with LittleServer({"f": {"answer": lambda arguments: result}}) as server, \
            chat_with(wants("s__f", {}), says("1."), s=server.url) as (chat, model):
        finish(chat.ask("Go"))
    assert model.was_sent[1]["messages"][3]["content"] == "(no output)"


@pytest.mark.parametrize("name, sent", [
    ("functions.s__f", "functions_s__f"), ("", "unknown"), ("s f", "s_f"), ("é" * 70, "_" * 64)])
def test_a_name_that_no_service_takes_back_is_mended(name, sent, two_tools):
    with chat_with(pieces(delta("tool_calls", tool_calls=[call(name=name)])), says("Sorry."),
                   s=two_tools.url) as (chat, model):
        finish(chat.ask("Go"))
    asked, result = model.was_sent[1]["messages"][2:]
    assert asked["tool_calls"][0]["function"] == {"name": sent, "arguments": A}
    assert "no such tool" in result["content"]


def test_after_a_turn_that_was_stopped_the_roles_still_take_turns(two_tools):
    # Mistral refuses a user's message right after a tool's.
    with chat_with(*[wants("s__f", {})] * 20, says("Here."), s=two_tools.url) as (chat, model):
        assert "Stopped" in notes_in(chat.ask("Go"))[-1]
        finish(chat.ask("Still there?"))
    assert roles(model.was_sent[-1]["messages"])[-4:] == ["assistant", "tool", "assistant", "user"]


REFUSALS = {
    "OpenAI": {"error": {"message": "Invalid schema for function 's__g': schema must have type "
                                    "'object' and not have 'anyOf' at the top level.",
                         "param": "tools[1].function.parameters"}},
    "only a parameter": {"error": {"message": "It is wrong.",
                                   "param": "tools[1].function.parameters"}},
    "Anthropic": {"error": {"message": "tools.1.custom.input_schema: JSON schema is invalid."}},
    "Gemini": [{"error": {"code": 400, "message": "* GenerateContentRequest.tools[0].function_"
                          "declarations[1].parameters.properties: should be non-empty"}}],
    "FastAPI": {"detail": [{"loc": ["body", "tools", 1, "function", "name"], "msg": "Too long",
                            "input": {"tools": ["s__f"]}}]},
    "vLLM": {"object": "error", "message": "[{'loc': ('body', 'tools', 1), 'msg': 'No.'}]"},
    "OpenRouter": {"error": {"message": "Provider returned error", "metadata": {
        "raw": json.dumps({"error": {"message": "Bad function: s__g."}})}}},
    "an error that is only a word": {"error": "Bad Request", "message": "s__g is refused"},
    "a long story before it": {"error": {"message": "x " * 2000 + "s__g"}},
    "plain text": b"No: tools/1 has no type.",
}


@pytest.mark.parametrize("status", [400, 422, 500])
@pytest.mark.parametrize("body", REFUSALS.values(), ids=REFUSALS)
def test_a_tool_that_is_refused_costs_that_tool_only(body, status, two_tools):
    with chat_with(json_body(body, status), says("Hi."), says("Again."), s=two_tools.url) as (
            chat, model):
        [note] = notes_in(chat.ask("Go"))
        assert notes_in(chat.ask("Go on")) == []
    assert "do without s__g." in note
    assert [[tool["function"]["name"] for tool in sent["tools"]] for sent in model.was_sent] == [
        ["s__f", "s__g"], ["s__f"], ["s__f"]]


def test_that_a_tool_is_left_out_is_said_also_if_the_question_fails_then(two_tools):
    with chat_with(refusal(400, "s__g is wrong"), refusal(401, "Your key is, too"),
                   s=two_tools.url) as (chat, _):
        seen = []
        with pytest.raises(Problem, match="Your key"):
            seen.extend(chat.ask("Go"))
    assert [type(one) for one in without_waiting(seen)] == [Note]


@pytest.mark.parametrize("words", ["Invalid tools: at most 1 is allowed", "tools: 1 is too many",
                                   "tool_calls[1] is wrong", "messages[1].content is wrong"])
def test_a_number_that_is_no_tool_s_leaves_none_out(words, two_tools):
    with chat_with(refusal(400, words), s=two_tools.url) as (chat, model), \
            pytest.raises(Problem, match="refused"):
        finish(chat.ask("Go"))
    assert len(model.was_sent) == 1


# ── What a service says is read, whatever its shape ──────────────────────────────────────

ERRORS = {
    "Gemini": [{"error": {"code": 400, "message": "The reason.", "details": [{"reason": "X"}]}}],
    "text": {"error": "The reason."},
    "an object": {"error": {"message": "The reason."}},
    "a message": {"message": "The reason.", "code": 7},
    "a message beside a word": {"error": "Bad Request", "message": "The reason.", "code": 400},
    "detail": {"detail": "The reason."},
    "a detail that is an object": {"detail": {"error": {"message": "The reason."}}},
    "FastAPI": {"detail": [{"loc": ["body", "x"], "msg": "The reason."}]},
    "errors": {"errors": [{"message": "The reason."}]},
    "OAuth": {"error": "invalid_token", "error_description": "The reason."},
    "vLLM": {"object": "error", "message": "The reason."},
    "Anthropic": {"type": "error", "error": {"type": "x", "message": "The reason."}},
    "OpenRouter": {"error": {"message": "Provider returned error", "metadata": {
        "raw": '{"error": {"message": "The reason."}}', "provider_name": "X"}}},
    "JSON in a string": {"error": json.dumps({"detail": "The reason."})},
    "MiniMax": {"base_resp": {"status_code": 1004, "status_msg": "The reason."}},
    "a shape that nobody knows": {"oops": {"why": "The reason."}},
    "plain text": b"The reason.",
    "HTML": b"<html><title>The reason.</title></html>",
}


@pytest.mark.parametrize("status", [400, 401, 503])
@pytest.mark.parametrize("body", ERRORS.values(), ids=ERRORS)
def test_the_words_of_an_error_are_shown(body, status):
    with chat_with(json_body(body, status)) as (chat, _), \
            pytest.raises(Problem, match="The reason.") as caught:
        finish(chat.ask("Hello"))
    assert "Error code" not in str(caught.value) and "Provider" not in str(caught.value)


@pytest.mark.parametrize("reply", [
    *(json_body(ERRORS[name]) for name in ERRORS if name != "HTML" and name != "plain text"),
    json_body(b"\n\n" + json.dumps(ERRORS["an object"], indent=1).encode()),
    json_body(b"\xef\xbb\xbf" + json.dumps(ERRORS["text"]).encode()),
    raw(event(ERRORS["an object"])), raw(event(ERRORS["vLLM"])),
    raw(b"event: error\n" + event(ERRORS["a message"])), raw(b"event: error\ndata: The reason."),
    pieces(delta(content="Hi"), {"error": "The reason."}),
    *(pieces(delta(content="Hi"), b"event: error\ndata: %s\n\n" % data) for data in (
        b'{"message": "The reason."}', b'{"code": 500, "detail": "The reason."}', b"The reason.")),
    raw(event({"choices": [{"error": {"message": "The reason."}, "finish_reason": "error"}]}))])
def test_an_error_may_come_with_status_200_too(reply):
    with chat_with(reply) as (chat, _), pytest.raises(Problem, match="The reason.") as caught:
        finish(chat.ask("Hello"))
    assert "can't be read" not in str(caught.value)


def test_half_an_answer_is_no_answer_although_the_error_gives_no_reason():
    broken = pieces(delta(content="Hi"), b"event: error\n\n")
    with chat_with(broken) as (chat, _), pytest.raises(Problem, match="gives no reason"):
        finish(chat.ask("Hello"))
    assert chat.messages == []


@pytest.mark.parametrize("body", [{"hello": "world"}, [], {}, {"detail": "Not Found"},
                                  {"choices": []}, {"model": "x", "message": {"content": "Hi"}}])
def test_only_what_is_neither_is_not_a_model_s_service(body):
    with chat_with(json_body(body)) as (chat, _), \
            pytest.raises(Problem, match="not a model's service"):
        finish(chat.ask("Hello"))


@pytest.mark.parametrize("before", [b"", b"\n\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("message, answer", [
    ({"content": "Hi."}, "Hi."), ({"content": [{"type": "text", "text": "Hi."}]}, "Hi."),
    ({"content": None, "tool_calls": [call()]}, "1."),
    ({"content": "", "tool_calls": [call({"n": 1})]}, "1."),
    ({"content": "Let me see. ", "tool_calls": [call()]}, "Let me see. 1.")])
def test_a_whole_completion_is_the_answer(message, answer, before, two_tools):
    body = {"object": "chat.completion", "choices": [
        {"index": 0, "delta": None, "message": {"role": "assistant", **message}}]}
    with chat_with(json_body(before + json.dumps(body, indent=2).encode()), says("1."),
                   s=two_tools.url) as (chat, _):
        assert texts_of(chat.ask("Go")) == answer


@pytest.mark.parametrize("content, words", [
    ([{"type": "text", "text": "Hi"}, {"type": "text", "text": "."}], "Hi."),
    ([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]},
      {"type": "text", "text": "Hi."}], "Hi."),
    ([{"type": "image_url", "image_url": {}}, {"type": "output_text", "text": "Hi."}], "Hi."),
    ([{"text": "Hi."}], "Hi.")])
def test_content_may_be_a_list_of_parts(content, words):
    with chat_with(pieces(delta("stop", content=content))) as (chat, _):
        assert texts_of(chat.ask("Hello")) == words == chat.messages[-1]["content"]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_last_event_without_its_empty_line_counts(end):
    last = b"data: " + json.dumps(delta("stop", content=" there.")).encode() + end
    with chat_with(raw(event(delta(content="Hi")), last)) as (chat, _):
        assert texts_of(chat.ask("Hello")) == "Hi there." and chat.messages


START = delta(tool_calls=[call("")])


@pytest.mark.parametrize("stream", [
    raw(event(START)), raw(event(START)[:-2]), raw(event(delta(tool_calls=[call(A[:4])]))),
    raw(event(delta(tool_calls=[call()]))),
    *(pieces(START, delta(reason)) for reason in (
        "length", "max_tokens", "MAX_TOKENS", "model_length", "content_filter", "error", "abort",
        "insufficient_system_resource", "malformed_function_call")),
    json_body({"choices": [{"message": {"tool_calls": [call()]}, "finish_reason": "length"}]})])
def test_no_tool_is_run_in_an_answer_that_ended_too_soon(stream, two_tools):
    before = len(two_tools.calls)
    with chat_with(stream, says("Here."), s=two_tools.url) as (chat, _):
        with pytest.raises(Problem, match="in the middle of a tool call, so nothing was called"):
            finish(chat.ask("Go"))
        assert chat.messages == [] and len(two_tools.calls) == before
        assert texts_of(chat.ask("Still there?")) == "Here."


@pytest.mark.parametrize("reason", ["tool_calls", "stop", "function_call", "tool_use", "STOP", ""])
def test_whatever_a_good_end_is_called_the_tool_is_run(reason, two_tools):
    with chat_with(pieces(START, delta(reason)), says("Done."), s=two_tools.url) as (chat, model):
        finish(chat.ask("Go"))
    assert model.was_sent[1]["messages"][3]["content"] == "{}"


@pytest.mark.parametrize("piece", [b"data: {oops\n\n", b"data: Overloaded\n\n",
                                   b"data: {'a': 1}\n\n"])
@pytest.mark.parametrize("before", [[], [event(delta(content="Hi"))]])
def test_a_piece_that_is_not_json_is_said(piece, before):
    with chat_with(raw(*before, piece, DONE)) as (chat, _), \
            pytest.raises(Problem, match="can't be read") as caught:
        finish(chat.ask("Hello"))
    assert piece.decode().strip().removeprefix("data: ") in str(caught.value)


@pytest.mark.parametrize("arguments, result", [
    (json.dumps(A), A), (json.dumps(json.dumps(A)), A), (f" {json.dumps(A)} ", A), ('""', "{}"),
    ('"null"', "{}"), ("null", "{}"), ("", "{}"),
    (json.dumps('{"a": "🙂"}'), '{"a": "\\ud83d\\ude42"}')])
def test_arguments_that_are_json_in_a_string_are_unpacked(arguments, result, two_tools):
    with chat_with(pieces(delta("tool_calls", tool_calls=[call(arguments)])), says("Done."),
                   s=two_tools.url) as (chat, model):
        finish(chat.ask("Go"))
    asked, answer = model.was_sent[1]["messages"][2:]
    assert answer["content"] == asked["tool_calls"][0]["function"]["arguments"] == result


def test_a_character_may_come_in_two_halves_anywhere(two_tools):
    halves = [b'data: {"choices": [{"delta": {"content": "\\ud83d"}}]}\n\n', delta(content=""),
              b'data: {"choices": [{"delta": {"content": "\\ude42"}}]}\n\n',
              event(delta(tool_calls=[call('{"n": "')])),
              b'data: {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": '
              b'{"arguments": "\\ud83d"}}]}}]}\n\n',
              b'data: {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": '
              b'{"arguments": "\\ude42\\"}"}}]}, "finish_reason": "tool_calls"}]}\n\n']
    with chat_with(pieces(*halves), says("Done."), s=two_tools.url) as (chat, _):
        assert texts_of(chat.ask("Go")) == "🙂Done."
    assert two_tools.calls[-1]["arguments"] == {"n": "🙂"}
    assert chat.messages[1]["content"] == "🙂"
