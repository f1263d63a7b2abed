"""Commands: what can you type besides a question?

A line that begins with a slash is for the program, not for the model:

    You: /read toy toy://poem

    [The model gets toy://poem (167 of 167 characters) with your next question.]

Each command is a function, its docstring is its line in /help, and COMMANDS is the list of them. A
new one is one function and one word there.

What /resources, /read, /prompts and /prompt show is MCP's. How a program offers it is left open:
https://modelcontextprotocol.io/specification/2026-07-28/server/prompts#user-interaction-model

Left out: completing what you type with the Tab key.

Try it:

>>> class Printer:
...     def say(self, text):
...         print(text)
>>> run("/help", None, Printer())
  /help        show this list
  /tools       show the tools of each server
  ...
  quit, exit   end the chat (or Ctrl-D, or Ctrl-C; that stops an answer first)
True
>>> run("What's the weather?", None, Printer())
False
"""

import os
import re
from typing import Any

from chapters import resources
from chapters.outside import Problem, as_dict, as_list, briefly, clean, one_line
from chapters.replies import plain

WHO = {"user": "You", "assistant": "A", "tool": "Tool"}  # by role, in a file that is saved


def run(line: str, chat: Any, screen: Any) -> bool:
    """Do what a line says, if it is a command; else return False. `chat` is a Chat, `screen` a
    Screen. Raises Problem."""
    name, _, rest = line.partition(" ")
    if name in COMMANDS:
        COMMANDS[name](chat, rest.strip(), screen)
    elif re.fullmatch(r"/\w*", name):
        raise Problem(f"There is no command {name}. /help lists them.")
    return name in COMMANDS


def show_help(chat: Any, rest: str, screen: Any) -> None:
    """show this list"""
    for name, command in COMMANDS.items():
        screen.say(f"  {name:12} {command.__doc__}")
    screen.say("  quit, exit   end the chat (or Ctrl-D, or Ctrl-C; that stops an answer first)")


def show_list(found: list[tuple[str, dict]], screen: Any) -> None:
    """Show each of what servers have: [("toy", {"name": "add", "description": "Add two numbers."})]
    A resource has a URI besides its name, and a prompt may have arguments."""
    lines = []
    for server, one in found:
        name = one.get("uri") or one.get("uriTemplate") or one.get("name")
        needs = "".join(f" {as_dict(it).get('name')}=..." for it in as_list(one.get("arguments")))
        use = one.get("description") or one.get("title") or one.get("name")
        lines.append(f"  {server} {one_line(f'{name}{needs}')}: {one_line(use)}")
    screen.say("\n".join(lines) or "  There are none. /servers shows which servers work.")


def show_tools(chat: Any, rest: str, screen: Any) -> None:
    """show the tools of each server"""
    resources.refreshed(chat, ["tools"])
    chat.choose_tools()
    show_list([(tool.connection.server.name, {"name": tool.name, "description": tool.description})
               for tool in chat.tools.values()], screen)


def show_servers(chat: Any, rest: str, screen: Any) -> None:
    """show the servers, and how we talk to them"""
    for name, server in chat.servers.items():
        how = briefly(server) if isinstance(server, Problem) else \
            f"MCP {chat.connections[name].version} over {'HTTP' if server.url else 'stdio'}" + \
            ("" if chat.connections[name].offers.known.get("tools") else ", without tools")
        screen.say(f"  {name}: {how}".replace("\n", "\n    "))
    if not chat.servers:
        screen.say("  There are none.")


def show_resources(chat: Any, rest: str, screen: Any) -> None:
    """show the texts that servers offer to read"""
    show_list(resources.all_of(chat, "resources"), screen)


def read(chat: Any, rest: str, screen: Any) -> None:
    """add a text to the conversation: /read SERVER ADDRESS"""
    server = max((name for name in chat.servers if rest.startswith(f"{name} ")), key=len,
                 default=rest.partition(" ")[0])  # (a name may have a blank in it)
    uri = rest.removeprefix(server).strip()
    if not uri:
        raise Problem("Type /read, a server and an address. /resources lists them.")
    screen.show(resources.read(chat, server, uri), waiting_for=server)


def show_prompts(chat: Any, rest: str, screen: Any) -> None:
    """show the ready-made questions that servers offer"""
    show_list(resources.all_of(chat, "prompts"), screen)


def use_prompt(chat: Any, rest: str, screen: Any) -> None:
    """ask a ready-made question: /prompt SERVER NAME KEY=VALUE"""
    import shlex  # seldom needed, and a start should be fast
    try:
        server, name, *words = shlex.split(rest)
        arguments = dict(word.split("=", 1) for word in words)
    except ValueError:
        raise Problem('Type /prompt SERVER NAME KEY="SOME VALUE". /prompts lists them.') from None
    screen.show(resources.use_prompt(chat, server, name, arguments))


def choose_model(chat: Any, rest: str, screen: Any) -> None:
    """use another model: /model NAME"""
    if rest and rest != chat.llm.model:
        chat.llm.model = rest
        chat.messages = [plain(message) for message in chat.messages]  # nothing of the other's own
    screen.say(f"  Model: {chat.llm.model}")


def clear(chat: Any, rest: str, screen: Any) -> None:
    """forget the conversation"""
    chat.messages.clear()
    chat.before.clear()
    screen.say("  Forgotten.")


def save(chat: Any, rest: str, screen: Any) -> None:
    """save the conversation as Markdown: /save FILE"""
    parts = ["# A conversation\n"]
    for message in chat.messages:
        if message.get("content"):
            indent = "    " * (message["role"] == "tool")  # so that no line of it looks like ours
            text = message["content"].replace("\n", f"\n{indent}")
            parts.append(f"**{WHO[message['role']]}:** {text}\n")
        for call in message.get("tool_calls", []):
            parts.append(f"*Called {call['function']['name']}* `{call['function']['arguments']}`\n")
    try:
        with open(os.path.expanduser(rest), "x", encoding="utf-8", errors="replace") as file:
            file.write(clean("\n".join(parts)))
    except (OSError, ValueError) as error:
        raise Problem(f"Can't write to {rest or 'no name'}: {getattr(error, 'strerror', error)}.\n"
                      "Type /save and the name of a new one, like /save night.md.") from None
    screen.say(f"  Saved as {rest}.")


COMMANDS = {"/help": show_help, "/tools": show_tools, "/servers": show_servers,
            "/resources": show_resources, "/read": read, "/prompts": show_prompts,
            "/prompt": use_prompt, "/model": choose_model, "/clear": clear, "/save": save}
