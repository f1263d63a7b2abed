"""A pretend model: it speaks like OpenAI's service, but it is a few rules and no AI.

It understands very little, and says so. What travels is real, though: any program that talks
to an OpenAI-compatible service can talk to this one. Try it by hand:

    python demo/pretend_model.py --port 8090
    curl http://127.0.0.1:8090/v1/chat/completions -d '{"model": "pretend-model",
        "messages": [{"role": "user", "content": "Hello!"}]}'

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
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

MODEL = "pretend-model"
LONGEST_QUESTION = 4_000        # characters that we look at
LONGEST_QUOTE = 200             # characters of a tool's result that we repeat
LARGEST_BODY = 20_000_000       # bytes of a request


# ── Part 1: The rules ────────────────────────────────────────────────────────────────────
#
# A model is a function: a conversation goes in, the next message comes out. It remembers
# nothing, so all that it knows is in that list:
#
#     [{"role": "user", "content": "What is 17 + 25?"}]
#         -> {"role": "assistant", "content": None, "tool_calls": [
#                {"id": "call_9f1c", "type": "function", "function":
#                    {"name": "toy-http__add", "arguments": "{\"a\": 17, \"b\": 25}"}}]}
#     [..., {"role": "tool", "tool_call_id": "call_9f1c", "content": "42"}]
#         -> {"role": "assistant", "content": "The tool add says: 42."}

I_AM = "I am a pretend model: a few rules, not an AI."
I_NEED = "I would use the tool "     # begins a question of ours; the next message answers it
RESOURCE = "The resource "           # begins a text that stands before the question (/read)

SMALL_TALK = {    # what the question contains: our answer. The last one fits always.
    r"\b(hello|hi|hey|good (morning|evening))\b": f"Hello! {I_AM} {{tools}}",
    r"\b(thanks|thank you)\b": "You're welcome.",
    r"\b(help|what can you do|(who|what) are you)\b": f"{I_AM} {{tools}}",
    r"": f"I don't understand that. {I_AM} {{tools}}",
}
EXAMPLES = {"add": "What is 17 + 25?"}       # a tool's name: a question that leads to it


def reply(messages: list[dict], tools: list[dict]) -> dict:
    """The model itself: the next message of a conversation."""
    if messages and messages[-1].get("role") == "tool":
        return {"role": "assistant", "content": quote_results(messages)}
    offers = [Offer(tool["function"]) for tool in tools if isinstance(tool.get("function"), dict)]
    question = question_in(messages, offers)[:LONGEST_QUESTION]
    calls: list[dict] = []
    for tool, part in plan(question, offers):
        arguments, missing = fill(tool, part, guess=True)
        if missing:
            return {"role": "assistant", "content":
                    f"{I_NEED}{tool.name}, but I can't find in your question what it needs: "
                    f"{', '.join(missing)}. Please tell me."}
        calls.append({"id": f"call_{uuid.uuid4().hex}", "type": "function", "function": {
            "name": tool.full_name, "arguments": json.dumps(arguments)}})
    if calls:
        return {"role": "assistant", "content": None, "tool_calls": calls}
    if messages and text_of(messages[-1]).startswith(RESOURCE):
        return {"role": "assistant", "content": f"I have read: {shorten(text_of(messages[-1]))}"}
    answer = next(answer for pattern, answer in SMALL_TALK.items()
                  if re.search(pattern, question, re.IGNORECASE))
    return {"role": "assistant", "content": answer.format(tools=listed(offers))}


def question_in(messages: list[dict], offers: list["Offer"]) -> str:
    """What the user says at the end. If it answers a question of ours, also what came before."""
    roles = [message.get("role") for message in messages]
    texts = [text_of(message) for message in messages]
    texts = [text.rpartition("\n\n")[2] if text.startswith(RESOURCE) else text for text in texts]
    if roles[-3:] == ["user", "assistant", "user"] and texts[-2].startswith(I_NEED) and \
            not plan(texts[-1], offers):
        return f"{texts[-3]}\n{texts[-1]}"
    return texts[-1] if roles[-1:] == ["user"] else ""


def quote_results(messages: list[dict]) -> str:
    """Repeat what the tools answered, in the order in which we asked."""
    asked: dict = next((said for said in reversed(messages) if said.get("role") != "tool"), {})
    names = {call["id"]: bare_name(call["function"]["name"])[1]
             for call in asked.get("tool_calls") or []}
    results = {message.get("tool_call_id"): text_of(message) for message in messages}
    return " ".join(quote(name, results[number]) for number, name in names.items()
                    if number in results) or "I didn't ask for that."


def quote(name: str, text: str) -> str:
    """One result in one sentence. Nothing in OpenAI's format marks a result as an
    error: a model knows it by the words, and so do we."""
    text = shorten(text) or "nothing"
    failed = re.match(r"\W*((?!no\b|not\b|without\b)\w+\W+){0,3}(error|fail\w*|exception)\b",
                      text, re.IGNORECASE)
    end = "" if text[-1] in ".!?…" else "."
    return f"The tool {name} {'failed' if failed else 'says'}: {text}{end}"


def listed(offers: list["Offer"]) -> str:
    """The tools, one on a line, and an example. One that several servers have, only once."""
    if not offers:
        return "You offer me no tools, so there is nothing that I can do for you."
    lines = {tool.name: f"  - {tool.name}: {tool.line}\n" for tool in offers}
    first = offers[0].name
    return f"I can use these tools:\n{''.join(lines.values())}Try: {EXAMPLES.get(first, first)}"


def text_of(message: dict) -> str:
    """A message's content is a string or [{"type": "text", "text": "..."}, ...]."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return str(content or "")


def shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE].rstrip()}…"


# ── Part 2: Choosing tools ───────────────────────────────────────────────────────────────
#
# All that a model is told about a tool is its name, its description and its schema. A real
# model understands them; we count the words that they share with the question.

STOP_WORDS = set(re.findall(r"\w+", """
    a about all also am an and any are as at be by call can could did do does either for from get
    give go had has have help how i if in is it its let like list make many me much my name no not
    now of off ok on one or our please return s say server should show so some t tell than that
    the their them then there these they this those to today tool try two up us use want was we
    what when where which who why will with word would yes you your"""))     # too common to count
SAME_WORD = {"plus": "add", "sum": "add", "addition": "add"}

# Texts in quotes, and the places where a question goes on to something else.
QUOTED = re.compile(r'"([^"\n]*)"|(?<!\w)\'([^\'\n]*)\'(?!\w)')
BREAK = re.compile(rf"{QUOTED.pattern}|[?!;\n]|[,.](?=\s|$)|\b(?:and|then|also)\b", re.IGNORECASE)


class Offer:
    """A tool that we are offered."""
    def __init__(self, function: dict):
        self.full_name = str(function.get("name") or "")                # "toy-http__weather"
        server, self.name = bare_name(self.full_name)                   # "weather"
        description = str(function.get("description") or "").strip()
        self.line = shorten((description.splitlines() or [""])[0])
        self.addresses = re.findall(r"\w+://\S*\w", description)       # "toy://notes"
        self.schema = as_dict(function.get("parameters"))               # of its arguments
        self.server_words, self.name_words = words(server), words(self.name)

    def points(self, said: set[str]) -> float:
        """How well it fits: up to 2 for its name, 1 for each word of its description.
        More than 1 is a fit, so one word that is there by chance is not enough."""
        of_name = 2 * len(said & self.name_words) / (len(self.name_words) or 1)
        return of_name + len(said & words(self.line))


def bare_name(full_name: str) -> tuple[str, str]:
    """From "toy-http__add": "toy-http" and "add"."""
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
    """The tool that fits a part of the question best, if any does. Of several servers with
    such a tool, the one that is mentioned wins ("on toy-stdio"), or else the first."""
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
    cut = BREAK.sub(lambda found: found[0] if found[0][0] in "\"'" else "\0", question)
    steps: list[tuple[Offer, str]] = []
    for part in filter(None, map(str.strip, cut.split("\0"))):
        if tool := choose(part, question, offers):
            steps.append((tool, part))
        elif steps:
            # Is it enough for a call of its own (in Lima), or the rest of the last one (25)?
            tool, so_far = steps[-1]
            arguments, missing = fill(tool, part)
            if arguments and not missing and not fill(tool, so_far)[1]:
                steps.append((tool, part))
            else:
                steps[-1] = (tool, f"{so_far} and {part}")
    return steps


# ── Part 3: Filling in arguments ─────────────────────────────────────────────────────────
#
# A tool's JSON Schema says which arguments it takes and of which type. For each type there
# is one rule about where in the question its value may stand:
#
#     "text": {"type": "string"}, "times": {"type": "integer"}, "loudly": {"type": "boolean"}
#     "Repeat 'hi there' 3 times, loudly"  ->  {"text": "hi there", "times": 3, "loudly": true}


class Finds:
    """What a part of a question contains. A value that is taken can't be taken again."""
    def __init__(self, part: str, tool: Offer):
        self.part, self.tool, text = part, tool, QUOTED.sub(" ", part)
        self.numbers = [float(number) if "." in number else int(number) for number in
                        re.findall(r"(?<![\w.])-?\d{1,15}(?:\.\d{1,15})?(?!\w)", text)]
        known = tool.name_words | tool.server_words     # they only lead to the tool
        quoted = [first or second for first, second in QUOTED.findall(part)]
        self.texts = quoted or loose_words(text, known)
        self.rest = "" if self.texts else " ".join(
            word for word in text.split() if not words(word) <= known)

    def take(self, name: str, schema: dict) -> object:
        """The value for an argument, or None."""
        kind, choices = schema.get("type"), schema.get("enum")
        if isinstance(choices, list):
            return next((choice for choice in choices if re.search(
                rf"(?<!\w){re.escape(str(choice))}(?!\w)", self.part, re.IGNORECASE)), None)
        if name == "uri" and self.tool.addresses:
            return next((address for address in self.tool.addresses
                         if words(address.rpartition("/")[2]) & words(self.part)), None)
        if kind == "boolean":
            return True if words(name) and words(name) <= words(self.part) else None
        if kind == "array":
            items = as_dict(schema.get("items"))
            if items.get("type") in ("integer", "number", "string") and "enum" not in items:
                return list(iter(lambda: self.take(name, items), None)) or None
        if kind in ("integer", "number"):
            for number in self.numbers:
                if kind == "number" or isinstance(number, int):
                    self.numbers.remove(number)
                    return number
        return self.texts.pop(0) if kind == "string" and self.texts else None


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
    properties, needed = as_dict(tool.schema.get("properties")), tool.schema.get("required")
    needed = needed if isinstance(needed, list) else []
    finds = Finds(part, tool)
    arguments: dict = {}
    missing = []
    for name in sorted(properties, key=lambda name: name not in needed):   # needed ones first
        schema = as_dict(properties[name])
        value, kind = finds.take(name, schema), schema.get("type")
        if value is None and name in needed and "enum" not in schema:
            if kind == "boolean":
                value = False
            elif kind == "string" and guess:
                value, finds.rest = finds.rest or None, ""
        if value is not None:
            arguments[name] = value
        elif name in needed:
            missing.append(name)
    return arguments, missing


def as_dict(value: object) -> dict:
    """What comes from outside may be anything. Where an object should be, we read one."""
    return value if isinstance(value, dict) else {}


# ── Part 4: The pieces ───────────────────────────────────────────────────────────────────
#
# A streamed answer arrives in pieces ("chunks"). The receiver joins the texts, and the
# "index" says to which tool call a piece of arguments belongs.
#
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
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        yield {"tool_calls": [{"index": index, "id": call["id"], "type": "function",
                               "function": {"name": name, "arguments": ""}}]}
        for piece in re.findall(r".{1,9}", arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


# ── Part 5: The server ───────────────────────────────────────────────────────────────────
#
# POST /v1/chat/completions is the model, GET /v1/models says which models there are. What
# goes wrong is answered in OpenAI's shape: {"error": {"message": "...", "code": ...}}


class PretendModel(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    pause: float                                # seconds between two words


class Handler(BaseHTTPRequestHandler):
    server: PretendModel
    protocol_version = "HTTP/1.1"               # the connection stays open for more requests
    disable_nagle_algorithm = True              # send small pieces at once, not 40 ms later

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            return self.refuse(404, f"There is no {self.path} here.")
        self.send_json(200, {"object": "list", "data": [
            {"id": MODEL, "object": "model", "created": 0, "owned_by": "nobody"}]})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,9}", length) or int(length) > LARGEST_BODY:
            self.close_connection = True        # what is unread would be the next request
            return self.refuse(413, f"The Content-Length must be at most {LARGEST_BODY}.")
        try:
            request = as_dict(json.loads(self.rfile.read(int(length))))
        except (ValueError, RecursionError) as error:
            return self.refuse(400, f"The body is not valid JSON: {error}")
        messages, tools = request.get("messages", [None]), request.get("tools") or []
        for value in messages, tools:
            if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
                return self.refuse(400, '"messages" and "tools" must be lists of objects.')
        if self.path != "/v1/chat/completions":
            return self.refuse(404, f"There is no {self.path} here.")
        if request.get("model") != MODEL:
            return self.refuse(404, f"There is only the model {MODEL} here.", "model_not_found")
        self.chat(request, messages, tools)

    def refuse(self, status: int, message: str, code: str | None = None) -> None:
        self.send_json(status, {"error": {
            "message": message, "type": "invalid_request_error", "param": None, "code": code}})

    def chat(self, request: dict, messages: list[dict], tools: list[dict]) -> None:
        message = reply(messages, [] if request.get("tool_choice") == "none" else tools)
        # Services are paid by the token, which is about four characters.
        sent, received = len(json.dumps(messages)) // 4, len(json.dumps(message)) // 4
        usage = {"prompt_tokens": sent, "completion_tokens": received,
                 "total_tokens": sent + received}
        reason = "tool_calls" if message.get("tool_calls") else "stop"
        around: dict = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()),
                        "model": MODEL, "object": "chat.completion"}
        if not request.get("stream"):
            return self.send_json(200, {**around, "usage": usage, "choices": [
                {"index": 0, "message": message, "finish_reason": reason}]})
        around["object"] = "chat.completion.chunk"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for delta, end in [*((delta, None) for delta in deltas(message)), ({}, reason)]:
            self.send_event(json.dumps({**around, "choices": [
                {"index": 0, "delta": delta, "finish_reason": end}]}))
            if delta.get("content"):
                time.sleep(self.server.pause)   # so that a person sees the words come
        if as_dict(request.get("stream_options")).get("include_usage"):
            self.send_event(json.dumps({**around, "choices": [], "usage": usage}))
        self.send_event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")          # a part of length 0: the end

    def send_event(self, data: str) -> None:
        """One event, after its own length in hexadecimal: nobody knows that of the whole."""
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

    def send_json(self, status: int, answer: dict) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
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
    with PretendModel(("127.0.0.1", port), Handler) as server:
        server.pause = pause
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A pretend model: a few rules, not an AI.")
    parser.add_argument("--port", type=int, default=8090)
    port = parser.parse_args().port
    try:
        with serve_model(port) as address, contextlib.suppress(KeyboardInterrupt):
            print(f"The pretend model listens at {address}  (Ctrl-C ends it)\n"
                  f"Any OpenAI client can use it, with the model {MODEL} and any key.", flush=True)
            threading.Event().wait()
    except (OSError, OverflowError) as error:
        parser.exit(1, f"Can't listen at port {port}: {error}.\nTry another one with --port.\n")
