"""What `dvc repro` would run, and why: as DVC itself says it, in words, and with the stages that follow from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.dvc_cache import place_of
from trainyard.dvc_stages import needs, refusal
from trainyard.errors import InputError, last_line
from trainyard.inputs import read_mapping, value_at
from trainyard.origin.known import FOLDER_SUFFIX, Entry, Known, folder_md5
from trainyard.provenance import STAGES, file_md5

SHOWN = 4
"""Reasons of one kind that are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One stage of a recipe."""

    stage: str
    recipe: str
    runs: bool
    reasons: tuple[str, ...]
    """Why it runs, or is restored."""
    restored: bool = False
    """DVC has seen this very stage before and takes its result from its cache."""

    @property
    def name(self) -> str:
        """As DVC calls it."""
        return f"{self.stage}@{self.recipe}"


def steps(root: Path, recipes: list[str], targets: list[str]) -> list[Step]:
    """Return all stages of what is asked for, in their order.

    Args:
        root: the project.
        recipes: names of all.
        targets: stages (`train@cnn`, `train`) or recipes; everything where none is named. What a stage needs comes with it.

    Raises:
        InputError: there is no such stage or recipe, or DVC cannot say.
        IntegrityError: dvc.lock is damaged.
    """
    wanted = _wanted(recipes, targets)
    known = Known(root)
    status = _status(root)
    added = [name for name in status if name.partition("@")[0] not in STAGES and not name.endswith(".dvc")]
    locked = {(entry.stage, entry.recipe): entry for entry in known.current}
    former = list(known.former())
    params = read_mapping(root / "params.yaml")
    ahead = needs(root) if added else {}
    found = []
    for recipe in recipes:
        before: str | None = None
        """The first stage that runs, from which the next ones follow."""
        made: dict[str, str] = {}
        """Hashes of what restored stages bring back."""
        for stage in STAGES[: wanted.get(recipe, 0)]:
            name = f"{stage}@{recipe}"
            entry = locked.get((stage, recipe))
            reasons = _reasons(status.get(name, []), entry, params)
            before = before or next((other for other in added if other in ahead.get(name, ())), None)
            if before is not None:
                reasons = (f"{before} runs before it", *(reason for reason in reasons if "edited" in reason))
            if not reasons and entry is not None and all(made.get(path, md5) == md5 for path, md5 in entry.deps().items()):
                found.append(Step(stage=stage, recipe=recipe, runs=False, reasons=()))
                continue
            if before is None and (old := _seen(root, known, former, entry, name, params, made)) is not None:
                made |= old.outs()
                found.append(Step(stage=stage, recipe=recipe, runs=False, restored=True, reasons=reasons))
                continue
            before = before or name
            found.append(Step(stage=stage, recipe=recipe, runs=True, reasons=reasons or ("what it reads is another one",)))
    return found


def _wanted(recipes: list[str], targets: list[str]) -> dict[str, int]:
    """Return how many of the stages, from the first on, are wanted of each recipe."""
    if not targets:
        return {recipe: len(STAGES) for recipe in recipes}
    wanted: dict[str, int] = {}
    for target in targets:
        stage, _, recipe = target.partition("@")
        if not recipe and stage in recipes and stage not in STAGES:
            stage, recipe = STAGES[-1], stage
        chosen = [recipe] if recipe else recipes
        if stage not in STAGES or not set(chosen) <= set(recipes):
            raise InputError(f"{target}: no such stage or recipe; there are {', '.join(STAGES)}, of {', '.join(recipes)}")
        for name in chosen:
            wanted[name] = max(wanted.get(name, 0), STAGES.index(stage) + 1)
    return wanted


def _status(root: Path) -> dict[str, list[Any]]:
    """Return what `dvc status` says by stage.

    Raises:
        InputError: it cannot say it, and why.
    """
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        # Behind an error that it did not expect, DVC offers help.
        said = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        line = said[-1] if said else last_line(Exception(done.stderr))
        raise refusal(f"status: {line}", "mend that, `trainyard check` says what is wrong with params.yaml")
    answer: dict[str, list[Any]] = json.loads(done.stdout or "{}")
    return answer


def _reasons(said: list[Any], entry: Entry | None, params: Mapping[str, Any]) -> tuple[str, ...]:
    """Return DVC's reasons in words."""
    if entry is None:
        return ("was never run",) if said else ()
    reasons: list[str] = []
    for part in said:
        if part == "changed command":
            reasons.append("its command in dvc.yaml was edited")
        elif isinstance(part, dict):
            for kind, files in part.items():
                reasons += _of_files(kind, files, entry, params)
        else:
            reasons.append(str(part))
    return tuple(reasons)


def _of_files(kind: str, files: Mapping[str, Any], entry: Entry, params: Mapping[str, Any]) -> list[str]:
    reasons = []
    by_word: dict[str, list[str]] = {}
    for path, word in files.items():
        if isinstance(word, Mapping):
            was = entry.values.get("params", {}).get(path, {})
            reasons += [line for name in word for line in _of_param(name, was.get(name), value_at(params, name))]
        else:
            code = path.startswith(("src/", "pipeline/"))
            shown = {"modified": "edited", "deleted": "gone", "not in cache": "not in DVC's cache"}.get(str(word), str(word))
            by_word.setdefault(f"{'code ' if code else ''}{shown}", []).append(path)
    what = "" if kind == "changed deps" else "its result "
    for word, paths in by_word.items():
        more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
        reasons.append(f"{what}{word}: {', '.join(paths[:SHOWN])}{more}")
    return reasons


def _of_param(name: str, was: Any, now: Any) -> list[str]:
    """Return what differs in a block of parameters, key by key."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        keys = [*now, *(key for key in was if key not in now)]
        changed = [key for key in keys if was.get(key) != now.get(key)]
        return [line for key in changed for line in _of_param(f"{name}.{key}", was.get(key), now.get(key))]
    return [f"{name}: {_text(was)} -> {_text(now)}"]


def _text(value: Any) -> str:
    return "(left out)" if value is None else json.dumps(value, default=str)


def _seen(
    root: Path,
    known: Known,
    former: list[Entry],
    entry: Entry | None,
    name: str,
    params: Mapping[str, Any],
    made: dict[str, str],
) -> Entry | None:
    """Return an earlier execution of a stage with the same command, parameters and inputs, whose result the cache has."""
    stage, _, recipe = name.partition("@")
    hashes: dict[str, str | None] = {}

    def now(path: str) -> str | None:
        if path not in hashes:
            hashes[path] = made.get(path) or _hash(root, path, known)
        return hashes[path]

    for old in [found for found in former if (found.stage, found.recipe) == (stage, recipe)]:
        if entry is not None and old.values.get("cmd") != entry.values.get("cmd"):
            continue
        wanted = old.values.get("params", {}).get("params.yaml", {})
        if any(value_at(params, key) != value for key, value in wanted.items()):
            continue
        if all(now(path) == md5 for path, md5 in old.deps().items()) and all(
            place_of(known.cache, md5).is_file() for md5 in old.outs().values()
        ):
            return old
    return None


def _hash(root: Path, path: str, known: Known) -> str | None:
    """Return the hash of a file or folder as it is; of packed data, as dvc.lock has it, whose own stage is looked at first."""
    place = root / path
    if place.is_file():
        return file_md5(place)
    if not place.is_dir():
        return None
    for entry in known.current:
        if (md5 := entry.outs().get(path)) and md5.endswith(FOLDER_SUFFIX):
            return md5
    return folder_md5(place, root)
