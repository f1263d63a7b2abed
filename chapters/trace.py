"""--trace: what travels between us and the servers?

With --trace, or MCP_TRACE=1 in .env, every MCP message is shown on standard error, and the HTTP
around it:

    --> dexcom  POST https://example.com/mcp?token=***
            Mcp-Method: tools/list
            Authorization: ***
            {
              "jsonrpc": "2.0",
              "id": 1,
              "method": "tools/list", ...

Headers and addresses may hold secrets, so only values that are known to be harmless are shown. The
messages are those of https://modelcontextprotocol.io/specification/2026-07-28/basic. PURPOSES says
what each of them is for, and made_by() finds out who has made it, while the program runs. A tour
(tour.py) shows both.

In a program of your own, use Python's logging: this is the logger "mcp.wire", at level DEBUG. Left
out: what travels to the model. Its service has a log of its own, and --tour shows it, too.

Try it:

>>> for line in shown("-->", "toy", {"method": "ping"}, "POST http://x/?key=abc",
...                   [("Mcp-Method", "ping"), ("X-Key", "abc")]).split("\\n"):
...     print(line)
--> toy  POST http://x/?key=***
        Mcp-Method: ping
        X-Key: ***
        {
          "method": "ping"
        }
"""

import json
import logging
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from traceback import walk_stack
from types import CodeType, FrameType
from typing import Any

from chapters.outside import as_dict, as_list, clean, without_secrets

wire = logging.getLogger("mcp.wire")
guide: Any = None  # a Tour (tour.py), which gets each message in place of the log
MODEL = "the model"
HARMLESS = {"accept", "accept-encoding", "connection", "content-length", "content-type", "date",
            "mcp-method", "mcp-name", "mcp-protocol-version", "server", "transfer-encoding",
            "user-agent"}


def start() -> None:
    """Show what travels from now on, on standard error."""
    wire.setLevel(logging.DEBUG)
    wire.addHandler(logging.StreamHandler())


def is_on() -> bool:
    return guide is not None or wire.isEnabledFor(logging.DEBUG)


def is_held() -> bool:
    """Whether a message waits until somebody has seen it. Then the clocks stand still."""
    return bool(guide and guide.is_watching and guide.row)


def trace(arrow: str, name: str, message: object = None, http: str = "",
          headers: Iterable[tuple[str, str]] = ()) -> None:
    """Show one message of the server called `name`, or of the MODEL, if tracing is on."""
    if tour := guide:  # (which may end in another thread)
        tour.stop(arrow, name, message, http, headers)
    elif is_on() and name != MODEL:
        wire.debug("%s", shown(arrow, name, message, http, headers))


def shown(arrow: str, name: str, message: object, http: str, headers: Iterable[tuple[str, str]],
          first: int = 200, last: int = 0) -> str:
    """A message as it may be shown: no secrets, no control codes, the `first` and `last` lines."""
    http = re.sub(r"\S+://\S+", lambda found: without_secrets(found[0]), http)
    http = re.sub(r"(?<![/:])/[^/?\s]{20,}", "/***", http)  # (it may be in the path)
    lines = [http] if http else []
    for key, value in headers:  # (of what is in base64, one can't see whether it is harmless)
        harmless = key.lower() in HARMLESS and not value.startswith("=?")
        lines.append(f"{key}: {without_secrets(value) if harmless else '***'}")
    if message:
        text = json.dumps(message, indent=2, ensure_ascii=False)
        text = re.sub(r'("requestState": )".*"', r'\1"***"', text)
        text = re.sub(r'(?<="ur[il]": ")(?:[^"\\]|\\.)*',
                      lambda found: without_secrets(found[0]), text)
        lines += text.split("\n")
    if left_out := max(0, len(lines) - first - last):
        lines[first:first + left_out] = [f"... and {left_out} more lines"]
    return clean(f"{arrow} {name}  " + "\n        ".join(line[:500] for line in lines))


# ── What it is for ───────────────────────────────────────────────────────────────────────

PURPOSES = {  # by what about() says of a message; the first that fits counts
    "--> server/discover": "What kind of server is this? We ask which versions of MCP it speaks, "
                           "and what it has.",
    "<-- result of server/discover": "The versions that it speaks, and what it has: tools, "
                                     "resources, prompts. So we know which lists to ask for.",
    "--> tools/list": "We ask which tools the server has: a model knows only what it is told.",
    "<-- result of tools/list": "Each tool has a name, a description for the model, and a JSON "
                                "Schema of its arguments. The model gets all three.",
    "--> initialize": "An older server wants a handshake first. We propose a version of MCP, and "
                      "say what we can do and who we are.",
    "<-- result of initialize": "The version that counts from now on, and what the server has. "
                                "Over HTTP, a header may hold the id of our session, which goes "
                                "into each further request.",
    "--> notifications/initialized": "The handshake is done. This is a notification: it has no "
                                     "id, so nobody answers it.",
    "--> .*/list": "We ask what else it has. This happens in the background: nobody waits for it.",
    "<-- result of .*/list": "Texts to read (resources), or ready-made questions (prompts). The "
                             "list may be empty.",
    "--> tools/call": "The model wants this tool. We pass on its arguments as they are. The id "
                      "will tie the answer to this request.",
    "--> (resources/read|prompts/get)": "We fetch one thing that was in one of its lists.",
    "<-- .* input_required": "It has a question for you first, and remembers nothing of us. So we "
                             "send the same request again, with your answer and its requestState.",
    "<-- .* isError": "The tool has failed, and says why. That is a result, not an error of the "
                      "protocol: the model reads it, and may find another way.",
    "<-- result of": "The answer: it has the id of our request. Its content is for the model.",
    "<-- error": "An error in place of a result: the server refuses. If an older server refuses "
                 "our first request, we shake hands and ask again.",
    "<-- notifications/progress": "How far the call with this progressToken is. The answer is "
                                  "still to come.",
    "<-- .*list_changed": "One of its lists has changed. We ask for it again, in the background.",
    "<-- elicitation/create": "An older server has a question for you. This request goes the other "
                              "way round, in the middle of our call, and the server waits.",
    "<-- ping": "It wants to know whether we are still there. We say so at once.",
    "<-- nothing": "No message has come back, for this reason. A server that is down costs only "
                   "its own tools; an older one may treat our very first request like this.",
    "--> notifications/cancelled": "Nobody waits for that answer any more, so the server can stop.",
    "--> (result|error)": "Our answer to a request of the server's own. It has that request's id.",
    "--> model, tool": "The whole conversation again. It is longer by the tool calls that the "
                       "model has asked for, and by what the tools have answered.",
    "--> model": "A model remembers nothing. With each question, it gets the whole conversation "
                 "and all the tools.",
    "<-- model, calls": "A model can't call anything. It says which tool it wants, by its full "
                        "name, with the arguments as JSON in a string. The call is up to us.",
    "<-- model": "The model's last word: it wants no more tools, so the turn is over.",
    "": "We haven't offered anything of this kind. If it is a request, we refuse.",
}
FIRST_OF_ALL = ('It is our first message to this server, in the way of 2026-07-28: "_meta" says '
                "who we are. By the answer we see whether it is a new server or an older one.")
asked: dict[tuple, tuple[str, str]] = {}  # by server and id: a request's method, who has made it


def explained(arrow: str, name: str, message: dict) -> tuple[str, str]:
    """What a message is for; and who has made it, or waits for it."""
    key, is_answer = (name, str(message.get("id"))), arrow == "<--" and "method" not in message
    method, maker = asked.get(key, ("", "")) if is_answer else ("", "")
    verb = "Taken out of the inbox" if maker else "Made" if arrow == "-->" else "Read"
    maker = maker or made_by(name, message)
    what = f"{arrow} {about(name, message, method)}"
    words = next(PURPOSES[kind] for kind in PURPOSES if re.match(kind, what))
    if arrow == "-->" and "method" in message:
        words += "" if name in [server for server, _ in asked] else f" {FIRST_OF_ALL}"
        asked[key] = message["method"], maker
    return words, f"{verb} by {maker}.{headers_by() if arrow == '-->' else ''}"


def about(name: str, message: dict, method: str) -> str:
    """What a message is, in a few words. `method` is that of the request that it answers.

    >>> about("toy", {"id": 1, "result": {"isError": True}}, "tools/call")
    'result of tools/call, isError'
    """
    if name == MODEL:
        last = [as_dict(one).get("role") for one in as_list(message.get("messages"))[-1:]]
        return ", ".join(["model", *map(str, last), *["calls"] * ("tool_calls" in message)])
    result = as_dict(message.get("result"))
    marks = [str(result.get("resultType", "")), "isError" * (result.get("isError") is True)]
    kind = "error" if "error" in message else "result" if "result" in message else "nothing"
    return str(message.get("method") or ", ".join([f"{kind} of {method}", *filter(None, marks)]))


# ── Who has made it ──────────────────────────────────────────────────────────────────────

FOLDER = Path(__file__).resolve().parents[1]


def made_by(name: str, message: dict) -> str:
    """Which functions of chat.py have made a message, or wait for one, and on which lines they
    stand now: "Connection.request (chat.py:166-190), called by Connection.ask (196-207)".

    What goes over HTTP is sent in a thread of its own. But whoever has made the message waits for
    its answer, in another thread, with the message in a variable. So we look at all threads.
    """
    here = sys._getframe()
    ways = [way for top in [here, *sys._current_frames().values()]
            if (way := way_to(name, message, top))]
    frames = ways[0] if ways else stack_of(here)
    # (Some messages are made, or heard, outside of the story.)
    places = [place_of(frame) for frame in frames if is_in("chat.py", frame)] or \
        [place_of(frame) for frame in frames if is_in("chapters/*", frame)]
    if not places:
        return "a program of yours"
    (function, file, lines), *others = places
    callers = ", ".join(f"{function} ({lines})" for function, _, lines in others)
    return f"{function} ({file}:{lines})" + (f", called by {callers}" if callers else "")


def headers_by() -> str:
    """Who has made the headers of what this thread is about to send, over HTTP."""
    for frame in stack_of(sys._getframe()):
        if maker := getattr(frame.f_locals.get("self"), "headers_for", None):
            function, file, lines = place_in(maker.__code__, "Http.")
            return f" Its headers are made by {function} ({lines}), for machines on the way."
    return ""


def stack_of(top: FrameType) -> list[FrameType]:
    """The calls of a thread that haven't returned yet, innermost first."""
    return [frame for frame, _ in walk_stack(top)]


def way_to(name: str, message: dict, top: FrameType) -> list[FrameType]:
    """The same, from the outermost call that has this message in a variable, because those further
    in have got it from there. []: this thread has nothing to do with the message to that server."""
    stack = stack_of(top)
    have_it = [n for n, frame in enumerate(stack) for value in [*frame.f_locals.values()]
               if message and isinstance(value, dict) and value == message]
    way = stack[have_it[-1]:] if have_it else []
    # (Two servers may get the same message, with the same id.)
    ends = [frame.f_locals.get(one) for frame in way for one in ("self", "connection")]
    names = [getattr(getattr(end, "server", None), "name", "") for end in ends]
    return way if name in names else []


def is_in(files: str, frame: FrameType) -> bool:
    path = Path(frame.f_code.co_filename).resolve()
    return path in FOLDER.glob(files) and path.stem not in ("trace", "tour")


def place_of(frame: FrameType) -> tuple[str, str, str]:
    """("Connection.request", "chat.py", "166-190")"""
    has_self = "self" in frame.f_code.co_varnames
    kind = type(frame.f_locals["self"]).__name__ + "." if has_self else ""
    return place_in(frame.f_code, kind)


def place_in(code: CodeType, kind: str) -> tuple[str, str, str]:
    import inspect  # only a tour needs it, and a start should be fast
    lines, first = inspect.getsourcelines(code)
    return kind + code.co_name, Path(code.co_filename).name, f"{first}-{first + len(lines) - 1}"
