"""A window to look at: what a person sees of all that a program has printed.

    Window(40).print(terminal.raw).rows

It is `pyte`, a terminal in memory.
"""

import unicodedata

import pyte


class Screen(pyte.Screen):
    def draw(self, data: str) -> None:
        """pyte forgets what comes after a joiner, and begins a row for an accent that belongs to
        the last column. Terminals don't."""
        for character in data:
            if unicodedata.category(character) in ("Mn", "Me", "Cf"):
                self.mode.discard(pyte.modes.DECAWM)
            super().draw(character)
            self.mode.add(pyte.modes.DECAWM)


class Window:
    def __init__(self, columns: int = 40, rows: int = 300):
        self.screen = Screen(columns, rows)
        self.stream = pyte.Stream(self.screen)

    def print(self, text: str) -> "Window":
        """A program's "\\n" becomes "\\r\\n" on its way to a terminal."""
        self.stream.feed(text.replace("\r\n", "\n").replace("\n", "\r\n"))
        return self

    @property
    def rows(self) -> list[str]:
        """What is seen, without the spaces at the ends."""
        cells, columns = self.screen.buffer, range(self.screen.columns)
        found = ["".join(cells[row][column].data for column in columns).rstrip(" ")
                 for row in range(max(cells, default=0) + 1)]
        return "\n".join(found).rstrip().split("\n")

    @property
    def bold(self) -> list[str]:
        """What is bold, in each row where something is."""
        found = ["".join(cell.data for _, cell in sorted(row.items()) if cell.bold)
                 for _, row in sorted(self.screen.buffer.items())]
        return [one for one in found if one]

    @property
    def everything(self) -> tuple:
        """What is seen, and where the next character would stand."""
        return self.rows, self.bold, self.screen.cursor.y, self.screen.cursor.x
