"""What comes from outside: what is read as JSON, and what of it may be shown."""

import json
import unicodedata

import pytest
from anything import MESSAGES
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scripted_server import Reply, error

from chapters.inboxes import messages_in
from chapters.outside import Failure, clean, loads, without_secrets

# ── JSON ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", [
    b"", b"{", b"{'a': 1}", b"NaN", b"[Infinity]", b'{"a": -Infinity}', b"\xff\xfe",
    b'"\xff"', b"9" * 5000 + b"9", b"[" * 100_000, b'{"a":' * 100_000, b"[1] [2]", b"undefined",
    b"\x00"], ids=lambda text: str(text[:20]))
def test_whatever_is_wrong_with_json_it_is_a_value_error(text):
    with pytest.raises(ValueError):
        loads(text)
    assert messages_in(text, "x") == []


@pytest.mark.parametrize("text, value", [
    (b'{"a": [1, 2.5, null, true, "\xc3\xa9"]}', {"a": [1, 2.5, None, True, "é"]}),
    (rb'"\ud83d\ude00"', "😀"),            # the two halves of a character
    (rb'"half of it: \ud83d"', "half of it: ?"),  # only one
    (rb'{"\uDE00": "\\ud83d"}', {"?": r"\ud83d"}),
    (b'" \\u0000 "', " \0 "),
])
def test_json_as_it_should_be(text, value):
    assert loads(text) == value
    json.dumps(loads(text), ensure_ascii=False).encode("utf-8")


SPOILT = st.lists(MESSAGES | st.binary(max_size=3) | st.sampled_from(
    [b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b"NaN", b"-Infinity", b"1e999", b"-0", b" ",
     rb'"\ud83d"', rb'"\uDE00', rb"\\ud83d", b'"result":', b'"error": null', b'{"method":',
     b"]" * 99, b"[" * 99, b"\xef\xbb\xbf", b"\xff", b"\xed\xa0\xbd", b"9" * 5000])).map(b"".join)


@settings(max_examples=400)
@given(MESSAGES | SPOILT)
@example(rb'{"result": 1, "\ud83d": ["\udc00", "\ud83d\ude00"]}')
def test_what_is_read_can_be_sent_on_and_all_else_is_a_value_error(text):
    messages = messages_in(text, "x")
    assert all({"method", "result", "error"} & set(one) for one in messages)
    try:
        found = loads(text)
    except ValueError:
        assert all("can't be read" in one["error"]["message"] for one in messages)
    else:
        sent = json.dumps(found, ensure_ascii=False, allow_nan=False).encode("utf-8")
        assert loads(sent) == found


# ── What may be shown ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("url, shown", [
    ("https://example.com/mcp", "https://example.com/mcp"),
    ("https://example.com/mcp?token=abc", "https://example.com/mcp?token=***"),
    ("https://example.com/mcp?a=b=c&d", "https://example.com/mcp?a=***&***"),
    ("https://me:abc@example.com/", "https://***@example.com/"),
    ("https://abc@example.com/?x=abc", "https://***@example.com/?x=***"),
    ("http://h/mcp?abc", "http://h/mcp?***"),
    ("http://h/mcp?a=abc?abc", "http://h/mcp?a=***"),
    ("http://h/a@b", "http://h/a@b"),
])
def test_an_address_without_its_secrets(url, shown):
    assert without_secrets(url) == shown


@pytest.mark.parametrize("status", [200, 400])
def test_a_server_that_repeats_our_secrets_gives_none_away(http_server, connect, status):
    mine = {"Authorization": "Bearer header-secret", "X-Api-Key": "api-secret",
            "X-Team": "our-team"}

    def repeats(message):
        return Reply(status, error(message, -32602, " ".join([*mine.values(), "query-secret"])))

    entry = http_server({"tools/call": repeats}).entry(headers=mine)
    entry.url += "?token=query-secret"
    with pytest.raises(Failure) as caught:
        connect(entry).request("tools/call", {"name": "add", "arguments": {}})
    assert str(caught.value) == "Bearer *** *** our-team ***"


def test_nor_do_the_last_words_of_a_program(stdio_server, connect):
    program = stdio_server("""
        sys.exit(f"The key {os.environ['MY_KEY']} is no good for {os.environ['MY_TEAM']}.")
    """).entry(env={"MY_KEY": "env-secret", "MY_TEAM": "our-team"})
    with pytest.raises(Failure, match=r"The key \*\*\* is no good for our-team."):
        connect(program).ask("tools/call", {"name": "add", "arguments": {}})


# U+202A and the others turn a whole passage around. The marks U+200E, U+200F and U+061C stay:
# each is like a character that nobody sees. It moves a comma, turns no other character around, and
# Hebrew, Arabic and Persian are written with it.
GONE = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A)),
        "\u200b", "\u2028", "\u2029", "\ufeff"}
PARTS = st.text() | st.characters(categories=["Cc", "Cf", "Zl", "Zp"]) | st.sampled_from(
    ["\x1b", "\x1b[", "\x1b]", "\x1bP", "\x9b31m", "\x9d52;c;", "\x1b]8;;http://a\x1b\\", "\x07",
     "\x1b\\", "2J", "[31m", "0;", "\r", "\n", "\u202e", "\u200d", "\u200c", "\u200f", "👨"])


def is_safe(character: str) -> bool:
    return character in "\n\t" or (unicodedata.category(character) != "Cc"
                                  and character not in GONE)


@settings(max_examples=400)
@given(st.lists(PARTS).map("".join))
def test_what_is_shown_moves_no_cursor_and_turns_no_line_around(text):
    shown = clean(text)
    assert all(map(is_safe, shown)) and clean(shown) == shown
    assert shown == text or not all(map(is_safe, text))


def test_every_letter_by_itself_is_shown_or_is_not():
    assert [one for one in map(chr, range(0x110000)) if clean(one) != one * is_safe(one)] == []


def test_a_sequence_without_end_costs_only_its_own_line():
    # It may be an HTTP reason, which stands in the middle of what we say ourselves.
    assert clean("It says (500 \x1b]oops).\nTry again.") == "It says (500 \nTry again."
