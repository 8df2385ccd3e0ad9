"""Types of Python in the words of someone who writes YAML."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

PLAIN = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path", Any: "any value"}

NUMBERS = {2: "two", 3: "three"}


def words(hint: Any) -> str:
    """Return what a value of a type may be: `whole number, at least 1`, `relu, gelu or none`, `list of texts`."""
    if hint in PLAIN:
        return PLAIN[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _within(words(arguments[0]), arguments[1:])
    if origin is Literal:
        return one_of([f"`{as_yaml(choice)}`" for choice in arguments])
    if origin in (Union, types.UnionType):
        return one_of([words(member) for member in arguments if member is not type(None)])
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"{NUMBERS[len(arguments)]} of: {words(arguments[0])}"
    if origin in (tuple, list):
        return f"list of: {words(arguments[0])}"
    if origin is dict:
        return f"mapping of a {words(arguments[0])} to: {words(arguments[1])}"
    return "block"


def one_of(choices: list[str]) -> str:
    """Return choices with commas, and `or` before the last."""
    return " or ".join([", ".join(choices[:-1]), choices[-1]] if choices[1:] else choices)


def as_yaml(value: Any) -> str:
    """Return a value as it stands in params.yaml, on one line; nothing for None and for an empty list."""
    if value is None or value == ():
        return ""
    if isinstance(value, tuple):
        return f"[{', '.join(map(as_yaml, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def _within(kind: str, constraints: tuple[Any, ...]) -> str:
    found = [limit for each in constraints for limit in (each.metadata if isinstance(each, FieldInfo) else [each])]
    limits = []
    for limit in found:
        match limit:
            case Gt(gt=0) if kind == "whole number":
                limits.append("at least 1")
            case Gt(gt=least):
                limits.append(f"above {least}")
            case Ge(ge=least):
                limits.append(f"at least {least}")
            case Lt(lt=most):
                limits.append(f"below {most}")
            case Le(le=most):
                limits.append(f"at most {most}")
    return ", ".join([kind, *limits])
