r"""Tools: what happens to a tool on its way between a server and a model?

A name. Models take only some characters in it, at most 64, and a letter first:

    server "my files", tool "read.file"     my_files__read_file
    server "12306",    tool "search"        mcp_12306__search

A call. Before one that may destroy something, you are asked. You see the arguments as they are:
what can't be seen on a screen is shown by its number, and nothing long can hide what is after it.

    files wants to run write with {
      "path": "a.txt"
      "mode": "w\u202e"
    }

A result. It is a list of blocks, and not all of them are text for a model. Pictures, sounds and
other bytes become files for you, and the model is told where they are:

    {"type": "text", "text": "22.5 degrees"}
    {"type": "image", "data": "iVBORw0...", "mimeType": "image/png"}           and "audio"
    {"type": "resource", "resource": {"uri": "file:///a.txt", "text": "..."}}  a document, included
    {"type": "resource_link", "uri": "file:///b.txt", "name": "b.txt"}         one to read later

What isn't text (a link, or a kind that we don't know) goes to the model as JSON, as it is.

https://modelcontextprotocol.io/specification/2026-07-28/server/tools

Left out: showing pictures to a model that could see them, because services differ in how.

Try it:

>>> full_name("my files", "read.file", []), full_name("12306", "search", []), \
...     full_name("a", "b", ["a__b"])
('my_files__read_file', 'mcp_12306__search', 'a__b_2')
>>> print(for_reading({"mode": "w\u202e"}))
{
  "mode": "w\u202e"
}
>>> as_text({"type": "resource", "resource": {"text": "22.5 degrees"}}, "weather", Folder(), [])
'22.5 degrees'
>>> shortened("abcdefgh", 5)
'abcde\n[3 more characters were cut off here. Ask for less, or for a part of it.]'
"""

import base64
import itertools
import json
import re
from collections.abc import Collection, Generator, Iterator
from pathlib import Path
from typing import Any

from chapters.events import Event, Note, Question
from chapters.outside import as_dict, one_line
from chapters.screen import for_reading

MAX_FILES = 20  # of one result
NO_DATA = {"content", "contents", "isError", "resultType", "_meta", "ttlMs", "cacheScope"}
IS_TEXT = r"(?i)text/|application/(.+\+)?(json|xml|(x-)?yaml|javascript)\b"
WORD = r"\w*[^\W\d]\w*|-?\d+(?:\.\d+)?"  # or a number


# ── Names ────────────────────────────────────────────────────────────────────────────────

def full_name(server: str, tool: str, taken: Collection[str]) -> str:
    """A name that models take, and that no other tool has yet."""
    wanted = re.sub(r"[^A-Za-z0-9_-]", "_", f"{server}__{tool}")
    wanted = (wanted if wanted[0].isalpha() else f"mcp_{wanted}")[:64]
    others = (f"{wanted[:63 - len(str(number))]}_{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain([wanted], others) if name not in taken)


def description(server: str, found: dict) -> str:
    """What the model reads of a tool, {"description": "...", "title": "..."}. Where its full name
    can't tell which server it belongs to, this does."""
    text = str(found.get("description") or found.get("title") or "")[:20_000]
    name = str(found.get("name"))
    tells = f"{server}{name}".isascii() and re.search("[A-Za-z0-9]", server) and len(server) < 40
    return text if tells else f"{name}, a tool of {server}. {text}".strip()


def chosen(by_server: list[list[Any]], left_out: set[str], most: int) -> dict[str, Any]:
    """The tools (chat.py's) that a model gets, by full name. If they are too many, the servers with
    the most have to do without some. `left_out` has full names that the model can't have."""
    usable = [[tool for tool in tools if tool.full_name not in left_out] for tools in by_server]
    in_turn = [tool for row in itertools.zip_longest(*usable) for tool in row if tool]
    kept = {tool.full_name for tool in in_turn[:most]}
    return {tool.full_name: tool for tool in itertools.chain(*usable) if tool.full_name in kept}


def notes(connections: list[Any], most: int) -> Iterator[Note]:
    """What a person should know about the tools that these servers have, or haven't."""
    for one in connections:
        server, names = one.server, {tool["name"] for tool in one.offers.known["tools"]}
        for missing in set(server.tools) - names:
            yield Note(f'{server.name} has no tool called "{missing}" (see its setting "tools").')
    if sum(len(one.offers.known["tools"]) for one in connections) > most:
        yield Note(f'A model takes only {most} tools. Choose with the setting "tools" of a server.')


# ── Calls ────────────────────────────────────────────────────────────────────────────────

def must_be_confirmed(annotations: dict, confirm: str) -> bool:
    """Whether to ask the person first. `annotations` is what the server says about the tool, like
    {"destructiveHint": true}; `confirm` is the setting. A tool of which nothing is said passes: the
    specification would have us think the worst, but hardly any server says anything."""
    if confirm != "destructive":
        return confirm == "every"
    return annotations.get("destructiveHint") is True and \
        annotations.get("readOnlyHint") is not True


def reason_not_to_call(tool: Any, arguments: dict | None, call: dict, allowed: set[str]
                       ) -> Generator[Event, None, str]:
    """What the model reads in place of a result, where its call can't be made, or where the person
    doesn't want it; "": the call may be made. `allowed` has the full names of the tools about which
    we needn't ask again."""
    function, said = call["function"], call["function"]["arguments"]
    if arguments is None or said.lstrip()[:1] != "{":  # like "", or JSON in a JSON string
        function["arguments"] = json.dumps(arguments or {})  # else its service may refuse it
    if tool is None or arguments is None:
        # Nobody but the model can put this right. It reads the answer, and tries again.
        why = "there is no such tool" if tool is None else "its arguments are not a JSON object"
        yield Note(f"The model called {one_line(function['name']) or 'nothing'}: {why}.")
        function["name"] = re.sub("[^A-Za-z0-9_-]", "_", function["name"])[:64] or "unknown"
        return f"Error: {why}. The arguments were: {said[:1000]}"
    server = tool.connection.server
    if tool.full_name in allowed or not must_be_confirmed(tool.annotations, server.confirm):
        return ""
    question = Question(
        f"{server.name} wants to run {one_line(tool.name)} with {for_reading(arguments)}",
        {"y": "yes", "n": "no", "a": "yes, and don't ask again for this tool"})
    yield question  # whoever shows it has set its answer when we go on
    if question.answer == "a":
        allowed.add(tool.full_name)
    if question.answer in ("y", "a"):
        return ""
    yield Note(f"{one_line(tool.name)} was not called.")
    return "Error: the person did not allow this call."


# ── Results ──────────────────────────────────────────────────────────────────────────────

class Folder:
    """A temporary folder, made at its first use. Only you can look into it, and it stays when the
    program ends."""

    def __init__(self) -> None:
        self.path, self.numbers = "", itertools.count(1)

    def save(self, tool: str, content: bytes, mime: str) -> str:
        """Make a file, called after its tool, like picture-1.png. Raises OSError."""
        import mimetypes  # seldom needed, and a start should be fast
        import tempfile
        self.path = self.path or tempfile.mkdtemp(prefix="mcp-chat-")
        name = re.sub(r"[^A-Za-z0-9_-]", "_", tool)[:40] or "file"
        ending = mimetypes.guess_extension(mime) if mime.startswith(("image/", "audio/")) else None
        path = Path(self.path, f"{name}-{next(self.numbers)}{ending or '.bin'}")
        path.write_bytes(content)
        return str(path)


def as_text(block: object, tool: str, folder: Folder, files: list[str]) -> str:
    """What the model reads of one block in a tool's result. Where it becomes a file in the folder,
    the file's path is added to `files`."""
    if not isinstance(block, dict):
        return str(block)  # (of servers that don't wrap their strings in blocks)
    kind = block.get("type", "file")
    inner = as_dict(block.get("resource")) or block
    data, mime = inner.get("data", inner.get("blob")), str(inner.get("mimeType") or "unknown type")
    if isinstance(inner.get("text"), str):
        return inner["text"]
    if isinstance(data, str):
        try:
            content = base64.b64decode("".join(data.split()), validate=True)
            if re.match(IS_TEXT, mime):
                return content.decode("utf-8-sig")
            if len(files) >= MAX_FILES:
                raise ValueError("there are too many")
            files.append(folder.save(tool, content, mime))
            return f"[{kind}, {mime}: the person has it, as the file {files[-1]}]"
        except (ValueError, OSError) as error:
            return f"[{kind}, {mime}: could not be saved: {error}]"
    return json.dumps(block, ensure_ascii=False) if block else ""  # a link, or what we don't know


def with_data(text: str, result: dict) -> str:
    """A result's text, and its data where the text doesn't say the same; without both, the rest.

    >>> with_data("Here it is.", {"structuredContent": {"celsius": 22.5}})
    'Here it is.\\n{"celsius": 22.5}'
    >>> with_data("It has 22.5 degrees.", {"structuredContent": {"celsius": 22.5}})
    'It has 22.5 degrees.'
    """
    text = text if text.strip() else ""
    rest = {key: one for key, one in result.items() if key not in NO_DATA}
    data = rest.get("structuredContent", rest)
    is_told = "structuredContent" not in rest or is_said(data, set(re.findall(WORD, text)))
    if not rest or text and is_told:
        return text
    return f"{text}\n{json.dumps(data, ensure_ascii=False)}".lstrip("\n")


def is_said(data: object, words: set[str]) -> bool:
    """Whether these words of a text say what is in some data: each value, in Python's form or in
    JSON's (\\u00e9 for an é)."""
    if isinstance(data, dict):
        data = list(data.values())
    if isinstance(data, list):
        return all(is_said(one, words) for one in data)
    return any(words.issuperset(re.findall(WORD, form)) for form in (str(data), json.dumps(data)))


def shortened(text: str, characters: int) -> str:
    """As much of a server's text as the model gets, with a word about the rest."""
    missing = len(text) - characters
    return text if missing <= 0 else text[:characters] + (
        f"\n[{missing} more characters were cut off here. Ask for less, or for a part of it.]")
