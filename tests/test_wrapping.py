"""Wrapping: how an answer looks while it is still being written (window.py, terminal.py)."""

import itertools
import re
import threading
from collections.abc import Iterator

import pytest
from anything import PLACES, cut
from folder import model_for, needs_terminal
from hypothesis import example, given
from hypothesis import strategies as st
from scripted_model import HANG, ScriptedModel, delta, pieces, says
from terminal import CTRL_C, Terminal, run
from window import Window

from chapters.outside import clean
from chapters.wrapping import Answer

LIMA = "It is 16 degrees in Lima, a town with a lot of fog and with very good food."
MARKDOWN = """# The **two** towns

- **Oslo**: cold, with snow on the hills until the end of April
- Lima

```python
print("**hello**, world, this is a long line of code")
```
Done, **with a few words which are bold** in two rows."""


@pytest.fixture
def model(tmp_path) -> Iterator[ScriptedModel]:
    with model_for(tmp_path) as model:
        yield model


def shown(said: str | list[str], columns: int = 40, rows: int = 150, styled: bool = True) -> Window:
    """What is seen of an answer that comes in these pieces."""
    window, answer = Window(columns, rows), Answer("A: ", lambda: (columns, rows), styled)
    for piece in [said] if isinstance(said, str) else said:
        window.print(answer.add(piece))
    return window


# ── Words ────────────────────────────────────────────────────────────────────────────────

@needs_terminal
def test_words_stay_whole_at_the_edge_of_the_window(tmp_path, model):
    model.script += [says(*LIMA)]
    with Terminal("chat.py", cwd=tmp_path, columns=40) as terminal:
        terminal.wait_for("You: ")
        terminal.ask("How is it?")
    assert Window(40).print(terminal.raw).rows[-7:] == [
        "You: How is it?",
        "",
        "A: It is 16 degrees in Lima, a town",
        "with a lot of fog and with very good",
        "food.",
        "",
        "You:"]


TEXTS = st.lists(st.text(max_size=8).map(clean) | st.sampled_from(
    ["word ", "word", " ", "   ", "\n", "\t", "*", "**", "***", " **", "** ", "`", "```", "\n```\n",
     "\n````py\n", "#", "\n# ", "\n- ", "\n  * ", "\n1. ", "\n> ", "好", "好。", "（", "é",
     "e\u0301", "😀", "👨\u200d👩", "👍🏽", "🇳🇴", "❤\ufe0f", "\xa0", "https://example.com/a/long/way?to=go",
     "a-rather-long-word-that-fills-a-row"]), max_size=20).map("".join)


@given(TEXTS, st.lists(PLACES, max_size=20), st.sampled_from([11, 20, 40]))
@example("**one two**", [1, 10], 11)
@example("- " + "some words and **more** " * 60, [*range(0, 1400, 9)], 40)  # longer than LONG
@example("x" * 2500 + " and **more**", [*range(0, 2500, 99)], 20)
@example("000000\u0e5c\u18f6🇳🇴🇳🇴000", [14], 20)
def test_it_makes_no_difference_where_an_answer_is_cut(text, places, columns):
    at_once = shown(text, columns)
    assert shown(cut(text, places), columns).everything == at_once.everything
    assert len(text) > 200 or shown([*text, ""], columns).everything == at_once.everything


@given(st.lists(st.text("abcdefghij", min_size=1, max_size=11), max_size=60), st.integers(15, 50))
def test_no_word_is_broken_and_none_that_fits_is_moved(words, columns):
    rows = shown(" ".join(words), columns).rows
    assert " ".join(rows).split() == ["A:", *words]
    for row, following in itertools.pairwise(rows):
        assert len(row) < columns <= len(row) + 1 + len(following.split()[0])


@given(st.lists(st.sampled_from([*"abc好é. \n", "-", "long-word"]), max_size=60))
def test_no_text_is_held_back(said):
    window, answer, so_far = Window(20, 200), Answer("", lambda: (20, 200), True), ""
    for piece in said:
        so_far += piece
        window.print(answer.add(piece))
        assert "".join("".join(window.rows).split()) == "".join(so_far.split())


@pytest.mark.parametrize("text, rows", [
    ("123456789 123456 1", ["A: 123456789 123456", "1"]),          # 20 columns, the last one empty
    ("123456789 123456789", ["A: 123456789", "123456789"]),
    ("See " + "x" * 45 + " there", ["A: See", "x" * 20, "x" * 20, "xxxxx there"]),
    ("你好，世界。今天天气很好，我们去公园。",
     ["A: 你好，世界。今天", "天气很好，我们去公", "园。"]),
    ("one two three fou😀", ["A: one two three", "fou😀"]),
    ("cafe\u0301 cafe\u0301 cafe\u0301 a b", ["A: café café café a", "b"]),
    ("one family: 👨\u200d👩\u200d👧 ok", ["A: one family:", "👨\u200d👩\u200d👧 ok"]),
    ("10\xa0000\xa0000 a 10\xa0000\xa0000", ["A: 10\xa0000\xa0000 a", "10\xa0000\xa0000"]),
    ("\n- one two three four five\n  - six seven eight nine",
     ["A:", "- one two three", "  four five", "  - six seven eight", "    nine"]),
    ("\n10. one two three four\n> one two three four five",
     ["A:", "10. one two three", "    four", "> one two three", "  four five"]),
    ("- one two three four", ["A: - one two three", "     four"]),
    ("\n```\nif a and b or c and d:\n    e\n```\nand b or c and d or e",
     ["A:", "```", "if a and b or c and", "d:", "    e", "```", "and b or c and d or", "e"]),
    ("\n\tone two three four", ["A:", "        one two", "        three four"]),
])
def test_in_a_window_of_twenty_columns_this_looks_like_that(text, rows):
    assert [row.replace("\u200d", "") for row in shown(text, 20).rows] == [
        re.sub("\u0301", "", row).replace("\u200d", "").replace("cafe", "café") for row in rows]


def test_an_address_that_is_longer_than_a_row_is_printed_in_one_piece():
    url = "https://example.com/" + "way/" * 20
    answer = Answer("A: ", lambda: (40, 24))
    assert url in "".join(map(answer.add, f"See {url} for more"))


# ── Bold, headings, code ─────────────────────────────────────────────────────────────────

@needs_terminal
def test_headings_and_bold_words_are_bold_and_code_stays_as_it_is(tmp_path, model):
    model.script += [says(*MARKDOWN)]
    with Terminal("chat.py", cwd=tmp_path, columns=40) as terminal:
        terminal.wait_for("You: ")
        terminal.ask("Where?")
    window = Window(40).print(terminal.raw)
    assert window.rows[window.rows.index("A: The two towns"):] == [
        "A: The two towns",
        "",
        "- Oslo: cold, with snow on the hills",
        "  until the end of April",
        "- Lima",
        "",
        "```python",
        'print("**hello**, world, this is a long',
        'line of code")',
        "```",
        "Done, with a few words which are bold",
        "in two rows.",
        "",
        "You:"]
    assert window.bold == ["The two towns", "Oslo", "with a few words which are bold"]


@pytest.mark.parametrize("said", [
    "2**3 and 4**5", "f(**some, **more)", "`**x` and `**y`", "a ** b ** c", "**not closed", "****",
    "* one", "#tag", "a # b", "2 * 3 * 4", "```x``` is code", "`**x**`", "**a\nb**", "x**y** z"])
def test_signs_that_mean_something_else_stay(said):
    window = shown([*said])
    assert window.rows == f"A: {said}".split("\n")
    assert window.bold == []


@pytest.mark.parametrize("said, bold", [
    ("**a**", ["a"]), ("**a** b **c**, d", ["ac"]), ("(**a**)", ["a"]),
    ("**`f(x)`**: x", ["`f(x)`"]),
    ("这是**重要**的", ["重要"]), ("- **a**: b", ["a"]), ("## a", ["a"]), ("# **a** b", ["a b"]),
    ("````\n```\n**a**\n````\n**b**", ["b"]), ("```\n**a**\n``` x\n```\n**b**", ["b"])])
def test_what_is_meant_to_be_bold_is(said, bold):
    assert shown([*said]).bold == bold


def test_what_has_left_the_window_is_written_again_rather_than_lost():
    said = ["before\n", "a **" + "".join(f"word{number} " for number in range(16)), "end** of it"]
    assert shown(said, 20, 4).everything[:2] == (
        ["word9 word10 word11", "word12 word13", "word14 word15 end", "of it"],
        ["word9 word10 word11", "word12 word13 ", "word14 word15 end"])


# ── Where there is no such window ────────────────────────────────────────────────────────

ANSWER = MARKDOWN + "\n" + LIMA


def test_in_a_pipe_the_answer_is_what_the_model_has_said(tmp_path, model):
    model.script += [says(*ANSWER)]
    assert run("chat.py", "Where?", cwd=tmp_path).stdout == f"{ANSWER}\n"


@needs_terminal
def test_what_is_not_a_terminal_gets_the_plain_text_though_the_rest_is_one(tmp_path, model):
    model.script += [says(*ANSWER)]
    with open(tmp_path / "answer", "w") as file, \
            Terminal("chat.py", "Where?", cwd=tmp_path, columns=40, stdout=file) as terminal:
        terminal.rest()
    assert (tmp_path / "answer").read_text(encoding="utf-8") == f"{ANSWER}\n"


@needs_terminal
def test_a_terminal_that_knows_no_codes_gets_none(tmp_path, model):
    model.script += [says(*ANSWER)]
    with Terminal("chat.py", "Where?", cwd=tmp_path, columns=40, TERM="dumb") as terminal:
        assert ANSWER in terminal.rest()
    assert "\x1b" not in terminal.raw


@needs_terminal
def test_where_no_colours_are_wanted_words_are_wrapped_and_the_signs_stay(tmp_path, model):
    model.script += [says(*ANSWER)]
    with Terminal("chat.py", "Where?", cwd=tmp_path, columns=40, NO_COLOR="1") as terminal:
        terminal.rest()
    window = Window(40).print(terminal.raw)
    assert "# The **two** towns" in window.rows
    assert "lot of fog and with very good food." in window.rows
    assert not re.search(r"\x1b\[\d*m", terminal.raw)


# ── What comes after it ──────────────────────────────────────────────────────────────────

@needs_terminal
def test_an_answer_that_is_stopped_leaves_nothing_bold(tmp_path, model):
    model.script += [says("# Lima, a town with a lot of **f", HANG), says("Here.")]
    with Terminal("chat.py", cwd=tmp_path, columns=40) as terminal:
        terminal.wait_for("You: ")
        terminal.type("Go\n")
        terminal.wait_for("**f")
        terminal.press_until(CTRL_C, "You: ")
        terminal.ask("Still there?")
    window = Window(40).print(terminal.raw)
    assert window.bold == ["Lima, a town with a lot of **f"]
    assert window.rows[-3:] == ["A: Here.", "", "You:"]


@needs_terminal
@pytest.mark.parametrize("said, rows", [
    ("x" * 36, ["A: " + "x" * 36]), ("x" * 37, ["A:", "x" * 37]),
    ("x" * 80, ["A:", "x" * 40, "x" * 40])])
def test_what_follows_begins_in_a_row_of_its_own(tmp_path, model, said, rows):
    call = {"index": 0, "id": "1", "function": {"name": "no__such", "arguments": "{}"}}
    model.script += [pieces(delta(content=said), delta("tool_calls", tool_calls=[call])),
                     says(said)]
    with Terminal("chat.py", cwd=tmp_path, columns=40) as terminal:
        terminal.wait_for("You: ")
        terminal.ask("Go")
    found = Window(40).print(terminal.raw).rows
    assert found[found.index("You: Go") + 2:] == [
        *rows, "", "[The model called no__such: there is no", "such tool.]", "", *rows, "", "You:"]


@needs_terminal
def test_a_window_may_be_resized_in_the_middle_of_an_answer(tmp_path, model):
    narrow, wide = threading.Event(), threading.Event()
    model.script += [says("One two three four five six seven", narrow, "teen eight nine ten eleven",
                          wide, " twelve thirteen fourteen fifteen sixteen")]
    with Terminal("chat.py", cwd=tmp_path, columns=40) as terminal:
        terminal.wait_for("You: ")
        terminal.type("Count\n")
        terminal.wait_for("seven")
        terminal.resize(20)
        narrow.set()
        before = terminal.wait_for("eleven")
        terminal.resize(60)
        wide.set()
        after = terminal.wait_for("You: ")
    # How the terminal moves what is there already is its own business. We take nothing back.
    assert before == "teen\neight nine ten \neleven"
    assert after == " twelve thirteen fourteen fifteen sixteen\n\nYou: "
