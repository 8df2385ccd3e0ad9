"""Every key of a block: its values, its default, and what it does, as the dataclass that reads it says."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from trainyard.reference.values import as_yaml, words


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of params.yaml."""

    path: str
    """Dotted, below its block: `augment.flip`."""
    values: str
    """What may stand there: type, choices, range."""
    default: str | None
    """In YAML; empty for what may be left out and then is not there. None: it must be given."""
    effect: str

    @property
    def without(self) -> str:
        """What holds where the key is left out."""
        return "must be given" if self.default is None else f"default {self.default}" if self.default else "may be left out"


def keys_of(config: type, prefix: str = "") -> Iterator[Key]:
    """Yield the keys of a dataclass in its order, each nested one after the key that holds it."""
    hints, effects = get_type_hints(config, include_extras=True), _effects(config)
    for field in fields(config):
        hint = hints[field.name]
        path = f"{prefix}{field.name}"
        yield Key(path=path, values=words(hint), default=_default(field), effect=effects.get(field.name) or _chooses(hint))
        for nested, between in _nested(hint):
            yield from keys_of(nested, f"{path}.{between}")


def about(config: type) -> str:
    """Return the docstring of a config as one paragraph a line."""
    paragraphs = re.split(r"\n\s*\n", inspect.getdoc(config) or "")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _effects(config: type) -> dict[str, str]:
    """Return the text that stands below each field."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(config)))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef)).body
    found = {}
    for field, text in pairwise(body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str):
            said = " ".join(text.value.value.split())
            found[field.target.id] = re.sub(r"\bNone:", "Left out:", said)
    return found


def _default(field: Field[Any]) -> str | None:
    if field.default is MISSING and field.default_factory is MISSING:
        return None
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    return as_yaml(value)


def _chooses(hint: Any) -> str:
    """Return what a key does that has one value in each of several configs."""
    return "Chooses this block." if get_origin(hint) is Literal and len(get_args(hint)) == 1 else ""


def _nested(hint: Any) -> Iterator[tuple[type, str]]:
    """Yield the dataclasses that a type holds, and what stands between their keys and the key: `<name>.` for mappings."""
    if is_dataclass(hint) and isinstance(hint, type):
        yield hint, ""
        return
    arguments = get_args(hint)
    if get_origin(hint) is Annotated:
        arguments = arguments[:1]
    between = "<key>." if get_origin(hint) is dict else ""
    for argument in arguments:
        for nested, further in _nested(argument):
            yield nested, between + further
