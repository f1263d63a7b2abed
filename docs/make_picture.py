"""Make the README's picture, docs/session-light.svg and docs/session-dark.svg.

    uv run python docs/make_picture.py

It shows the demo as it runs: the program is started in a pseudo-terminal, the QUESTIONS are typed,
and what the terminal shows at one MOMENT is drawn. Only this is not the program's:

    - colours: the program itself only dims what is neither a question nor an answer;
    - the beginning: the picture has the lines from START on, because the welcome before it
      suggests the same questions;
    - the folder of the saved picture, which has another name in every run.

So two runs make the same picture, and tests/test_pictures.py compares the files with a run.
"""

import os
import re
import sys
import tempfile
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests/helpers"))

from terminal import Terminal  # noqa: E402  (the tests' pseudo-terminal)

COMMAND = "uv run python chat.py --demo"
QUESTIONS = ["What is 17 + 25?",
             "What's the weather in Oslo and in Lima?",
             "Draw a red picture and count slowly to 5"]
MOMENT = "slow_count: 3 of 5 Counted 3 of 5"
START = "MCP Chat - "
COLUMNS = 60  # few, so that the picture can be read on a phone
A_FOLDER = "/tmp/mcp-chat-u3k9x0ad"

Line = list[tuple[str, str]]  # pieces of text, each with its style: "", "dim", "bold" ...


# ── Part 1: A run ────────────────────────────────────────────────────────────────────────

def session() -> list[Line]:
    """Run the demo, and return the lines that can be seen at the MOMENT."""
    for _ in range(5):
        shown = until_the_moment()
        # Two tools run at the same time. Where the computer is so busy that the picture is saved
        # after the count has come to 3, the moment is missed.
        if "[Saved " in shown:
            break
    else:
        sys.exit("The picture is never saved before the count has come to 3.")
    display = Display(COLUMNS)
    display.show(re.sub(r"(?<=\[Saved )\S+(?=/picture-1\.png\])", A_FOLDER, shown))
    lines = display.lines()
    first = next(number for number, line in enumerate(lines) if text_of(line).startswith(START))
    return [[("$ ", "dim"), (COMMAND, "")], [], *map(with_colours, lines[first:])]


def until_the_moment() -> str:
    """What the demo prints up to the MOMENT: characters and escape sequences."""
    with tempfile.TemporaryDirectory() as folder, \
            Terminal("chat.py", "--demo", cwd=Path(folder), columns=COLUMNS) as terminal:
        terminal.wait_for("\nYou: ")
        for question in QUESTIONS[:-1]:
            terminal.ask(question)
        terminal.type(QUESTIONS[-1] + "\n")
        terminal.wait_for(MOMENT)
        return terminal.raw[:terminal.raw.index(MOMENT) + len(MOMENT)]


def text_of(line: Line) -> str:
    return "".join(text for text, _ in line)


def with_colours(line: Line) -> Line:
    """The line with its "You:" or "A:" in the colour of who is speaking."""
    for who in "You", "A":
        if line and line[0][1] == "" and line[0][0].startswith(f"{who}: "):
            return [(f"{who}:", who), (line[0][0].removeprefix(f"{who}:"), ""), *line[1:]]
    return line


# ── Part 2: What a terminal makes of it ──────────────────────────────────────────────────

class Display:
    """A terminal's screen, as long as need be. It knows what our program uses, and raises
    ValueError at anything else. (Each character of the demo takes one column.)

    >>> display = Display(10)
    >>> display.show("Waiting\\rDone.\\x1b[K\\r\\n\\x1b[2m[a note]\\x1b[0m Twenty words")
    >>> display.lines()
    [[('Done.', '')], [('[a note]', 'dim'), (' T', '')], [('wenty word', '')], [('s', '')]]
    >>> display.show("\\r\\x1b[2A\\x1b[J\\r\\nTwo words\\b\\b.")
    >>> display.lines()
    [[('Done.', '')], [], [('Two wor.s', '')]]
    """

    def __init__(self, columns: int):
        self.columns = columns
        self.cells: list[Line] = [[]]  # by row: single characters with their styles
        self.row = self.column = 0
        self.style = ""

    def show(self, printed: str) -> None:
        for sequence, character in re.findall(r"\x1b(\[[0-9;?]*[A-Za-z])|([\s\S])", printed):
            match sequence or character:
                case "\r":
                    self.column = 0
                case "\n":
                    self.line_feed()
                case "\b":  # (after the last column, the cursor stays on it)
                    self.column = max(0, min(self.column, self.columns - 1) - 1)
                case up if re.fullmatch(r"\[\d+A", up):
                    self.row = max(0, self.row - int(up[1:-1]))
                case "[J" | "[K":
                    del self.cells[self.row][self.column:]
                    if sequence == "[J":
                        del self.cells[self.row + 1:]
                case "[m" | "[0m" | "[22m":
                    self.style = ""
                case "[1m":
                    self.style = "bold"
                case "[2m":
                    self.style = "dim"
                case "[?2004h" | "[?2004l":
                    pass  # whether the terminal marks what is pasted
                case other if character >= " ":
                    self.put(other)
                case other:
                    raise ValueError(f"What does a terminal do at {other!r}?")

    def put(self, character: str) -> None:
        if self.column == self.columns:  # no room is left
            self.column = 0
            self.line_feed()
        row = self.cells[self.row]
        row += [(" ", "")] * (self.column - len(row))
        row[self.column:self.column + 1] = [(character, self.style)]
        self.column += 1

    def line_feed(self) -> None:
        self.row += 1
        if self.row == len(self.cells):
            self.cells.append([])

    def lines(self) -> list[Line]:
        """Each row, as pieces of one style, without the spaces at its end."""
        lines = []
        for row in self.cells:
            line: Line = []
            for character, style in row[:len("".join(one for one, _ in row).rstrip())]:
                if line and line[-1][1] == style:
                    line[-1] = (line[-1][0] + character, style)
                else:
                    line.append((character, style))
            lines.append(line)
        return lines


# ── Part 3: The drawing ──────────────────────────────────────────────────────────────────

THEMES = {  # the colours of GitHub's pages
    "light": {"window": "#ffffff", "frame": "#d1d9e0", "bar": "#f6f8fa", "buttons": "#d1d9e0",
              "text": "#1f2328", "dim": "#59636e", "You": "#0969da", "A": "#1a7f37"},
    "dark": {"window": "#0d1117", "frame": "#3d444d", "bar": "#151b23", "buttons": "#3d444d",
             "text": "#f0f6fc", "dim": "#9198a1", "You": "#4493f8", "A": "#3fb950"},
}
FONTS = "ui-monospace, SFMono-Regular, 'SF Mono', Menlo, Consolas, 'Liberation Mono', monospace"
SIZE, STEP, MARGIN, BAR = 15, 20, 20, 32  # of the letters, of the lines, of the window
WIDEST = 0.61  # of the letters of these fonts, as part of their size


def picture(lines: list[Line], colours: dict[str, str]) -> str:
    """The lines in a window, as SVG. The text stays text: it can be selected, and read aloud."""
    width = round(COLUMNS * SIZE * WIDEST) + 2 * MARGIN
    height = BAR + len(lines) * STEP + 2 * MARGIN
    rules = "\n".join(f"    .{who} {{ fill: {colours[who]}; font-weight: 600 }}"
                      for who in ("You", "A"))
    texts = "\n".join(f'  <text x="{MARGIN}" y="{BAR + MARGIN + STEP * number - 5}">'
                      f'{"".join(map(drawn, line))}</text>'
                      for number, line in enumerate(lines, 1) if line)
    buttons = "".join(f'<circle cx="{MARGIN + 18 * number}" cy="{BAR / 2:g}" r="5.5"/>'
                      for number in range(3))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" \
viewBox="0 0 {width} {height}" xml:space="preserve" aria-labelledby="title desc">
  <title id="title">Simple MCP Chat in a terminal</title>
  <desc id="desc">The demo answers three questions with the tools of two MCP servers: it adds two \
numbers, asks for the weather in two towns at the same time, and saves a picture while it counts \
slowly to five.</desc>
  <style>
    text {{ font: {SIZE}px {FONTS}; fill: {colours["text"]}; white-space: pre }}
    .dim {{ fill: {colours["dim"]} }}
    .bold {{ font-weight: 600 }}
{rules}
  </style>
  <rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8" \
fill="{colours["window"]}"/>
  <path d="M0.5 {BAR}.5V8.5a8 8 0 0 1 8-8H{width - 8.5}a8 8 0 0 1 8 8V{BAR}.5z" \
fill="{colours["bar"]}"/>
  <g fill="{colours["buttons"]}">{buttons}</g>
  <rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8" fill="none" \
stroke="{colours["frame"]}"/>
{texts}
</svg>
"""


def drawn(piece: tuple[str, str]) -> str:
    text, style = escape(piece[0], quote=False), piece[1]
    return f'<tspan class="{style}">{text}</tspan>' if style else text


def main() -> None:
    if os.name != "posix":
        sys.exit("This needs a pseudo-terminal, and Windows has none.")
    lines = session()
    for theme, colours in THEMES.items():
        path = HERE / f"session-{theme}.svg"
        path.write_text(picture(lines, colours), encoding="utf-8", newline="\n")
        print(f"Made {path.name}")


if __name__ == "__main__":
    main()
