"""Forms: what is typed into them, and what is sent. The servers are scripted (asking.py)."""

import functools

import pytest
from asking import MRTR, connecting, form, page, server_that_asks, string, talk

TITLED = [{"const": "s", "title": "Small one"}, {"const": "l", "title": "Large one"}]


@pytest.fixture
def asks(http_server, stdio_server):
    """asks(POST, {"message": ...}) asks that, and tells in its result's "replies" what was said."""
    return functools.partial(server_that_asks, http_server, stdio_server)


@pytest.fixture
def connected():
    """connected(server, ...) are connections to these, of a Chat with a person."""
    with connecting() as connected:
        yield connected


# By kind of field: its schema; how it is described; what is typed -> what is sent ("" is Enter,
# and takes the default); what is typed, and doesn't fit.
FIELDS: dict[str, tuple[dict, str, dict, list]] = {
    "length": (string(minLength=2, maxLength=3, default="db"),
               "at least 2 characters, at most 3 characters", {"": "db", " a b ": "a b"}, [
        "a", "abcd"]),
    "email": (string(format="email", default="a@b.no"), "like name@example.com", {
        "": "a@b.no", "ø@b.no": "ø@b.no"}, []),
    "uri": (string(format="uri", default="urn:x"), "like https://example.com", {
        "": "urn:x", "http://x/?y": "http://x/?y"}, []),
    "date": (string(format="date", default="2026-07-28"), "like 2026-07-28", {
        "": "2026-07-28", "1999-12-31": "1999-12-31"}, []),
    "date-time": (string(format="date-time", default="1999-12-31T23:59:59+01:00"),
                  "like 2026-07-28T18:30:00Z", {"": "1999-12-31T23:59:59+01:00"}, []),
    "integer": ({"type": "integer", "minimum": 0, "maximum": 9, "default": 0},
                "a whole number, at least 0, at most 9", {"": 0, "9": 9}, [
        "10", "-1", "1.5", "two", "1e3"]),
    "number": ({"type": "number", "minimum": -1.5, "default": 2.5}, "a number, at least -1.5", {
        "": 2.5, "3": 3.0, "1e3": 1000.0, "-1.5": -1.5}, ["-2", "NaN", "1e999", "two", "[1]"]),
    "boolean": ({"type": "boolean", "default": False}, "yes or no", {
        "": False, "y": True, "Yes": True, "true": True, "n": False, "False": False}, [
        "1", "maybe"]),
    "enum": (string(enum=["eu", "us"], default="eu"), "eu, us", {"": "eu", "us": "us"}, ["asia"]),
    "a limit of another type": ({"type": "integer", "maxLength": 3, "minItems": 9, "default": 1},
                                "a whole number, at most 3 characters, at least 9 of them", {
        "": 1, "2026": 2026}, ["two"]),
    "enum of integers": ({"type": "integer", "enum": [1, 2], "default": 1},
                         "1, 2; a whole number", {"": 1, "2": 2}, ["two", "3"]),
    "oneOf of integers": ({"type": "integer", "oneOf": [{"const": 1, "title": "One"}]},
                          "1 = One; a whole number", {"1": 1, "One": 1}, ["3"]),
    "enum of numbers": ({"type": "number", "enum": [0.5, 2.5], "default": 0.5},
                        "0.5, 2.5; a number", {"": 0.5, "2.5": 2.5}, ["two"]),
    "names": (string(enum=["s", "l"], enumNames=["S.", "L."], default="s"), "s = S., l = L.", {
        "": "s", "l": "l", "L.": "l"}, ["m"]),
    "oneOf": (string(oneOf=TITLED, default="s"), "s = Small one, l = Large one", {
        "": "s", "l": "l", "Large one": "l"}, ["Large"]),
    "several": ({"type": "array", "items": string(enum=["a", "b", "c"]), "minItems": 2,
                 "maxItems": 2, "default": ["a", "b"]},
                "a, b, c; several, with commas between them, at least 2 of them, "
                "at most 2 of them", {"": ["a", "b"], "c,a": ["c", "a"]}, [
        "a", "a, b, c", "a, x"]),
    "several numbers": ({"type": "array", "items": {"type": "integer"}, "default": [1]},
                        "several, with commas between them", {"": [1], "2, 3": [2, 3]}, ["2, b"]),
    "anyOf": ({"type": "array", "items": {"anyOf": TITLED}, "default": ["s"]},
              "s = Small one, l = Large one; several, with commas between them", {
        "": ["s"], "Large one, s": ["l", "s"]}, ["s;l"]),
}


@pytest.mark.parametrize("kind", FIELDS)
def test_what_is_typed_and_what_is_sent(asks, connected, kind):
    schema, described, good, bad = FIELDS[kind]
    server = asks(MRTR, form(it=schema, required=["it"]))
    for typed, sent in good.items():
        replies, (first, *others, _) = talk(connected(server), *bad, typed, "y")
        assert replies == [{"action": "accept", "content": {"it": sent}}]
        assert type(replies[0]["content"]["it"]) is type(sent)
        assert first.text == f"db asks: Where?\nit ({described})"
        assert [again.text for again in others] == [
            f"It needs a value that fits.\ndb: it ({described})"] * len(bad)


def test_a_program_that_never_gets_it_right_is_not_asked_for_ever(asks, connected):
    server = asks(MRTR, form(it=string(minLength=5)))
    [reply], heard = talk(connected(server), *["yes"] * 1000)
    assert reply == {"action": "cancel"} and len(heard) == 10


def test_choices_that_look_alike_can_all_be_made(asks, connected):
    titles = {"mW": "mW", "MW": "MW", "s": "l", "l": "s"}
    server = connected(asks(MRTR, form(it=string(oneOf=[
        {"const": value, "title": title} for value, title in titles.items()]))))
    assert [talk(server, value, "y")[0][0]["content"]["it"] for value in titles] == [*titles]


def test_defaults_are_sent_what_has_no_value_is_left_out_and_all_can_be_edited(asks, connected):
    replies, heard = talk(connected(asks(MRTR, form(
        "Where?", ["region", "size", "more"], region=string(default="eu"), size={"type": "integer"},
        note=string(), more={"type": "boolean", "title": "More", "description": "or not",
                             "default": True}))), "", "", "3", "", "", "e", "us", "", "", "", "y")
    assert replies == [{"action": "accept", "content": {"region": "us", "size": 3, "more": True}}]
    assert [(one.text, one.default) for one in heard[:5]] == [
        ("db asks: Where?\nregion", "eu"), ("db: size (a whole number)", ""),
        ("It needs a value that fits.\ndb: size (a whole number)", ""), ("db: note (optional)", ""),
        ("db: More: or not (yes or no)", "yes")]
    assert {"  region: eu", "  size: 3", "  more: yes"} < set(heard[5].text.split("\n"))
    assert [one.default for one in heard[6:]] == ["eu", "3", "", "yes", ""]


def test_a_default_is_sent_as_it_is(asks, connected):
    server = asks(MRTR, form(it={"type": "array", "items": string(), "default": ["Red, dark"]}))
    assert talk(connected(server), "", "y")[0] == [
        {"action": "accept", "content": {"it": ["Red, dark"]}}]


def test_no_field_is_ever_null(asks, connected):
    server = asks(MRTR, form(note=string(default=None)))  # in Python, "str | None = None"
    assert talk(connected(server), "", "y")[0] == [{"action": "accept", "content": {}}]


def test_what_is_needed_may_be_an_empty_text_if_the_server_says_so(asks, connected):
    server = asks(MRTR, form(required=["a", "b"], a=string(default=""), b=string()))
    replies, heard = talk(connected(server), "", "", "x", "y")
    assert replies[0]["content"] == {"a": "", "b": "x"} and "needs" in heard[2].text


def test_what_is_not_needed_can_be_left_out_again(asks, connected):
    server = asks(MRTR, form(required=["b"], a=string(default="x"), b=string(default="-")))
    assert talk(connected(server), "-", "-", "y")[0][0]["content"] == {"b": "-"}
    assert talk(connected(server), "", "", "e", "-", "", "y")[0][0]["content"] == {"b": "-"}


@pytest.mark.parametrize("ask", [form, page])
def test_no_word_of_a_servers_can_be_taken_for_ours(asks, connected, ask):
    server = asks(MRTR, ask(message="Hi.\nThe page is at bank.example:\ngithub asks: your key"))
    [first, *_] = talk(connected(server), "c", "c")[1]
    assert "\n  | The page is at bank.example:\n  | github asks: your key" in first.text
    server = asks(MRTR, form(a={"title": "A\ngithub asks: B"}, b={"title": "> y\nYou: "}))
    assert [one.text for one in talk(connected(server), "x", "y", "c")[1]] == [
        "db asks: Where?\nA github asks: B (optional)", "db: > y You: (optional)",
        "Send this to db?\n  a: x\n  b: y"]


def test_where_there_is_nothing_to_fill_in_there_is_nothing_to_edit(asks, connected):
    [reply], [first, again] = talk(connected(asks(MRTR, form("Launch the rocket?"))), "x", "y")
    assert reply == {"action": "accept", "content": {}}
    assert first.text == "db asks: Launch the rocket?" and list(first.choices) == ["y", "d", "c"]
    assert again.text == "Please type one of these: y, d, c."


@pytest.mark.parametrize("fields, said, action", [
    ({}, "y", "accept"), ({}, "d", "decline"), ({}, "c", "cancel"), ({}, "", "cancel"),
    ({"it": {}}, ["us", "d"], "decline"), ({"it": {}}, ["us", "c"], "cancel"),
    ({"it": {}}, ["us", ""], "cancel"), ({"it": {}}, ["us", "e"], "cancel")])
def test_without_a_yes_nothing_is_sent(asks, connected, fields, said, action):
    [reply], heard = talk(connected(asks(MRTR, form(**fields))), *said)
    assert reply["action"] == action and bool(said) + (said == ["us", "e"]) <= len(heard)
    assert reply.get("content") == ({} if action == "accept" else None)
