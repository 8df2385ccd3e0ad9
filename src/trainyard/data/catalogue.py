"""The data sets that data/catalogue/ describes: for `trainyard datasets`, `trainyard fetch` and `trainyard new`."""

from __future__ import annotations

from pathlib import Path

from trainyard.data.descriptor import Descriptor, human_bytes, read_descriptor
from trainyard.data.fetch import is_fetched
from trainyard.errors import InputError
from trainyard.params import nearest

FOLDER = Path("data/catalogue")
RECIPES = "recipes"
"""Folder in the catalogue with a suggested recipe for each data set; not beside its descriptor, whose hash DVC watches."""


def names(root: Path) -> list[str]:
    """Return the names of all data sets of the catalogue."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.yaml"))


def entry(root: Path, name: str) -> Descriptor:
    """Return the descriptor of a data set, by its name in the catalogue or by the path of a descriptor.

    Raises:
        InputError: there is none, or it is wrong.
    """
    path = root / FOLDER / f"{name}.yaml"
    if not path.is_file() and name.endswith((".yaml", ".yml")):
        path = root / name
    if not path.is_file():
        known = names(root)
        raise InputError(f"{name}: no such data set in {FOLDER}; it has {', '.join(known) or 'none'}{nearest(name, known)}")
    return read_descriptor(path)


def lines(root: Path, downloads: Path) -> list[tuple[str, str, str, str, str]]:
    """Return name, size, whether it is here, licence and description of every data set."""
    found = []
    for name in names(root):
        descriptor = entry(root, name)
        here = "yes" if is_fetched(descriptor, downloads) else "no"
        found.append((name, human_bytes(descriptor.bytes), here, descriptor.licence.name, " ".join(descriptor.about.split())))
    return found


def recipe_text(root: Path, name: str, dataset: str, family: str) -> str:
    """Return the suggested recipe for a data set as YAML, `name:` and below.

    Args:
        root: of the project.
        name: of the recipe.
        dataset: in the catalogue.
        family: that the user named, or nothing.

    Raises:
        InputError: there is no such data set, it has no suggestion, or another family learns from it.
    """
    entry(root, dataset)
    path = root / FOLDER / RECIPES / f"{dataset}.yaml"
    if not path.is_file():
        raise InputError(
            f"{path}: no such file, so there is no recipe to suggest; write one by hand, with `path: {FOLDER}/{dataset}.yaml`"
        )
    body = path.read_text(encoding="utf-8").splitlines()
    own = next((line.removeprefix("family:").split("#")[0].strip() for line in body if line.startswith("family:")), "")
    if family and family != own:
        raise InputError(f"family {family}: does not learn from {dataset}; leave --family out, or use {own}")
    return "\n".join([f"{name}:", *(f"  {line}".rstrip() for line in body)]) + "\n"
