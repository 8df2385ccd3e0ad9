"""Pieces of HTML and inline SVG. All text that comes from outside passes `text`."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainyard.comparing.page_style import LIGHT
from trainyard.data.problems import printable

WIDTH, HEIGHT = 480, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 8, 26
"""Margins of a chart."""
POINTS = 300
"""Of one line; of more, every so many are left out."""
SIDE, SMALL_SIDE = 96, 56
"""Pixels of a picture's longer side; the small ones stand in long tables."""


def text(value: Any) -> str:
    """Return a value as it may stand in HTML."""
    return escape(printable(str(value)))


def number(value: float | None, digits: int = 4) -> str:
    """Return a number for a table; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.{digits}f}" if 1e-3 <= abs(value) < 1e5 else f"{value:.3g}"


def key(position: int) -> str:
    """Return the stroke in a model's colour."""
    broken = " broken" if position >= len(LIGHT) else ""
    return f'<span class="key m{position}{broken}"></span>'


def table(header: Iterable[str], rows: Iterable[Iterable[str]], of: str = "") -> str:
    """Return a table that scrolls sideways; header and rows hold whole cells."""
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return (
        f'<div class="scroll"><table class="{of}"><thead><tr>{"".join(header)}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def picture(pixels: NDArray[np.uint8], title: str, side: int = SIDE) -> str:
    """Return an image (H, W) or (H, W, 3), small, as an element with its file within."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    large = max(image.size) > side
    if large:
        image.thumbnail((side, side))
    # Small images are enlarged by a whole number, so that their pixels stay square.
    times = max(1, side // max(image.size))
    content = io.BytesIO()
    # Lossless where the pixels are few and shown as such, and small where they are a photograph.
    image.save(content, format="WEBP", lossless=not large, quality=80)
    encoded = base64.b64encode(content.getvalue()).decode()
    shown = f'width="{image.width * times}" height="{image.height * times}"'
    smooth = ' class="smooth"' if large else ""
    return f'<img{smooth} {shown} alt="{text(title)}" title="{text(title)}" src="data:image/webp;base64,{encoded}">'


def chart(title: str, lines: Sequence[tuple[str, str, Sequence[tuple[float, float]]]], axis: str) -> str:
    """Return a chart of lines.

    Args:
        title: above it.
        lines: label, class and points of each.
        axis: what is counted from left to right.
    """
    finite = [(x, y) for _, _, points in lines for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not finite:
        return ""
    low_x, high_x = min(x for x, _ in finite), max(x for x, _ in finite)
    ticks = nice_ticks(min(y for _, y in finite), max(y for _, y in finite))
    low, high = min(ticks[0], min(y for _, y in finite)), max(ticks[-1], max(y for _, y in finite))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - low_x) / ((high_x - low_x) or 1)
        up = (y - low) / ((high - low) or 1)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in ticks:
        _, at = place(low_x, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:.6g}</text>')
    for x, anchor in ((low_x, "start"), (high_x, "end")):
        parts.append(f'<text x="{place(x, low)[0]:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{x:g}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{text(axis)}</text>')
    for label, named, points in lines:
        shown = [place(x, y) for x, y in thinned(points) if math.isfinite(x) and math.isfinite(y)]
        if not shown:
            continue
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in shown)
        # One point is no line yet, and would not be seen.
        dot = f'<circle class="line {named}" cx="{shown[0][0]:.1f}" cy="{shown[0][1]:.1f}" r="2.5"/>' if len(shown) == 1 else ""
        parts.append(
            f'<g class="{named}"><title>{text(label)}</title><polyline class="line {named}" points="{path}"/>{dot}</g>'
        )
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(title)}">{"".join(parts)}</svg>'
    return f"<figure><figcaption>{text(title)}</figcaption>{svg}</figure>"


def thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return at most so many points of a line as are seen, the last one among them."""
    step = -(-len(points) // POINTS)
    return [*points[::step], points[-1]] if step > 1 else points


def nice_ticks(low: float, high: float) -> list[float]:
    """Return four to eight round numbers that lie within a range, or enclose it where it is a point."""
    if high <= low:
        low, high = low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(count * step, 12) for count in range(first, math.floor(high / step + 1e-9) + 1)] or [low, high]
