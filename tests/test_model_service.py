"""chapters/model_service.py: asking the model, and what if its service says no? The service is
scripted_model.py, and is reached through the real openai package."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from chats import chat_with, repeating, roles, without_waiting
from little_server import LittleServer
from scripted_model import (
    CUT,
    Reply,
    ScriptedModel,
    delta,
    event,
    pieces,
    raw,
    refusal,
    says,
    texts_of,
    wants,
)

from chapters.events import Note, Text
from chapters.jobs import finish
from chapters.outside import Problem
from chapters.replies import MAX_CALLS
from chapters.settings import openai_from_env
from chat import LLM, Chat
from demo.toy_server import serve_http


@pytest.fixture(scope="module")
def toy() -> Iterator[str]:
    """The URL of the demo's toy server."""
    with serve_http() as url:
        yield url


@pytest.fixture(scope="module")
def two_tools() -> Iterator[LittleServer]:
    """A server "s" with the tools f and g, which repeat what they are given."""
    with repeating() as server:
        yield server


# ── Connections ──────────────────────────────────────────────────────────────────────────


def test_many_requests_need_one_connection_to_the_model(toy):
    with chat_with(wants("toy__add", {"a": 1, "b": 1}), says("Two."), says("Three."),
                   says("Four."), toy=toy) as (chat, model):
        for question in ("1 + 1?", "2 + 1?", "3 + 1?"):
            finish(chat.ask(question))
    assert len(model.was_sent) == 4
    assert model.connections == 1


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
    (refusal(403, "Country not supported"), ["refused", "Country not supported"]),
    (refusal(404, "The model does not exist"), ["scripted", "MODEL", "/model"]),
    (refusal(429, "Slow down.", {"Retry-After": "7"}), ["Wait", "Slow down."]),
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
    (Reply([b'{"error": "Unexpected endpoint"}']), ["Unexpected endpoint", "most end in /v1"]),
    (Reply([b"not zipped at all"], 400, {"Content-Encoding": "gzip"}), ["can't be read"]),
    (wants(*["s__f", {}] * (MAX_CALLS + 1)), ["without end"]),
    (pieces(delta(tool_calls=[{"index": number} for number in range(60_000)])), ["without end"]),
    (pieces(*[delta(tool_calls=[{"index": 0, "function": {"name": "x" * 2**20}}])] * 9),
     ["without end"]),
    (raw(*[b"data: " + b"x" * 2**20] * 9), ["The model's service", "more than 8 MB"]),
    (raw(b'{"choices": [', *[b"1," * 2**19] * 9), ["more than 8 MB"]),
    (says("It is ", b"data: {oops\n\n"), ["can't be read", "{oops"]),
    (says("It is ", b'data: {"a": NaN}\n\n'), ["can't be read", "NaN"]),
    (raw(b"{oops"), ["can't be read", "{oops"]),
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


# ── Too long ─────────────────────────────────────────────────────────────────────────────


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

    [note] = [one.text for one in events if isinstance(one, Note)]
    assert "forgotten" in note and texts_of(iter(events)) == "Five."
    assert [message["content"] for message in model.was_sent[3]["messages"][1:]] == [
        "I like tea.", "Nice.", "2 + 3?"]
    assert [message["content"] for message in chat.messages] == [
        "I like tea.", "Nice.", "2 + 3?", "Five."]


def test_that_something_is_forgotten_is_said_when_it_has_helped():
    with chat_with(says("Hi."), TOO_LONG["OpenAI"], says("Five.")) as (chat, _):
        finish(chat.ask("Hello"))
        assert [type(one) for one in without_waiting(chat.ask("2 + 3?"))] == [Text, Note]


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


# ── A tool that the service doesn't take ─────────────────────────────────────────────────

REFUSALS = {
    "OpenAI, by number": "Invalid 'tools[0].function.name': string too long.",
    "by name": "Invalid schema for function 's__f': it has no type.",
    "Groq, by path": "`tools.0.function.parameters` is not a valid JSON schema.",
}


@pytest.mark.parametrize("in_the_stream", [False, True])
@pytest.mark.parametrize("words", REFUSALS.values(), ids=REFUSALS)
def test_a_tool_that_the_service_refuses_is_left_out(words, in_the_stream, two_tools):
    no = raw(event({"error": {"message": words}})) if in_the_stream else refusal(400, words)
    with chat_with(no, wants("s__g", {}), says("Hi."), says("Again."), s=two_tools.url) as (
            chat, model):
        notes = [one.text for one in chat.ask("Go") if isinstance(one, Note)]
        assert not [one for one in chat.ask("Go on") if isinstance(one, Note)], "it is said once"
    [note] = notes
    assert "s__f" in note and "s__g" not in note and words in note
    assert [[tool["function"]["name"] for tool in sent["tools"]] for sent in model.was_sent] == [
        ["s__f", "s__g"]] + [["s__g"]] * 3
    assert roles(chat.messages) == [
        "user", "assistant", "tool", "assistant", "user", "assistant"]


def test_if_all_tools_are_refused_none_is_offered(two_tools):
    with chat_with(refusal(400, "Bad: s__f"), refusal(400, "Bad: s__g"), says("Hi."),
                   s=two_tools.url) as (chat, model):
        assert texts_of(chat.ask("Hello")) == "Hi."
    assert "tools" not in model.was_sent[2]


def test_a_tool_with_a_similar_name_is_not_left_out(two_tools):
    with chat_with(refusal(400, "s__fg, s__f-x or tools[12] is wrong."), s=two_tools.url) as (
            chat, model):
        with pytest.raises(Problem, match="s__fg"):
            finish(chat.ask("Hello"))
        assert len(model.was_sent) == 1


# ── Not streamed ─────────────────────────────────────────────────────────────────────────

def test_a_service_may_answer_in_one_piece(two_tools):
    def whole(**message: Any) -> Reply:
        body = {"choices": [{"message": {"role": "assistant", **message}, "finish_reason": "stop"}]}
        return Reply([json.dumps(body).encode()], headers={"Content-Type": "application/json"})

    call = {"id": "x", "type": "function", "function": {"name": "s__f", "arguments": "{}"}}
    with chat_with(whole(content=None, tool_calls=[call]), whole(content="Done."),
                   s=two_tools.url) as (chat, model):
        assert texts_of(chat.ask("Go")) == "Done."
    assert model.was_sent[1]["messages"][2:] == [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "x", "content": "{}"}]


# ── The way there ────────────────────────────────────────────────────────────────────────

def asked(llm: LLM) -> str:
    """What comes of a question: the answer, or the problem. Neither has a secret in it."""
    with Chat(llm, {}) as chat:
        try:
            found = texts_of(chat.ask("Hello"))
        except Problem as problem:
            found = str(problem)
    assert "s3cret" not in found
    return found


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
@pytest.mark.parametrize("name, value", [
    ("HTTP_PROXY", "http://127.0.0.1:9"), ("http_proxy", "127.0.0.1:9"),
    ("ALL_PROXY", "socks5h://127.0.0.1:9"), ("all_proxy", "http://127.0.0.1:9"),
    ("HTTPS_PROXY", "ftp://nonsense"), ("SSL_CERT_FILE", "/nowhere/corp.pem")])
def test_a_model_on_this_computer_is_reached_without_a_proxy(monkeypatch, name, value, host):
    monkeypatch.setenv(name, value)
    with ScriptedModel(says("Hi.")) as model:
        model.llm.base_url = model.base_url.replace("127.0.0.1", host)
        assert asked(model.llm) == "Hi."


FAR = "http://model.example/v1"


@pytest.mark.parametrize("name, value, words", [
    ("SSL_CERT_FILE", "/nowhere/corp.pem", ["SSL_CERT_FILE", "No such file"]),
    ("SSL_CERT_FILE", __file__, ["SSL_CERT_FILE", "certificate"]),
    ("SSL_CERT_FILE", "/", ["SSL_CERT_FILE", "directory"]),
    ("HTTP_PROXY", "http://me:s3cret@127.0.0.1:9", ["Can't reach", "refused", "your proxy"]),
    ("ALL_PROXY", "socks5://me:s3cret@127.0.0.1:9", ["SOCKS", "socksio"]),
    ("HTTP_PROXY", "ftp://me:s3cret@127.0.0.1:9", ["proxy", "http://"]),
    ("HTTP_PROXY", "http://me:s3cret#x@127.0.0.1:9", ["HTTPS_PROXY"]),
    ("HTTP_PROXY", "http://me:s3cret@127.0.0.1:port", ["HTTPS_PROXY"]),
    ("OPENAI_ORG_ID", "s3cret-ü", ["OPENAI_API_KEY", "headers"]),
    ("NO_PROXY", "*", ["model.example"])])
def test_what_is_wrong_on_the_way_to_the_model_is_named(monkeypatch, name, value, words):
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setenv(name, value)
    shown = asked(LLM("m", "a-key", FAR))
    for word in words:
        assert word in shown
    assert "can't be read" not in shown and shown[0].isupper()


@pytest.mark.parametrize("key", ["s3cret\nkey", "s3cret\r\n", "s3cret ключ", "s3cret\0"])
def test_a_key_that_cannot_be_sent_is_named_and_not_shown(key):
    with ScriptedModel(says("Hi.")) as model:
        model.llm.api_key = key
        assert "OPENAI_API_KEY" in asked(model.llm)


def test_a_model_that_speaks_no_https_is_called_that():
    with ScriptedModel() as model:
        model.llm.base_url = model.base_url.replace("http:", "https:")
        assert "https" in asked(model.llm) and "SSL_CERT_FILE" in asked(model.llm)


@pytest.mark.parametrize("reply, words", [
    (Reply([], 407, {"x-should-retry": "false"}), "refused"),
    (Reply([b"<h1>Blocked by policy</h1>"], 403), "Blocked by policy"),
    (Reply([b"down"], 502, {"x-should-retry": "false"}), "problem of its own"),
    (Reply([b"<html>Sign in</html>"]), "not a model's service"),
    (Reply([], 302, {"Location": "http://me:s3cret@login.example/#s3cret"}), "login.example")])
def test_what_may_come_from_a_proxy_to_the_model_is_said_to(monkeypatch, reply, words):
    with ScriptedModel(reply) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.base_url.replace("//", "//me:s3cret@"))
        shown = asked(LLM("m", "a-key", FAR))
    assert words in shown and "your proxy, 127.0.0.1:" in shown


def test_what_the_service_says_in_json_comes_from_no_proxy(monkeypatch):
    with ScriptedModel(refusal(401, "Wrong key.")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.base_url)
        assert "proxy" not in asked(LLM("m", "a-key", FAR))


@pytest.mark.parametrize("key", ["a-key ", "a-key\n", "\ta-key\r\n"])
def test_a_key_is_stripped_of_blanks_and_line_ends(monkeypatch, key):
    with ScriptedModel(says("Hi.")) as model:
        monkeypatch.setenv("OPENAI_API_KEY", key)
        monkeypatch.setenv("OPENAI_BASE_URL", model.base_url + " \n")
        assert asked(openai_from_env()) == "Hi."
        assert model.headers[0]["Authorization"] == "Bearer a-key"


@pytest.mark.parametrize("key", ["Bearer a-key", "a\nkey", "ключ", "a-key\x7f"])
def test_a_key_that_can_be_none_is_a_problem_at_the_start(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(Problem, match="OPENAI_API_KEY"):
        openai_from_env()
