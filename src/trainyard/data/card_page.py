"""The card of a packed data set as one HTML page: everything in it, nothing fetched."""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainyard.data.packed import SPLITS, Card, Split, open_split
from trainyard.data.problems import printable

CLASSES_SHOWN = 24
SAMPLES_OF_CLASS = 6
TEXTS_OF_CLASS = 2
MASKS_SHOWN = 12
BINS = 32
POINTS = 1000
"""Of a curve."""
PICTURE = (480, 96)
"""Most width and height of a picture on the page, in pixels."""
VALUES_READ = 2_000_000
"""Pixels that the histogram of values is made of."""
COLOURS = ("#2563cb", "#e07b27", "#2a9d5b", "#d33f3f", "#8a5fc9", "#8c5a3c", "#e377b4", "#a3a31a", "#1fa9bd", "#1f2d6b")
STYLE = """
:root { color-scheme: light dark; --line: #d0d7de; --soft: #6b7280; --bar: #2563cb; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; font-size: 1.15rem; }
.soft, small { color: var(--soft); } code { font-size: .85em; }
/* Paths and names without spaces. */
td, code, h1, h3, p, figcaption, blockquote { overflow-wrap: anywhere; }
.whole td { overflow-wrap: normal; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; font-weight: 600; }
td, th { padding: .2rem .6rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bar { display: inline-block; height: .7rem; background: var(--bar); border-radius: 2px; min-width: 1px; }
figure { display: inline-block; margin: 0 .6rem .8rem 0; } figcaption { font-size: .8rem; color: var(--soft); }
img { image-rendering: pixelated; border-radius: 3px; display: inline-block; margin-right: 3px; }
blockquote { margin: .3rem 0 .6rem; padding-left: .8rem; border-left: 3px solid var(--line); }
.histogram { display: flex; align-items: flex-end; height: 6rem; gap: 1px; border-bottom: 1px solid var(--line); }
.histogram span { flex: 1; background: var(--bar); min-height: 1px; }
.axis { display: flex; justify-content: space-between; font-size: .8rem; color: var(--soft); }
.named { display: inline-block; }
.key { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin: 0 .3rem 0 .8rem; }
"""


def write_page(folder: Path, card: Card) -> None:
    """Write card.html beside card.json."""
    train = open_split(folder, "train", card)
    parts = [
        f"<h1>{_text(card.name)}</h1>",
        f"<p>{_text(card.about)}</p>",
        *_origin(card),
        f'<p class="soft">source {_text(card.source)} · {_shape(card)} · data <code>{card.sha256}</code></p>',
        *_problems("Warnings", card.warnings),
        *_problems("Why samples were left out", card.skipped),
        *_balance(card),
        *_samples(train, card),
        *_values(train, card),
        *_splits(card),
        *_libraries(card),
    ]
    head = f'<meta charset="utf-8"><title>{_text(card.name)}: data card</title><style>{STYLE}</style>'
    page = f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'
    (folder / "card.html").write_text(page, encoding="utf-8")


def _shape(card: Card) -> str:
    return ", ".join(f"{_text(name.replace('_', ' '))} {value:,}" for name, value in card.input.items())


def _origin(card: Card) -> list[str]:
    """Return the licence of published data, and what to cite."""
    if not card.origin:
        return []
    url = card.origin["licence_url"]
    # A descriptor may say anything; only a web address becomes a link.
    link = f'<a href="{_text(url)}">{_text(url)}</a>' if url.startswith(("http://", "https://")) else _text(url)
    return [f"<p>Licence: {_text(card.origin['licence'])}, {link}<br>Cite: {_text(card.origin['citation'])}</p>"]


def _problems(title: str, problems: Sequence[dict[str, Any]]) -> list[str]:
    if not problems:
        return []
    rows = ([problem["rule"], problem["where"], problem["found"], problem["expected"]] for problem in problems)
    count = sum(problem.get("count", 1) for problem in problems)
    return [f"<h2>{title} ({count:,})</h2>", _table(("rule", "where", "found", "expected"), rows)]


def _balance(card: Card) -> list[str]:
    """Return the samples (or pixels) of each class in each split, with a bar for the training split."""
    unit = {"segmentation": "pixels", "forecasting": "steps"}.get(card.kind, "samples")
    most = max(card.counts["train"].values(), default=0) or 1
    rows = []
    for name in card.classes:
        share = 100 * card.counts["train"][name] / most
        bar = f'<span class="bar" style="width:{share:.2f}%"></span>'
        numbers = "".join(f'<td class="number">{card.counts[split][name]:,}</td>' for split in SPLITS)
        rows.append(f'<tr><td>{_text(name)}</td>{numbers}<td style="width:40%">{bar}</td></tr>')
    numbers = "".join(f'<th class="number">{split}</th>' for split in SPLITS)
    noun = "target" if card.kind == "forecasting" else "class"
    header = f"<th>{noun}</th>{numbers}<th>{unit} of the training split</th>"
    table = f"<table><tr>{header}</tr>{''.join(rows)}</table>"
    if card.kind == "forecasting":
        return ["<h2>Targets</h2>", table]
    duplicates = f"{card.duplicates_dropped:,} samples were left out because they equal another one."
    return ["<h2>Classes</h2>", table, f'<p class="soft">{duplicates}</p>']


def _samples(train: Split, card: Card) -> list[str]:
    if card.kind == "forecasting":
        return _curves(train, card)
    title = "<h2>Samples of the training split</h2>"
    if card.kind == "text_classification":
        return [title, *_texts(train, card)]
    if card.kind == "segmentation":
        return [title, *_masks(train, card)]
    rows = []
    for number, name in enumerate(card.classes[:CLASSES_SHOWN]):
        positions = np.flatnonzero(train.arrays["labels"] == number)[:SAMPLES_OF_CLASS]
        pictures = "".join(_picture(train.arrays["images"][position], train.sample_name(position)) for position in positions)
        rows.append(f"<figure>{pictures}<figcaption>{_text(name)}</figcaption></figure>")
    return [title, *rows, *_more(len(card.classes) - CLASSES_SHOWN)]


def _masks(train: Split, card: Card) -> list[str]:
    keys = "".join(
        f'<span class="named"><span class="key" style="background:{_colour(number)}"></span>{_text(name)}</span> '
        for number, name in enumerate(card.classes)
        if number
    )
    figures = []
    for position in range(min(MASKS_SHOWN, len(train))):
        image, mask = train.arrays["images"][position], np.asarray(train.arrays["masks"][position])
        pictures = _picture(image, train.sample_name(position)) + _picture(overlay(image, mask), "with its mask")
        figures.append(f"<figure>{pictures}<figcaption>{_text(train.sample_name(position))}</figcaption></figure>")
    return [f"<p>{keys}</p>", *figures]


def _colour(number: int) -> str:
    """Return the colour of a class of masks, counted from 1; behind the first ones, hues that are far from the one before."""
    if number <= len(COLOURS):
        return COLOURS[number - 1]
    hue = number * (5**0.5 - 1) / 2 % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.9, 0.5)[number % 2], (0.95, 0.6, 0.8)[number % 3])
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def overlay(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image (C, H, W) as (3, H, W) with the classes of its mask (H, W), but 0, in half-transparent colours."""
    shown = np.broadcast_to(image if len(image) == 3 else image[:1], (3, *mask.shape)).astype(np.float64)
    codes = [_colour(number) for number in range(1, int(mask.max(initial=0)) + 1)]
    palette = [(0, 0, 0), *([int(code[start : start + 2], 16) for start in (1, 3, 5)] for code in codes)]
    colours = np.array(palette, dtype=np.float64)[mask].transpose(2, 0, 1)
    return np.where(mask > 0, (shown + colours) / 2, shown).astype(np.uint8)


def _texts(train: Split, card: Card) -> list[str]:
    parts = []
    for number, name in enumerate(card.classes[:CLASSES_SHOWN]):
        parts.append(f"<h3>{_text(name)}</h3>")
        for position in np.flatnonzero(train.arrays["labels"] == number)[:TEXTS_OF_CLASS]:
            parts.append(f'<blockquote dir="auto">{_text(train.text(position)[:600])}</blockquote>')
    return [*parts, *_more(len(card.classes) - CLASSES_SHOWN)]


def _curves(train: Split, card: Card) -> list[str]:
    """Return the course of each column over the training split, in its own unit."""
    parts = ["<h2>The training split, column by column</h2>"]
    values = train.arrays["values"]
    step = max(1, len(values) // POINTS)
    for number, name in enumerate(card.columns[:CLASSES_SHOWN]):
        mean, std = card.normalisation["mean"][number], card.normalisation["std"][number]
        # The mean of each stretch, and not one step of it: what is left out would hide or make up waves.
        used = np.asarray(values[: len(values) // step * step, number], dtype=np.float64).reshape(-1, step).mean(axis=1)
        low, high = float(used.min()), float(used.max())
        heights = 100 - 100 * (used - low) / (high - low or 1.0)
        line = " ".join(f"{at},{height:.1f}" for at, height in enumerate(heights))
        parts.append(
            f'<p class="soft">{_text(name)}: mean {mean:.4g}, std {std:.4g}, shown from {low * std + mean:.4g} to '
            f'{high * std + mean:.4g}</p><svg viewBox="0 0 {len(used)} 100" preserveAspectRatio="none" '
            f'width="100%" height="70"><polyline points="{line}" fill="none" stroke="#2563cb" '
            f'vector-effect="non-scaling-stroke"/></svg>'
        )
    return [*parts, *_more(len(card.columns) - CLASSES_SHOWN, "columns")]


def _values(train: Split, card: Card) -> list[str]:
    """Return how long texts are, or which values pixels take."""
    if card.kind == "forecasting":
        return []
    if card.kind == "text_classification":
        lengths = np.diff(train.arrays["offsets"])
        cut = int((lengths >= card.input["max_length"]).sum())
        note = (
            f"Median {np.median(lengths):.0f} tokens, 95 % have {np.percentile(lengths, 95):.0f} or fewer, the longest "
            f"{lengths.max()}; {cut:,} of {len(lengths):,} training texts reach the limit of {card.input['max_length']:,}."
        )
        return [
            "<h2>Lengths in tokens</h2>",
            _histogram(lengths, int(lengths.min()), int(lengths.max())),
            f'<p class="soft">{note}</p>',
        ]
    images = train.arrays["images"]
    pixels = images[: max(1, VALUES_READ // max(1, int(np.prod(images.shape[1:]))))]
    channels = zip(card.normalisation["mean"], card.normalisation["std"], strict=True)
    note = "; ".join(f"channel {number}: mean {mean:.3f}, std {std:.3f}" for number, (mean, std) in enumerate(channels))
    return [
        "<h2>Values of the pixels</h2>",
        _histogram(np.asarray(pixels).ravel(), 0, 255),
        f'<p class="soft">Of pixels divided by 255: {note}</p>',
    ]


def _histogram(values: NDArray[Any], low: int, high: int) -> str:
    # As many whole numbers for each bar: others would leave gaps between them.
    width = -(-(high - low + 1) // BINS)
    bins = -(-(high - low + 1) // width)
    counts, _ = np.histogram(values, bins=bins, range=(low, low + width * bins))
    bars = "".join(
        f'<span style="height:{100 * count / max(1, counts.max()):.2f}%" title="{count:,}"></span>' for count in counts
    )
    return f'<div class="histogram">{bars}</div><div class="axis"><span>{low}</span><span>{high}</span></div>'


def _splits(card: Card) -> list[str]:
    rows = [
        [
            split,
            f"{card.samples[split]:,}",
            file,
            " x ".join(map(str, described["shape"])),
            described["dtype"],
            sha256,
        ]
        for split in SPLITS
        for described in card.arrays[split].values()
        for file, sha256 in described["files"].items()
    ]
    return ["<h2>Splits</h2>", _table(("split", "samples", "file", "shape of the array", "type", "sha256"), rows, "whole")]


def _libraries(card: Card) -> list[str]:
    if not card.libraries:
        return []
    return ["<h2>Libraries that the samples depend on</h2>", _table(("library", "version"), card.libraries.items())]


def _table(header: Sequence[str], rows: Iterable[Iterable[str]], kind: str = "long") -> str:
    head = "".join(f"<th>{name}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="{kind}"><tr>{head}</tr>{body}</table>'


def _picture(image: NDArray[np.uint8], title: str) -> str:
    """Return an image (C, H, W) as an element, 96 pixels high where that is not too wide, its file within."""
    from PIL import Image

    pixels = np.asarray(image)
    picture = Image.fromarray(pixels[0] if len(pixels) != 3 else pixels.transpose(1, 2, 0))
    scale = min(most / side for most, side in zip(PICTURE, picture.size, strict=True))
    width, height = (max(2, round(scale * side)) for side in picture.size)
    picture.thumbnail((2 * width, 2 * height))
    content = io.BytesIO()
    picture.save(content, format="PNG")
    encoded = base64.b64encode(content.getvalue()).decode()
    size = f'width="{width}" height="{height}"'
    return f'<img {size} alt="{_text(title)}" title="{_text(title)}" src="data:image/png;base64,{encoded}">'


def _more(left: int, noun: str = "classes") -> list[str]:
    return [f'<p class="soft">and {left:,} {noun} more</p>'] if left > 0 else []


def _text(text: str) -> str:
    return escape(printable(text))
