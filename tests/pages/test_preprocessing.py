"""What a page, and the app on a phone, make of a raw input is what Python makes of it, to the last bit."""

from __future__ import annotations

import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pages.node import ask, decoded, encoded
from tests.pages.pngs import all_pngs, write_png
from tests.phone import kotlin
from tests.serving.files import load_signature
from trainyard.data.docstrings import strip_names
from trainyard.data.raw_form import ImageForm, SeriesForm, TextForm
from trainyard.data.text import train_tokenizer
from trainyard.serving.answers import Mask
from trainyard.serving.bad_input import BadInput
from trainyard.serving.raw_inputs import Limits, image_sample, series_sample
from trainyard.web.about import removed_names
from trainyard.web.folder import PAGE

LIMITS = Limits()
FORMS = [
    ImageForm(channels=1, size=None, trained_size=(8, 8)),
    ImageForm(channels=3, size=None, trained_size=(8, 8)),
    ImageForm(channels=1, size=(8, 8), trained_size=(8, 8)),
    ImageForm(channels=3, size=(20, 33), trained_size=(20, 33), resize="crop"),
    ImageForm(channels=3, size=(33, 20), trained_size=(33, 20), resize="pad"),
]


Asked = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


@pytest.fixture(params=["page", pytest.param("app", marks=pytest.mark.long)])
def asked(request: pytest.FixtureRequest, tmp_path: Path) -> Asked:
    """Return who answers questions: the scripts of the pages in node, or the code of the Android app on a JVM."""
    if request.param == "app":
        return lambda questions: kotlin.ask(tmp_path, questions, tmp_path)
    scripts = Path(shutil.copytree(PAGE, tmp_path / "page"))
    return lambda questions: ask(scripts, questions, tmp_path)[0]


def test_a_png_of_any_kind_becomes_the_pixels_that_python_makes_of_it(asked: Asked) -> None:
    cases = [(name, content, form) for name, content in all_pngs() for form in FORMS]
    questions = [{"about": "pixels", "png": encoded(content), "form": asdict(form)} for _, content, form in cases]
    answers = asked(questions)
    assert len(answers) > 700
    for (name, content, form), answer in zip(cases, answers, strict=True):
        sample = image_sample(content, form, "x", LIMITS)
        if "noted behind" not in name:
            # Python's size is then that of the image before it was turned.
            assert tuple(answer["size"]) == sample.size, name
        found = decoded(answer["pixels"], np.uint8, (answer["channels"], answer["height"], answer["width"]))
        assert np.array_equal(found, sample.array), f"{name}, {form}"


def test_large_and_small_images_are_resized_as_pillow_does(asked: Asked) -> None:
    rng = np.random.default_rng(1)
    # Pillow takes the vertical pass first where that saves most.
    sides = [(int(height), int(width)) for height, width in rng.integers(1, 300, (36, 2))] + [(90, 20)] * 4
    contents = [write_png(rng.integers(0, 256, (*side, 3)), 8, 2) for side in sides]
    forms = [
        ImageForm(channels=3, size=(int(height), int(width)), trained_size=(1, 1))
        for height, width in rng.integers(1, 120, (40, 2))
    ] + [ImageForm(channels=1, size=(28, 28), trained_size=(28, 28), resize="crop")] * len(sides)
    cases = list(zip(contents * 2, forms, strict=True))
    questions = [{"about": "pixels", "png": encoded(content), "form": asdict(form)} for content, form in cases]
    answers = asked(questions)
    for (content, form), answer in zip(cases, answers, strict=True):
        expected = image_sample(content, form, "x", LIMITS).array
        assert np.array_equal(decoded(answer["pixels"], np.uint8, expected.shape), expected), form


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content[:-20], r"damaged PNG: cut off at byte \d+, before its end chunk"),
        (
            lambda content: content[:60] + bytes([content[60] ^ 1]) + content[61:],
            r"damaged PNG: checksum of the chunk at byte 33",
        ),
        (lambda content: content[:8], r"damaged PNG: cut off at byte 8"),
    ],
)
def test_a_damaged_png_is_refused_in_the_same_words(asked: Asked, change: Any, said: str) -> None:
    content = change(write_png(np.arange(300).reshape(10, 10, 3) % 256, 8, 2))
    [answer] = asked([{"about": "pixels", "png": encoded(content), "form": asdict(FORMS[0])}])
    assert re.match(said, answer["problem"])
    if len(content) > 8:
        with pytest.raises(BadInput, match=said):
            image_sample(content, FORMS[0], "x", LIMITS)


def test_a_mask_goes_back_to_the_size_of_its_image_as_in_python(asked: Asked) -> None:
    rng = np.random.default_rng(2)
    masks = []
    for resize in ("stretch", "crop", "pad"):
        for _ in range(25):
            height, width, own_height, own_width = (int(side) for side in rng.integers(1, 90, 4))
            ids = rng.integers(0, 256, (height, width)).astype(np.uint8)
            masks.append(Mask(classes=("a", "b"), ids=ids, confidence=1.0, size=(own_height, own_width), resize=resize))
    questions = [
        {
            "about": "back",
            "ids": encoded(mask.ids.tobytes()),
            "height": mask.ids.shape[0],
            "width": mask.ids.shape[1],
            "own": mask.size,
            "resize": mask.resize,
        }
        for mask in masks
    ]
    answers = asked(questions)
    for mask, answer in zip(masks, answers, strict=True):
        assert np.array_equal(decoded(answer["ids"], np.uint8, mask.size), mask.at_own_size), (mask.ids.shape, mask.size)


STRANGE = (
    "",
    " ",
    "Straße, ΣΊΣΥΦΟΣ and ΟΔΥΣΣΕΥΣ; İstanbul's ﬁne ½ — naïve café co-operation",
    "half a [UNK] and a [PAD][UNK]x [unk] word",
    "Ｆｕｌｌ ｗｉｄｔｈ １２３ ㎏ ｶﾞ ① x² 10⁻³ ™",
    "family: 👨‍👩‍👧‍👦 flags 🇩🇪 é é and zero\u200bwidth\u200djoiner",
    "日本語の文章、とても長い。 العربية עברית हिन्दी ไทย 한국어",
    "snake_case __dunder__ a.b.c 3.14e-10 <tag attr='x'> $%&/()=?`´ tabs\tand\nlines\r\n",
    "x" * 3000,
    "ab" * 1500,
)


@pytest.mark.parametrize(("kind", "lowercase"), [("bpe", True), ("bpe", False), ("words", True)])
def test_texts_become_the_tokens_that_the_library_makes_of_them(asked: Asked, root: Path, kind: Any, lowercase: bool) -> None:
    pages = [path.read_text(encoding="utf-8") for path in sorted((root / "docs").glob("*.md"))]
    lines = [line for page in pages for line in page.splitlines() if line.strip()]
    tokenizer = train_tokenizer([*lines[::2], *STRANGE[:7]], 900, kind, lowercase=lowercase)
    # Every character that both know, each beside a letter, and each by itself: newer versions of Unicode have more.
    characters = [chr(number) for number in range(1, 0x3000) if unicodedata.category(chr(number)) != "Cn"]
    texts = [*STRANGE, *lines, *pages, *(f"a{character}b {character}" for character in characters)]
    questions = [{"about": "tokens", "tokenizer": tokenizer.to_str(), "texts": texts}]
    [answer] = asked(questions)
    expected = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
    newer = answer.get("newer", [False] * len(texts))
    different = [
        text
        for text, ids, same, unknown in zip(texts, answer["ids"], expected, newer, strict=True)
        if ids != same and not unknown
    ]
    assert len(texts) - sum(newer) > 11_000
    assert different == []


def test_what_a_recipe_takes_out_of_docstrings_is_taken_out_in_a_page_and_the_app_too(asked: Asked) -> None:
    samples = [
        module.__doc__ or "" for module in list(sys.modules.values()) if isinstance(getattr(module, "__doc__", None), str)
    ]
    odd = [
        "``h11.Connection``: see :class:`~foo.Bar` and `x`_, .. math:: a, e.g. this, i.e. that, a.b.c and x.y_z",
        "mail me@where.org or see https://example.org/x?y, www.example.com; PyTorch's RayActor sklearn_tags np.array",
        "SKLearn MLFlow ſklearn ﬁtpack ıpandas İmpl plt/pl and pl, sp; spam: np-like NP nx_graph TORCHscript",
        "Ünïcode.wörd é.b ²x.y_1 a\u2028b\x1fc d\x85e",
    ]
    names = ("h11", "starlette", "numpy")
    form = removed_names(TextForm(without_names=names))
    texts = [*odd, *samples]
    [answer] = asked([{"about": "stripped", "texts": texts, "names": form}])
    assert len(texts) > 200
    different = [text for text, found in zip(texts, answer["texts"], strict=True) if found != strip_names(text, names)]
    assert different == []


def series_question(table: str, missing: str, decimal: str = ".") -> dict[str, Any]:
    return {
        "about": "context",
        "table": table,
        "columns": ["load", "sun"],
        "time": "hour",
        "series": "site",
        "decimal": decimal,
        "contextLength": 5,
        "missing": missing,
    }


def test_rows_become_the_numbers_that_python_makes_of_them(asked: Asked) -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(0, 1000, (40, 2))
    gaps = rows.copy()
    gaps[[3, 4, 30, 37, 38], [0, 0, 1, 1, 1]] = np.nan
    gaps[:3, 1] = np.nan
    lines = [f"{hour},{sun!r},{load!r}".replace("nan", "") for hour, (load, sun) in enumerate(gaps.tolist())]
    plain = [f"{load!r} {sun!r}" for load, sun in rows.tolist()]
    comma = [f"{hour};{load!r};{sun!r}".replace(".", ",") for hour, (load, sun) in enumerate(rows.tolist())]
    questions = [
        series_question("\n".join(["hour,sun,load", *lines]), "interpolate"),
        series_question("\r\n".join(plain), "refuse"),
        # As R and pandas write a table with its row names, in quotes.
        series_question("\n".join(['"","load","sun"', *(f',"{load!r}",{sun!r}' for load, sun in rows.tolist())]), "refuse"),
        series_question("\n".join(["hour;load;sun", *comma]), "refuse", ","),
    ]
    answers = asked(questions)
    signature = load_signature(SeriesForm(time="hour", missing="interpolate"), ("load",), ("load", "sun"), 5, 2)
    for values, answer in zip((gaps, rows, rows, rows), answers, strict=True):
        expected = series_sample(values, signature, SeriesForm(time="hour", missing="interpolate"), "x", LIMITS).array
        assert np.array_equal(decoded(answer["context"], np.float32, (5, 2)), expected)


@pytest.mark.parametrize(
    ("table", "missing", "said"),
    [
        ("1 2\n3 4", "refuse", "2 rows; expected at least 5"),
        (
            "load,sun\n" + "1,2\n" * 4 + "1,\n",
            "refuse",
            "row 5, sun: no number; expected a number: the recipe says missing: refuse",
        ),
        ("load,sun\n" + "1,2\n" * 5 + "1,nan\n", "interpolate", "row 6, sun: no number; expected one in the last row"),
        ("load,wind\n" + "1,2\n" * 6, "refuse", "no column sun; expected load, sun"),
        ("load,sun\n" + "1,2\n" * 5 + "1,two\n", "refuse", 'line 7, sun: "two"; expected a number'),
        ("load,sun\n" + "1,2\n" * 5 + "1,1e999\n", "refuse", "line 7, sun: a number without end"),
        ("load,sun\n" + "1,2\n" * 5 + "1,1e60\n", "refuse", "row 6, sun: 1e+60; expected a number that 32 bits can hold"),
        ("load,sun\n" + "1,2\n" * 5 + "1,2,3\n", "refuse", "line 7 has 3 cells; expected 2"),
        (
            "hour,load,sun\n" + "".join(f"2025-01-{day:02},1,2\n" for day in range(9, 0, -1)),
            "refuse",
            "the first row is of 2025-01-09, the last of 2025-01-01; expected the oldest first",
        ),
        (
            "hour,load,sun\n" + "".join(f"{hour},1,2\n" for hour in (12, 11, 10, 9, 8)),
            "refuse",
            "the first row is of 12, the last",
        ),
        (
            "site,load,sun\n" + "north,1,2\n" * 5 + "south,1,2\n" * 5,
            "refuse",
            "rows of several series, such as north and south; expected those of one",
        ),
        (" \n", "refuse", "nothing; paste rows with the columns load, sun"),
    ],
)
def test_rows_that_cannot_be_answered_are_refused_with_their_place(asked: Asked, table: str, missing: str, said: str) -> None:
    [answer] = asked([series_question(table, missing)])
    assert answer["problem"].startswith(said)


def test_a_tokenizer_that_the_page_does_not_know_is_refused(asked: Asked) -> None:
    values = json.loads(train_tokenizer(["a b"], 20, "words").to_str())
    values["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    with pytest.raises(AssertionError, match=r"parts that this (page|app) does not know"):
        asked([{"about": "tokens", "tokenizer": json.dumps(values), "texts": ["a"]}])
