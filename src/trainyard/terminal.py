"""What fits a terminal, however narrow it is: tables of which no word is broken, and text in lines of its width."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

WIDEST = 120
"""Characters of a line of text: longer ones are hard to follow. So many, too, where there is no terminal."""
LEGIBLE = 40
"""Characters that a column of long text needs, lest it be a tall and narrow one."""
GAP = 3
"""Characters between columns."""
UNSAID = ("", "?", "-")
"""What a cell holds that says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One of a table."""

    name: str
    right: bool = False
    """Numbers, which end below each other."""
    below: bool = False
    """Long text: it may take several lines, and is the first to leave its row where that is too long."""


def columns(kept: int, names: Sequence[str]) -> list[Column]:
    """Return columns of which all but the first few may leave their row."""
    return [Column(name=name, below=place >= kept) for place, name in enumerate(names)]


class Rows:
    """A table: a line for each row where the terminal has room; else some of its cells go below it, a line for each.

    First those of columns that say so; where that is not enough, all that have a name, but the first.
    """

    def __init__(self, columns: Sequence[Column], rows: Sequence[Sequence[str | Text]]) -> None:
        self.columns = tuple(columns)
        # As text, because what stands in brackets would be taken for a style.
        texts = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
        self.rows = [[*row, *[Text()] * (len(self.columns) - len(row))] for row in texts]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        if (widths := self._widths(options.max_width)) is not None:
            yield self._table(widths)
            return
        kept = [place for place, column in enumerate(self.columns) if not column.below]
        if self._line_width(kept) > options.max_width:
            kept = [place for place, column in enumerate(self.columns) if not place or not column.name]
        yield from self._stacked(kept, options)

    def _widths(self, room: int) -> list[int] | None:
        """Return how wide each column is in a table of which no word is broken; None where there is no room for it."""
        least, most = [], []
        for place, column in enumerate(self.columns):
            lines = [line for row in self.rows for line in row[place].plain.splitlines()]
            widest = _longest(lines)
            words = [word for line in lines for word in line.split()]
            needed = max(_longest(words), min(widest, LEGIBLE)) if column.below else widest
            least.append(max(needed, _longest(column.name.split())))
            wanted = max(needed, min(widest, 2 * LEGIBLE)) if column.below else widest
            most.append(max(wanted, cell_len(column.name)))
        spare = room - sum(least) - GAP * (len(self.columns) - 1)
        if spare < 0:
            return None
        widths = []
        for needed, wanted in zip(least, most, strict=True):
            widths.append(min(wanted, needed + spare))
            spare -= widths[-1] - needed
        return widths

    def _table(self, widths: Sequence[int]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
        for column, width in zip(self.columns, widths, strict=True):
            table.add_column(column.name, justify="right" if column.right else "left", width=width)
        for row in self.rows:
            table.add_row(*row)
        return table

    def _stacked(self, kept: Sequence[int], options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield the rows with what is kept of them, each with the rest below it."""
        whole, room = self._line_width(kept), options.max_width
        # Where even that is too long, columns below each other would make it longer still.
        widths = [self._cell_width(place) if whole <= room else 0 for place in kept]
        below = [place for place in range(len(self.columns)) if place not in kept]
        names = _longest([self.columns[place].name for place in below])
        if any(self.columns[place].name for place in kept):
            yield self._line([Text(column.name, style="bold") for column in self.columns], kept, widths)
            yield Text(("-" if options.ascii_only else "─") * min(room, whole))
        for row in self.rows:
            yield self._line(row, kept, widths)
            facts = Table.grid(padding=(0, 2, 0, 0))
            facts.add_column(min_width=names, no_wrap=True, style="dim")
            facts.add_column(overflow="fold")
            for place in below:
                if row[place].plain not in UNSAID:
                    facts.add_row(self.columns[place].name, row[place])
            if facts.row_count:
                yield Padding(facts, (0, 0, 0, 2), expand=False)

    def _line(self, row: Sequence[Text], kept: Sequence[int], widths: Sequence[int]) -> Text:
        cells = [_one_line(row[place]) for place in kept]
        for cell, place, width in zip(cells, kept, widths, strict=True):
            if width:
                cell.align("right" if self.columns[place].right else "left", width)
        line = Text(" " * GAP).join(cells)
        line.rstrip()
        return line

    def _line_width(self, kept: Sequence[int]) -> int:
        return sum(map(self._cell_width, kept)) + GAP * (len(kept) - 1)

    def _cell_width(self, place: int) -> int:
        return _longest([self.columns[place].name, *(_one_line(row[place]).plain for row in self.rows)])


def _one_line(cell: Text) -> Text:
    return Text(" ").join(cell.split())


def _longest(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts), default=0)


def filled(text: str, indent: int, first: str | None = None) -> str:
    """Return a paragraph in lines of the terminal's width.

    Args:
        text: without line breaks.
        indent: blanks before each line.
        first: what stands before the first one instead.
    """
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    return textwrap.fill(
        text,
        max(width, indent + LEGIBLE),
        initial_indent=" " * indent if first is None else first,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
