"""Exercise 3: calls are shown with their arguments."""

from folder import configure, model_for, tools
from little_server import LittleServer
from scripted_model import says, wants
from terminal import run


def shown_for(tmp_path, arguments: dict) -> str:
    with model_for(tmp_path) as model, LittleServer(tools("f")) as toy:
        configure(tmp_path, toy=toy)
        model.script[:] = [wants("toy__f", arguments), says("Done.")]
        done = run("chat.py", "Please.", cwd=tmp_path)
    assert done.stdout == "Done.\n", done.stderr
    return done.stderr


def test_numbers(tmp_path):
    shown = shown_for(tmp_path, {"a": 17, "b": 2.5})
    assert "[Calling f(a=17, b=2.5)...]" in shown, f"the arguments are not shown yet: {shown}"


def test_strings_have_quotes_and_can_be_read(tmp_path):
    assert '[Calling f(town="Zürich")...]' in shown_for(tmp_path, {"town": "Zürich"})


def test_a_call_without_arguments(tmp_path):
    assert "[Calling f()...]" in shown_for(tmp_path, {})


def test_no_argument_reaches_the_terminal_as_it_is(tmp_path):
    evil = 'a\nb\x1b[2J\u202e"'
    shown = shown_for(tmp_path, {"te\x07x\nt": evil, "list": [evil]})
    [line] = [line for line in shown.splitlines() if "Calling" in line]
    assert not set("\x07\x1b\u202e") & set(shown), "a model has moved your cursor"
    assert line.endswith("...]"), "the line was broken in two by an argument"


def test_a_long_argument_does_not_fill_the_screen(tmp_path):
    shown = shown_for(tmp_path, {"text": "x" * 5000, "more": "y"})
    [line] = [line for line in shown.splitlines() if "Calling" in line]
    assert len(line) <= 300 and line.endswith("...]"), f"the line has {len(line)} characters"
