"""Words in figures: the room they take, names cut and texts broken to fit, and fonts for scripts that the usual one lacks."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

FONT = "DejaVu Sans"
"""It comes with matplotlib, and has Latin, Greek, Cyrillic, Arabic and Hebrew letters."""
OTHER_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei"),
    *("WenQuanYi Zen Hei", "Droid Sans Fallback", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB"),
    *("Noto Sans CJK KR", "Noto Sans KR", "Malgun Gothic", "Apple SD Gothic Neo", "Noto Sans CJK TC"),
    *("Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Telugu", "Noto Sans Thai"),
    *("Lohit Devanagari", "Nirmala UI", "Leelawadee UI", "Arial Unicode MS", "Noto Sans Symbols2"),
)
"""Asked in this order for the letters that the first font lacks, where they are installed."""
WIDE, CAPITAL = 2.2, 1.25
"""Of a Chinese character or a pictogram, and of a capital letter, in small Latin letters."""


def families(installed: Iterable[str]) -> list[str]:
    """Return the fonts that letters are looked for in, one after the other."""
    known = set(installed)
    return [FONT, *(name for name in OTHER_FONTS if name in known)]


def room(text: str) -> float:
    """Return about how many small Latin letters a line of text is as wide as."""
    return sum(map(_room, text))


def shorten(text: str, width: int) -> str:
    """Return text that is as wide as `width` small letters at most: its beginning and its end, where names mostly differ."""
    if room(text) <= width:
        return text
    tail = _fitting(text[::-1], (width - 1) * 0.4)[::-1]
    return f"{_fitting(text, width - 1 - room(tail))}…{tail}"


def wrap(text: str, width: int) -> list[str]:
    """Return text in lines as wide as `width` small letters at most, broken at spaces, or anywhere where there are none."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and room(line) + 1 + room(word) <= width:
            line = f"{line} {word}"
            continue
        if line:
            lines.append(line)
        *whole, line = _pieces(word, width)
        lines += whole
    return [*lines, line] if line else lines


def fill(text: str, width: int) -> str:
    """Return text with line breaks, as `wrap` sets them."""
    return "\n".join(wrap(text, width))


def fill_some(text: str, width: int, most: int) -> str:
    """Return the first lines of a text, so many at most, with a sign that there are more."""
    # No more of a text of megabytes than can be shown.
    lines = wrap(text[: 4 * width * most], width) or ["(empty)"]
    return "\n".join(lines[:most]) + (" …" if len(lines) > most else "")


def _pieces(word: str, width: int) -> list[str]:
    """Return a word in pieces that fit, the last one of what is left; in one pass, as a text without spaces is one word."""
    pieces, start, used = [], 0, 0.0
    for end, letter in enumerate(word):
        needed = _room(letter)
        if end > start and used + needed > width:
            pieces.append(word[start:end])
            start, used = end, 0.0
        used += needed
    return [*pieces, word[start:]]


def _room(letter: str) -> float:
    if unicodedata.east_asian_width(letter) in "WF":
        return WIDE
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0.0
    return CAPITAL if letter.isupper() else 1.0


def _fitting(text: str, width: float) -> str:
    """Return the beginning of text that fits, one letter at least."""
    end, used = 0, 0.0
    while end < len(text) and (not end or used + _room(text[end]) <= width):
        used += _room(text[end])
        end += 1
    return text[:end]
