"""chat.py's Part 6: one turn of the chat. The model follows a script (scripted_model.py), and is
reached through the real openai package; the servers are the demo's toy server, and a little one
that misbehaves (little_server.py). All of them listen on this computer."""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from chats import chat_with, repeating, roles, settle, without_waiting
from little_server import LittleServer, text
from patience import PATIENCE
from scripted_model import HANG, ScriptedModel, delta, pieces, refusal, says, texts_of, wants

from chapters.events import Found, Note, Progress, Question, Text, ToolCall, ToolResult, Waiting
from chapters.jobs import finish
from chapters.outside import Problem
from chat import MAX_ROUNDS, Chat, Server, open_chat
from demo.toy_server import serve_http

TOY_SERVER = Path(__file__).resolve().parent.parent / "demo" / "toy_server.py"


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
        settle(chat)
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
    gate, lines = threading.Event(), []
    with LittleServer({"erase": {"annotations": {"destructiveHint": True}}}) as server, \
            chat_with(wants("toy__slow_count", {"to": 1, "pause": 0.3}, "s__erase", {}),
                      says(gate, "D\u2028one.\n", finish="length"), toy=toy, s=server.url) as (
                          chat, model):
        for one in chat.ask("Go"):
            lines.append(one.json)
            if isinstance(one, Waiting) and len(model.was_sent) == 2:
                gate.set()

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


def test_the_question_reaches_the_model_as_it_was_typed():
    question = "¿Qué?\n\t\"zwei\" 🙂 \\n </s> \u2028"
    with chat_with(says("Hm.")) as (chat, model):
        finish(chat.ask(question))
    assert model.was_sent[0]["messages"][-1]["content"] == question


# ── What goes wrong ──────────────────────────────────────────────────────────────────────


def test_a_tool_that_does_not_exist_is_an_answer_to_the_model(two_tools):
    with chat_with(wants("s__h", {}, "s__f", {"n": 1}), says("Sorry."),
                   s=two_tools.url) as (chat, model):
        finish(chat.ask("Go"))
    no_such, found = model.was_sent[1]["messages"][3:]
    assert "no such tool" in no_such["content"]
    assert found["content"] == '{"n": 1}'


def test_an_error_after_a_tool_call_takes_the_call_back_too(toy):
    with chat_with(wants("toy__add", {"a": 1, "b": 1}), refusal(500), says("Hi."),
                   toy=toy) as (chat, model):
        with pytest.raises(Problem):
            finish(chat.ask("1 + 1?"))
        assert chat.messages == []
        finish(chat.ask("Hello"))
    assert roles(model.was_sent[-1]["messages"]) == ["system", "user"]


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
        folder = Path(chat.folder.path)
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
    assert contents[1:] == ['{"n": 1}', "1 + 1 = 2"]


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
    many = {"more": ["x" * 99] * 1000, "file": "Größe/日本\u3000\u202etxt.exe", "so": {"on": True}}
    with Eraser() as server, chat_with(
            wants("s__erase", many), says("Fine."), s=server.url) as (chat, _):
        question, = questions(chat, "y")
        assert server.calls[0]["arguments"] == many
    start, more, *others = question.text.split("\n")
    assert start == "s wants to run erase with {"
    assert more.startswith('  "more": ["xxx') and more.endswith("more") and len(more) < 1000
    assert others == ['  "file": "Größe/日本\u3000\\u202etxt.exe"', '  "so": {"on": true}', "}"]


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


@pytest.mark.parametrize("earlier", [[], [says("Hi.")]], ids=["a new connection", "a used one"])
def test_a_model_that_has_not_begun_to_answer_is_hung_up_on_and_not_asked_again(earlier):
    with chat_with(*earlier, says(HANG), says("Here.")) as (chat, model):
        for _ in earlier:
            finish(chat.ask("Hello"))
        leave_at(Waiting, chat)
        assert model.somebody_hung_up.wait(PATIENCE)
        assert texts_of(chat.ask("Still there?")) == "Here."
        assert len(model.was_sent) == len(earlier) + 2


def test_who_leaves_one_of_two_chats_with_a_model_does_not_hang_up_on_the_other():
    gate, begun, goes_on = threading.Event(), threading.Event(), threading.Event()

    def takes_long(request):  # httpx calls this before it connects
        begun.set()
        assert goes_on.wait(PATIENCE)

    with ScriptedModel(says("One ", gate, "two.")) as model, \
            Chat(model.llm, {}) as chat, Chat(model.llm, {}) as other:
        events = chat.ask("Count")
        assert next(one for one in events if isinstance(one, Text)).text == "One "
        model.llm.client._client.event_hooks["request"].append(takes_long)
        others = other.ask("Hello")
        while not isinstance(next(others), Waiting) or not begun.is_set():
            pass
        others.close()
        gate.set()
        assert texts_of(events) == "two."
        goes_on.set()


def test_who_leaves_after_two_chats_had_a_connection_each_hangs_up_on_their_own():
    gates = [threading.Event() for _ in range(3)]
    with ScriptedModel(*(says("One ", gate, "two.") for gate in gates[:2]), says(HANG),
                       says("One ", gates[2], "two.")) as model, \
            Chat(model.llm, {}) as chat, Chat(model.llm, {}) as other:
        both = [chat.ask("Count"), other.ask("Count")]
        for events in both:
            assert next(one for one in events if isinstance(one, Text)).text == "One "
        for events, gate in zip(both, gates, strict=False):
            gate.set()
            assert texts_of(events) == "two."
        events, others = chat.ask("Count"), other.ask("Count")
        while len(model.was_sent) < 3:
            next(events)
        assert next(one for one in others if isinstance(one, Text)).text == "One "
        events.close()
        assert model.somebody_hung_up.wait(PATIENCE)
        gates[2].set()
        assert texts_of(others) == "two."


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
        settle(chat)
        assert texts_of(chat("Hello")) == "Hi."
        assert len(chat.tools) == 6  # its own five, and the one that reads its resources
