"""Adding a recipe to params.yaml as text, so that every comment and blank line of the user's stays as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node

from trainyard.errors import InputError
from trainyard.files import write_whole
from trainyard.params import ParamsError
from trainyard.recipe import read_recipe


def add_recipe(params: Path, name: str, block: str) -> None:
    """Add a recipe at the end of `recipes:`.

    Args:
        params: the params.yaml; it is made where there is none.
        name: of the new recipe.
        block: its YAML, `name:` and below, not indented.

    Raises:
        InputError: there is a recipe of that name, or the result would not be a good params.yaml; nothing was changed.
    """
    before = params.read_text(encoding="utf-8") if params.exists() else "recipes:\n"
    after = inserted(before, name, block)
    trial = params.with_name(f".{params.name}.new")
    try:
        write_whole(trial, after.encode())
        read_recipe(trial, name)
    except ParamsError as error:
        raise InputError(str(error).replace(trial.name, params.name)) from None
    finally:
        trial.unlink(missing_ok=True)
    write_whole(params, after.encode())


def copied(path: Path, name: str, data: str) -> str:
    """Return the recipe of a file, such as those of examples/, for data at another place, as YAML, `name:` and below.

    Raises:
        InputError: there is no such file, or it is no recipe.
    """
    try:
        text = path.read_text(encoding="utf-8")
        root = YAML(typ="safe", pure=True).compose(text)
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({error}); name a file with a recipe, such as examples/mnist.yaml") from None
    place = _value(_value(root, "data"), "path")
    if place is None:
        raise InputError(f"{path}: holds no recipe, which has `family:`, and `data:` with `path:`; name another file")
    # JSON's quotes are YAML's, for what would not be read as these letters.
    written = data if re.fullmatch(r"[A-Za-z][\w.-]*/[\w./-]*", data) else json.dumps(data, ensure_ascii=False)
    text = text[: place.start_mark.index] + written + text[place.end_mark.index :]
    return "\n".join([f"{name}:", *(f"  {line}".rstrip() for line in text.splitlines())]) + "\n"


def _value(node: Node | None, key: str) -> Node | None:
    if not isinstance(node, MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def inserted(text: str, name: str, block: str) -> str:
    """Return a params.yaml with one more recipe.

    Raises:
        InputError: there is a recipe of that name already, or no `recipes:` to add to.
    """
    root = YAML(typ="safe", pure=True).compose(text)
    entries = {key.value: (key, value) for key, value in root.value} if isinstance(root, MappingNode) else {}
    if "recipes" not in entries:
        raise InputError("params.yaml: has no `recipes:` to add to; write that line at its top")
    key, recipes = entries["recipes"]
    names = [entry.value for entry, _ in recipes.value] if isinstance(recipes, MappingNode) else []
    if name in names:
        raise InputError(f"params.yaml: has a recipe '{name}' already; choose another name, or delete that block first")
    if isinstance(recipes, MappingNode) and recipes.flow_style:
        raise InputError("params.yaml: `recipes:` is written in braces; write it as an indented block")
    indent = recipes.value[0][0].start_mark.column if names else 2
    lines = text.splitlines(keepends=True)
    end = recipes.end_mark.line if names else key.end_mark.line + 1
    # What stands between the last recipe and the next key, blank lines and that key's comments, stays with the key.
    while end > 0 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    if end and not lines[end - 1].endswith("\n"):
        lines[end - 1] += "\n"
    added = [f"{' ' * indent}{line}".rstrip() + "\n" for line in block.strip("\n").splitlines()]
    return "".join([*lines[:end], *(["\n"] if names else []), *added, *lines[end:]])
