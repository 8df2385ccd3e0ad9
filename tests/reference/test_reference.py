"""The pages of docs/reference, against the code that they describe, and the command that says the same."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import TypeAdapter, ValidationError
from scripts.reference import pages
from typer.testing import CliRunner

from trainyard.cli import app
from trainyard.params import Count, Fraction, Index, NonNegative, Positive
from trainyard.reference.blocks import Block, blocks, find
from trainyard.reference.keys import keys_of
from trainyard.reference.values import words

BLOCKS = list(blocks())
PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_the_code_says(name: str, root: Path) -> None:
    page = root / "docs" / "reference" / name
    assert page.is_file(), "make reference"
    assert page.read_text(encoding="utf-8") == PAGES[name], "make reference"


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{block.place} {block.where}" for block in BLOCKS])
def test_every_key_is_described(block: Block) -> None:
    assert block.keys
    assert [key.path for key in block.keys if not key.effect] == [], "write what it does below the field"


def test_every_argument_and_option_is_described() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \| .* \| ([^|]*) \|$", PAGES["commands.md"], flags=re.MULTILINE)
    assert len(rows) > 60
    assert [name for name, effect in rows if not effect.strip()] == [], "give it a help text"


@dataclass
class _Nested:
    """Inside."""

    inner: int
    """Depth."""


@dataclass
class _Sample:
    """A block."""

    first: Count | Literal["all"]
    """What is
    first. None: nothing."""
    bare: bool = True
    nested: _Nested | None = None
    """Holds one."""
    by_name: dict[str, _Nested] | None = None
    """Holds several."""


def test_a_key_has_the_text_below_its_field_and_keys_of_its_own_after_it() -> None:
    found = list(keys_of(_Sample))
    assert [(key.path, key.values, key.without, key.effect) for key in found] == [
        ("first", "whole number, at least 1 or `all`", "must be given", "What is first. Left out: nothing."),
        ("bare", "true or false", "default true", ""),
        ("nested", "block", "may be left out", "Holds one."),
        ("nested.inner", "whole number", "must be given", "Depth."),
        ("by_name", "mapping of a text to: block", "may be left out", "Holds several."),
        ("by_name.<key>.inner", "whole number", "must be given", "Depth."),
    ]


@pytest.mark.parametrize(
    ("hint", "said", "least", "below"),
    [
        (Count, "whole number, at least 1", 1, 0),
        (Index, "whole number, at least 0", 0, -1),
        (Positive, "number, above 0", 1e-9, 0),
        (NonNegative, "number, at least 0", 0, -1e-9),
        (Fraction, "number, at least 0, below 1", 0, 1),
        (Literal["a", "b", "c"], "`a`, `b` or `c`", "a", "d"),
        (tuple[Count, Count], "two of: whole number, at least 1", (1, 2), (1, 2, 3)),
        (tuple[str, ...], "list of: text", ("a",), (1,)),
    ],
)
def test_what_a_page_says_of_values_is_what_is_accepted(hint: Any, said: str, least: Any, below: Any) -> None:
    assert words(hint) == said
    TypeAdapter(hint).validate_python(least)
    with pytest.raises(ValidationError):
        TypeAdapter(hint).validate_python(below)


@pytest.mark.parametrize("asked", ["train.learning_rate", "recipes.cnn.train.learning_rate", "learning_rate"])
def test_explain_says_what_a_key_means_however_it_is_named(asked: str) -> None:
    done = CliRunner().invoke(app, ["explain", asked])
    assert done.exit_code == 0
    assert "learning_rate: number, above 0; must be given\n      Size of a step" in done.stdout


def test_explain_tells_families_apart() -> None:
    assert [block.where.partition(",")[0] for block, _ in find("recipes.mine.model.dropout")] == [
        "family: cnn",
        "family: unet",
        "family: lstm",
    ]


def test_explain_of_a_sweep_names_ranges() -> None:
    ((_, keys),) = find("sweep.cnn.over")
    assert [key.path for key in keys][-4:] == [f"over.<key>.{name}" for name in ("uniform", "log", "integer", "choice")]


def test_explain_of_nothing_lists_the_blocks() -> None:
    said = CliRunner().invoke(app, ["explain"]).stdout
    assert [place for place in ("data", "model", "train", "gate", "cluster", "sweep") if place not in said] == []


def test_explain_of_what_is_not_there_names_what_is_near() -> None:
    done = CliRunner().invoke(app, ["explain", "train.lerning_rate"])
    assert (
        str(done.exception)
        == "train.lerning_rate: no such key; did you mean 'train.learning_rate'? `trainyard explain` lists the blocks"
    )


def test_every_variable_of_ours_is_on_its_page(root: Path) -> None:
    page = (root / "docs" / "reference" / "environment.md").read_text(encoding="utf-8")
    files = [*(root / "src").rglob("*.py"), *(root / "pipeline").rglob("*.py"), *(root / "deploy").rglob("*.sh")]
    used = {name for path in files for name in re.findall(r"TRAINYARD_[A-Z_]+[A-Z]", path.read_text(encoding="utf-8"))}
    # Which a process sets for those that it starts; nobody else is to.
    between = {"ATTEMPT", "BEGUN_AGAIN", "GIT_COMMIT", "GIT_DIRTY", "HANDED_ON", "JOB", "PARENT", "PARENT_RUN", "PRIVATE_RAY"}
    between |= {"SEALED", "SHARED_RAY"}
    assert used - {f"TRAINYARD_{name}" for name in between} - set(re.findall(r"`(TRAINYARD_\w+)`", page)) == set()
