"""Chats for tests: the model follows a script (scripted_model.py), and the servers are whatever a
test brings.

    with chat_with(wants("toy__add", {"a": 2, "b": 40}), says("42."), toy=url) as (chat, model):
        finish(chat.ask("What is 2 + 40?"))

A server that has everything (tools, resources, prompts) follows the script `everything()`.
"""

import base64
import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from little_server import LittleServer, text
from patience import PATIENCE
from scripted_model import ScriptedModel, says
from scripted_server import HANDSHAKE, new

from chapters.commands import run
from chapters.events import Event, Question, Waiting
from chapters.jobs import finish
from chapters.screen import Screen
from chapters.versions import NEWEST
from chat import Chat, Server


@contextlib.contextmanager
def chat_with(*script: Any, **urls: str) -> Iterator[tuple[Chat, ScriptedModel]]:
    """A chat whose model follows this script, and which has met the servers at these URLs."""
    servers = {name: Server(name, url) for name, url in urls.items()}
    with ScriptedModel(*script) as model, Chat(model.llm, servers) as chat:
        finish(chat.meet_servers())
        yield chat, model


def settle(chat: Chat) -> None:
    """Wait for what happens in the background after an answer, or at the start."""
    for connection in chat.connections.values():
        connection.offers.wait(PATIENCE)


def without_waiting(events: Iterable[Event]) -> list[Event]:
    return [one for one in events if not isinstance(one, Waiting)]


def go(events: Iterable[Event], *answers: str | None) -> list[Any]:
    """All that happens, while a person gives these answers."""
    seen, left = [], list(answers)
    for event in events:
        if isinstance(event, Question):
            event.answer = left.pop(0) if left else None
        seen += [] if isinstance(event, Waiting) else [event]
    return seen


def type_in(chat: Chat, line: str) -> None:
    """What happens when somebody types this command."""
    assert run(line, chat, Screen())


def roles(messages: list[dict]) -> list[str]:
    return [message["role"] for message in messages]


def said_to(model: ScriptedModel) -> list[tuple[str, str]]:
    """Who has said what, in the last request to the model."""
    return [(one["role"], one.get("content", "")) for one in model.was_sent[-1]["messages"][1:]]


# ── A server that has everything ─────────────────────────────────────────────────────────

HOUR, OK = 3_600_000, says("Ok.")
POEM = {"uri": "s://poem", "name": "poem", "title": "A poem"}
TOWNS = {"uriTemplate": "s://towns/{town}", "name": "towns"}
CARD = {"name": "card", "description": "Write a card.", "arguments": [
    {"name": "town", "description": "where you are", "required": True}, {"name": "mood"}]}
PNG = {"data": base64.b64encode(b"\x89PNG").decode(), "mimeType": "image/png", "type": "image"}
CHANGED = {what: {"jsonrpc": "2.0", "method": f"notifications/{what}/list_changed"}
           for what in ("tools", "resources", "prompts")}
WORDS = {"role": "user", "content": {"type": "text", "text": "Write."}}


def listing(*names: str, **more: Any) -> dict:
    return new({"tools": [{"name": name, "inputSchema": {}} for name in names], **more})


def everything(changes: Any = (), ttl: float | None = HOUR, old: dict | None = None,
               offers: Iterable[str] = ("tools", "resources", "prompts")) -> dict[str, Any]:
    """What a server says that has all kinds of things; `old`: what it offers in a handshake."""
    said = {"tools/list": listing("add"), "resources/list": new({"resources": [POEM]}),
            "resources/templates/list": new({"resourceTemplates": [TOWNS]}),
            "prompts/list": new({"prompts": [CARD]}), "tools/call": new({"content": []}),
            "resources/read": new({"contents": [{"text": "Roses are red."}]}),
            "prompts/get": new({"messages": [WORDS]})}
    if ttl is not None:
        said = {method: {**found, "ttlMs": ttl} for method, found in said.items()}
    said["server/discover"] = new({"supportedVersions": [NEWEST],
                                   "capabilities": dict.fromkeys(offers, {})})
    if old is not None:
        said["initialize"] = {**HANDSHAKE, "capabilities": old}
    return {**said, **dict(changes)}


@contextlib.contextmanager
def meetings(http_server: Callable[..., Any]) -> Iterator[Callable[..., tuple]]:
    """meet({"tools/list": ...}) is a chat, its model, and a server "s" that has said so. `good` is
    another server."""
    with contextlib.ExitStack() as at_the_end:
        def meet(changes: Any = (), *replies: Any, server: Any = None, old: dict | None = None,
                 timeout: float = 60, good: Any = None, person: bool = True, **more: Any) -> tuple:
            server = server or http_server(everything(changes, old=old, **more),
                                           "" if old is None else "2025-11-25")
            entries = {name: one.entry(name=name, timeout=timeout)
                       for name, one in [("s", server), ("good", good)] if one}
            model = at_the_end.enter_context(ScriptedModel(*replies, *[OK] * 5))
            chat = at_the_end.enter_context(Chat(model.llm, entries, "Hi.", person=person))
            go(chat.meet_servers())
            return chat, model, server

        yield meet


def asked(server: Any, method: str) -> list[dict]:
    """The params of each such request that the server has got."""
    return [seen.message["params"] for seen in server.saw(method)]


# ── Little servers ───────────────────────────────────────────────────────────────────────

def repeating() -> LittleServer:
    """A server with the tools f and g, which repeat what they are given."""
    def repeat(arguments: dict) -> dict:
        return text(json.dumps(arguments))

    return LittleServer({"f": {"answer": repeat}, "g": {"answer": repeat}})
