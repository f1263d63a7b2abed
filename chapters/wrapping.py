r"""Wrapping: how does an answer look while it is still being written?

A model's words come in pieces, and we show each piece at once. A terminal breaks a line where it is
full, even in the middle of a word. When we notice that a word doesn't fit, its beginning has been
printed already. So we take it back: "\r" moves to the beginning of the row, and "\x1b[J" erases
what follows. In a window of 20 columns:

    piece                what we print                               the last row

    "Lima is a big t"    "A: Lima is a big t"                        A: Lima is a big t
    "own in **P"         "\r\x1b[JA: Lima is a big \ntown in **P"    town in **P
    "eru**"              "\r\x1b[Jtown in \x1b[1mPeru\x1b[0m"        town in Peru (which is bold)

Each time, we lay out the whole line anew, compare that with what is shown, and print the
difference. So it doesn't matter where the pieces are cut. (A line is the model's, and ends with
"\n". On the screen it has one row or several.)

The codes are those of ECMA-48. How wide a character is: https://www.unicode.org/reports/tr11/.
What headings, code and **bold** text are: https://spec.commonmark.org/0.31.2/.

Left out: other Markdown; hyphens; most of the rules for where Chinese and Japanese lines may be
broken (https://www.unicode.org/reports/tr14/); what you type while an answer comes.

Try it:

>>> answer = Answer("A: ", lambda: (20, 24))
>>> answer.add("Lima is a big t"), answer.add("own")
('A: Lima is a big t', '\r\x1b[JA: Lima is a big \ntown')
"""

import functools
import os
import re
import sys
import unicodedata
from collections.abc import Callable
from typing import Any

BOLD, DIM, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
# Patterns. (They are compiled when an answer comes, so that a start is fast.)
# Asterisks in code mean something else, and so do those of 2**3 and of f(**options).
STRONG = r"`[^`]+`|(?<![A-Za-z0-9_*])\*\*(?=\S)([^*]+)(?<=\S)\*\*(?![A-Za-z0-9])"
HEADING = "#{1,6} +"
FENCE = " *(```+)([^`]*)"  # the line before a block of code, and the one after it
BEGINNING = r" *((\d+[.)]|[-*+•>]) +)*"  # of an item in a list, or of a quotation
LONG = "(?s).{240}([^ ]{0,239} |[^ ]{240})"  # of a line: no more of it is laid out anew each time

# A row may end at a space, and beside a Chinese or Japanese character or an emoji; but not before
# what FOLLOWS: closing brackets, signs, accents, and what an emoji is joined with.
FOLLOWS = (r"(?:[),.:;!?\]}、。，．：；！？）」』】〉》”’ー\u0300-\u036f\u3099\u309a\ufe0f"
           r"\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]|\u200d.)*")
WIDE = (r"[（「『【〈《“‘]*(?:[\U0001f1e6-\U0001f1ff]{2}|"  # (two such letters are a flag)
        r"[\u2e80-\ua4cf\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U0001f000-\U0003ffff])")
WORD = f" +|{WIDE}{FOLLOWS}|(?:(?!{WIDE})[^ ])+{FOLLOWS}"


def takes_codes(stream: Any) -> bool:
    """Whether what we print there comes to a terminal in which we can move the cursor."""
    if not stream.isatty() or os.getenv("TERM") == "dumb":
        return False
    if sys.platform != "win32":
        return True
    import ctypes
    import msvcrt
    os.system("")  # has the side effect that the console understands codes, ...
    mode, handle = ctypes.c_ulong(), ctypes.c_void_p(msvcrt.get_osfhandle(stream.fileno()))
    ctypes.windll.kernel32.GetConsoleMode(handle, ctypes.byref(mode))
    return bool(mode.value & 4)  # ... unless it is an old one


@functools.lru_cache(4096)
def width(character: str) -> int:
    """How many columns it takes at most: terminals differ.

    >>> [width(one) for one in ("a", "好", "\\u0301", "😀")]
    [1, 2, 0, 2]
    """
    kind = unicodedata.category(character)
    if kind in ("Mn", "Me", "Cf"):
        return int(character in "\ufe0f\xad")  # (the first one may widen what is before it)
    is_wide = unicodedata.east_asian_width(character) in ("W", "F") or kind == "Cn" or \
        "\U0001f1e6" <= character <= "\U0001f1ff"  # (a flag is two such letters)
    return 2 if is_wide else 1


class Answer:
    """An answer on the screen. add() takes a piece of it, and returns what to print."""

    def __init__(self, start: str, size: Callable | None, styled: bool = False):
        """`start` comes before it. `size` says how many columns and rows the window has; None:
        there is no window, and the text stays as it is. `styled`: show what is bold as such."""
        self.size, self.styled = size, styled
        self.window: Any = None  # its size when we last printed something
        self.fence = ""          # "```": we are in a block of code, which has begun with that
        self.begin_line(start)

    def begin_line(self, before: str) -> None:
        self.line = ""        # what we know of it, ...
        self.before = before  # ... what is in its first row already, ...
        self.column = len(before.strip("\n"))  # ... and where that ends
        self.last = ""        # the character before self.line, if that isn't the whole line
        self.margin = 0       # where its second row begins
        self.rows = [""]      # what we have printed of it

    def add(self, text: str) -> str:
        if not self.size:
            text, self.before = self.before + text, ""
            return text
        size = self.size()
        if self.window not in (None, size):  # only the terminal knows where everything is now
            self.settle()
        self.window = size
        first, *others = text.replace("\t", " " * 8).split("\n")
        printed = self.add_to_line(first)
        for one in others:
            if ticks := self.ticks():
                self.fence = "" if self.fence else ticks
            self.begin_line("\n")
            printed += self.add_to_line(one)
        return printed.replace(PLAIN + BOLD, "").replace(PLAIN + DIM, "")

    def add_to_line(self, text: str) -> str:
        self.line, printed = self.line + text, ""
        while found := re.match(LONG, self.line):  # or each piece would take longer than the last
            self.line, rest = found[0], self.line[found.end():]
            printed += self.draw()
            self.settle()
            self.line = rest
        printed += self.draw()
        # What can't change any more needn't be laid out again. (A mark may make it bold later.)
        if len(self.rows) > 1 and text.endswith(" ") and not set("#*`") & set(self.line):
            self.settle()
        return printed

    def settle(self) -> None:
        """Let everything stay where it is. The line goes on behind it."""
        _, self.column = self.lay_out()
        self.before, self.last = self.rows[-1], self.line[-1:] or self.last
        self.line, self.rows = "", [self.before]

    def draw(self) -> str:
        """What makes the rows that should be there of those that are."""
        old, (new, _) = self.rows, self.lay_out()
        self.rows = new
        if "".join(new).startswith("".join(old)):
            return "".join(new)[len("".join(old)):]
        first = min(len(os.path.commonprefix([old, new])), len(new) - 1)  # of the rows that change
        up = min(len(old) - 1 - first, self.window[1] - 1)  # (or the cursor stops there by itself)
        return "\r" + f"\x1b[{up}A" * (up > 0) + "\x1b[J" + "".join(new[first:]).removeprefix("\n")

    def lay_out(self) -> tuple[list[str], int]:
        """The rows of the line, and the column in which the last one ends."""
        line, (columns, _) = self.line, self.window
        cells = self.cells(line)
        if self.fence and not self.ticks():  # code is left to the terminal, however long a line is
            return [self.before + "".join(cells)], 0
        sizes = [width(one) if cell else 0 for one, cell in zip(line, cells, strict=True)]
        rows, column = [self.before], self.column
        if not self.last and (found := re.match(BEGINNING, line)):
            indent = column + found.end()
            self.margin = indent if column < indent < columns // 2 else 0
        for word in re.finditer(WORD, line):
            first, last = word.span()
            if word[0][0] == " ":
                last = min(last, first + max(columns - 1 - column, 0))  # nobody sees the others
            elif (first or self.last in ("", " ")) and column > self.margin and \
                    column + sum(sizes[first:last]) >= columns:
                rows.append("\n" + " " * self.margin)
                column = self.margin
            for cell, size in zip(cells[first:last], sizes[first:last], strict=True):
                # The word is longer than a row. (self.column may be that of a wider window.)
                if column + size > columns >= self.column:
                    # Where the terminal itself begins the next one, a URL can still be clicked on.
                    rows.append("" if word[0].isascii() else "\n")
                    column = 0
                rows[-1] += cell
                column += size
        return rows, column

    def cells(self, line: str) -> list[str]:
        """What to print for each character of the line."""
        cells = list(line)
        if not self.styled:
            return cells
        if self.fence or self.ticks():
            return [DIM + one + PLAIN for one in line] if self.ticks() else cells
        if not self.last and (heading := re.match(HEADING, line)):
            cells = [""] * heading.end() + [BOLD + one + PLAIN for one in line[heading.end():]]
        for strong in re.finditer(STRONG, line):
            if strong[1]:
                first, last = strong.span(1)
                cells[first:last] = [BOLD + one + PLAIN for one in strong[1]]
                cells[first - 2:first] = cells[last:last + 2] = "", ""
        return cells

    def ticks(self) -> str:
        """The backticks, if this line begins or ends a block of code."""
        found = None if self.last else re.fullmatch(FENCE, self.line)
        if not found or self.fence and (found[2].strip() or not found[1].startswith(self.fence)):
            return ""
        return found[1]
