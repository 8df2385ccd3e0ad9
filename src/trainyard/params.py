"""params.yaml read strictly: every problem at once, each with its line and the nearest valid name.

The file is parsed by ruamel.yaml in YAML 1.2, as DVC parses it, so `1e-3` is a number and `no` is a word to both.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode
from ruamel.yaml.reader import ReaderError

from trainyard.errors import InputError
from trainyard.masking import holds_secret

Count = Annotated[int, Field(gt=0)]
"""1, 2, 3, ..."""
Index = Annotated[int, Field(ge=0)]
"""0, 1, 2, ..."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""0, 1, 2, ... up to what NumPy, scikit-learn and Lightning take."""
Fraction = Annotated[float, Field(ge=0, lt=1)]
"""A share from 0 up to, but without, 1."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A finite number above 0."""
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A finite number, 0 or above."""

Schema = TypeVar("Schema")
KeyPath = tuple[str | int, ...]


class ParamsError(InputError):
    """params.yaml says something that cannot be done."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong in the file."""

    line: int
    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"  line {self.line}: {self.key}: {self.found}; {self.expected}"


class Params:
    """A parsed params.yaml: its plain values, and where in the file each stands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = _read_text(path)
        try:
            self._root = YAML(typ="safe", pure=True).compose(text)
            self.values = YAML(typ="safe", pure=True).load(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            raise ParamsError(f"{path}:{line}: {error.problem}; mend the YAML on that line") from None
        except ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise ParamsError(f"{path}:{line}: holds the control character {chr(error.character)!r}; delete it") from None
        except RecursionError:
            raise ParamsError(f"{path}: is nested too deeply to be read; write fewer lists or mappings in each other") from None
        except (ValueError, KeyError) as error:
            raise ParamsError(f"{path}: a value is not what its tag, or its form, says: {error}; write a plain value") from None
        if (node := _within_itself(self._root, frozenset(), set())) is not None:
            raise ParamsError(
                f"{path}:{node.start_mark.line + 1}: the anchor '&{node.anchor}' holds itself; write the value out there"
            )
        if not isinstance(self.values, dict):
            raise ParamsError(f"{path}:1: holds no mapping; it needs a `recipes:` block")
        self._refuse_secrets()

    def line(self, *keys: str | int) -> int:
        """Return the 1-based line on which the value at `keys` (or its nearest parent) stands."""
        node: Node | None = self._root
        line = 1
        for key in keys:
            found = _child(node, key)
            if found is None:
                break
            line, node = found
        return line

    def block(self, *keys: str) -> dict[str, Any]:
        """Return the mapping at `keys`.

        Raises:
            ParamsError: saying which names, or what else, stand there instead.
        """
        found = self._mapping(*keys)
        if isinstance(found, Problem):
            raise ParamsError(f"{self.path}:{found.line}: {found.key} {found.found}; {found.expected}")
        return found

    def mapping(self, keys: tuple[str, ...], problems: list[Problem]) -> dict[str, Any] | None:
        """Return the mapping at `keys`, or None after adding to `problems` what stands there instead."""
        found = self._mapping(*keys)
        if isinstance(found, Problem):
            problems.append(found)
            return None
        return found

    def _mapping(self, *keys: str) -> dict[str, Any] | Problem:
        values: Any = self.values
        for depth, key in enumerate(keys):
            if not isinstance(values, dict) or key not in values:
                have = list(map(str, values)) if isinstance(values, dict) else []
                where = ".".join(keys[:depth]) or "the file"
                if key in have:
                    expected = f'which YAML reads as no text; write "{key}":'
                    return Problem(self.line(*keys[: depth + 1]), where, f"has {key} without quotes", expected)
                expected = f"it has {', '.join(have) or 'nothing'}{nearest(key, have)}"
                return Problem(self.line(*keys[:depth]), where, f"has no '{key}'", expected)
            values = values[key]
        if values is None:
            return Problem(self.line(*keys), ".".join(keys), "is empty", "write its keys below it, or {} where it needs none")
        if not isinstance(values, dict):
            return Problem(self.line(*keys), ".".join(keys), f"is {_show(values)}", "expected a mapping of names")
        return values

    def read(self, schema: type[Schema], *keys: str) -> Schema:
        """Return the block at `keys` as a `schema`.

        Raises:
            ParamsError: listing every unknown or missing key, wrong type, value out of range or contradiction.
        """
        problems: list[Problem] = []
        value = self.collect(schema, keys, problems)
        if value is None:
            raise self.error(problems)
        return value

    def collect(self, schema: type[Schema], keys: tuple[str, ...], problems: list[Problem]) -> Schema | None:
        """Return the block at `keys` as a `schema`, or None after adding what is wrong with it to `problems`."""
        block = self.mapping(keys, problems)
        if block is None:
            return None
        try:
            # Through JSON, because pydantic's strict mode takes tuples and dataclasses from JSON only.
            text = json.dumps(block)
            return TypeAdapter(schema).validate_json(text, strict=True, extra="forbid")
        except (TypeError, ValueError) as error:
            if not isinstance(error, ValidationError):
                problems.append(Problem(self.line(*keys), ".".join(keys), str(error), "use plain YAML values"))
                return None
            found = [self._problem(schema, keys, dict(detail)) for detail in error.errors()]
            problems.extend(_merged(found))
        return None

    def _problem(self, schema: Any, keys: tuple[str, ...], detail: dict[str, Any]) -> Problem:
        kind = detail["type"]
        path = _without_tags(self.block(*keys), detail["loc"], absent=kind in ("missing", "missing_argument"))
        line = self.line(*keys, *path)
        name = ".".join(map(str, (*keys, *path)))
        if kind in ("unexpected_keyword_argument", "extra_forbidden"):
            valid = _valid_names(schema, self.block(*keys), path[:-1])
            return Problem(line, name, "no such key", f"valid here: {', '.join(valid)}{nearest(str(path[-1]), valid)}")
        if kind in ("missing", "missing_argument"):
            return Problem(line, name, "is missing", "add it")
        if kind in ("value_error", "assertion_error"):
            where, _, fix = str(detail["ctx"]["error"]).partition("; ")
            return Problem(line, name, where, fix or "change one of them")
        if kind in ("union_tag_invalid", "union_tag_not_found"):
            tag = detail["ctx"]["discriminator"].strip("'")
            valid = [word.strip(" '") for word in detail["ctx"].get("expected_tags", "").split(",") if word.strip()]
            found = detail["ctx"].get("tag", "")
            return Problem(
                self.line(*keys, *path, tag),
                f"{name}.{tag}",
                f"found {found!r}" if found else "is missing",
                f"expected one of {', '.join(valid)}{nearest(found, valid)}" if valid else "add it",
            )
        expected = detail["msg"].removeprefix("Input should be ").removeprefix("a valid ")
        found = detail.get("input")
        hint = ""
        if kind == "literal_error":
            hint = nearest(str(found), [word.strip("' ") for word in expected.replace(" or ", ",").split(",")])
        return Problem(line, name, f"found {_show(found)}", f"expected {expected}{hint}")

    def _refuse_secrets(self) -> None:
        """Refuse what must not be committed, and what DVC would copy into dvc.lock."""
        found = [
            Problem(
                self.line(*keys),
                ".".join(map(str, keys)),
                "holds a password or token",
                "this file is committed: set it in the environment instead (docs/safety.md)",
            )
            for keys, text in _texts(self.values, ())
            if holds_secret(text)
        ]
        if found:
            raise self.error(found)

    def error(self, problems: list[Problem]) -> ParamsError:
        """Return one error that lists all `problems` in the order of the file."""
        lines = [str(problem) for problem in sorted(problems, key=lambda problem: problem.line)]
        count = f"{len(lines)} problem{'s' if len(lines) > 1 else ''}"
        return ParamsError("\n".join([f"{self.path} has {count}:", *lines]))


def _texts(values: Any, keys: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Yield each text in nested values, and the keys that lead to it."""
    if isinstance(values, str):
        yield keys, values
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in inner:
        yield from _texts(value, (*keys, key))


def _merged(problems: list[Problem]) -> list[Problem]:
    """Make one problem of those about the same value, which each member of a union of types reports for itself."""
    merged: dict[tuple[int, str, str], Problem] = {}
    for problem in problems:
        place = (problem.line, problem.key, problem.found)
        if place in merged:
            expected = f"{merged[place].expected} or {problem.expected.removeprefix('expected ')}"
            problem = replace(problem, expected=expected)
        merged[place] = problem
    return list(merged.values())


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run this in the folder that holds params.yaml") from None
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read: {error.strerror}; put a file there that you may read") from None


def _child(node: Node | None, key: str | int) -> tuple[int, Node] | None:
    if isinstance(node, MappingNode):
        for key_node, value_node in node.value:
            if key_node.value == str(key):
                return key_node.start_mark.line + 1, value_node
    if isinstance(node, SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key].start_mark.line + 1, node.value[key]
    return None


def _within_itself(node: Node | None, above: frozenset[int], seen: set[int]) -> Node | None:
    """Return the node that is somewhere within itself, through an alias; None where there is none."""
    if node is not None and id(node) in above:
        return node
    inner: list[Node] = []
    if isinstance(node, MappingNode):
        inner = [part for entry in node.value for part in entry]
    elif isinstance(node, SequenceNode):
        inner = node.value
    if not inner or id(node) in seen:
        return None
    seen.add(id(node))
    return next((found for part in inner if (found := _within_itself(part, above | {id(node)}, seen)) is not None), None)


def _without_tags(block: Any, loc: Iterable[str | int], *, absent: bool) -> KeyPath:
    """Drop what pydantic adds to a location and the file does not hold: the chosen member of a union.

    Args:
        block: what the location leads into.
        loc: the location.
        absent: whether its last part is a key that is missing, which the file does not hold either.
    """
    path: list[str | int] = []
    value = block
    for position, key in enumerate(items := list(loc)):
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and isinstance(key, int):
            value = value[key] if key < len(value) else None
        elif not absent or position < len(items) - 1 or not isinstance(value, dict):
            continue
        path.append(key)
    return tuple(path)


def _valid_names(schema: Any, block: Any, path: KeyPath) -> list[str]:
    """Return the keys that are allowed in the mapping at `path` of a block read as `schema`."""
    schema = _choose(schema, block)
    for key in path:
        block = block.get(key, {}) if isinstance(block, dict) else {}
        if get_origin(schema) is dict:
            hint = get_args(schema)[1]
        else:
            hint = (get_type_hints(schema) if is_dataclass(schema) else {}).get(str(key))
        schema = hint if get_origin(hint) is dict else _choose(hint, block)
    return [field.name for field in fields(schema)] if is_dataclass(schema) else []


def _choose(hint: Any, block: Any) -> Any:
    """Return the dataclass in a (possibly tagged) union that `block` is meant to be."""
    members = [member for member in (hint, *get_args(hint)) if is_dataclass(member)]
    nested = [member for outer in get_args(hint) for member in get_args(outer) if is_dataclass(member)]
    candidates = members or nested
    for member in candidates:
        source = get_type_hints(member).get("source")
        if source is not None and isinstance(block, dict) and block.get("source") in get_args(source):
            return member
    return candidates[0] if candidates else None


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return `; did you mean '...'?`, or nothing where no valid name is near."""
    close = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
