r"""Replies: how do the pieces of a model's reply become one message?

A reply comes in pieces, so that its words can be shown while they are made. Each adds a little:

    {"choices": [{"delta": {"content": "Let me "}}]}
    {"choices": [{"delta": {"content": "see."}}]}
    {"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "call_1", "function":
                      {"name": "toy__add", "arguments": "{\"a\""}}]}}]}
    {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}}]}
    {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}

    {"role": "assistant", "content": "Let me see.", "tool_calls": [{"id": "call_1", "type":
        "function", "function": {"name": "toy__add", "arguments": "{\"a\": 1}"}}]}

Many services speak this language of OpenAI's, each a little differently, and chat.py needn't know:
a call comes whole, or with the index 0 for every call, or without an id; arguments come as an
object; content comes as a list of parts. And some put things of their own into a message, like
"reasoning_content", and refuse the next question if they don't get these back.

https://platform.openai.com/docs/api-reference/chat-streaming

Left out: the usage that some services report, and replies with more than one choice.

Try it:

>>> reply = Reply()
>>> [reply.add({"choices": [{"delta": delta}]}) for delta in [
...     {"reasoning_content": "Hm. "}, {"content": "Let me "}, {"content": "see."}]]
['', 'Let me ', 'see.']
>>> reply.message()
{'role': 'assistant', 'reasoning_content': 'Hm. ', 'content': 'Let me see.'}
"""

import json
import os
from typing import Any

from chapters.outside import MAX_BYTES, Problem, as_dict, as_list, loads

MAX_CALLS = 100  # in one reply
PER_PIECE = 100  # bytes that Python needs for a piece besides its text
ENDINGS = {"": "The answer broke off: the model's service hung up.",
           "length": "The answer was cut off: this model can't make it longer.",
           "content_filter": "The model's service held back the rest: its content filter."}
OURS = ("role", "content", "refusal", "tool_calls", "index", "id", "type", "function")


class Reply:
    """One reply, as far as it has come."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.calls: list[dict] = []  # {"index": 0, "id": "call_1", "name": ..., "pieces": ['{"a"']}
        self.more: dict[str, Any] = {}  # what the service has put into its message besides
        self.is_done = False         # the service has said that this is all
        self.reason = ""             # why it has ended: "stop", "tool_calls", "length", ...
        self.half = ""               # the first half of a character whose second is still to come
        self.size = 0                # bytes, more or less

    def add(self, piece: dict) -> str:
        """Add a piece, and return the words in it. Raises Problem for a reply without end."""
        found = ""
        self.is_done = self.is_done or "done" in piece
        for choice in map(as_dict, as_list(piece.get("choices"))[:1]):
            # (What isn't streamed has a whole "message" in place of the "delta".)
            self.is_done = self.is_done or "message" in choice
            delta = as_dict(choice.get("delta", choice.get("message")))
            found += text_of(delta.get("content")) or text_of(delta.get("refusal"))
            collect(self.more, delta)
            for part in map(as_dict, as_list(delta.get("tool_calls"))[:MAX_CALLS + 1]):
                self.add_call(part)
            self.reason = str(choice.get("finish_reason") or self.reason)
        self.size += len(json.dumps(piece)) + PER_PIECE
        if self.size > MAX_BYTES or len(self.calls) > MAX_CALLS:
            raise Problem("The model talked without end. Ask again, or another way.")
        words = self.whole_characters(found)
        if words:
            self.words.append(words)
        return words

    def whole_characters(self, text: str) -> str:
        """JSON may write a character as two halves, "\\ud83d" and "\\ude00", and a service may send
        them in two pieces. The first half waits for the second; alone, it becomes a "?"."""
        text, self.half = self.half + text, ""
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self.half = text[:-1], text[-1]
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") \
            if any("\ud800" <= one <= "\udfff" for one in text) else text

    def add_call(self, piece: dict) -> None:
        """Add a piece of a tool call.

        OpenAI says by the index which call a piece belongs to, and by an id and a name that it is
        the call's first. Others send 0 for each index, or none, or an empty id, or a whole call in
        one piece. A piece that can't belong to the call before it begins a new one.
        """
        index, function = piece.get("index"), as_dict(piece.get("function"))
        new_id, name = str(piece.get("id") or ""), str(function.get("name") or "")
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments)  # some send the object itself
        same = [call for call in self.calls if index is None or call["index"] == index]
        if not same or new_id and same[-1]["id"] and new_id != same[-1]["id"] or \
                name and not new_id and arguments_in("".join(same[-1]["pieces"])) is not None:
            same = [{"index": index, "id": "", "name": "", "pieces": [], "more": {}}]
            self.calls += same
        call = same[-1]
        call["id"], call["name"] = call["id"] or new_id, call["name"] or name
        call["pieces"].append(arguments)
        collect(call["more"], piece)

    def end(self) -> str:
        """Look at how it has ended. Returns what a person should know about that; "": nothing.
        Raises Problem."""
        reason = self.reason or ("stop" if self.is_done else "")
        if not reason and not self.words and not self.calls:
            raise Problem("What answers there is not a model's service. Look at its address in "
                          ".env:\nmost end in /v1.")
        if self.calls and reason in ("", "length"):  # it may be half of a call, or the wrong one
            raise Problem("The answer broke off in the middle of a tool call, so nothing was called"
                          + (": the model can't make it longer." if reason else ".\nAsk again."))
        if reason in ENDINGS:
            return ENDINGS[reason]
        return "" if self.words or self.calls else "The answer is empty."

    def message(self) -> dict:
        """The whole message, now that it is complete. Without words, it has no "content"; without
        calls, no "tool_calls"."""
        calls = [{**call["more"], "id": call["id"] or f"call_{os.urandom(6).hex()}",
                  "type": "function", "function": {
                      "name": call["name"], "arguments": "".join(call["pieces"])}}
                 for call in self.calls]
        return {"role": "assistant", **self.more,
                **({"content": "".join(self.words)} if self.words else {}),
                **({"tool_calls": calls} if calls else {})}


def text_of(content: object) -> str:
    """The text of a content: "You had ", or [{"type": "text", "text": "You had "}]."""
    if isinstance(content, list):
        return "".join(text_of(as_dict(part).get("text")) for part in content)
    return content if isinstance(content, str) else ""


def collect(more: dict, piece: dict) -> None:
    """Keep the fields that are the service's own: strings are joined, lists appended, others kept.

    >>> more = {"reasoning": "I ", "details": [1]}
    >>> collect(more, {"content": "You", "reasoning": "think.", "details": [2], "x": {"y": 1}})
    >>> more
    {'reasoning': 'I think.', 'details': [1, 2], 'x': {'y': 1}}
    """
    for key, value in piece.items():
        if key not in OURS and value is not None:
            before = more.get(key)
            joined = type(before) is type(value) and isinstance(value, (str, list))
            more[key] = before + value if joined else value


def plain(message: dict) -> dict:
    """A message without what its service has put into it, for another service.

    >>> plain({"role": "assistant", "reasoning_content": "Hm.", "content": "Yes."})
    {'role': 'assistant', 'content': 'Yes.'}
    """
    kept = {key: value for key, value in message.items()
            if key in ("role", "content", "tool_calls", "tool_call_id")}
    if "tool_calls" in kept:
        kept["tool_calls"] = [{key: call[key] for key in ("id", "type", "function")}
                              for call in kept["tool_calls"]]
    return kept


def arguments_in(text: str) -> dict | None:
    """The arguments of a call, or None: this is not (yet) a whole JSON object. (Some services put
    the JSON into a JSON string.)

    >>> arguments_in('{"a": 1}'), arguments_in('"{\\\\"a\\\\": 1}"'), arguments_in('{"a"')
    ({'a': 1}, {'a': 1}, None)
    """
    try:
        found = loads(text) or {}  # some send null
        if isinstance(found, str):
            found = loads(found)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def in_turn(messages: list[dict]) -> list[dict]:
    """Some models want questions and answers in turn. So neighbours of one role become one.

    >>> in_turn([{"role": "user", "content": "A"}, {"role": "user", "content": "B"}])
    [{'role': 'user', 'content': 'A\\n\\nB'}]
    """
    found: list[dict] = []
    for one in messages:
        if found and found[-1]["role"] == one["role"] and len(one) == len(found[-1]) == 2:
            found[-1] = {**one, "content": f"{found[-1]['content']}\n\n{one['content']}"}
        else:  # (what has a tool call in it, or a tool's result, stays by itself)
            found.append(one)
    return found
