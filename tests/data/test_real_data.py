"""The recipes of examples/ on the real data that they are for: all of it is read, and what is said of it is true."""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from trainyard.data.check import check
from trainyard.intake.check import check_fit
from trainyard.recipe import read_recipe

EVERY = {"mnist-png.zip": 10, "cifar10-jpg.zip": 10}
"""Of large archives, one file in so many, so that the test stays quick."""


def unpack(archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        names = [name for name in file.namelist() if not name.endswith("/")]
        file.extractall(target, names[:: EVERY.get(archive.name, 1)])


def write_vectors(block: dict[str, Any], texts: Path, root: Path) -> None:
    """Write the file of word vectors that a recipe asks for, of its questions' words, and its hash into the recipe."""
    with texts.open(newline="", encoding="utf-8") as file:
        words = {word for row in csv.DictReader(file) for word in re.findall(r"\w+|[^\w\s]+", row["text"].lower())}
    size, named = block["model"]["embedding_size"], block["data"]["vectors"]
    numbers = np.random.default_rng(0).normal(size=(len(words), size))
    rows = [" ".join([word, *(f"{number:.4f}" for number in row)]) for word, row in zip(sorted(words), numbers, strict=True)]
    content = "\n".join([f"{len(words)} {size}", *rows, ""]).encode()
    (root / named["path"]).write_bytes(content)
    named["sha256"] = hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("name", "source", "samples", "rules"),
    [
        ("mnist", "mnist-png.zip", {"train": 5700, "val": 300, "test": 1000}, []),
        # Four pictures there are twice, cropped or in another light; each was looked at.
        ("cifar10", "cifar10-jpg.zip", {"train": 4750, "val": 250, "test": 1000}, ["alike-in-two-splits"]),
        ("hymenoptera", "hymenoptera.zip", {"train": 208, "val": 37, "test": 153}, []),
        ("isbi2012", "isbi2012-membrane.zip", {"train": 20, "val": 4, "test": 6}, []),
        # Questions that are asked twice, eleven of them in both files, and one of these with two answers.
        ("trec", "trec", {"train": 5101, "val": 268, "test": 500}, ["equal-in-two-splits", "equal-with-two-labels"]),
        # Three sentences that are in both files, and seven of more than 56 words.
        ("sst2", "sst2", {"train": 6909, "val": 872, "test": 1821}, ["equal-in-two-splits", "cut-texts"]),
        # The file goes on after the 20 months that the literature uses.
        ("etth1_24", "etth1", {"train": 8521, "val": 2857, "test": 2857}, ["steps-left-out"]),
    ],
)
def test_real_data_are_read_whole_and_raise_no_false_alarm(
    name: str, source: str, samples: dict[str, int], rules: list[str], root: Path, real_data: Path, tmp_path: Path
) -> None:
    block = YAML(typ="safe").load(root / "examples" / f"{name}.yaml")
    target = tmp_path / Path(*Path(block["data"]["path"]).parts[:3])
    if source.endswith(".zip"):
        unpack(real_data / source, target)
    else:
        shutil.copytree(real_data / source, target)
    if name == "hymenoptera":
        (target / "val").rename(target / "test")
    if name == "trec":
        write_vectors(block, target / "train.csv", tmp_path)
    YAML().dump({"recipes": {name: block}}, tmp_path / "params.yaml")
    recipe = read_recipe(tmp_path / "params.yaml", name)
    found = check(recipe.data, tmp_path)
    assert ([warning.rule for warning in found.warnings], found.samples) == (rules, samples)
    check_fit(recipe, found, tmp_path)
