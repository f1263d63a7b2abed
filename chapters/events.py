"""Events: what does a turn tell while it happens?

A question may take a minute. Meanwhile there is something to show: words, calls, progress. The turn
doesn't print them, because it doesn't know where it runs: in a terminal, in a test, or behind a web
page of yours. It yields events, and whoever loops over them shows them:

    for event in chat.ask("How was my night?"):
        print(event.json)

    {"event": "ToolCall", "server": "dexcom", "tool": "readings", "arguments": {"hours": 8}}
    {"event": "ToolResult", "tool": "readings", "text": "5.4", "failed": false, "files": []}
    {"event": "Text", "text": "Quiet: "}
    {"event": "Text", "text": "you stayed at 5.4."}

These events are ours, not MCP's. Two of them come from MCP's messages: Progress is made of
https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/progress, and Question may
come from https://modelcontextprotocol.io/specification/2026-07-28/client/elicitation.

Left out: who shows them, and how. For the terminal that is screen.py.

Try it:

>>> print(Text("You had ").json)
{"event": "Text", "text": "You had "}
"""

import copy
import json
from typing import Any

__all__ = ["Event", "Found", "Note", "Progress", "Question", "Record", "Text", "ToolCall",
           "ToolResult", "Waiting"]


class Record:
    """Fields with names and types: those that the class lists, in that order. A field that has a
    value there may be left out. (A dataclass is the same and more, but to import that module takes
    as long as all that this program has of its own.)

    >>> class Town(Record):
    ...     name: str
    ...     sights: list[str] = []
    >>> Town("Oslo"), Town(name="Lima", sights=["Plaza Mayor"])
    (Town(name='Oslo', sights=[]), Town(name='Lima', sights=['Plaza Mayor']))
    """

    def __init__(self, *values: Any, **named: Any):
        fields = type(self).__annotations__
        given = {**dict(zip(fields, values, strict=False)), **named}
        if unknown := given.keys() - fields:
            raise TypeError(f"{type(self).__name__} has no {', '.join(unknown)}")
        for name in fields:  # (a copy, so that no two of them share a list)
            value = given[name] if name in given else copy.copy(getattr(type(self), name))
            setattr(self, name, value)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __repr__(self) -> str:
        fields = (f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({', '.join(fields)})"


class Event(Record):
    """Something worth showing."""

    @property
    def json(self) -> str:
        """The event as a line of JSON."""
        return json.dumps({"event": type(self).__name__, **vars(self)})


class Text(Event):  # a piece of the model's answer
    text: str


class Waiting(Event):  # nothing has happened for half a second, and then for another half
    seconds: float     # since something last did
    what: list[str] = []  # the servers or tools that we wait for


class Note(Event):  # something that the person should know
    text: str


class Found(Event):  # a server has told us its tools, or there is a problem with it
    server: str
    tools: int = 0
    problem: str = ""


class ToolCall(Event):  # the model calls a tool
    server: str
    tool: str
    arguments: dict


class Progress(Event):  # a tool says how far it is
    tool: str
    progress: float
    total: float | None
    message: str


class ToolResult(Event):
    """What the model is told of a tool's result; its pictures and sounds are now files."""
    tool: str
    text: str
    failed: bool
    files: list[str]


class Question(Event):
    """Something that a person has to decide: set `answer` before you take the next event. Without
    an answer it is a "no"."""
    text: str
    choices: dict[str, str] = {}  # what to type, and what it means;
    default: str = ""                                      # {}: any text, "" is the default
    answer: str | None = None
