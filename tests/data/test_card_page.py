from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainyard.data.card_page import COLOURS, overlay, write_page
from trainyard.data.digit_scenes import DigitScenesConfig
from trainyard.data.docstrings import DocstringsConfig
from trainyard.data.image_folder import ImageFolderConfig
from trainyard.data.packed import read_card
from trainyard.data.prepare import prepare

SCENES = DigitScenesConfig(source="digit_scenes", scenes=40, size=32, smallest_digit=12, largest_digit=24)
TEXTS = DocstringsConfig(source="docstrings", libraries=("networkx", "sympy"), max_per_library=30)


def test_a_page_shows_classes_counts_hashes_and_pictures_and_fetches_nothing(packed_digits: Path) -> None:
    page = (packed_digits / "card.html").read_text()
    card = read_card(packed_digits)
    assert card.sha256 in page
    assert card.arrays["test"]["images"]["files"]["images.npy"] in page
    assert f'<td class="number">{card.counts["train"]["7"]}</td>' in page
    assert page.count("data:image/png;base64,") == 60
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)


@pytest.mark.parametrize(("config", "shown"), [(SCENES, "with its mask"), (TEXTS, "Lengths in tokens")])
def test_masks_and_texts_have_pages_too(tmp_path: Path, config: DigitScenesConfig | DocstringsConfig, shown: str) -> None:
    prepare("x", config, tmp_path / "out")
    assert shown in (tmp_path / "out" / "card.html").read_text()


def test_pictures_of_long_images_are_no_wider_than_half_the_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "lines" / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(rng.integers(0, 256, (8, 600), dtype=np.uint8)).save(tmp_path / "lines" / name / f"{number}.png")
    prepare("lines", ImageFolderConfig(source="image_folder", path="lines"), tmp_path / "out", root=tmp_path)
    page = (tmp_path / "out" / "card.html").read_text()
    assert set(re.findall(r'<img width="(\d+)" height="(\d+)"', page)) == {("480", "6")}


def test_long_paths_and_names_break_within_their_cell(packed_digits: Path) -> None:
    rules = re.findall(r"^([^{\n]+) \{[^}]*overflow-wrap: anywhere", (packed_digits / "card.html").read_text(), re.MULTILINE)
    assert {"td", "figcaption", "blockquote"} <= {name for rule in rules for name in rule.split(", ")}


def test_every_class_of_masks_has_a_colour_of_its_own() -> None:
    mask = np.arange(64, dtype=np.uint8).reshape(8, 8)
    shown = overlay(np.full((1, 8, 8), 100, dtype=np.uint8), mask).reshape(3, -1).T
    assert len(np.unique(shown, axis=0)) == 64


def test_what_users_named_cannot_become_code_in_the_page(digits_copy: Path) -> None:
    warning = {"rule": "r", "where": "<script>x</script>", "found": "a\x1bb", "expected": "&"}
    card = dataclasses.replace(read_card(digits_copy), name="<b>", warnings=(warning,))
    write_page(digits_copy, card)
    page = (digits_copy / "card.html").read_text()
    assert "&lt;script&gt;x&lt;/script&gt;" in page
    assert "<script>" not in page and "\x1b" not in page
    assert "<h2>Warnings (1)</h2>" in page


def test_an_overlay_colours_the_classes_and_leaves_the_background() -> None:
    image = np.full((1, 2, 2), 100, dtype=np.uint8)
    shown = overlay(image, np.array([[0, 1], [2, 0]], dtype=np.uint8))
    assert shown[:, 0, 0].tolist() == [100, 100, 100]
    assert shown[:, 0, 1].tolist() == [(100 + int(COLOURS[0][at : at + 2], 16)) // 2 for at in (1, 3, 5)]
    assert not np.array_equal(shown[:, 0, 1], shown[:, 1, 0])
