"""A model is shown of a raw file what training and evaluation were shown of it, to the last bit."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tests.serving.files import load_signature, prepared, write_cells, write_load, write_photographs, write_reviews
from trainyard.data.docstrings import DocstringsConfig
from trainyard.data.docstrings import load as load_docstrings
from trainyard.data.image_folder import ImageFolderConfig
from trainyard.data.image_masks import ImageMasksConfig
from trainyard.data.packed import read_card
from trainyard.data.raw_form import ImageForm, SeriesForm, TextForm, from_json
from trainyard.data.series_csv import SeriesCSVConfig
from trainyard.data.text_table import TextTableConfig
from trainyard.serving.bad_input import BadInput
from trainyard.serving.model_file import Signature
from trainyard.serving.raw_inputs import Limits, image_sample, series_sample, text_sample

LIMITS = Limits()
IMAGES = ImageForm(channels=1, size=(8, 8), trained_size=(8, 8))


@pytest.mark.parametrize(
    "block",
    [
        {"size": 12, "channels": 3},
        {"size": (9, 16), "channels": 1, "resize": "crop"},
        {"size": (16, 9), "channels": 3, "resize": "pad"},
    ],
)
def test_an_image_file_of_any_kind_becomes_the_pixels_that_were_packed(block: dict[str, Any], tmp_path: Path) -> None:
    write_photographs(tmp_path / "photos")
    form, splits = prepared(ImageFolderConfig(source="image_folder", path="photos", **block), tmp_path)
    assert isinstance(form, ImageForm)
    seen = 0
    for split in splits:
        for index in range(len(split)):
            file = tmp_path / "photos" / split.sample_name(index)
            assert np.array_equal(image_sample(file.read_bytes(), form, "x", LIMITS).array, split.arrays["images"][index]), file
            seen += 1
    assert seen == 54


@pytest.mark.parametrize("block", [{}, {"size": 16, "resize": "pad"}])
def test_an_image_for_a_mask_becomes_the_pixels_that_were_packed(block: dict[str, Any], tmp_path: Path) -> None:
    write_cells(tmp_path / "cells", ((20, 28), (31, 17)) if block else ((20, 28),))
    form, splits = prepared(
        ImageMasksConfig(source="image_masks", path="cells", classes=("background", "cell"), **block), tmp_path
    )
    assert isinstance(form, ImageForm)
    for split in splits:
        for index in range(len(split)):
            sample = image_sample((tmp_path / "cells" / split.sample_name(index)).read_bytes(), form, "x", LIMITS)
            assert np.array_equal(sample.array, split.arrays["images"][index])
    other = next((tmp_path / "cells" / "images").iterdir()).read_bytes()
    assert image_sample(other, form, "x", LIMITS).array.shape[1:] == ((16, 16) if block else (20, 28))


def test_a_row_of_a_table_becomes_the_tokens_that_were_packed(tmp_path: Path) -> None:
    write_reviews(tmp_path / "reviews.csv")
    config = TextTableConfig(
        source="text_table", path="reviews.csv", text=("title", "body"), label="mood", max_tokens=9, vocabulary_size=60
    )
    form, splits = prepared(config, tmp_path)
    assert isinstance(form, TextForm)
    tokenizer = Tokenizer.from_file(str(tmp_path / "packed" / "tokenizer.json"))
    with (tmp_path / "reviews.csv").open(newline="", encoding="utf-8") as file:
        rows = {f"reviews.csv:{number}": row for number, row in enumerate(csv.DictReader(file), 2)}
    seen = 0
    for split in splits:
        for index in range(len(split)):
            start, end = split.arrays["offsets"][index : index + 2]
            sample = text_sample(rows[split.sample_name(index)], form, tokenizer, 9, "x", LIMITS)
            assert np.array_equal(sample.array, split.arrays["tokens"][start:end])
            assert np.array_equal(text_sample(split.text(index), form, tokenizer, 9, "x", LIMITS).array, sample.array)
            seen += 1
    assert seen == 40


def test_a_docstring_as_it_stands_in_its_file_becomes_the_tokens_that_were_packed(tmp_path: Path) -> None:
    config = DocstringsConfig(source="docstrings", libraries=("h11", "starlette"), vocabulary_size=500)
    form, splits = prepared(config, tmp_path)
    assert isinstance(form, TextForm)
    tokenizer = Tokenizer.from_file(str(tmp_path / "packed" / "tokenizer.json"))
    packed = {
        split.text(index): split.arrays["tokens"][slice(*split.arrays["offsets"][index : index + 2])]
        for split in splits
        for index in range(len(split))
    }
    import h11

    paragraph = re.split(r"\n\s*\n", (h11.Connection.__doc__ or "").strip())[0]
    assert "HTTP" in paragraph
    every = [text for text in packed if np.array_equal(packed[text], text_sample(text, form, tokenizer, 64, "x", LIMITS).array)]
    assert len(every) == len(packed) == len(load_docstrings(config)), "what was cleaned once stays as it is"
    named = f"``h11.Connection``: {next(iter(packed))} starlette :class:`h11.Request`"
    assert np.array_equal(text_sample(named, form, tokenizer, 64, "x", LIMITS).array[-3:], packed[next(iter(packed))][-3:])


def windows(folder: Path, config: SeriesCSVConfig) -> tuple[Signature, SeriesForm, NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return a signature, the raw rows of the file, and the packed test windows in the columns' own units."""
    form, splits = prepared(config, folder)
    assert isinstance(form, SeriesForm)
    card = read_card(folder / "packed")
    signature = load_signature(form, card.classes, card.columns, card.input["context_length"], card.input["horizon"])
    with (folder / "load.csv").open(newline="") as file:
        cells = [[row[name] or None for name in card.columns] for row in csv.DictReader(file)]
    raw = np.array([[np.nan if cell is None else float(cell) for cell in row] for row in cells])
    return signature, form, raw, splits[-1].arrays["values"], splits[-1].arrays["starts"]


@pytest.mark.parametrize("gaps", [False, True])
def test_rows_in_their_own_units_become_the_window_that_was_packed(gaps: bool, tmp_path: Path) -> None:
    write_load(tmp_path / "load.csv", gaps=gaps)
    config = SeriesCSVConfig(
        source="series_csv",
        path="load.csv",
        time="hour",
        targets=("sun", "load"),
        features=("wind",),
        context_length=24,
        horizon=6,
        missing="interpolate" if gaps else "refuse",
    )
    signature, form, raw, packed, starts = windows(tmp_path, config)
    card = read_card(tmp_path / "packed")
    mean, std = (np.array(card.normalisation[name]) for name in ("mean", "std"))
    # The test split begins with the context of its first window.
    first = len(raw) - len(packed)
    for start in starts:
        # Gaps at a window's first rows are filled from the rows before it, as they were.
        before = max(0, first + start - 12)
        sample = series_sample(raw[before : first + start + 24], signature, form, "series[0]", LIMITS)
        expected = packed[start : start + 24]
        found = (sample.array - mean) / std
        assert np.allclose(found, expected, rtol=0, atol=2e-5)
        if not gaps:
            assert np.array_equal(sample.array, raw[first + start : first + start + 24].astype(np.float32))


BAD_IMAGES: list[tuple[object, str]] = [
    (b"", "images[0]: an empty file;"),
    (b"%PDF-1.4 and so on", "images[0]: a PDF file;"),
    ("text", "images[0]: a text 'text'; expected the bytes of an image file"),
    (None, "images[0]: nothing;"),
]


@pytest.mark.parametrize(("raw", "said"), BAD_IMAGES)
def test_what_is_no_image_is_named(raw: object, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        image_sample(raw, IMAGES, "images[0]", LIMITS)
    assert str(caught.value).startswith(said)
    assert caught.value.field == "images[0]" and caught.value.exit_code == 2


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    file = next((tmp_path / "day").glob("plain-*.bmp")).read_bytes()
    with pytest.raises(BadInput, match=r"images: \d+ x \d+ = [\d,]+ pixels; use images of at most 50 pixels"):
        image_sample(file, IMAGES, "images", Limits(pixels=50))


def test_every_cut_of_an_image_is_refused(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    for name in ("turned-0.jpg", "glass-0.png", "web-0.webp", "few-0.gif", "float-0.tiff", "plain-0.bmp"):
        whole = (tmp_path / "day" / name).read_bytes()
        for twentieth in range(20):
            with pytest.raises(BadInput) as caught:
                image_sample(whole[: len(whole) * twentieth // 20], IMAGES, "images", LIMITS)
            assert caught.value.rule in ("damaged-image", "unknown-format"), name


def test_a_strip_whose_middle_would_take_all_memory_is_refused(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (1_000_000, 1)).save(tmp_path / "strip.png")
    form = ImageForm(channels=1, size=(64, 64), trained_size=(64, 64), resize="crop")
    with pytest.raises(BadInput, match="1000000 x 1 pixels become 64000000 x 64"):
        image_sample((tmp_path / "strip.png").read_bytes(), form, "images", LIMITS)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"bytes", "texts: bytes; expected a text"),
        (" \n\u200b", "texts: a text with nothing in it to read; expected words"),
        ("half a \ud83d sign", "texts: half of a character"),
        ("x" * 101, "texts: 101 characters; expected at most 100"),
        ({"title": "x"}, "texts.body: no such column; expected title, body"),
        ({"title": 3, "body": "x"}, "texts.title: int; expected a text"),
    ],
)
def test_what_is_no_text_is_named(raw: object, said: str) -> None:
    tokenizer = Tokenizer.from_str(json.dumps({"model": {"type": "WordLevel", "vocab": {"[UNK]": 1}, "unk_token": "[UNK]"}}))
    with pytest.raises(BadInput) as caught:
        text_sample(raw, TextForm(columns=("title", "body")), tokenizer, 9, "texts", Limits(characters=100))
    assert str(caught.value).startswith(said)


GOOD_ROW = {"load": 5000.0, "sun": 0.5}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("text", "series[0]: a text 'text'; expected rows with the columns load, sun"),
        ([GOOD_ROW], "series[0]: 1 row; expected at least 2,"),
        ([GOOD_ROW] * 6, "series[0]: 6 rows; expected at most 5"),
        ([GOOD_ROW, {"load": 1}], "series[0][1].sun: no such column; expected load, sun"),
        ([GOOD_ROW, {"load": "1", "sun": 1}], "series[0][1].load: a text '1'; expected a number"),
        ([GOOD_ROW, {"load": True, "sun": 1}], "series[0][1].load: true or false; expected a number"),
        ([GOOD_ROW, {"load": float("inf"), "sun": 1}], "series[0][1].load: a number without end;"),
        ([GOOD_ROW, {"load": 10**400, "sun": 1}], "series[0][1].load: a number without end;"),
        ([GOOD_ROW, {"load": 1e39, "sun": 1}], "series[0][1].load: 1e+39; expected a number that 32 bits can hold"),
        ([GOOD_ROW, {"load": None, "sun": 1}], "series[0][1].load: no number;"),
        ([[1, 2], [1, 2, 3]], "series[0][1]: 3 numbers; expected 2: load, sun"),
        ([GOOD_ROW, 7], "series[0][1]: int; expected an object with the columns load, sun"),
        (np.zeros((2, 2, 2)), "series[0]: an array of float64 with shape (2, 2, 2); expected numbers with shape (rows, 2)"),
    ],
)
@pytest.mark.parametrize("missing", ["refuse", "interpolate"])
def test_what_is_no_series_is_named(rows: object, said: str, missing: Any) -> None:
    form = SeriesForm(time="hour", missing=missing)
    signature = load_signature(form, ("load",), ("load", "sun"), 2, 1)
    with pytest.raises(BadInput) as caught:
        series_sample(rows, signature, form, "series[0]", Limits(rows=5))
    assert str(caught.value).startswith(said)


def test_a_form_that_says_nothing_is_refused() -> None:
    for values in (
        {"type": "image", "channels": 2, "size": None, "trained_size": [8, 8]},
        {"type": "image", "channels": 1, "size": [8], "trained_size": [8, 8]},
        {"type": "text", "columns": []},
        {"type": "series", "time": "t", "missing": "guess"},
    ):
        with pytest.raises(ValueError, match="says nothing"):
            from_json(values)
