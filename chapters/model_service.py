"""The model's service: how do we ask a model, and what if its service says no?

One POST asks for the next message of a conversation, and the reply comes back in pieces, as
server-sent events:

    POST /v1/chat/completions          {"model": "gpt-4o-mini", "messages": [...], "tools": [...],
                                        "stream": true}

    data: {"choices": [{"delta": {"content": "You had "}}]}
    data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    data: [DONE]

The `openai` package sends it, and knows many ways in which that can fail. Its words become ours
here: what happened, and what to do. Two kinds of "no" can be mended without you. If a conversation
is too long for the model, its oldest turn is forgotten. If the service refuses one tool, whatever
its reason, we go on without that tool.

https://platform.openai.com/docs/api-reference/chat

Left out: the package's own classes for pieces, because services put things into them that they
don't know; and other languages than OpenAI's.

Try it. A refusal that means one of our tools can be mended:

>>> add = {"function": {"name": "toy__add"}}
>>> no({"message": "Invalid 'tools[0].function.name'"}, LLM("gpt-4o-mini", "a-key"), [add]).tools
['toy__add']
"""

import contextlib
import itertools
import json
import os
import re
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

from chapters.events import Event, Note
from chapters.failures import on_the_way
from chapters.http_session import with_proxy
from chapters.inboxes import END, Inbox
from chapters.jobs import Job, in_background
from chapters.outside import Failure, Problem, as_dict, loads, without_secrets, without_tags
from chapters.replies import NO_SERVICE, error_in, words_in
from chapters.server_sent_events import read_events
from chapters.settings import LLM

OPENAI, FILES = "https://api.openai.com/v1", ("SSL_CERT_FILE", "SSL_CERT_DIR")
SECONDS = 3600  # that a model may think without a word


def load_in_background(llm: LLM) -> None:
    """Load the openai package while our requests are on their way, or somebody is typing."""
    def load() -> None:
        time.sleep(0.1)  # any sooner, it slows the start down
        with contextlib.suppress(Exception):  # it comes again with the first question
            _ = llm.client

    in_background(load)


class Mendable(Problem):
    """A "no" that we can mend: the conversation is too long, or some `tools` aren't taken."""

    def __init__(self, text: str, tools: list[str] | None = None):
        super().__init__(text)
        self.tools = tools

    def mend(self, messages: list[dict], left_out: set[str]) -> str:
        """Change the conversation, or which tools are left out. Returns what to say about that;
        raises itself where nothing helps."""
        if self.tools:
            left_out.update(self.tools)
            return f"The model has to do without {', '.join(self.tools)}. {self}"
        turns = [n for n, message in enumerate(messages) if message["role"] == "user"]
        if len(turns) < 2:
            raise self
        del messages[:turns[1]]
        return "The conversation is too long for this model. Its oldest turn is forgotten."


def mended(ask: Callable[[list[dict]], Generator[Event, None, dict]], messages: list[dict],
           left_out: set[str]) -> Generator[Event, None, dict]:
    """The reply that ask(messages) returns, as often as something can be mended before. What that
    was is said when it has helped."""
    notes: list[str] = []
    while True:
        try:
            reply = yield from ask(messages)
            yield from map(Note, notes)
            return reply
        except Mendable as problem:
            note = problem.mend(messages, left_out)
            if problem.tools:  # it stays left out, whatever becomes of this question
                yield Note(note)
            else:
                notes.append(note)


# ── Asking ───────────────────────────────────────────────────────────────────────────────

def pieces_of(llm: LLM, messages: list[dict], tools: list[dict], job: Job) -> Iterator[dict]:
    """Ask for the next message; yield the pieces of the reply as they come. Raises Problem."""
    inbox = Inbox(job)
    in_background(bring, llm, messages, tools, inbox)
    try:
        for piece in inbox.each(job, SECONDS):
            yield piece
            if "done" in piece:
                # Only at its end can the connection serve the next request. It comes now, or never.
                with contextlib.suppress(Problem):
                    list(inbox.each(job, 1))
                return
    except Failure as failure:
        if failure.kind == "cancelled":
            raise
        raise Problem(f"The model's service: {failure}") from None
    finally:
        inbox.close()


def bring(llm: LLM, messages: list[dict], tools: list[dict], inbox: Inbox) -> None:
    """Put the pieces of a reply into the inbox, and {"done": True} after the last."""
    try:
        # Given as extra_body, the conversation goes as it is. (The package looks at each message of
        # it, each time, which takes long when there are many.)
        asked = llm.client.chat.completions.with_streaming_response.create(
            model=llm.model, messages=[], stream=True,
            extra_body={"messages": messages, **({"tools": tools} if tools else {})})
        with asked as response:
            stream = response.http_response.extensions["network_stream"]
            inbox.socket = stream.get_extra_info("socket")
            for piece in read(response.iter_bytes(), llm):
                if said := error_in(piece):
                    raise no(said, llm, tools)
                if inbox.closed.is_set():
                    return
                inbox.put(piece)
    except Exception as error:
        inbox.put(in_words(error, llm, tools))
    finally:
        inbox.socket = None
        inbox.put(END)


def read(chunks: Iterator[bytes], llm: LLM) -> Iterator[dict]:
    """The pieces in the body of a response. Raises Problem."""
    start = b""
    while not start and (chunk := next(chunks, b"")):
        start = chunk.lstrip(b"\xef\xbb\xbf \t\r\n")  # (some send empty lines while they think)
    if start[:1] == b"<":  # a page for people
        raise Problem(with_proxy(NO_SERVICE, llm.base_url or OPENAI))
    is_whole = start[:1] in (b"{", b"[")  # not streamed, though we have asked for that
    if is_whole:  # (As one event, without line ends. It has the same limit on its size.)
        chunks = (chunk.translate(None, b"\r\n") for chunk in itertools.chain([start], chunks))
        start = b"data: "
    # (The last event may lack the empty line that ends it.)
    for event in read_events(itertools.chain([start], chunks, [b"\n\n"])):
        data = event.get("data", "").strip()
        if event.get("event") == "error":
            yield {"error": data}
        elif data == "[DONE]":
            yield {"done": True}
        elif data:
            yield from pieces_in(data, llm, is_whole)


def pieces_in(text: str, llm: LLM, is_whole: bool) -> list[dict]:
    try:
        found = loads(text, keep_halves=True)
    except ValueError as error:
        raise Problem(f"The model's service sends something that can't be read ({error}):\n"
                      f"{llm.without_key(text)[:100]}") from None
    pieces = list(map(as_dict, found if isinstance(found, list) else [found]))
    if is_whole and not any(one.get("choices") or error_in(one) for one in pieces):
        raise Problem(f"{NO_SERVICE}\nIt says: {llm.without_key(words_in(found) or text)}")
    return pieces


# ── What goes wrong ──────────────────────────────────────────────────────────────────────

IS_TOO_LONG = re.compile("context.{0,20}(length|window|size|overflow)|too many tokens|"
                         "maximum number of tokens|"
                         "(prompt|input|message|conversation|request)s?.{0,20} too long", re.I)
NUMBER_OF_A_TOOL = re.compile(  # tools[0], tools.0, ["tools", 0], tools[0].function_declarations[0]
    r"\b(?:tools|functions|function_?declarations)(?:\[|\.|/|\\*['\"],\s*|\s*->\s*)(\d{1,4})\b"
    r"(?!\]?\.function_?declarations)", re.I)
STATUS_IN_WORDS = {
    401: "Invalid API key. Check OPENAI_API_KEY in .env.",
    300: "The model's service has moved to {there}. Look at its address in .env.",
    403: "This API key may not do that. Look at your account with the model's service.",
    404: "There is no model \"{model}\" there. Set {setting} in .env, or type /model NAME.{hint}",
    429: "The model's service is busy, or your account is used up. Wait {wait}, then ask again.",
    407: "Your proxy wants a login. Put it into HTTPS_PROXY: http://NAME:PASSWORD@HOST:PORT.",
    500: "The model's service has a problem of its own. Ask again in a minute.",
}


def in_words(error: Exception, llm: LLM, tools: list[dict]) -> Exception:
    """What went wrong with one request, as a Problem. (An error of ours stays what it is.)"""
    import openai
    if isinstance(error, openai.APIStatusError):
        return by_status(error, llm, tools)
    if isinstance(error, (openai.OpenAIError, UnicodeError)) or \
            type(error).__module__.startswith("httpx"):  # what the package is made with
        files = [f"{name}={os.environ[name]}" for name in FILES if os.environ.get(name)]
        words = str(on_the_way(
            error, llm.base_url or OPENAI, it="the model's service", nobody=llm.unreachable,
            headers="OPENAI_API_KEY or other headers", setting="the model's address in .env",
            files=" and ".join(files) or FILES[0], again="\nAsk again."))
        return Problem(llm.without_key(words[0].upper() + words[1:]))
    return error


def by_status(error: Any, llm: LLM, tools: list[dict]) -> Problem:
    """What a status says, and the service itself."""
    status, headers = error.status_code, error.response.headers
    theirs: object = error.response.text.strip() or str(error)
    with contextlib.suppress(ValueError):
        theirs = loads(error.response.text)
    problem = no(theirs, llm, tools)
    if isinstance(problem, Mendable) and status not in (401, 403, 429):
        return problem
    wait = headers.get("Retry-After", "")
    hint = " (If there is, its address is wrong. Most end in /v1.)" if llm.base_url else ""
    words = STATUS_IN_WORDS.get(300 if status < 400 else min(status, 500),
                                "The model's service refused that.").format(
        model=llm.model, setting=llm.setting, hint=hint,
        there=without_secrets(headers.get("Location", "another address").partition("#")[0])[:200],
        wait=f"{wait} seconds" if re.fullmatch("[0-9]{1,4}", wait) else "a minute")
    words += f"\nIt says: {llm.without_key(without_tags(words_in(theirs) or str(theirs)))}"
    return Problem(with_proxy(words, llm.base_url or OPENAI) if isinstance(theirs, str) else words)


def no(said: object, llm: LLM, tools: list[dict]) -> Problem:
    """What a "no" of the service means. It may name one of our functions, or its number."""
    theirs, all_of_it = words_in(said) or json.dumps(said), json.dumps(said)
    numbers = list(map(int, NUMBER_OF_A_TOOL.findall(all_of_it)))
    refused = [name for number, name in enumerate(tool["function"]["name"] for tool in tools)
               if number in numbers or re.search(rf"(?<![\w-]){name}(?![\w-])", theirs)]
    hint = "\nLook at its address in .env: most end in /v1." if "endpoint" in theirs.lower() else ""
    text = f"The model's service: {llm.without_key(theirs)}{hint}"
    inner = as_dict(as_dict(said).get("error")) or as_dict(said)
    if refused:
        return Mendable(text, refused)
    if IS_TOO_LONG.search(f"{inner.get('code')} {theirs}"):
        return Mendable("Your question, with what the tools answered, is too long for this model.\n"
                        "Ask for less at a time.")
    return Problem(text)
