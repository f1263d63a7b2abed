"""Forms: how does somebody fill in a form in a terminal?

A server describes a form as a small JSON Schema, and wants an object back:

    {"message": "Where shall it live?", "requestedSchema": {
        "properties": {"region": {"type": "string", "enum": ["eu", "us"], "default": "eu"}},
        "required": ["region"]}}

    {"action": "accept", "content": {"region": "us"}}

We ask for one field after the other, check what is typed against the schema, and show all of it
before it is sent. Every line names the server, and no line of a server's can be taken for one of
ours, because a form is an invitation to tell secrets.

https://modelcontextprotocol.io/specification/2026-07-28/client/elicitation#requested-schema

Left out: `pattern`, and whether a date exists; the server has to look at these itself. And a comma
in one of several values that are typed.

Try it:

>>> describe("size", {"title": "Size", "type": "integer", "minimum": 1})
'Size (a whole number, at least 1)'
>>> value_of({"type": "array", "items": {"enum": ["a", "b"]}}, "b, a")
['b', 'a']
>>> value_of({"type": "integer"}, "two")
Traceback (most recent call last):
ValueError: It must be a whole number.
"""

import itertools
import re
from typing import Any

from chapters.events import Question
from chapters.jobs import Job
from chapters.outside import Failure, as_dict, as_list, is_number, loads, one_line

ACTIONS = {"d": {"action": "decline"}, "c": {"action": "cancel"}}
MAX_TRIES = 10
MAX_FIELDS = 50

# What a field may want: how we say it, and whether something is right.
KINDS: dict[str, tuple[str, str]] = {
    "integer": ("a whole number", r"-?(0|[1-9]\d*)"),
    "number": ("a number", r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?"),
    "boolean": ("yes or no", r"(?i:y|yes|true|n|no|false)"),
    "email": ("like name@example.com", r"[^@\s]+@[^@\s]+"),
    "uri": ("like https://example.com", r"[A-Za-z][A-Za-z0-9+.-]*:\S+"),
    "date": ("like 2026-07-28", r"\d{4}-\d\d-\d\d"),
    "date-time": ("like 2026-07-28T18:30:00Z", r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\S+"),
}
LIMITS = {"minimum": "at least {}", "maximum": "at most {}",
          "minLength": "at least {} characters", "maxLength": "at most {} characters",
          "minItems": "at least {} of them", "maxItems": "at most {} of them"}


def fill_in(server: str, params: dict, job: Job) -> dict:
    """Ask for each field, then whether to send that. Returns {"action": "accept", "content": {}},
    with the fields in it, or "decline", or "cancel". Raises Failure."""
    schema = as_dict(params.get("requestedSchema"))
    fields = {name: as_dict(one) for name, one in as_dict(schema.get("properties")).items()}
    if len(fields) > MAX_FIELDS:
        raise Failure("refused", f"it asks for more than {MAX_FIELDS} things at once.")
    needed = as_list(schema.get("required"))
    content = {name: one["default"] for name, one in fields.items()
               if one.get("default") is not None}
    opening = f"{server} asks: {quoted(params.get('message'))}"
    choices = {"y": "yes", "e": "edit", "d": "decline", "c": "cancel"}
    if not fields:  # it only wants a yes
        del choices["e"]
    decision = "e"
    while decision == "e":
        before = f"{opening}\n"
        for name, field in fields.items():
            if not ask_for(server, name, field, name in needed, content, before, job):
                return {"action": "cancel"}
            before = f"{server}: "  # (a server's words might name another)
        review = [f"Send this to {server}?", *(
            f"  {one_line(name)}: {one_line(shown(content[name]))}"
            for name in fields if name in content)]
        decision = decide(job, "\n".join(review) if fields else opening, choices)
    return {"action": "accept", "content": content} if decision == "y" else ACTIONS[decision]


def ask_for(server: str, name: str, field: dict, is_needed: bool, content: dict, before: str,
            job: Job) -> bool:
    """Have a person give one field, which is put into `content`; `before` is what is said first.
    False: they gave no answer."""
    while True:
        optional = "" if is_needed or name in content else " (optional)"
        typed = job.ask_person(Question(f"{before}{describe(name, field)}{optional}".strip(),
                                        default=one_line(shown(content.get(name, "")))))
        if typed is None:
            return False
        try:
            if typed.strip() == "-" and not is_needed:
                content.pop(name, None)
            elif typed.strip():
                content[name] = value_of(field, typed.strip())
            elif is_needed and name not in content:
                raise ValueError("It is needed.")
            return True
        except ValueError as error:
            before = f"{error}\n{server}: "


def decide(job: Job, text: str, choices: dict[str, str]) -> str:
    """The key of a choice; "c" if none is made. (A wrong key shouldn't undo a filled-in form.)"""
    for _ in range(MAX_TRIES):
        decision = job.ask_person(Question(text, choices))
        if decision is None or decision in choices:
            return decision or "c"
        text = f"Please type one of these: {', '.join(choices)}."
    return "c"


def quoted(message: object) -> str:
    """A server's words, in which no line can be taken for one of ours."""
    return str(message or "")[:2000].replace("\n", "\n  | ")


def choices_in(schema: dict) -> dict[str, str]:
    """The values that a field may have, with their titles. There are four ways to write them."""
    schema = as_dict(schema.get("items")) or schema
    titled = as_list(schema.get("oneOf")) or as_list(schema.get("anyOf"))
    pairs = [(as_dict(one).get("const"), as_dict(one).get("title")) for one in titled] or \
        itertools.zip_longest(as_list(schema.get("enum")), as_list(schema.get("enumNames")))
    return {str(value): str(title or value) for value, title in pairs if value is not None}


def describe(name: str, schema: dict) -> str:
    """A field in words, in one line."""
    choices = [value if value == title else f"{value} = {title}"
               for value, title in choices_in(schema).items()]
    words = ["several, with commas between them"] if schema.get("type") == "array" else []
    words += [KINDS[key][0] for key in kinds_in(schema)]
    words += [text.format(schema[key]) for key, text in LIMITS.items() if key in schema]
    about = f": {schema['description']}" if schema.get("description") else ""
    limits = "; ".join(filter(None, [", ".join(choices), ", ".join(words)]))[:2000]
    text = f"{schema.get('title') or name}{about}"[:1000] + (f" ({limits})" if limits else "")
    return " ".join(text.split())


def kinds_in(schema: dict) -> list[str]:
    """Which of KINDS a field must be: at most one for its type, and one for its format."""
    return [key for key in (schema.get("type"), schema.get("format"))
            if isinstance(key, str) and key in KINDS]


def shown(value: object) -> str:
    """A field's value as somebody would type it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def value_of(schema: dict, typed: str) -> Any:
    """What somebody has typed, as the value that the field wants. Raises ValueError, in words."""
    kind, choices = schema.get("type"), choices_in(schema)
    for key in kinds_in(schema):
        if not re.fullmatch(KINDS[key][1], typed):
            raise ValueError(f"It must be {KINDS[key][0]}.")
    if kind == "boolean":
        return typed[0].lower() in "yt"
    values = typed.split(",") if kind == "array" else [typed]
    values = [one.strip() for one in values if one.strip()]
    values = [chosen(one, choices) for one in values] if choices else values
    value: Any = values if kind == "array" else values[0]
    if kind in ("integer", "number"):
        value = loads(typed)
    size = value if isinstance(value, (int, float)) else len(value)
    for key, text in LIMITS.items():
        limit = schema.get(key, size)
        if is_number(limit) and (size < limit if key.startswith("min") else size > limit):
            raise ValueError(f"It must be {text.format(limit)}.")
    return value


def chosen(typed: str, choices: dict[str, str]) -> str:
    """The choice that somebody has typed: its value or its title."""
    named = {title: value for value, title in choices.items()} | {it: it for it in choices}
    if typed not in named:
        raise ValueError(f"{one_line(typed)} is not one of them.")
    return named[typed]
