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
https://modelcontextprotocol.io/specification/2026-07-28/basic/utilities/progress, and Question may
come from https://modelcontextprotocol.io/specification/2026-07-28/client/elicitation.

Left out: who shows them, and how. For the terminal that is screen.py.

Try it:

>>> print(Text("You had ").json)
{"event": "Text", "text": "You had "}
"""

import json
from dataclasses import asdict, dataclass, field

__all__ = ["Event", "Found", "Note", "Progress", "Question", "Text", "ToolCall", "ToolResult",
           "Waiting"]


@dataclass
class Event:
    """Something worth showing."""

    @property
    def json(self) -> str:
        """The event as a line of JSON."""
        return json.dumps({"event": type(self).__name__, **asdict(self)})


@dataclass
class Text(Event):  # a piece of the model's answer
    text: str


@dataclass
class Waiting(Event):  # nothing has happened for half a second, and then for another half
    seconds: float     # since something last did
    what: list[str] = field(default_factory=list)  # the servers or tools that we wait for


@dataclass
class Note(Event):  # something that the person should know
    text: str


@dataclass
class Found(Event):  # a server has told us its tools, or there is a problem with it
    server: str
    tools: int = 0
    problem: str = ""


@dataclass
class ToolCall(Event):  # the model calls a tool
    server: str
    tool: str
    arguments: dict


@dataclass
class Progress(Event):  # a tool says how far it is
    tool: str
    progress: float
    total: float | None
    message: str


@dataclass
class ToolResult(Event):
    """What the model is told of a tool's result; its pictures and sounds are now files."""
    tool: str
    text: str
    failed: bool
    files: list[str]


@dataclass
class Question(Event):
    """Something that a person has to decide: set `answer` before you take the next event. Without
    an answer it is a "no"."""
    text: str
    choices: dict[str, str] = field(default_factory=dict)  # what to type, and what it means;
    default: str = ""                                      # {}: any text, "" is the default
    answer: str | None = None
