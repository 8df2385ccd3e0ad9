"""What a stage reads, as it was when the stage began.

DVC looks at a stage's parameters and files once more after the stage has ended, and records what it finds then. What was
edited meanwhile would be recorded as what the result was made from, and never be made.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

HASHED_BYTES = 1 << 20
"""Up to this size a file is known by its content, beyond it by size and time."""
LOOK_SECONDS = 5.0
NAMED = {"prepare": "data.vectors.path", "train": "train.start_from.weights"}
"""By stage, where a recipe names a file whose hash stands beside it."""


class Inputs:
    """The parameters and files that dvc.yaml lists for a stage, and how they were."""

    def __init__(self, stage: str, folder: Path) -> None:
        """Look at the inputs of `stage`, `train@cnn` say, in a project's folder; a stage that is not there has none."""
        self.folder = folder
        self.params_path = folder / "params.yaml"
        verb, _, key = stage.partition("@")
        values = read_mapping(self.params_path)
        described = read_mapping(folder / "dvc.yaml").get("stages", {}).get(verb) or {}
        described = described.get("do", described)
        names = {"key": key, "item": value_at(values, f"recipes.{key}")}
        self.params = {name: value_at(values, name) for name in _filled(described.get("params", []), names)}
        self.files = {name: _state(folder / name) for name in _filled(described.get("deps", []), names)}

    def changes(self) -> list[str]:
        """Return the names of what is no longer as it was."""
        values = read_mapping(self.params_path) if self.params else {}
        changed = [f"params.yaml: {name}" for name, was in self.params.items() if _plain(value_at(values, name)) != _plain(was)]
        return changed + [name for name, was in self.files.items() if _state(self.folder / name) != was]

    def tell(self, say: Callable[[str], None]) -> None:
        """Say in the background, once, that an input was edited."""
        small = [path for name in self.files if (path := self.folder / name).is_file()]

        def look() -> None:
            seen = [_stamp(path) for path in (self.params_path, *small)]
            while not threading.Event().wait(LOOK_SECONDS):
                now = [_stamp(path) for path in (self.params_path, *small)]
                if now != seen and (changed := self.changes()):
                    say(
                        f"{', '.join(changed[:3])}: edited while this runs, which goes on with what it began with; "
                        "put it back before the end, or what comes out will not be recorded"
                    )
                    return
                seen = now

        threading.Thread(target=look, name="inputs-watch", daemon=True).start()


def read_mapping(path: Path) -> dict[str, Any]:
    """Return what a file of YAML holds; nothing where it cannot be read, or holds no mapping."""
    try:
        values = YAML(typ="safe").load(path)
    except (OSError, YAMLError, UnicodeDecodeError):
        return {}
    return values if isinstance(values, dict) else {}


def value_at(values: Any, name: str) -> Any:
    """Return what stands at a dotted name, or None."""
    for part in name.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def named_file(recipe: Any, stage: str) -> str | None:
    """Return the path of the file that a recipe has a stage read by its hash; dvc.yaml cannot list what only some have."""
    path = value_at(recipe, NAMED[stage]) if stage in NAMED else None
    return path if isinstance(path, str) else None


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _filled(texts: list[Any], names: Mapping[str, Any]) -> Iterator[str]:
    """Yield texts with their `${...}` filled in; what is no text, or names what is not there, is left out."""
    for text in texts:
        if not isinstance(text, str):
            continue
        values = {name: value_at(names, name) for name in re.findall(r"\$\{([\w.]+)\}", text)}
        if None in values.values():
            continue
        for name, value in values.items():
            text = text.replace(f"${{{name}}}", str(value))
        yield text


def _state(path: Path) -> str:
    """Return what tells whether a file, or any file of a folder, was written anew."""
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(path.rglob("*")):
            if "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(path)} {_stamp(file)}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()
    try:
        if path.stat().st_size <= HASHED_BYTES:
            return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "missing"
    return _stamp(path)


def _stamp(path: Path) -> str:
    try:
        facts = path.stat()
    except OSError:
        return "missing"
    # A folder's own time changes with caches that Python writes into it; its files are looked at one by one.
    return "folder" if path.is_dir() else f"{facts.st_size} {facts.st_mtime_ns}"
