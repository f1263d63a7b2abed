"""The model's service: how do we ask a model, and what if its service says no?

One POST asks for the next message of a conversation, and the reply comes back in pieces, as
server-sent events:

    POST /v1/chat/completions {"model": "gpt-4o", "messages": [...], "tools": [...], "stream": true}

    data: {"choices": [{"delta": {"content": "You had "}}]}
    data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    data: [DONE]

The `openai` package sends it, and knows many ways in which that can fail. Its words become ours
here: what happened, and what to do. Two kinds of "no" can be mended without you. If a conversation
is too long for the model, its oldest turn is forgotten. If the service refuses one tool, whatever
its reason, we go on without that tool.

https://platform.openai.com/docs/api-reference/chat

Left out: other protocols; the package's classes for pieces, which don't know all that is sent; how
long a busy service wants us to wait (the package asks once more by itself, after that time).

Try it. A refusal that means one of our tools can be mended:

>>> add = {"function": {"name": "toy__add"}}
>>> no("Invalid 'tools[0].function.name'", LLM("gpt-4o-mini", "a-key"), [add]).tools
['toy__add']
"""

import contextlib
import itertools
import json
import re
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

from chapters import trace
from chapters.events import Event, Note
from chapters.failures import on_the_way
from chapters.http_session import here, with_proxy
from chapters.inboxes import END, Inbox
from chapters.jobs import Job, in_background
from chapters.outside import Failure, Problem, as_dict, loads, without_secrets, without_tags
from chapters.replies import error_in, words_in
from chapters.server_sent_events import read_events
from chapters.settings import LLM

OPENAI = "https://api.openai.com/v1"
SECONDS = 3600  # that a model may think without a word


def load(llm: LLM) -> None:
    """Load the openai package, in a thread: while our requests are on their way, or you type."""
    time.sleep(0.1)  # any sooner, it slows the start down
    with contextlib.suppress(Exception):  # it comes again with the first question
        _ = llm.client


class Mendable(Problem):
    """A "no" that we can mend: the conversation is too long, or some `tools` aren't taken."""

    def __init__(self, text: str, tools: list[str] | None = None):
        super().__init__(text)
        self.tools = tools


def mended(ask: Callable[[list[dict]], Generator[Event, None, dict]], messages: list[dict],
           left_out: set[str]) -> Generator[Event, None, dict]:
    """The reply that ask(messages) returns, as often as something can be mended before: the oldest
    turn goes from `messages`, or the names of tools are added to those that are `left_out`."""
    forgotten = False
    while True:
        try:
            reply = yield from ask(messages)
            if forgotten:  # (Only now it is true: a question that fails leaves no trace.)
                yield Note("This model can't read all of it: the oldest turns are forgotten.")
            return reply
        except Mendable as problem:
            turns = [n for n, message in enumerate(messages) if message["role"] == "user"]
            if problem.tools:
                left_out.update(problem.tools)
                yield Note(f"The model has to do without {', '.join(problem.tools)}. {problem}")
            elif len(turns) > 1:
                del messages[:turns[1]]
                forgotten = True
            else:
                raise


# ── Asking ───────────────────────────────────────────────────────────────────────────────

def pieces_of(llm: LLM, messages: list[dict], tools: list[dict], job: Job) -> Iterator[dict]:
    """Ask for the next message; yield the pieces of the reply as they come. Raises Problem."""
    body = {**({"tools": tools} if tools else {}), "messages": messages, "stream": True}
    trace.trace("-->", trace.MODEL, {"model": llm.model, **body},
                f"POST {llm.base_url or OPENAI}/chat/completions")
    with contextlib.closing(Inbox(job)) as inbox:
        in_background(bring, llm, body, tools, inbox)
        for piece in inbox.each(SECONDS):
            yield piece
            if "done" in piece:
                # Only at its end can the connection serve the next request. It comes now, or never.
                with contextlib.suppress(Problem):
                    list(inbox.each(1))
                return


def bring(llm: LLM, body: dict, tools: list[dict], inbox: Inbox) -> None:
    """Put the pieces of a reply into the inbox, and {"done": True} after the last."""
    piece, is_service = dict[str, Any](), False
    # Before the answer begins, this tells on which connection it will come: the one of the answer
    # before, which is ours until the end, or a new one (see watch() in http_session.py).
    here.inbox, inbox.socket, llm.socket = inbox, llm.socket, None
    try:
        # (At `messages`, the package would look each time, and take long when there are many.)
        asked = llm.client.chat.completions.with_streaming_response.create(
            model=llm.model, messages=[], stream=True, extra_body=body)
        with asked as response:
            stream = response.http_response.extensions["network_stream"]
            inbox.socket = stream.get_extra_info("socket")
            for piece in pieces_in(response.iter_bytes(), llm):
                if said := error_in(piece):
                    raise no(json.dumps(said), llm, tools)
                if inbox.closed.is_set():
                    return
                is_service = is_service or bool(piece.get("choices") or "done" in piece)
                inbox.put(piece)
        if not is_service:
            raise no(json.dumps(piece) if piece else "", llm, tools, 200)
    except Exception as error:
        inbox.put(in_words(error, llm, tools))
    finally:
        llm.socket, inbox.socket = inbox.socket, None
        inbox.put(END)


def pieces_in(chunks: Iterator[bytes], llm: LLM) -> Iterator[dict]:
    """The pieces in the body of a response. Raises Problem."""
    start = next(chunks, b"").lstrip(b"\xef\xbb\xbf \t\r\n")
    chunks = itertools.chain([start], chunks)
    if start[:1] in (b"{", b"["):  # not streamed, though we have asked for that: it is one event
        chunks = itertools.chain([b"data: "], (one.translate(None, b"\r\n") for one in chunks))
    # (The last event may lack the empty line that ends it.)
    for event in read_events(itertools.chain(chunks, [b"\n\n"])):
        data = event.get("data", "").strip()
        if event.get("event") == "error":
            yield {"error": data or "It gives no reason."}
        elif data == "[DONE]":
            yield {"done": True}
        elif data:
            try:
                found = loads(data, keep_halves=True)
            except ValueError as error:
                raise Problem(f"The model's service sends something that can't be read ({error}):\n"
                              f"{llm.without_key(data)[:100]}") from None
            yield from map(as_dict, found if isinstance(found, list) else [found])


# ── What goes wrong ──────────────────────────────────────────────────────────────────────

# Patterns. (They are compiled where they are first used, so that a start is fast.)
IS_TOO_LONG = ("(?i)context.{0,20}(length|window|size|overflow)|too many tokens|"
               "maximum number of tokens|"
               "(prompt|input|message|conversation|request)s?.{0,20} too long")
NUMBER_OF_A_TOOL = (  # tools[0], tools.0, ["tools", 0], tools[0].function_declarations[0]
    r"(?i)\b(?:tools|functions|function_?declarations)(?:\[|\.|/|\\*['\"],\s*|\s*->\s*)(\d{1,4})\b"
    r"(?!\]?\.function_?declarations)")
STATUS_IN_WORDS = {  # by the status, or by its first digit
    2: "What answers there is not a model's service. Look at its address: most end in /v1.",
    3: "The model's service has moved to {there}. Look at its address in .env.",
    4: "The model's service refused that.",
    5: "The model's service has a problem of its own. Ask again in a minute.",
    401: "Invalid API key. Check OPENAI_API_KEY in .env.",
    404: "There is no model \"{model}\" there. Set {setting} in .env, or type "
         "/model NAME. (If there is, its address is wrong: most end in /v1.)",
    429: "The model's service is busy, or your account is used up. Wait a minute, then ask again.",
}


def in_words(error: Exception, llm: LLM, tools: list[dict]) -> Exception:
    """What went wrong with one request, as a Problem. (An error of ours stays what it is.)"""
    import openai
    if isinstance(error, Failure):
        return Problem(f"The model's service: {error}")
    if isinstance(error, openai.APIStatusError):
        moved_to = without_secrets(error.response.headers.get("Location", "").partition("#")[0])
        return no(error.response.text.strip(), llm, tools, error.status_code, moved_to[:200])
    if isinstance(error, (openai.OpenAIError, UnicodeError)) or \
            type(error).__module__.startswith("httpx"):  # what the package is made with
        words = str(on_the_way(
            error, llm.base_url or OPENAI, it="the model's service", nobody=llm.unreachable,
            headers="OPENAI_API_KEY or other headers", setting="the model's address in .env",
            files="SSL_CERT_FILE (or SSL_CERT_DIR)", again="\nAsk again."))
        return Problem(llm.without_key(words[0].upper() + words[1:]))
    return error


def no(text: str, llm: LLM, tools: list[dict], status: int = 400, moved_to: str = "") -> Problem:
    """What a "no" of the service means: a text, or JSON. It may name one of our functions, or its
    number. An error in a reply counts like one with the status 400."""
    theirs = words_in(text) or text
    numbers = list(map(int, re.findall(NUMBER_OF_A_TOOL, text)))
    refused = [name for number, name in enumerate(tool["function"]["name"] for tool in tools)
               if number in numbers or re.search(rf"(?<![\w-]){name}(?![\w-])", theirs)]
    is_too_long = re.search(IS_TOO_LONG, theirs) or "context_length_exceeded" in text
    theirs = llm.without_key(without_tags(theirs))
    if status not in STATUS_IN_WORDS:  # (one that is says something else, whatever the words)
        if refused:
            return Mendable(f"The model's service: {theirs}", refused)
        if is_too_long:
            return Mendable("The question, with its results, is too long. Ask for less at a time.")
    if "unexpected endpoint" in theirs.lower():  # (LM Studio says so with the status 200)
        status = 200
    words = STATUS_IN_WORDS.get(status) or STATUS_IN_WORDS[min(status // 100, 5)]
    words = words.format(model=llm.model, setting=llm.setting, there=moved_to or "another address")
    words += f"\nIt says: {theirs}" if theirs else ""
    # What isn't JSON may come from a machine on the way.
    return Problem(words if text[:1] in ("{", "[") else with_proxy(words, llm.base_url or OPENAI))
