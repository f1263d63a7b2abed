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

Left out: to check formats and `pattern`. We say what the server wants, and it has to look itself
whether it got that, because anybody might answer it. And a comma in one of several values that are
typed.

Try it:

>>> describe("size", {"title": "Size", "type": "integer", "minimum": 1})
'Size (a whole number, at least 1)'
>>> value_of({"type": "array", "items": {"enum": ["a", "b"]}}, "b, a")
['b', 'a']
>>> value_of({"type": "boolean"}, "yes")
True
"""

import contextlib
import itertools
from typing import Any

from chapters.events import Question
from chapters.jobs import Job
from chapters.outside import as_dict, as_list, finite, is_number, one_line

ACTIONS = {"d": {"action": "decline"}, "c": {"action": "cancel"}}
MAX_TRIES = 10  # (a program that answers might never get it right)

# What a field may want, by its type or its format, and its limits: how we say it.
KINDS = {"integer": "a whole number", "number": "a number", "boolean": "yes or no",
         "array": "several, with commas between them", "email": "like name@example.com",
         "uri": "like https://example.com", "date": "like 2026-07-28",
         "date-time": "like 2026-07-28T18:30:00Z"}
LIMITS = {"minimum": "at least {}", "maximum": "at most {}",
          "minLength": "at least {} characters", "maxLength": "at most {} characters",
          "minItems": "at least {} of them", "maxItems": "at most {} of them"}
SIZES: dict[type, str] = {str: "Length", list: "Items"}  # how a type's limits end; a number's: imum
YES_OR_NO = {"y": True, "yes": True, "true": True, "n": False, "no": False, "false": False}


def fill_in(server: str, params: dict, job: Job) -> dict:
    """Ask for each field, then whether to send that. Returns {"action": "accept", "content": {}},
    with the fields in it, or "decline", or "cancel". Raises Failure."""
    schema = as_dict(params.get("requestedSchema"))
    fields = {name: as_dict(one) for name, one in as_dict(schema.get("properties")).items()}
    needed = as_list(schema.get("required"))
    content = {name: one["default"] for name, one in fields.items()
               if one.get("default") is not None}
    opening = f"{server} asks: {quoted(params.get('message'))}"
    # Without fields, it only wants a yes.
    decision = "e" if fields else decide(job, opening, {"y": "yes", "d": "decline", "c": "cancel"})
    while decision == "e":
        before = f"{opening}\n"
        for name, field in fields.items():
            if not ask_for(server, name, field, name in needed, content, before, job):
                return ACTIONS["c"]
            before = f"{server}: "  # (a server's words might name another)
        review = [f"  {one_line(name)}: {one_line(shown(value))}"
                  for name, value in content.items()]
        decision = decide(job, "\n".join([f"Send this to {server}?", *review]),
                          {"y": "yes", "e": "edit", "d": "decline", "c": "cancel"})
    return {"action": "accept", "content": content} if decision == "y" else ACTIONS[decision]


def ask_for(server: str, name: str, field: dict, is_needed: bool, content: dict, before: str,
            job: Job) -> bool:
    """Have a person give one field, which is put into `content`; `before` is what is said first.
    False: they gave no answer."""
    optional = "" if is_needed or name in content else " (optional)"
    for _ in range(MAX_TRIES):
        typed = job.ask_person(Question(f"{before}{describe(name, field)}{optional}",
                                        default=one_line(shown(content.get(name, "")))))
        if typed is None:
            return False
        typed = typed.strip()
        with contextlib.suppress(KeyError, ValueError):  # of value_of(): then we ask once more
            if typed == "-" and not is_needed:
                content.pop(name, None)
            elif typed or is_needed and name not in content:
                content[name] = value_of(field, typed)
            return True
        before = f"It needs a value that fits.\n{server}: "
    return False


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
    words = [KINDS[key] for key in KINDS if key in (schema.get("type"), schema.get("format"))]
    words += [text.format(schema[key]) for key, text in LIMITS.items() if key in schema]
    about = f": {schema['description']}" if schema.get("description") else ""
    limits = "; ".join(filter(None, [", ".join(choices), ", ".join(words)]))[:2000]
    text = f"{schema.get('title') or name}{about}"[:1000] + (f" ({limits})" if limits else "")
    return " ".join(text.split())


def shown(value: object) -> str:
    """A field's value as somebody would type it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def value_of(schema: dict, typed: str) -> Any:
    """What somebody has typed, as the value that the field wants. Raises KeyError or ValueError."""
    kind, choices = schema.get("type"), choices_in(schema)
    value: Any = typed
    if not typed:
        raise ValueError  # "" is only a value where the server says so, as its default
    if kind == "array":
        items = as_dict(schema.get("items"))
        value = [value_of(items, one.strip()) for one in typed.split(",") if one.strip()]
    elif kind == "boolean":
        value = YES_OR_NO[typed.lower()]
    elif choices and typed not in choices:  # (its title is as good as its value)
        value = {title: value for value, title in choices.items()}[typed]
    if kind in ("integer", "number"):
        value = int(value) if kind == "integer" else finite(value)
    size = value if isinstance(value, (int, float)) else len(value)
    for key in [key for key in LIMITS if key.endswith(SIZES.get(type(value), "imum"))]:
        limit = schema.get(key, size)
        if is_number(limit) and (size < limit if key.startswith("min") else size > limit):
            raise ValueError
    return value
