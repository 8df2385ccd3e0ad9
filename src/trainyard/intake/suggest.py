"""`trainyard new`: a recipe for data that a user points at, with the reason for each value beside it."""

from __future__ import annotations

from pathlib import Path

from trainyard.data.text_table import split_files
from trainyard.errors import InputError
from trainyard.intake.columns import Named, look
from trainyard.intake.images import seen_sides, suggest_cnn, suggest_unet
from trainyard.intake.series import is_series, suggest_series
from trainyard.intake.texts import suggest_texts
from trainyard.recipe_text import quoted_path

FAMILIES = ("cnn", "unet", "lstm")
END = ("  bootstrap_samples: 1000", "export:", "  formats: [onnx]")
"""Of each recipe, within its block `evaluate`."""


def suggest(name: str, family: str, path: Path, shown_path: str, named: Named | None = None) -> str:
    """Return a recipe as YAML, `name:` and below.

    Args:
        name: of the recipe.
        family: cnn, for a folder with a folder for each class; unet, for one with `images` and `masks`; lstm, for a table
            of texts or of a series, or a folder with tables of texts; empty: guessed from what is there.
        path: of the data.
        shown_path: how params.yaml names it.
        named: what the user said of the columns of a table.

    Raises:
        DataError: a table cannot be read.
        InputError: there is nothing there that the family could learn from, or the columns leave open what they are for.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give the path of the data")
    if family and family not in FAMILIES:
        raise InputError(f"family {family}: no such family; expected one of {', '.join(FAMILIES)}")
    reason = ""
    if not family:
        family, reason = _guessed(path)
    named, written = named or Named(), quoted_path(shown_path)
    if family == "lstm":
        table = look(path, named)
        body = suggest_series(table, named, written) if is_series(table, named) else suggest_texts(table, named, written)
    else:
        if given := named.given():
            raise InputError(f"{', '.join(given)}: is for tables, which family lstm learns from; leave it out, or name that")
        if not path.is_dir():
            raise InputError(f"{path}: is a file; family {family} learns from a folder of images")
        body = suggest_cnn(path, written) if family == "cnn" else suggest_unet(path, written)
    body = [f"{line} # {reason}" if reason and line == f"family: {family}" else line for line in body]
    return "\n".join([f"{name}:", *(f"  {line}".rstrip() for line in (*body, *END))]) + "\n"


def _guessed(path: Path) -> tuple[str, str]:
    """Return the family that learns from what is there, and why it is that one."""
    if not path.is_dir():
        return "lstm", "for a table"
    sides, images = seen_sides(path)
    if sides is not None:
        return "unet", f"for {sides.images}/ and {sides.masks}/"
    if split_files(path) and not images:
        return "lstm", "for tables"
    return "cnn", "for a folder of images by class"
