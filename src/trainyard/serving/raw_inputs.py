"""Raw inputs, as users have them, to what a graph takes: as the recipe's data source did with the raw data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainyard.data.image_files import MAX_PIXELS, ImageFileError, decode_image
from trainyard.data.raw_form import ImageForm, SeriesForm, TextForm
from trainyard.data.text import encode
from trainyard.serving.bad_input import BadInput
from trainyard.serving.model_file import Signature

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Rows = Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]] | NDArray[Any]
"""Of a series, the oldest first: for each step a number a column, by the columns' names or in their order; None where
it is missing."""
Raw = bytes | str | Mapping[str, str] | Rows
"""An encoded image, a text (or the columns that a recipe joins to one), or the rows of a series."""
SHOWN = 40
"""Characters of a value that messages show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is taken at once; more is refused before it takes memory or time."""

    pixels: int = MAX_PIXELS
    """Of one image."""
    characters: int = 1_000_000
    """Of one text."""
    rows: int = 100_000
    """Of one series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One input as the graph takes it, and what is needed to give the answer in the user's own terms."""

    array: NDArray[Any]
    """Pixels (C, H, W) uint8, tokens (T,) int64, or numbers (context_length, F) float32 in the columns' own units."""
    size: tuple[int, int] = (0, 0)
    """Height and width of the image as it came, turned upright."""


def image_sample(raw: object, form: ImageForm, field: str, limits: Limits) -> Sample:
    """Decode an image file.

    Raises:
        BadInput: it is none, damaged, too large, or of pixels that no rule covers.
    """
    if not isinstance(raw, bytes | bytearray | memoryview):
        raise BadInput(field, _kind(raw), "expected the bytes of an image file", "not-an-image")
    try:
        pixels, facts = decode_image(
            bytes(raw), channels=form.channels, size=form.size, resize=form.resize, max_pixels=limits.pixels
        )
    except ImageFileError as error:
        raise BadInput(field, error.found, error.expected, error.rule) from None
    return Sample(array=pixels, size=(facts.height, facts.width))


def text_sample(raw: object, form: TextForm, tokenizer: Tokenizer, max_length: int, field: str, limits: Limits) -> Sample:
    """Turn a text into tokens.

    Raises:
        BadInput: it is no text, has nothing in it that can be read, or is too long.
    """
    if isinstance(raw, Mapping):
        raw = _joined(raw, form.columns, field)
    if not isinstance(raw, str):
        raise BadInput(field, _kind(raw), "expected a text", "not-a-text")
    if len(raw) > limits.characters:
        raise BadInput(field, f"{len(raw):,} characters", f"expected at most {limits.characters:,}", "too-long")
    if not raw.isprintable() and any("\ud800" <= sign <= "\udfff" for sign in raw):
        raise BadInput(
            field, "half of a character (a lone surrogate)", "expected text that can be written as UTF-8", "encoding"
        )
    text = raw
    if form.without_names:
        from trainyard.data.docstrings import strip_names

        text = strip_names(raw, form.without_names)
    if not any(sign.isprintable() and not sign.isspace() for sign in raw):
        raise BadInput(field, "a text with nothing in it to read", "expected words", "empty-text")
    tokens, _ = encode(tokenizer, [text], max_length)
    return Sample(array=tokens.astype(np.int64))


def _joined(row: Mapping[Any, Any], columns: tuple[str, ...], field: str) -> str:
    """Return the text of a row, as data.text_table joins its columns."""
    for name in columns:
        if name not in row:
            raise BadInput(f"{field}.{name}", "no such column", f"expected {', '.join(columns)}", "no-column")
        if not isinstance(row[name], str):
            raise BadInput(f"{field}.{name}", _kind(row[name]), "expected a text", "not-a-text")
    parts = [row[name] for name in columns]
    return parts[0] if len(parts) == 1 else " ".join(part for part in parts if part.strip())


def series_sample(raw: object, signature: Signature, form: SeriesForm, field: str, limits: Limits) -> Sample:
    """Take the last steps of a series, with what is missing filled in as the recipe says.

    Raises:
        BadInput: a column or a number is missing, too few or too many rows.
    """
    values = _table(raw, signature, field, limits)
    missing = np.isnan(values)
    if missing.any():
        row, column = (int(place) for place in np.argwhere(missing)[0])
        where = f"{field}[{row}].{signature.columns[column]}"
        if form.missing == "refuse":
            raise BadInput(where, "no number", "expected a number: the recipe says missing: refuse", "no-number")
        if missing[-1].any():
            where = f"{field}[{len(values) - 1}].{signature.columns[int(np.argmax(missing[-1]))]}"
            raise BadInput(where, "no number", "expected one in the last row, which the forecast goes on from", "no-number")
        values = _filled(values, signature.columns, field)
    context = values[-signature.context_length :]
    with np.errstate(over="ignore"):
        narrow = context.astype(np.float32)
    if not np.isfinite(narrow).all():
        row, column = (int(place) for place in np.argwhere(~np.isfinite(narrow))[0])
        where = f"{field}[{len(values) - len(context) + row}].{signature.columns[column]}"
        raise BadInput(where, f"{context[row, column]:g}", "expected a number that 32 bits can hold", "too-large")
    return Sample(array=np.ascontiguousarray(narrow))


def _table(raw: object, signature: Signature, field: str, limits: Limits) -> NDArray[np.float64]:
    """Return rows (T, F), NaN where a number is missing."""
    columns = signature.columns
    if isinstance(raw, np.ndarray):
        if raw.ndim != 2 or raw.dtype.kind not in "iuf":
            found = f"an array of {raw.dtype} with shape {raw.shape}"
            raise BadInput(field, found, f"expected numbers with shape (rows, {len(columns)})", "not-rows")
    elif not isinstance(raw, Sequence) or isinstance(raw, str | bytes):
        raise BadInput(field, _kind(raw), f"expected rows with the columns {', '.join(columns)}", "not-rows")
    if len(raw) > limits.rows:
        raise BadInput(field, f"{len(raw):,} rows", f"expected at most {limits.rows:,}", "too-long")
    if len(raw) < signature.context_length:
        expected = f"expected at least {signature.context_length}, the steps that the model was trained to see"
        raise BadInput(field, f"{len(raw)} row{'s' if len(raw) != 1 else ''}", expected, "too-short")
    values = np.empty((len(raw), len(columns)))
    for number, row in enumerate(raw):
        values[number] = _row(row, columns, f"{field}[{number}]")
    return values


def _row(row: object, columns: tuple[str, ...], where: str) -> list[float]:
    if isinstance(row, Mapping):
        for name in columns:
            if name not in row:
                raise BadInput(f"{where}.{name}", "no such column", f"expected {', '.join(columns)}", "no-column")
        cells = [row[name] for name in columns]
    elif isinstance(row, np.ndarray) or (isinstance(row, Sequence) and not isinstance(row, str | bytes)):
        if len(row) != len(columns):
            raise BadInput(where, f"{len(row)} numbers", f"expected {len(columns)}: {', '.join(columns)}", "row-length")
        cells = list(row)
    else:
        raise BadInput(where, _kind(row), f"expected an object with the columns {', '.join(columns)}", "not-a-row")
    return [_number(cell, f"{where}.{name}") for name, cell in zip(columns, cells, strict=True)]


def _number(cell: object, where: str) -> float:
    if cell is None:
        return math.nan
    if isinstance(cell, bool) or not isinstance(cell, int | float | np.integer | np.floating):
        raise BadInput(where, _kind(cell), "expected a number", "not-a-number")
    try:
        number = float(cell)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise BadInput(where, "a number without end", "expected a finite number", "not-a-number")
    return number


def _filled(values: NDArray[np.float64], columns: tuple[str, ...], field: str) -> NDArray[np.float64]:
    """Return rows (T, F) with straight lines where numbers are missing, and the first number before which there is none."""
    filled, places = values.copy(), np.arange(len(values))
    for name, column in zip(columns, filled.T, strict=True):
        known = ~np.isnan(column)
        if not known.any():
            raise BadInput(f"{field}[0].{name}", "no number in any row", "expected some", "no-number")
        column[~known] = np.interp(places[~known], places[known], column[known])
    return filled


def _kind(value: object) -> str:
    """Return what a value is, in words, and the beginning of short ones."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "nothing", bytes: "bytes"}
    name = names.get(type(value), type(value).__name__)
    return f"{name} {value[:SHOWN]!r}" if isinstance(value, str) else name
