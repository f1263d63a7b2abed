"""Exercise 8: a text that stays up to date."""

import threading
import time

import pytest
from chats import everything, go, settle, type_in
from patience import PATIENCE, eventually
from scripted_model import ScriptedModel, says
from scripted_server import HANDSHAKE, SILENCE, ScriptedHttp, ScriptedStdio, new

from chat import Chat

CAN = {"resources": {"subscribe": True}}
OK = [says("Ok.")] * 2000
PROGRAM = """
version, is_subscribed, has_told = 0, False, False
for message in incoming():
    method = message.get("method")
    if method == "initialize":
        answer(message, {"protocolVersion": "2025-11-25", "serverInfo": {"name": "notes"},
                         "capabilities": {"resources": %s}})
    elif method == "tools/list":
        answer(message, {"tools": []})
    elif method == "resources/list":
        answer(message, {"resources": [{"uri": "notes://today", "name": "today"}]})
    elif method == "resources/read":
        version += 1
        answer(message, {"contents": [{"uri": "notes://today", "text": f"Version {version}."}]})
    elif method == "resources/subscribe":
        answer(message, {})
        is_subscribed = True
    elif "id" in message:
        refuse(message, -32601)
    if is_subscribed and version == 1 and not has_told:
        has_told = True
        for uri in ("notes://tomorrow", "notes://today"):
            send({"jsonrpc": "2.0", "method": "notifications/resources/updated",
                  "params": {"uri": uri}})
"""


@pytest.fixture
def read_today(tmp_path):
    """read_today(what the server can do) is a chat in which /read was typed, and the rest."""
    def read_today(can: dict):
        program = ScriptedStdio(tmp_path / "notes", PROGRAM % can)
        model = ScriptedModel(*OK)
        chat = Chat(model.llm, {"notes": program.entry(name="notes")}, "Hi.")
        chats.append((chat, model))
        go(chat.meet_servers())
        type_in(chat, "/read notes notes://today")
        return chat, model, program

    chats: list = []
    yield read_today
    for chat, model in chats:
        chat.close()
        model.__exit__()


def sent(model: ScriptedModel) -> str:
    return "\n".join(str(one.get("content")) for one in model.was_sent[-1]["messages"])


def notes_until_the_new_text_is_sent(chat: Chat, model: ScriptedModel) -> list[str]:
    """Ask again and again. Returns what the person reads meanwhile besides the answers."""
    notes: list[str] = []

    def is_sent() -> bool:
        time.sleep(0.1)
        notes.extend(one.text for one in go(chat.ask("And now?")) if type(one).__name__ == "Note")
        return "Version 2." in sent(model)

    try:
        eventually(is_sent)
    except AssertionError:
        pytest.fail("the text has changed, but the model hasn't got the new one yet")
    return notes


def test_read_also_subscribes(read_today):
    _, _, program = read_today({"subscribe": True})
    assert program.saw("resources/subscribe"), "/read has not sent resources/subscribe yet"
    assert program.saw("resources/subscribe")[0]["params"]["uri"] == "notes://today"


def test_the_new_text_goes_to_the_model_with_a_note(read_today):
    chat, model, program = read_today({"subscribe": True})
    assert program.saw("resources/subscribe"), "/read has not sent resources/subscribe yet"
    notes = notes_until_the_new_text_is_sent(chat, model)
    assert any("notes://today" in note for note in notes), f"nobody was told: {notes}"
    assert len(program.saw("resources/read")) == 2, "a text was fetched that hasn't changed"


def test_a_server_that_cannot_do_it_is_not_asked(read_today):
    chat, model, program = read_today({})
    go(chat.ask("And now?"))
    assert "Version 1." in sent(model)
    assert not program.saw("resources/subscribe")


def test_a_new_server_is_not_asked_either():
    about = new({"supportedVersions": ["2026-07-28"], "capabilities": CAN})
    with ScriptedHttp(everything({"server/discover": about})) as server, \
            ScriptedModel(*OK) as model, Chat(model.llm, {"s": server.entry(name="s")}) as chat:
        go(chat.meet_servers())
        settle(chat)
        type_in(chat, "/read s s://poem")
        go(chat.ask("And now?"))
        assert "Roses are red." in sent(model)
        assert not server.saw("resources/subscribe")


def test_over_http_the_change_is_heard_too():
    is_subscribed, is_read = threading.Event(), threading.Event()

    def subscribe(message):
        is_subscribed.set()
        return {}

    def read(message):
        text = "Version 2." if is_read.is_set() else "Version 1."
        is_read.set()
        return {"contents": [{"uri": "notes://today", "text": text}]}

    def unasked(message):
        is_subscribed.wait(PATIENCE)
        is_read.wait(PATIENCE)
        yield {"jsonrpc": "2.0", "method": "notifications/resources/updated",
               "params": {"uri": "notes://today"}}
        yield SILENCE

    with ScriptedHttp({
            "initialize": {**HANDSHAKE, "capabilities": CAN}, "tools/list": {"tools": []},
            "resources/read": read, "resources/subscribe": subscribe, "GET": unasked,
            }, old="2025-11-25") as server, ScriptedModel(*OK) as model, \
            Chat(model.llm, {"notes": server.entry(name="notes")}) as chat:
        go(chat.meet_servers())
        type_in(chat, "/read notes notes://today")
        assert server.saw("resources/subscribe"), "/read has not sent resources/subscribe yet"
        notes_until_the_new_text_is_sent(chat, model)
