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
object; content comes as a list of parts; an error, in any shape. And some put things of their own
into a message, like "reasoning_content", and refuse the next question if they don't get them back.

https://platform.openai.com/docs/api-reference/chat-streaming

Left out: the usage that some services report, and replies with more than one choice.

Try it:

>>> reply = Reply()
>>> [reply.add({"choices": [{"delta": delta}]}) for delta in [
...     {"reasoning_content": "Hm. "}, {"content": "Let me "}, {"content": "see."}]]
['', 'Let me ', 'see.']
>>> reply.message()
{'role': 'assistant', 'reasoning_content': 'Hm. ', 'content': 'Let me see.'}
>>> words_in([{"error": {"message": "API key not valid."}}])
'API key not valid.'
>>> words_in({"detail": [{"loc": ["body"], "msg": "Field required"}]})
'Field required'
"""

import codecs
import contextlib
import json
import os
import re
from typing import Any

from chapters import trace
from chapters.outside import MAX_BYTES, Problem, as_dict, as_list, loads

MAX_CALLS = 100  # in one reply
ENDINGS = {  # why a reply has ended, if that wasn't its end
    "^$": "The answer broke off: the model's service hung up.",
    "length|max": "The answer was cut off: this model can't make it longer.",
    "filter|safety|sensitive|block": "The model's service held back the rest: its content filter.",
    "error|abort|cancel|resource|malformed": "The answer broke off: the service has a problem."}
# Where an error has its words, the best first. (Some put another's error into "metadata".)
WORDY = ["metadata", "raw", "message", "error_description", "error_msg", "msg", "detail", "details",
         "error", "errors", "description", "reason", "base_resp", "status_msg", "title"]


class Reply:
    """One reply, as far as it has come."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.calls: list[dict] = []  # like those in a message, but each with its "index"
        self.more: dict[str, Any] = {}  # what the service has put into its message besides
        self.reason = ""             # why it has ended: "stop", "tool_calls", "length", ...
        self.size = 0                # bytes, more or less
        # JSON may write a character as two halves, "\ud83d" and "\ude00", and a service may send
        # them in two pieces. Python's decoder keeps the first until the second is there.
        self.halves = codecs.getincrementaldecoder("utf-16-le")("replace")

    def add(self, piece: dict) -> str:
        """Add a piece, and return the words in it. Raises Problem for a reply without end."""
        choice = choice_in(piece)  # (What isn't streamed has a whole "message" for a "delta".)
        delta = as_dict(choice.get("delta") or choice.get("message"))
        self.size += len(json.dumps(delta))
        ended = "done" in piece or "message" in choice
        self.reason = str(choice.get("finish_reason") or self.reason or ("stop" if ended else ""))
        collect(self.more, {key: value for key, value in delta.items()
                            if key not in ("role", "content", "refusal", "tool_calls")})
        for part in map(as_dict, as_list(delta.get("tool_calls"))[:MAX_CALLS + 1]):
            self.add_call(part)
        if self.size > MAX_BYTES or len(self.calls) > MAX_CALLS:
            raise Problem("The model talked without end. Ask again, or another way.")
        words = text_of(delta.get("content") or delta.get("refusal"))
        self.words.append(self.halves.decode(words.encode("utf-16-le", "surrogatepass")))
        return self.words[-1]

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
        same = [call for call in self.calls if index in (None, call["index"])]
        if not same or new_id and same[-1]["id"] and new_id != same[-1]["id"] or \
                name and not new_id and arguments_in(same[-1]["function"]["arguments"]) is not None:
            same = [{"index": index, "id": "", "function": {}}]
            self.calls += same
        collect(same[-1], {**piece, "id": new_id, "type": "function", "function": {
            **function, "name": name, "arguments": arguments}})

    def end(self) -> str:
        """Look at how it has ended. Returns what a person should know about that; "": nothing.
        Raises Problem."""
        note = next((ENDINGS[one] for one in ENDINGS if re.search(one, self.reason, re.I)), "")
        if self.calls and note:  # it may be half of a call, or the wrong one
            raise Problem("The answer ended in the middle of a tool call, so nothing was called.\n"
                          f"{note} Ask again.")
        is_empty = not self.calls and not "".join(self.words).strip()
        return note or ("The answer is empty." if is_empty else "")

    def message(self) -> dict:
        """The whole message, now that it is complete. Without words, it has no "content"; without
        calls, no "tool_calls"."""
        message = {"role": "assistant", **self.more}
        if (words := "".join(self.words)).strip():
            message["content"] = words
        for call in self.calls:
            call["id"] = call["id"] or f"call_{os.urandom(6).hex()}"
            del call["index"]
            message["tool_calls"] = self.calls
        message = loads(json.dumps(message))  # on this way, two halves of a character become one
        trace.trace("<--", trace.MODEL, message)
        return message


def choice_in(piece: dict) -> dict:
    """The first choice in a piece. (We ask for no others.)"""
    return as_dict(next(iter(as_list(piece.get("choices"))), None))


def text_of(content: object) -> str:
    """The text of a content: "You had ", or [{"type": "text", "text": "You had "}]."""
    if isinstance(content, list):
        return "".join(text_of(part.get("text")) for part in map(as_dict, content))
    return content if isinstance(content, str) else ""


def collect(whole: dict, piece: dict) -> None:
    """Add what is in a piece: strings and lists are joined, and objects are collected in turn. What
    only names something comes whole, and perhaps in each piece.

    >>> whole = {"id": "x", "reasoning": "I ", "details": [1]}
    >>> collect(whole, {"id": "x", "reasoning": "think.", "details": [2]})
    >>> whole
    {'id': 'x', 'reasoning': 'I think.', 'details': [1, 2]}
    """
    for key, value in piece.items():
        old = whole.get(key)
        if value is None or old and key in ("index", "id", "type", "name"):
            continue
        if isinstance(old, dict) and isinstance(value, dict):
            collect(old, value)
        elif isinstance(old, (str, list)) and type(old) is type(value):
            whole[key] += value
        else:
            whole[key] = value


def plain(message: dict) -> dict:
    """A message without what its service has put into it, for another service.

    >>> plain({"role": "assistant", "reasoning_content": "Hm.", "content": "Yes."})
    {'role': 'assistant', 'content': 'Yes.'}
    """
    kept = {key: value for key, value in message.items()
            if key in ("role", "content", "tool_calls", "tool_call_id")}
    if "tool_calls" in kept:
        kept["tool_calls"] = [{"id": call["id"], "type": "function", "function": {
            key: call["function"][key] for key in ("name", "arguments")}}
            for call in kept["tool_calls"]]
    return kept


def arguments_in(text: str) -> dict | None:
    """The arguments of a call, or None: this is not (yet) a whole JSON object. (Some services put
    the JSON into a JSON string.)

    >>> arguments_in('{"a": 1}'), arguments_in('"{\\\\"a\\\\": 1}"'), arguments_in('{"a"')
    ({'a': 1}, {'a': 1}, None)
    """
    try:
        found = loads(text)
        while isinstance(found, str):
            found = loads(found or "{}")
    except ValueError:
        return None
    return found if isinstance(found, dict) else {} if found is None else None  # some send null


def error_in(piece: dict) -> object:
    """What in a piece is an error, like {"error": {"message": "Overloaded"}}; None: nothing."""
    is_one = piece.get("error") or "error" in (piece.get("object"), piece.get("type"))
    return piece if is_one else choice_in(piece).get("error")


def words_in(error: object) -> str:
    """The text in an error of a service, whatever its shape; "": there is none."""
    if isinstance(error, str):
        with contextlib.suppress(ValueError):  # it may be JSON again
            return words_in(loads(error)) or error.strip()
        return error.strip()
    if isinstance(error, list):
        return "\n".join(dict.fromkeys(filter(None, map(words_in, error))))
    inner = filter(None, map(as_dict(error).get, WORDY))
    return next(filter(None, map(words_in, inner)), "")


def in_turn(messages: list[dict]) -> list[dict]:
    """Some models want questions and answers in turn. So neighbours of one role become one, and
    where a turn was stopped after a tool's result, that is said.

    >>> in_turn([{"role": "user", "content": "A"}, {"role": "user", "content": "B"}])
    [{'role': 'user', 'content': 'A\\n\\nB'}]
    """
    found: list[dict] = []
    for one in messages:
        if found and found[-1]["role"] == one["role"] and len(one) == len(found[-1]) == 2:
            found[-1] = {**one, "content": f"{found[-1]['content']}\n\n{one['content']}"}
        else:  # (what has a tool call in it, or a tool's result, stays by itself)
            if [last["role"] for last in [*found[-1:], one]] == ["tool", "user"]:
                found.append({"role": "assistant", "content": "(stopped)"})
            found.append(one)
    return found
