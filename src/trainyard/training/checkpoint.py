"""Checkpoints that are whole or not there: written aside, flushed, hashed, renamed; found again by an own scan.

<folder>/step-000001200/state.ckpt   <folder>/step-000001200/manifest.json

A checkpoint lies at the end of an epoch, once that is scored, or within one.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from trainyard.data.packed import file_sha256
from trainyard.errors import IntegrityError
from trainyard.files import flush

STATE, MANIFEST = "state.ckpt", "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a checkpoint's manifest says."""

    fingerprint: str
    epoch: int
    """0-based: under way, or just over."""
    step: int
    """Optimizer steps done."""
    ended: bool
    """The epoch is over and scored."""
    score: float | None
    """Primary metric on the validation split as a merit: higher is better, so an error is below 0. None within an epoch."""
    finished: bool
    """Training ends here."""

    @property
    def place(self) -> tuple[int, bool]:
        """Where in the training it lies; of two places the greater is the later one."""
        return self.step, self.ended


@dataclass(frozen=True)
class Checkpoint:
    """One valid checkpoint."""

    path: Path
    facts: Facts

    @property
    def state(self) -> Path:
        """The file that Lightning resumes from; it is loaded with weights_only=True."""
        return self.path / STATE


def write(folder: Path, facts: Facts, save: Callable[[Path], None]) -> Checkpoint:
    """Let `save` write the state, then make the checkpoint appear as a whole.

    Raises:
        OSError: the disk is full, read-only or broken; what was there before is untouched.
    """
    final = folder / f"step-{facts.step:09d}"
    temporary = folder / f".{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        save(temporary / STATE)
        manifest = {**asdict(facts), "sha256": file_sha256(temporary / STATE)}
        (temporary / MANIFEST).write_text(json.dumps(manifest) + "\n", encoding="utf-8")
        for path in (temporary / STATE, temporary / MANIFEST, temporary):
            flush(path)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        flush(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Checkpoint(final, facts)


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write a training state, which `torch.load(..., weights_only=True)` reads.

    Raises:
        OSError: the disk is full or broken.
    """
    with path.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # The archive's writer tells of a failed write only that it is not where it should be.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def scan(folder: Path, fingerprint: str) -> tuple[list[Checkpoint], list[str]]:
    """Return the valid checkpoints, oldest first, and a line about each one that was refused."""
    valid, refused = [], []
    for path in sorted(folder.glob("step-*")):
        try:
            values = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            sha256 = values.pop("sha256")
            facts = Facts(**values)
            if facts.fingerprint != fingerprint:
                refused.append(f"{path}: belongs to {facts.fingerprint}, not to {fingerprint}")
            elif file_sha256(path / STATE) != sha256:
                refused.append(f"{path}: does not match the hash it was written with")
            else:
                valid.append(Checkpoint(path, facts))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            refused.append(f"{path}: cannot be read ({error})")
    return sorted(valid, key=lambda checkpoint: checkpoint.facts.place), refused


def best(checkpoints: list[Checkpoint]) -> Checkpoint | None:
    """Return the epoch's end with the highest score, the earlier one of equals; a score that is no number never wins."""
    scores = [(score, found) for found in checkpoints if (score := found.facts.score) is not None and not math.isnan(score)]
    return max(scores, key=lambda scored: scored[0], default=(None, None))[1]


def kept_weights(
    folder: Path, fingerprint: str, keep: Literal["best", "last"] = "best"
) -> tuple[dict[str, torch.Tensor], Facts]:
    """Return the network's weights at the best validation score or after the last epoch, and what their checkpoint says.

    Raises:
        IntegrityError: no checkpoint has a score.
    """
    valid = scan(folder, fingerprint)[0]
    ended = [found for found in valid if found.facts.ended]
    top = best(ended) if keep == "best" else next(reversed(ended), None)
    if top is None:
        raise IntegrityError(f"{folder}: no checkpoint has a validation score; train the recipe again")
    state = torch.load(top.state, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "network."
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}, top.facts


def prune(checkpoints: list[Checkpoint], keep: int = 2) -> None:
    """Delete all but the `keep` newest and the best."""
    kept = {checkpoint.path for checkpoint in checkpoints[-keep:]}
    if (top := best(checkpoints)) is not None:
        kept.add(top.path)
    for checkpoint in checkpoints:
        if checkpoint.path not in kept:
            shutil.rmtree(checkpoint.path, ignore_errors=True)
