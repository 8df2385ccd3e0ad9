"""Adding a recipe to params.yaml, and changing values of one, as text: every comment and blank line of the user's stays."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from trainyard.data.problems import printable
from trainyard.errors import InputError
from trainyard.files import write_whole
from trainyard.params import Params, ParamsError
from trainyard.recipe import NAME_CHARACTERS, read_recipe


def add_recipe(params: Path, name: str, block: str) -> None:
    """Add a recipe at the end of `recipes:`.

    Args:
        params: the params.yaml; it is made where there is none.
        name: of the new recipe.
        block: its YAML, `name:` and below, not indented.

    Raises:
        InputError: there is a recipe of that name, or the result would not be a good params.yaml; nothing was changed.
    """
    if params.exists():
        # What cannot be read is said in the words, and with the line, of any other command.
        Params(params)
    before = read_as_it_is(params) if params.exists() else "recipes:\n"
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


def read_as_it_is(path: Path) -> str:
    """Return a file's text with the ends of its lines as they are, LF or CRLF."""
    return path.read_bytes().decode()


def copied(path: Path, name: str, data: str) -> str:
    """Return the recipe of a file, such as those of examples/, for data at another place, as YAML, `name:` and below.

    Raises:
        InputError: there is no such file, or it is no recipe.
    """
    try:
        text = path.read_text(encoding="utf-8")
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{path}:{line}: {error.problem}; name a file with a recipe, such as examples/mnist.yaml") from None
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({error}); name a file with a recipe, such as examples/mnist.yaml") from None
    place = _value(_value(root, "data"), "path")
    if place is None:
        raise InputError(f"{path}: holds no recipe, which has `family:`, and `data:` with `path:`; name another file")
    text = text[: place.start_mark.index] + quoted_path(data) + text[place.end_mark.index :]
    return "\n".join([f"{name}:", *(f"  {line}".rstrip() for line in text.splitlines())]) + "\n"


def quoted_path(path: str) -> str:
    """Return a path as YAML reads it back.

    Raises:
        InputError: it holds bytes that are no text, which no params.yaml can name.
    """
    if path != path.encode("utf-8", "replace").decode():
        raise InputError(f"{printable(path)}: a name that is not UTF-8, which params.yaml cannot hold; rename it")
    # Without a slash it may be a number or a word of YAML's own.
    return path if re.fullmatch(r"[A-Za-z][\w.-]*/[\w./-]*", path) else in_quotes(path)


def in_quotes(text: str) -> str:
    """Return a text in quotes, as YAML reads it back, whatever stands in it."""
    signs = (f"\\U{ord(sign):08x}" if sign in '"\\' or not sign.isprintable() else sign for sign in text)
    return f'"{"".join(signs)}"'


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
    if not isinstance(recipes, MappingNode) and text[recipes.start_mark.index : recipes.end_mark.index].strip():
        line = recipes.start_mark.line + 1
        raise InputError(f"params.yaml:{line}: `recipes:` holds no recipes by name; leave nothing behind or below it")
    indent = recipes.value[0][0].start_mark.column if names else 2
    lines = text.splitlines(keepends=True)
    end = recipes.end_mark.line if names else key.end_mark.line + 1
    # What stands between the last recipe and the next key, blank lines and that key's comments, stays with the key.
    while end > 0 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    newline = _newline(text)
    if end and not lines[end - 1].endswith("\n"):
        lines[end - 1] += newline
    block = f"{_as_key(name)}{block.strip().removeprefix(name)}"
    added = [f"{' ' * indent}{line}".rstrip() + newline for line in block.splitlines()]
    return "".join([*lines[:end], *([newline] if names else []), *added, *lines[end:]])


def _newline(text: str) -> str:
    """Return how the first line of a text ends."""
    return "\r\n" if text.partition("\n")[0].endswith("\r") else "\n"


def _as_key(name: str) -> str:
    """Return a recipe's name as YAML reads it as text: 2024, null and 1e3 in quotes."""
    if not NAME_CHARACTERS.issuperset(name):
        return name
    (key,) = YAML(typ="safe", pure=True).load(f"{name}: 0") if name else [None]
    return name if key == name else json.dumps(name)


def rewritten(text: str, name: str, changes: Mapping[str, Any]) -> str:
    """Return a params.yaml in which a recipe has other values; all else, comments and order included, stays as it is.

    Args:
        text: the file.
        name: of the recipe.
        changes: values by their dotted keys in the recipe's block.

    Raises:
        InputError: it is written in a way that cannot be changed without rewriting more of it.
    """
    for key, value in changes.items():
        text = _with_value(text, ("recipes", name, *key.split(".")), value)
    expected = YAML(typ="safe", pure=True).load(text)
    for key, value in changes.items():
        found = expected["recipes"][name]
        for part in key.split("."):
            found = found[part]
        if found != value:
            raise InputError(f"params.yaml: recipes.{name}.{key} would become {found!r}, not {value!r}; change it by hand")
    return text


def _with_value(text: str, keys: tuple[str, ...], value: Any) -> str:
    node: Node | None = YAML(typ="safe", pure=True).compose(text)
    for depth, key in enumerate(keys):
        if not isinstance(node, MappingNode):
            raise InputError(f"params.yaml: {'.'.join(keys[:depth])} is no mapping; write {'.'.join(keys)} by hand")
        found = _value(node, key)
        if found is None:
            return _with_new(text, node, keys[depth:], value)
        node = found
    if node is None:
        raise InputError(f"params.yaml: is empty; write {'.'.join(keys)} by hand")
    end = node.end_mark.index
    # A block's end is where the next one begins; blank lines and comments between stay.
    old = text[node.start_mark.index : end]
    if isinstance(node, MappingNode | SequenceNode) and not node.flow_style:
        last = _last_line(text, node)
        return text[: node.start_mark.index] + yaml_of(value) + text[last:]
    return text[: node.start_mark.index] + yaml_of(value) + text[node.start_mark.index + len(old) :]


def _with_new(text: str, parent: MappingNode, keys: tuple[str, ...], value: Any) -> str:
    """Add a key at the end of a mapping."""
    for key in reversed(keys[1:]):
        value = {key: value}
    entry = f"{keys[0]}: {yaml_of(value)}"
    if parent.flow_style:
        end = parent.end_mark.index - 1
        before = text[:end].rstrip()
        return f"{before}{', ' if parent.value else ''}{entry}{text[end:]}"
    if not parent.value:
        raise InputError(f"params.yaml: there is no place to write {entry}; write it by hand")
    indent = parent.value[0][0].start_mark.column
    end = _last_line(text, parent)
    newline = _newline(text)
    stop = text.find(newline, end)
    stop = len(text) if stop < 0 else stop
    return f"{text[:stop]}{newline}{' ' * indent}{entry}{text[stop:]}"


def _last_line(text: str, node: Node) -> int:
    """Return where the last value within a node ends."""
    while isinstance(node, MappingNode | SequenceNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return int(node.end_mark.index)


def yaml_of(value: Any) -> str:
    """Return a plain value as YAML on one line, floats with a point or an exponent."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {yaml_of(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(yaml_of, value))}]"
    if isinstance(value, float):
        short = re.sub(r"e([+-])0*(\d)", lambda found: f"e{found[1].strip('+')}{found[2]}", f"{value:g}")
        short = f"{short}.0" if short.lstrip("-").isdigit() else short
        return short if float(short) == value else repr(value)
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w-]*", value) and value not in ("true", "false", "null"):
        return value
    return json.dumps(value, ensure_ascii=False)
