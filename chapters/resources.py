"""Resources and prompts: what does a server have besides tools?

Resources are texts and files to read, each with an address (a URI). Prompts are questions that
somebody has worded well, some with blanks to fill in:

    resources/read   {"uri": "toy://poem"}
                ->   {"contents": [{"uri": "toy://poem", "text": "A line goes in, ..."}]}
    prompts/get      {"name": "postcard", "arguments": {"town": "Lima"}}
                ->   {"messages": [{"role": "user", "content": {"type": "text", "text": "..."}}]}

You use them with commands: /read puts a resource before your next question, /prompt asks a prompt.
The model reads resources by one more tool, which is ours, not the server's: read_resource.

https://modelcontextprotocol.io/specification/2026-07-28/server/resources and
https://modelcontextprotocol.io/specification/2026-07-28/server/prompts

Left out: subscribing to a resource, completing what you type, and asking you for an argument that a
prompt needs and that you haven't given. The server says what is missing.

Try it:

>>> description([{"uri": "toy://poem", "name": "poem"},
...              {"uriTemplate": "toy://{town}", "name": "t"}])
"Read one of this server's resources, which are texts and files.\\nHere are 2 of 2: \
toy://poem (poem); toy://{town} (t)."
"""

import time
from collections.abc import Generator
from functools import partial
from typing import Any

from chapters import tools
from chapters.events import Event, Note
from chapters.jobs import with_logins
from chapters.outside import Problem, as_dict, as_list, briefly

LISTS = {"resources": ["resources", "resourceTemplates"], "prompts": ["prompts"]}
A_MOMENT = 1        # seconds that somebody who types a command waits for news
SHOWN = 30          # resources in the description of our tool
READING = {"type": "object", "required": ["uri"], "properties": {"uri": {"type": "string"}}}


def known(connection: Any, what: str) -> list[dict]:
    """A server's "resources" and their templates, or its "prompts", as far as it has told us."""
    return [one for key in LISTS[what] for one in connection.offers.known.get(key, [])]


def as_tool(connection: Any) -> list[dict]:
    """Our tool for the resources of a server, in the envelope of a server's; [] if it has none, or
    if the person has chosen its tools."""
    found = known(connection, "resources")
    if not found or connection.server.tools:
        return []
    return [{"name": "read_resource", "description": description(found),
             "inputSchema": READING, "annotations": {"readOnlyHint": True}}]


def description(found: list[dict]) -> str:
    """What the model is told of our tool read_resource, with the first of the addresses."""
    lines = [f"{one.get('uri', one.get('uriTemplate'))} ({one.get('title') or one.get('name')})"
             for one in found[:SHOWN]]
    return ("Read one of this server's resources, which are texts and files.\n"
            f"Here are {len(lines)} of {len(found)}: {'; '.join(one[:200] for one in lines)}.")


def wait_for_all(connections: list[Any]) -> None:
    """Wait a moment for what these servers have besides tools. No silent server is waited for."""
    end = time.monotonic() + A_MOMENT
    for connection in connections:
        connection.offers.wait(end - time.monotonic())


def refreshed(chat: Any, keys: list[str]) -> list[Any]:
    """The connections of a chat that work. Somebody wants to see what is there now, so lists that
    may have changed are asked for."""
    for connection in chat.working:
        connection.offers.look_again(keys)
    wait_for_all(chat.working)
    return chat.working


def all_of(chat: Any, what: str) -> list[tuple[str, dict]]:
    """Each server's name, with each of its "resources" or "prompts"."""
    return [(connection.server.name, one) for connection in refreshed(chat, LISTS[what])
            for one in known(connection, what)]


def fetch(chat: Any, server: str, method: str, params: dict) -> Generator[Event, None, dict]:
    """Ask one server for something that isn't a tool. Raises Problem."""
    if server not in chat.connections:
        raise Problem(f'There is no server called "{server}". /servers lists them.')
    [result] = yield from with_logins([partial(chat.connections[server].ask, method, params)])
    if not isinstance(result, dict):
        raise Problem(f"{server}: {briefly(result)}")
    return result


def read(chat: Any, server: str, uri: str) -> Generator[Event, None, None]:
    """Add a resource to the conversation: it goes to the model with the next question."""
    result = yield from fetch(chat, server, "resources/read", {"uri": uri})
    text, files = chat.as_text(result)
    yield from (Note(f"Saved {file}") for file in files)
    text = f"The resource {uri} of {server}:\n{text}"
    chat.before.append({"role": "user", "content": tools.shortened(text, chat.max_chars)})
    yield Note(f"The model gets {uri} ({min(len(text), chat.max_chars)} of {len(text)} characters) "
               "with your next question.")


def use_prompt(chat: Any, server: str, name: str, arguments: dict[str, str]
               ) -> Generator[Event, None, None]:
    """Ask the model what a server's prompt says. Raises Problem."""
    result = yield from fetch(chat, server, "prompts/get", {"name": name, "arguments": arguments})
    messages: list[dict] = []
    for message in map(as_dict, as_list(result.get("messages"))):
        role = "assistant" if message.get("role") == "assistant" else "user"
        text, _ = chat.as_text({"content": [message.get("content")]})
        messages.append({"role": role, "content": tools.shortened(text, chat.max_chars)})
    if not messages:
        raise Problem(f"{server}: its prompt {name} is empty.")
    yield Note(f"{name}: {messages[-1]['content'][:500]}")
    yield from chat.ask(messages)
