"""A pretend model: it speaks like OpenAI's service, but it is a few rules and no AI.

With it, "python chat.py --demo" needs no key, no account and no network. It understands
very little, and says so. What travels is real, though: any program that talks to an
OpenAI-compatible service can talk to this one.

    python demo/pretend_model.py         prints the address to give to such a program

    Part 1   The rules             which answer a conversation gets
    Part 2   Choosing tools        the words of the question against those of the tools
    Part 3   Filling in arguments  what a JSON Schema asks for, found in the question
    Part 4   The pieces            how an answer is cut up when it is streamed
    Part 5   The server            HTTP, on this computer only
"""

import argparse
import contextlib
import json
import re
import socketserver
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "pretend-model"
LONGEST_QUESTION = 4_000        # characters that we look at
LONGEST_QUOTE = 200             # characters of a tool's result that we repeat
LONGEST_LIST = 12               # tools that we list when we don't understand
LARGEST_BODY = 20_000_000       # bytes of a request; a picture can be some millions


# ── Part 1: The rules ────────────────────────────────────────────────────────
#
# A model is a function: a conversation goes in, the next message comes out. It
# remembers nothing, so all that it knows is in that list:
#
#     [{"role": "user", "content": "What is 17 + 25?"}]
#         -> {"role": "assistant", "content": None, "tool_calls": [
#                {"id": "call_9f1c", "type": "function", "function":
#                    {"name": "toy-http__add", "arguments": "{\"a\": 17, \"b\": 25}"}}]}
#
#     [..., {"role": "tool", "tool_call_id": "call_9f1c", "content": "42"}]
#         -> {"role": "assistant", "content": "The tool add says: 42."}

I_AM = "I am a pretend model: a few rules, not an AI."
I_NEED = "I would use the tool "     # begins a question of ours; the next message answers it

SMALL_TALK = {    # what the question contains: our answer. The last one fits always.
    r"\b(hello|hi|hey|good (morning|evening))\b": f"Hello! {I_AM} {{example}}",
    r"\b(thanks|thank you)\b": "You're welcome.",
    r"\b(bye|goodbye)\b": "Goodbye! Type 'quit' to end.",
    r"\b(help|what can you do|(who|what) are you)\b": f"{I_AM} {{tools}}{{example}}",
    r"": f"I don't understand that. {I_AM} {{tools}}{{example}}",
}

EXAMPLES = {      # a tool's name: a question that leads to it
    "add": "What is 17 + 25?",
    "weather": "What's the weather in Oslo?",
}


def reply(messages: list[dict], tools: list[dict]) -> dict:
    """The model itself: the next message of a conversation."""
    # A picture that a tool made may follow its result, as a message of the user's.
    while len(messages) > 1 and has_picture(messages[-1]):
        messages = messages[:-1]
    if messages and messages[-1].get("role") == "tool":
        return {"role": "assistant", "content": quote_results(messages)}

    offers = [offer(tool["function"]) for tool in tools if isinstance(tool.get("function"), dict)]
    question = question_in(messages)
    calls: list[dict] = []
    for tool, part in plan(question, offers):
        arguments, missing = fill(tool, part, guess=True)
        if missing:
            return {"role": "assistant", "content":
                    f"{I_NEED}{tool.name}, but I can't find in your question what it needs: "
                    f"{', '.join(missing)}. Please tell me."}
        function = {"name": tool.full_name, "arguments": json.dumps(arguments)}
        if function not in [call["function"] for call in calls]:
            calls.append({"id": f"call_{uuid.uuid4().hex}", "type": "function",
                          "function": function})
    if calls:
        return {"role": "assistant", "content": None, "tool_calls": calls}
    answer = next(answer for pattern, answer in SMALL_TALK.items()
                  if re.search(pattern, question, re.IGNORECASE))
    return {"role": "assistant", "content": answer.format(tools=listed(offers),
                                                          example=example(offers))}


def question_in(messages: list[dict]) -> str:
    """What the user says at the end. If it answers a question of ours, what they said
    before is a part of it: "What's the weather?" "... it needs: town" "Oslo"."""
    roles = [message.get("role") for message in messages]
    texts = [text_of(message) for message in messages]
    if roles[-3:] == ["user", "assistant", "user"] and texts[-2].startswith(I_NEED):
        return f"{texts[-3]}\n{texts[-1]}"[:LONGEST_QUESTION]
    return texts[-1][:LONGEST_QUESTION] if roles[-1:] == ["user"] else ""


def quote_results(messages: list[dict]) -> str:
    """Repeat what the tools answered, in the order in which we asked."""
    start = len(messages)
    while start and messages[start - 1].get("role") == "tool":
        start -= 1
    results = {result.get("tool_call_id"): text_of(result) for result in messages[start:]}
    asked = messages[start - 1].get("tool_calls") if start else None
    names = {call["id"]: bare_name(call["function"]["name"])[1] for call in asked or []}
    in_order = [number for number in names if number in results] or list(results)
    return " ".join(quote(names.get(number, "that ran"), results[number]) for number in in_order)


def quote(name: str, text: str) -> str:
    """One result in one sentence. Nothing in OpenAI's format marks a result as an
    error: a model knows it by the words, and so do we."""
    text = shorten(text)
    if not text:
        return f"The tool {name} says nothing."
    failed = re.match(r"\W*((?!no\b|not\b|without\b)\w+\W+){0,3}(error|fail\w*|exception)\b",
                      text, re.IGNORECASE)
    end = "" if text[-1] in ".!?…" else "."
    return f"The tool {name} {'failed' if failed else 'says'}: {text}{end}"


def listed(offers: list["Offer"]) -> str:
    """The tools, one on a line; one that several servers have, only once."""
    lines = list({tool.name: f"  - {tool.name}: {tool.line}\n" for tool in offers}.values())
    if len(lines) > LONGEST_LIST:
        lines[LONGEST_LIST:] = [f"  … and {len(lines) - LONGEST_LIST} more\n"]
    return "I can use these tools:\n" + "".join(lines) if lines else ""


def example(offers: list["Offer"]) -> str:
    """One question that leads to a tool."""
    if not offers:
        return "You offer me no tools, so there is nothing that I can do for you."
    known = [EXAMPLES[tool.name] for tool in offers if tool.name in EXAMPLES]
    return f"Try: {known[0] if known else offers[0].name.replace('_', ' ')}"


def text_of(message: dict) -> str:
    """A message's content is a string or [{"type": "text", "text": "..."}, ...]."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return str(content or "")


def has_picture(message: dict) -> bool:
    content = message.get("content")
    return message.get("role") == "user" and isinstance(content, list) and any(
        isinstance(part, dict) and part.get("type") != "text" for part in content)


def shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE].rstrip()}…"


# ── Part 2: Choosing tools ───────────────────────────────────────────────────
#
# All that a model is told about a tool is what stands in the request:
#
#     {"type": "function", "function": {
#         "name": "toy-http__weather", "description": "The weather in a town.",
#         "parameters": {"type": "object", "properties": {"town": {"type": "string"}},
#                        "required": ["town"]}}}
#
# A real model understands the description; we count the words that it shares with
# the question. Both depend on good names and descriptions.

STOP_WORDS = set(re.findall(r"\w+", """
    a about all also am an and any are as at be by call can could d did do does either for from
    get give go had has have help how i if in is it its let like list ll m make many me much my
    name no not now of off ok on one or our over please re return s say server should show so
    some t tell than that the their them then there these they this those to today tomorrow tool
    try two up us use ve via want was we were what when where which who why will with word would
    yes you your"""))      # too common to mean anything, so they never count

SAME_WORD = {"plus": "add", "sum": "add", "addition": "add"}

# Texts in quotes, and the places where a question goes on to something else.
QUOTED = re.compile(r'"([^"\n]*)"|(?<!\w)\'([^\'\n]*)\'(?!\w)')
BREAK = re.compile(rf"{QUOTED.pattern}|[?!;\n]|[,.](?=\s|$)|\b(?:and|then|also)\b", re.IGNORECASE)


@dataclass
class Offer:
    """A tool that we are offered."""

    full_name: str          # "toy-http__weather"
    name: str               # "weather"
    line: str               # the first line of its description
    schema: dict            # the JSON Schema of its arguments
    server_words: set[str]
    name_words: set[str]
    line_words: set[str]

    def points(self, said: set[str]) -> float:
        """How well it fits: up to 2 for its name, 1 for each word of its description.
        More than 1 is a fit, so one word that is there by chance is not enough."""
        of_name = 2 * len(said & self.name_words) / (len(self.name_words) or 1)
        return of_name + len(said & self.line_words)


def offer(function: dict) -> Offer:
    full_name, schema = str(function.get("name") or ""), function.get("parameters")
    server, name = bare_name(full_name)
    line = shorten((str(function.get("description") or "").strip().splitlines() or [""])[0])
    return Offer(full_name, name, line, schema if isinstance(schema, dict) else {},
                 words(server), words(name), words(line))


def bare_name(full_name: str) -> tuple[str, str]:
    """
    >>> bare_name("toy-http__add")
    ('toy-http', 'add')
    """
    server, separator, name = full_name.partition("__")
    return (server, name) if separator and name else ("", full_name)


def words(text: str) -> set[str]:
    """The words that mean something, without their endings.

    >>> sorted(words("What's 17 + 25, and how is slow_counting done?"))
    ['17', '25', 'add', 'count', 'done', 'slow']
    """
    text = re.sub(r"(?<=\d)\s*\+\s*(?=-?\d)", " plus ", text)
    text = re.sub(r"(?<=[a-z\d])(?=[A-Z])", " ", text)       # getWeather: get Weather
    found = set()
    for word in set(re.findall(r"[^\W_]+", text.lower())) - STOP_WORDS:
        word = SAME_WORD.get(word, word)
        for ending in ("s", "ing", "ed", "ly"):
            if word.endswith(ending) and len(word) > len(ending) + 2:
                word = word[:-len(ending)]
        found.add(word)
    return found - STOP_WORDS


def choose(part: str, question: str, offers: list[Offer]) -> Offer | None:
    """The tool that fits a part of the question best, if any does.

    When several servers have such a tool, the one whose name is mentioned wins
    ("on toy-stdio"), and without any mention the first (max keeps the first).
    """
    said, anywhere = words(QUOTED.sub(" ", part)), words(question)
    fitting = [tool for tool in offers if tool.points(said) > 1]
    return max(fitting, default=None, key=lambda tool: (
        len(said & tool.server_words), len(anywhere & tool.server_words), tool.points(said)))


def plan(question: str, offers: list[Offer]) -> list[tuple[Offer, str]]:
    """Which tools to call, and for each the part of the question that is about it.

        "weather in Oslo and 2 + 3"      weather: "weather in Oslo"   add: "2 + 3"
        "weather in Oslo and in Lima"    weather: "weather in Oslo"   weather: "in Lima"
        "add 17 and 25"                  add: "add 17 and 25"
    """
    question = re.sub("[“”„]", '"', question)
    cut = BREAK.sub(lambda found: found[0] if found[0][0] in "\"'" else "\0", question)
    steps: list[tuple[Offer, str]] = []
    for part in filter(None, map(str.strip, cut.split("\0"))):
        tool = choose(part, question, offers)
        if tool:
            steps.append((tool, part))
        elif steps:
            # Is it enough for a call of its own (in Lima), or the rest of the last one (25)?
            last, so_far = steps[-1]
            arguments, missing = fill(last, part)
            if missing or not arguments or fill(last, so_far)[1] or list in map(
                    type, arguments.values()):
                steps[-1] = (last, f"{so_far} and {part}")
            else:
                steps.append((last, part))
    # A server may be mentioned in the rest, so now we choose it by the whole part.
    return [(choose(part, question, [other for other in offers if other.name == tool.name])
             or tool, part) for tool, part in steps]


# ── Part 3: Filling in arguments ─────────────────────────────────────────────
#
# The JSON Schema of a tool says which arguments it takes and of which type. For
# each type there is one rule about where in the question its value may stand:
#
#     "Repeat 'hi there' 3 times, loudly"       {"text":  {"type": "string"},
#                                                "times": {"type": "integer"},
#     {"text": "hi there", "times": 3,           "loudly": {"type": "boolean"}}
#      "loudly": true}

# The type of an argument: how to find a value for it. None: there is none.
FIND: dict[str, Callable[["Finds", str], object]] = {
    "integer": lambda finds, name: finds.take_number(int),
    "number": lambda finds, name: finds.take_number(float),
    "string": lambda finds, name: finds.take_text(),
    "boolean": lambda finds, name: finds.mentions(name) or None,
}
IF_NEEDED = {"boolean": False, "object": {}}     # what we send when it must be there


class Finds:
    """What a part of a question contains. A value that is taken can't be taken again."""

    def __init__(self, part: str, tool: Offer):
        self.text = QUOTED.sub(" ", part)
        self.quoted = [first or second for first, second in QUOTED.findall(part)]
        self.numbers = [float(number) if "." in number else int(number) for number in
                        re.findall(r"(?<![\w.])-?\d{1,15}(?:\.\d{1,15})?(?!\w)", self.text)]
        known = tool.name_words | tool.server_words
        self.loose = loose_words(self.text, known)
        rest = self.text.split()                # without what only leads to the tool
        while rest and words(rest[0]) <= known:
            rest.pop(0)
        while rest and words(rest[-1]) <= known:
            rest.pop()
        self.rest = " ".join(rest).rstrip("?!.,")

    def take_number(self, kind: type) -> float | None:
        for number in self.numbers:
            if kind is float or number == int(number):
                self.numbers.remove(number)
                return kind(number) if kind is int else number
        return None

    def take_text(self) -> str | None:
        texts = self.quoted or self.loose
        self.rest = "" if texts else self.rest
        return texts.pop(0) if texts else None

    def take_all(self, kind: str) -> list | None:
        """For a list: all the values of a type that there are."""
        values: list = []
        while kind in ("integer", "number", "string"):
            value = FIND[kind](self, "")
            if value is None:
                break
            values.append(value)
        return values or None

    def mentions(self, name: str) -> bool:
        return bool(words(name)) and words(name) <= words(self.text)

    def take_choice(self, choices: list, taken: list) -> object:
        """The first of the permitted values that stands in the question."""
        text = " ".join([self.text, *self.quoted])
        places = []
        for number, choice in enumerate(choices):
            found = re.search(rf"(?<!\w){re.escape(str(choice))}(?!\w)", text, re.IGNORECASE)
            if found and choice not in taken:
                places.append((found.start(), number))
        return choices[min(places)[1]] if places else None


def loose_words(text: str, known: set[str]) -> list[str]:
    """Words that look like a value, since they are capitalised or follow "in" or "of".

    >>> loose_words("What's the weather in New York or in oslo", {"weather"})
    ['New York', 'oslo']
    """
    found: list[str] = []
    before, in_a_name = "", False
    for word in re.findall(r"\w+(?:['’./@-]\w+)*", text):
        new = not words(word) <= known
        if new and word[0].isupper() and in_a_name:
            found[-1] += f" {word}"
        elif new and (word[0].isupper() or not word.isdigit()
                      and before in ("in", "for", "of", "at", "to", "from")):
            found.append(word)
        before, in_a_name = word.lower(), new and word[0].isupper()
    return found


def fill(tool: Offer, part: str, guess: bool = False) -> tuple[dict, list[str]]:
    """The arguments that we find in a part of the question, and the names of those that
    are missing. With guess, a text that must be there may be all that is left of the part."""
    schema = resolve(tool.schema, tool.schema)
    properties, needed = schema.get("properties"), schema.get("required")
    properties = properties if isinstance(properties, dict) else {}
    needed = needed if isinstance(needed, list) else []
    finds = Finds(part, tool)
    arguments: dict = {}
    missing = []
    for name in sorted(properties, key=lambda name: name not in needed):   # needed ones first
        this = resolve(properties[name], tool.schema)
        kind, choices = type_of(this), this.get("enum")
        required = name in needed and "default" not in this
        if kind == "string" and not required and str in map(type, arguments.values()):
            finds.loose = []        # too weak a reason for one more text that may be left out
        if isinstance(choices, list):
            value = finds.take_choice(choices, list(arguments.values()))
        elif kind == "array":
            value = finds.take_all(type_of(resolve(this.get("items"), tool.schema)))
        else:
            value = FIND[kind](finds, name) if kind in FIND else None
            if value is None and required:
                value = finds.rest if guess and kind == "string" and finds.rest else (
                    IF_NEEDED.get(kind))
        if value is not None:
            arguments[name] = value
        elif required:
            missing.append(name)
    return arguments, missing


def type_of(schema: dict) -> str:
    """The type that a schema names; of several, such as ["string", "null"], the first."""
    types = schema.get("type")
    for kind in types if isinstance(types, list) else [types]:
        if isinstance(kind, str) and kind != "null":
            return kind
    return "object" if "properties" in schema else "string"


def resolve(schema: object, root: dict) -> dict:
    """Follow {"$ref": "#/$defs/Town"}, and of {"anyOf": [...]} take the first."""
    for _ in range(20):                         # a schema may refer to itself
        if not isinstance(schema, dict):
            break
        several = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
        if isinstance(schema.get("$ref"), str):
            place: object = root
            for step in schema["$ref"].split("/")[1:]:
                place = place.get(step) if isinstance(place, dict) else None
            schema = place
        elif isinstance(several, list) and "properties" not in schema:
            schema = next((one for one in several if one != {"type": "null"}), None)
        else:
            return schema
    return {}


# ── Part 4: The pieces ───────────────────────────────────────────────────────
#
# A streamed answer arrives in pieces ("chunks"), each a line that begins with
# "data:". The receiver puts them together: texts are joined, and the "index" says
# to which tool call a piece of arguments belongs.
#
#     data: {..., "choices": [{"index": 0, "delta": {"role": "assistant"}, ...}]}
#     data: {..., "choices": [{"index": 0, "delta": {"content": "The "}, ...}]}
#     data: {..., "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": ...}]}}]}
#     data: {..., "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
#     data: [DONE]


def deltas(message: dict) -> Iterator[dict]:
    """Cut a message into what each piece adds to it."""
    yield {"role": "assistant", "content": "" if message["content"] else None}
    for word in re.findall(r"\s*\S+", message["content"] or ""):
        yield {"content": word}
    for index, call in enumerate(message.get("tool_calls", [])):
        yield {"tool_calls": [{"index": index, "id": call["id"], "type": "function",
                               "function": {"name": call["function"]["name"], "arguments": ""}}]}
        arguments = call["function"]["arguments"]
        third = len(arguments) // 3 + 1         # so that there are two or three
        for start in range(0, len(arguments), third):
            yield {"tool_calls": [{"index": index, "function":
                                   {"arguments": arguments[start:start + third]}}]}


def envelope(kind: str) -> dict:
    """What stands around every answer."""
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()),
            "model": MODEL}


def finish_reason(message: dict) -> str:
    return "tool_calls" if message.get("tool_calls") else "stop"


def usage(messages: list[dict], message: dict) -> dict:
    """Services are paid by the token, which is about four characters."""
    sent, received = len(json.dumps(messages)) // 4, len(json.dumps(message)) // 4
    return {"prompt_tokens": sent, "completion_tokens": received, "total_tokens": sent + received}


# ── Part 5: The server ───────────────────────────────────────────────────────
#
# Two addresses: POST /v1/chat/completions is the model, GET /v1/models says which
# models there are. What goes wrong is answered in OpenAI's shape:
#
#     {"error": {"message": "...", "type": "invalid_request_error", "code": "model_not_found"}}


class Refused(Exception):
    """A request that we can't answer: the HTTP status, the reason and OpenAI's code for it."""

    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.code = status, code


class PretendModel(ThreadingHTTPServer):
    """One thread for each connection. They all end with the program."""

    def __init__(self, port: int = 0, pause: float = 0.015):
        super().__init__(("127.0.0.1", port), Handler)
        self.pause = pause                      # seconds between two words
        self.base_url = f"http://127.0.0.1:{self.server_port}/v1"

    def server_bind(self) -> None:
        # HTTPServer would ask the network for this computer's name, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.socket.getsockname()[1]


class Handler(BaseHTTPRequestHandler):
    server: PretendModel
    protocol_version = "HTTP/1.1"               # the connection stays open for more requests
    disable_nagle_algorithm = True              # send small pieces at once, not 40 ms later

    def answer(self) -> None:
        pages = {"POST /v1/chat/completions": self.chat, "GET /v1/models": self.models}
        try:
            body = self.read_body()             # first: what is unread would be the next request
            page = f"{self.command} {self.path.split('?')[0].rstrip('/')}"
            if page not in pages:
                raise Refused(404, f"There is no {page} here. There is {', '.join(pages)}.")
            pages[page](body)
        except Refused as refused:
            self.send_json({"error": {"message": str(refused), "type": "invalid_request_error",
                                      "param": None, "code": refused.code}}, refused.status)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        countable = re.fullmatch("[0-9]{1,15}", length) and "Transfer-Encoding" not in self.headers
        if not countable or int(length) > LARGEST_BODY:
            self.close_connection = True        # for we don't know where the next request begins
            raise Refused(413 if countable else 411,
                          f"Please send a Content-Length, of {LARGEST_BODY} bytes at most.")
        return self.rfile.read(int(length))

    def models(self, body: bytes) -> None:
        self.send_json({"object": "list", "data": [
            {"id": MODEL, "object": "model", "created": 0, "owned_by": "nobody"}]})

    def chat(self, body: bytes) -> None:
        try:
            request = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"The body is not valid JSON: {error}") from None
        if not isinstance(request, dict) or "messages" not in request:
            raise Refused(400, 'The body must be a JSON object with "messages".')
        if request.get("model") != MODEL:
            raise Refused(404, f"There is no model {request.get('model')!r} here, only {MODEL}.",
                          "model_not_found")
        messages, tools = request["messages"], request.get("tools") or []
        for name, value in {"messages": messages, "tools": tools}.items():
            if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
                raise Refused(400, f'"{name}" must be a list of objects.')
        message = reply(messages, [] if request.get("tool_choice") == "none" else tools)
        if request.get("stream"):
            self.stream(message, usage(messages, message), request.get("stream_options"))
        else:
            self.send_json({**envelope("chat.completion"), "usage": usage(messages, message),
                            "choices": [{"index": 0, "message": message,
                                         "finish_reason": finish_reason(message)}]})

    def stream(self, message: dict, usage: dict, options: object) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        around = envelope("chat.completion.chunk")
        for delta in deltas(message):
            self.send_event({**around, "choices": [
                {"index": 0, "delta": delta, "finish_reason": None}]})
            if delta.get("content"):
                time.sleep(self.server.pause)   # so that a person sees the words come
        self.send_event({**around, "choices": [
            {"index": 0, "delta": {}, "finish_reason": finish_reason(message)}]})
        if isinstance(options, dict) and options.get("include_usage"):
            self.send_event({**around, "choices": [], "usage": usage})
        self.send_event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")          # a part of length 0: the end of this answer

    def send_event(self, data: dict | str) -> None:
        """One event, as one part of an answer whose length nobody knows yet: the length
        of the part in hexadecimal, and the part."""
        text = data if isinstance(data, str) else json.dumps(data)
        event = f"data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

    def send_json(self, answer: dict, status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        # Somebody who hangs up in the middle of an answer has just heard enough.
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *args: object) -> None:
        """Say nothing: the terminal belongs to the chat."""


@contextlib.contextmanager
def serve_model(port: int = 0, pause: float = 0.015) -> Iterator[str]:
    """Run the pretend model in a thread; yield the address to give to a client."""
    with PretendModel(port, pause) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        try:
            yield server.base_url
        finally:
            server.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A pretend model: a few rules, not an AI.")
    parser.add_argument("--port", type=int, default=8090)
    port = parser.parse_args().port
    try:
        with PretendModel(port) as server:
            print(f"The pretend model listens at {server.base_url}  (Ctrl-C ends it)\n"
                  f"Any OpenAI client can use it, with the model {MODEL} and any key.", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                server.serve_forever()
    except (OSError, OverflowError) as error:
        parser.exit(1, f"Can't listen at port {port}: {error}.\nTry another one with --port.\n")
