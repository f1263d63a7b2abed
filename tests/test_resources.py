"""chapters/resources.py: what servers have besides tools, and what you and the model do with it.
The servers and the model follow scripts (scripted_server.py, scripted_model.py); at the end, the
demo as it is."""

import contextlib
import os
import re
from pathlib import Path

import pytest
from chats import (
    CARD,
    OK,
    PNG,
    POEM,
    WORDS,
    asked,
    everything,
    go,
    meetings,
    said_to,
    settle,
    type_in,
)
from patience import PATIENCE, eventually
from scripted_model import ScriptedModel, refusal, wants
from scripted_server import SILENCE, error, new
from terminal import Terminal

from chapters.outside import Problem
from chapters.resources import all_of, read, use_prompt
from chat import LLM, Chat

FORM = {"resultType": "input_required", "inputRequests": {"q": {"method": "elicitation/create",
        "params": {"message": "Which key?", "requestedSchema": {"properties": {"key": {}}}}}}}


@pytest.fixture
def meet(http_server):
    with meetings(http_server) as meet:
        yield meet


def test_what_there_is_is_listed_for_the_model_and_for_you(meet, capsys):
    chat, model, _ = meet()
    assert list(chat.tools) == ["s__add"], "at the start, nobody waits for it"
    settle(chat)
    go(chat.ask("Go"))
    tool = model.was_sent[0]["tools"][1]["function"]
    assert tool["name"] == "s__read_resource" and tool["description"].endswith(
        "Here are 2 of 2: s://poem (A poem); s://towns/{town} (towns).")
    type_in(chat, "/resources")
    type_in(chat, "/prompts")
    assert capsys.readouterr().out == ("  s s://poem: A poem\n  s s://towns/{town}: towns\n"
                                       "  s card town=... mood=...: Write a card.\n")

    many = [{"uri": f"s://{number:0100}", "name": "x" * 1000} for number in range(100)]
    chat, _, _ = meet({"resources/list": new({"resources": many})})
    settle(chat)
    go(chat.ask("Go"))
    text = chat.tools["s__read_resource"].description  # only the first are in it
    assert f"Here are {text.count('s://')} of 101: " in text and len(text) < 6500


@pytest.mark.parametrize("answer, told", [
    (new({"contents": [{"text": "Roses"}, {"text": "Violets"}]}), "Roses\nViolets"),
    (new({"contents": [{"blob": PNG["data"], "mimeType": "image/png"}]}), "[file, image/png"),
    (lambda it: error(it, -32602, "Gone"), "Error calling tool read_resource: Gone"),
    (lambda it: error(it, -32002, "Gone"), "Error calling tool read_resource: Gone")])
def test_what_the_model_reads(meet, answer, told):
    chat, model, server = meet({"resources/read": answer},
                               wants("s__read_resource", {"uri": "s://poem"}))
    settle(chat)
    _, done, _ = go(chat.ask("Go"))
    assert said_to(model)[-1][1].startswith(told) and done.failed == told.startswith("Error")
    assert [Path(file).read_bytes() for file in done.files] == [b"\x89PNG"] * ("[file" in told)
    assert asked(server, "resources/read")[0]["uri"] == "s://poem"


@pytest.mark.parametrize("name", ["s", "my notes"])
@pytest.mark.parametrize("uri", ["s://poem", "note:///My Note.md"])
def test_a_name_or_an_address_may_have_a_blank_in_it(http_server, name, uri):
    server = http_server(everything())
    with Chat(LLM("none", "none"), {name: server.entry(name=name)}) as chat:
        go(chat.meet_servers())
        type_in(chat, f"/read {name} {uri}")
    assert asked(server, "resources/read")[0]["uri"] == uri


def test_what_you_read_goes_with_the_next_question(meet, monkeypatch):
    monkeypatch.setenv("MAX_RESULT_CHARS", "50")
    chat, model, server = meet({}, refusal(500))
    type_in(chat, "/read s s://poem")
    with contextlib.suppress(Problem):  # the model's
        go(chat.ask("Who wrote it?"))
    go(chat.ask("Who wrote it?"))
    assert said_to(model) == [
        ("user", "The resource s://poem of s:\nRoses are red.\n\nWho wrote it?")]
    server.script["resources/read"] = new({"contents": [{"text": "x" * 99}]})
    type_in(chat, "/read s s://poem")
    go(chat.ask("And that?"))
    *_, (role, text) = said_to(model)
    assert text.count("x") < 50 and "more characters were cut off" in text
    note = str(go(read(chat, "s", "s://poem"))[0].text)
    assert re.fullmatch(r"The model gets s://poem \(50 of \d+ characters\) with .+\.", note)
    type_in(chat, "/read s s://poem")
    type_in(chat, "/clear")
    go(chat.ask("What?"))
    assert said_to(model) == [("user", "What?")]


def test_of_a_long_text_the_beginning_is_read(meet, monkeypatch):
    monkeypatch.setenv("MAX_RESULT_CHARS", "100")
    chat, model, _ = meet({"resources/read": new({"contents": [{"text": "x" * 1000}]})})
    [note] = go(read(chat, "s", "s://poem"))
    whole = len("The resource s://poem of s:\n") + 1000
    assert note.text == (f"The model gets s://poem (100 of {whole} characters) with "
                         "your next question.")
    go(chat.ask("Well?"))
    [(_, text)] = said_to(model)
    assert text.count("x") < 100 and f"[{whole - 100} more characters were cut off" in text


def test_a_prompt_is_asked_with_what_it_needs(meet):
    said = [WORDS, {"role": "user", "content": {"type": "resource", "resource": {"text": "Map"}}},
            {"role": "assistant", "content": {"type": "text", "text": "I see."}},
            {"role": "user", "content": PNG}]
    chat, model, server = meet({"prompts/get": new({"messages": said})})
    settle(chat)
    type_in(chat, """/prompt s card town="New York" mood='a = b'""")
    assert asked(server, "prompts/get")[0]["arguments"] == {"town": "New York", "mood": "a = b"}
    *texts, (_, picture) = said_to(model)
    assert texts == [("user", "Write.\n\nMap"), ("assistant", "I see.")]
    assert Path(re.findall(r"/\S+\.png", picture)[0]).read_bytes() == b"\x89PNG"


@pytest.mark.parametrize("method, work", [
    ("prompts/get", lambda chat: use_prompt(chat, "s", "card", {"mood": "sad"})),
    ("resources/read", lambda chat: read(chat, "s", "s://poem"))])
def test_the_server_may_ask_for_what_is_missing(meet, method, work):
    chat, _, server = meet({method: [FORM, new({"contents": [], "messages": [WORDS]})]})
    question, *_ = go(work(chat), "open", "y")
    assert "Which key?" in question.text
    assert asked(server, method)[-1]["inputResponses"]["q"]["content"] == {"key": "open"}


def test_a_prompt_of_one_server_does_not_wait_for_another(meet, http_server):
    chat, model, silent = meet({"server/discover": SILENCE}, good=http_server(everything()))
    chat.connections["good"].offers.wait(PATIENCE)
    go(use_prompt(chat, "good", "card", {"town": "Lima"}))
    assert said_to(model) == [("user", "Write.")] and not silent.hung_up.is_set()


def test_a_prompt_may_be_asked_although_its_server_cannot_list_it(meet):
    chat, model, _ = meet({"prompts/list": lambda it: error(it, -32603)})
    settle(chat)
    go(use_prompt(chat, "s", "card", {}))
    assert said_to(model) == [("user", "Write.")]


@pytest.mark.parametrize("messages", [[], None, "nonsense"])
def test_an_empty_prompt_is_not_asked(meet, messages):
    chat, model, _ = meet({"prompts/get": new({"messages": messages})})
    settle(chat)
    with pytest.raises(Problem, match="its prompt card is empty"):
        go(use_prompt(chat, "s", "card", {"town": "Lima"}))
    assert model.was_sent == []


@pytest.mark.parametrize("what, found", [("resources", POEM), ("prompts", CARD)])
def test_what_there_is_can_be_had_of_all_servers(meet, http_server, what, found):
    chat, _, _ = meet({"resources/templates/list": new({})}, good=http_server(
        everything({"resources/templates/list": new({})})))
    settle(chat)
    assert list(all_of(chat, what)) == [("s", found), ("good", found)]


def test_of_a_server_whose_tools_are_chosen_the_model_does_not_read_by_itself(http_server):
    server = http_server(everything())
    with ScriptedModel(OK) as model, Chat(model.llm, {
            "s": server.entry(name="s", tools=["add"])}) as chat:
        go(chat.meet_servers())
        settle(chat)
        go(chat.ask("Go"))
        assert list(chat.tools) == ["s__add"]
        assert ("s", POEM) in list(all_of(chat, "resources")), "but you can"


@pytest.mark.parametrize("line, says", [
    ("/read", "Type /read"), ("/read s", "Type /read, a server and an address."),
    ("/read x s://poem", 'There is no server called "x"'), ("/read s s://x", "s: No."),
    *[("/prompt " + rest, "Type /prompt") for rest in ("", "s", "s card town", "s card town='")],
    ("/prompt x card", 'There is no server called "x"'),
    ("/prompt s x", "s: No."), ("/prompt s card town=x", "s: No.")])
def test_what_cannot_be_done_is_said_in_one_line(meet, line, says):
    chat, _, _ = meet({"resources/read": lambda it: error(it, -32002),
                       "prompts/get": lambda it: error(it, -32602)})
    settle(chat)
    with pytest.raises(Problem) as caught:
        type_in(chat, line)
    assert str(caught.value).startswith(says) and "\n" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no pseudo-terminals")
def test_the_commands_in_the_demo(tmp_path):
    with Terminal("chat.py", "--demo", cwd=tmp_path) as terminal:
        assert "10 total tools" in terminal.wait_for("You: ")
        # (They are looked for in the background.)
        eventually(lambda: "  toy-http toy://poem: poem\n" in terminal.ask("/resources"))
        for name in "toy-http", "toy-stdio":
            line = f"  {name} postcard town=... mood=...: Write a "
            eventually(lambda line=line: line in terminal.ask("/prompts"))
        assert "[The model gets toy://poem (" in terminal.ask("/read toy-http toy://poem")
        assert "A: I have read: The resource toy://poem of toy-http: " in terminal.ask("And?")
        terminal.ask("/read toy-http toy://poem")
        assert "17 + 25 = 42" in terminal.ask("What is 17 + 25?")
        assert "very sad" in terminal.ask("/prompt toy-stdio postcard town=Oslo mood='very sad'")
        missing = terminal.ask("/prompt toy-http postcard")
        assert "toy-http: " in missing and "town" in missing
