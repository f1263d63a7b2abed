r"""The outside: what may we believe of what comes from there, and what may we show?

What servers, models and files hold was written by strangers. It may be broken or of another kind
than agreed, or clear your screen. So it comes in and goes to your terminal through this file:

    b'{"a": NaN}'               loads     raises ValueError: that is not JSON
    {"tools": 7,}               read_json says where, and what to do, to the person who wrote it
    {"tools": 7}                as_list   reads what should be a list as an empty one
    "\x1b[2Jred\a"              clean     "red": no code reaches the terminal
    "https://x.com/?key=abc"    without_secrets    "https://x.com/?key=***"

And it names what can go wrong: a Problem is for the person at the keyboard, a Failure is a Problem
with one server (in a tool call, the model reads it), and all else is a bug in this program.

JSON is RFC 8259, https://www.rfc-editor.org/rfc/rfc8259, the control codes are ECMA-48. Left out:
whether a result has the shape that its server has promised (`outputSchema`), and whether an object
in your file has a key twice (the last one counts, as everywhere in Python).

Try it:

>>> loads(b'{"tools": [{"name": "add"}]}')
{'tools': [{'name': 'add'}]}
>>> clean("\x1b[31mred\x1b[0m\a \x1b]52;c;Y2xpcA==\x07") + clean("می‌خواهم")
'red می\u200cخواهم'
>>> without_secrets("https://me:pass@example.com/mcp?token=abc&x")
'https://***@example.com/mcp?token=***&***'
"""

import contextlib
import json
import math
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import unquote

MAX_BYTES = 8 * 2**20  # of one message
TOO_LARGE = "it sent more than 8 MB in one message. Ask for less at a time."
MAX_PARTS = 1_000_000  # lists, and twice the objects: each takes 60 bytes and more
MAX_DEPTH = 100        # of {"a": {"b": {"c": ...
# Patterns. (Python compiles them where they are first used, so that a start is fast.)
PAGE = r"(?is)<(head|script|style)\b.*?</\1>|<[^>]*>"  # what nobody reads of it
SECRET = "(?i)auth|key|token|secret|pass|cookie|jwt|sig"


class Problem(Exception):
    """Something that the person at the keyboard can do something about.

    Its text is what they read: what happened, and then what to do.
    """


class Failure(Problem):
    """A server didn't give us a result. Its text is read after the server's name and a colon.

    kind   "refused"      it answered with a JSON-RPC error (`code`, `data`), or we won't go on
           "status"       an HTTP status took the place of an answer: `status`
           "login"        somebody has to sign in first: login() asks them to
           "session"      an older server has forgotten our session, and did not do what we asked
           "broken"       no answer came, or none that makes sense
           "timeout"      no answer came in time
           "unreachable"  we never got through, so nothing has happened there
           "cancelled"    we stopped waiting
    """

    def __init__(self, kind: str, text: str, status: int = 0, code: int = 0, data: object = None,
                 retry_after: float = 1, login: Any = None):
        super().__init__(text)
        self.kind, self.status, self.code, self.data = kind, status, code, data
        self.retry_after = retry_after  # seconds
        self.login = login              # a function; raises Problem
        self.handshakes = 0             # how many there had been with the server


# ── What comes in ────────────────────────────────────────────────────────────────────────

def as_dict(value: object) -> dict:
    """Where an object should be, anything is read as one."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list:
    return value if isinstance(value, list) else []


def is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and abs(value) < 1e15


def loads(text: bytes | bytearray | str, keep_halves: bool = False) -> Any:
    """json.loads for strangers' JSON. Whatever is wrong with it, it raises ValueError."""
    if isinstance(text, str):
        text = text.encode("utf-8", "replace")
    if text.count(b"[") + 2 * text.count(b"{") > MAX_PARTS:
        raise ValueError("it has too many parts")
    try:
        found = json.loads(text.decode("utf-8-sig"), parse_float=finite, parse_constant=finite)
        if rb"\ud" in text.lower() and not keep_halves:
            # "\ud83d" alone is half of a character, which nobody can print or send on.
            found = json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if is_too_deep(found):  # Python can read it, but not write it again
        raise ValueError("it is nested too deeply")
    return found


def finite(number: str) -> float:
    """Python reads NaN as JSON, and 1e999 as infinity, and would send both on."""
    if not math.isfinite(float(number)):
        raise ValueError(f"{number} is not JSON")
    return float(number)


def is_too_deep(value: object, depth: int = 0) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, list) and (
        depth > MAX_DEPTH or any(is_too_deep(one, depth + 1) for one in value))


# Mistakes in JSON, by the characters around the place where json stops, and by its reason.
HINTS = {
    r"Invalid \\": r'Write each backslash twice, as in "C:\\tools", or write "C:/tools".',
    "^.?(//|/\\*|#)": "JSON has no comments. Remove this one.",
    r"^.?,[}\],]": "Remove the comma that no item follows.",
    "": "Look there, or just before, for a comma, bracket or double quote: missing, or too many.",
}
# One backslash in "C:\tools": as JSON, that may be a tab and "ools".
BACKSLASH = r'"[A-Za-z]:(?=\\)(\\\\|[^"\\\n])*\\(?!u[\da-fA-F]{4})[^\\/"]'


def read_json(path: Path) -> Any:
    """What is in a file that a person has written. Raises Problem."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if found := re.search(BACKSLASH, text):
            raise json.JSONDecodeError(r"Invalid \escape", text, found.end() - 2)
        return json.loads(text)
    except UnicodeError:
        raise Problem(f"{path} is not UTF-8 text.\nSave it as UTF-8 in your editor.") from None
    except json.JSONDecodeError as error:
        near = text[:error.pos].rstrip()[-1:] + "".join(text[error.pos:].split())[:2]
        hint = next(HINTS[it] for it in HINTS if re.search(it, f"{near} {error.msg}"))
        raise Problem(f"{path} is not valid JSON: {error.msg} at line {error.lineno}.\n"
                      f"{hint}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise Problem(f"{path} can't be read: {getattr(error, 'strerror', error)}") from None


# ── What is shown ────────────────────────────────────────────────────────────────────────

# Codes that move the cursor, fill your clipboard, or turn the direction of a line.
ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(\x07|\x1b\\)?)?")
UNSEEN = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160), 0x200B, 0x2028, 0x2029,
                        *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF])


def clean(text: object) -> str:
    """Text from outside, as it may reach a terminal. Joiners (U+200C, U+200D) stay, because emoji
    and Persian are made with them."""
    return ESCAPES.sub("", str(text)).translate(UNSEEN)


def without_tags(text: str) -> str:
    """What a person would read of a page, if it is one.

    >>> without_tags("<html><head><title>No</title></head><h1>Access denied</h1></html>")
    'Access denied'
    """
    return " ".join(re.sub(PAGE, " ", text[:10_000]).split()) if text.lstrip()[:1] == "<" else text


def one_line(text: object) -> str:
    """The first line of a name or of a reason, at most 200 characters."""
    return clean(text).strip().partition("\n")[0][:200]


def briefly(problem: object) -> str:
    """What happened and what to do: at most two lines, and long ones without their middle."""
    return "\n".join(line if len(line) < 600 else f"{line[:350]} ... {line[-240:]}"
                     for line in clean(problem).split("\n")[:2]).strip()


def without_secrets(url: str) -> str:
    """An address without its password and the values of its query."""
    path, mark, query = re.sub("//[^/?#]*@", "//***@", url).partition("?")
    return path + mark + re.sub(r"([^&=]+=)?[^&]+", r"\1***", query)


def without_ours(text: str, server: Any) -> str:
    """A server's words about what went wrong, without the secrets of its entry (a `Server`). Some
    servers repeat what we have sent."""
    path, _, query = server.url.partition("?")
    ours = [part.partition("=")[2] or part for part in query.split("&")]
    ours += [part for part in path.split("/")[3:] if len(part) >= 20]  # it may be in the path
    ours += [value for name, value in [*server.headers.items(), *server.env.items()]
             if re.search(SECRET, name)]
    for word in " ".join([*ours, *map(unquote, ours)]).split():
        text = text.replace(word, "***") if len(word) >= 8 else text
    return text


def has_token(server: Any) -> bool:
    """Whether there is anything in the entry of a `Server` that says who we are."""
    query = [part.partition("=")[0] for part in server.url.partition("?")[2].split("&")]
    return any(re.search(SECRET, name) for name in [*server.headers, *query])


def open_browser(url: str) -> bool:
    """Open a page whose address somebody has seen; return whether a browser was started. (Over ssh,
    or in a container, it would be one made of characters, in the middle of our chat.)"""
    import webbrowser  # seldom needed, and a start should be fast
    remote = os.getenv("SSH_CONNECTION") or os.getenv("SSH_TTY")
    dark = sys.platform == "linux" and not (os.getenv("DISPLAY") or os.getenv("WAYLAND_DISPLAY"))
    opened: list[bool] = []

    def work() -> None:
        with contextlib.suppress(webbrowser.Error, OSError, ValueError):  # $BROWSER makes no sense
            opened.append(webbrowser.open(url))

    thread = threading.Thread(target=work, daemon=True)
    if os.getenv("BROWSER") or not (remote or dark):
        thread.start()
        thread.join(1)  # (a command in $BROWSER may run until its window is closed)
    return thread.is_alive() or True in opened
