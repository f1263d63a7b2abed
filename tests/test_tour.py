"""--tour: the program stops at every message, and says what it is for and who has made it."""

import re

from folder import configure, model_for, needs_terminal
from patience import eventually
from terminal import CTRL_C, CTRL_D, Terminal, run

STOP, PROMPT = "q: end the tour]\n", "\nYou: "


def walk(terminal: Terminal, until: str = PROMPT) -> list[str]:
    """Press Enter at each stop. What each has shown; at last, what came when there was no more."""
    seen = []
    while True:
        news = eventually(lambda: terminal.text[terminal.read_up_to:] if any(
            one in terminal.text[terminal.read_up_to:] for one in (STOP, until)) else "")
        end = min((one for one in (STOP, until) if one in news), key=news.index)
        seen.append(terminal.wait_for(end))
        if end == until:
            return seen
        terminal.type("\n")


@needs_terminal
def test_a_tour_through_the_demo(tmp_path):
    with Terminal("chat.py", "--demo", "--tour", cwd=tmp_path) as terminal:
        start = walk(terminal)
        print(len(start))
        terminal.type("What is 17 + 25?\n")
        for one in walk(terminal):
            print(one)
            print("=================")
        assert 0
