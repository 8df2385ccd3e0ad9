"""A page as a list of blocks, written once as Markdown, once as one HTML file with everything in it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from trainyard.data.card_page import STYLE
from trainyard.data.problems import printable

OWN_STYLE = """
img.figure { max-width: 100%; height: auto; image-rendering: auto; background: #fff; }
figure { display: block; margin: 1.2rem 0; } pre { background: #8881; padding: .8rem; overflow-x: auto; border-radius: 6px; }
.wide { overflow-x: auto; } .wide th { white-space: normal; vertical-align: bottom; }
.wide code { overflow-wrap: normal; white-space: nowrap; }
"""


@dataclass(frozen=True, slots=True)
class Heading:
    """A title; level 1 is the page's own."""

    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; what stands between backticks is code."""

    text: str


@dataclass(frozen=True, slots=True)
class Points:
    """A list."""

    points: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """The first cell of a row is text, the others are shown as numbers."""


@dataclass(frozen=True, slots=True)
class Code:
    """Lines to type."""

    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG file."""

    file: str
    """Path relative to the page's folder."""
    caption: str


Block = Heading | Text | Points | Table | Code | Picture


def markdown(blocks: Iterable[Block]) -> str:
    """Return a page whose pictures are files beside it."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def html(title: str, blocks: Iterable[Block], folder: Path) -> str:
    """Return a page that needs no other file and no network."""
    body = "".join(_html(block, folder) for block in blocks)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(printable(title))}</title>'
    return f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}{OWN_STYLE}</style></head><body>{body}</body></html>\n'


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_plain(text)}"
        case Text(text):
            return _plain(text)
        case Points(points):
            return "\n".join(f"- {_plain(point)}" for point in points)
        case Table(header, rows):
            return "\n".join((_row(header), _row(("---", *("---:" for _ in header[1:])), raw=True), *map(_row, rows)))
        case Code(text):
            return f"```\n{text}\n```"
        case Picture(file, caption):
            return f"![{_plain(caption)}]({file})"


def _row(cells: Sequence[str], *, raw: bool = False) -> str:
    return f"| {' | '.join(cells if raw else map(_plain, cells))} |"


def _plain(text: str) -> str:
    """Return text in which nothing is markup but what stands between backticks."""
    pieces = printable(text).split("`")
    if len(pieces) % 2 == 0:
        pieces = ["'".join(pieces)]
    return "`".join(
        piece.replace("|", "\\|") if number % 2 else re.sub(r"([\\*_\[\]<>|#~])", r"\\\1", piece)
        for number, piece in enumerate(pieces)
    )


def _html(block: Block, folder: Path) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_marked(text)}</h{level}>"
        case Text(text):
            return f"<p>{_marked(text)}</p>"
        case Points(points):
            return f"<ul>{''.join(f'<li>{_marked(point)}</li>' for point in points)}</ul>"
        case Table(header, rows):
            head = "".join(f"<th{_number(place)}>{_marked(cell)}</th>" for place, cell in enumerate(header))
            body = "".join(
                f"<tr>{''.join(f'<td{_number(place)}>{_marked(cell)}</td>' for place, cell in enumerate(row))}</tr>"
                for row in rows
            )
            return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
        case Code(text):
            return f"<pre><code>{escape(text)}</code></pre>"
        case Picture(file, caption):
            encoded = base64.b64encode((folder / file).read_bytes()).decode()
            image = f'<img class="figure" alt="{escape(printable(caption))}" src="data:image/png;base64,{encoded}">'
            return f"<figure>{image}<figcaption>{_marked(caption)}</figcaption></figure>"


def _number(place: int) -> str:
    return ' class="number"' if place else ""


def _marked(text: str) -> str:
    """Return text as HTML, with code between backticks."""
    pieces = printable(text).split("`")
    if len(pieces) % 2 == 0:
        pieces = ["'".join(pieces)]
    return "".join(f"<code>{escape(piece)}</code>" if number % 2 else escape(piece) for number, piece in enumerate(pieces))
