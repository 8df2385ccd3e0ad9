"""Checkpoints that are whole or not there: the state first, then the manifest that names and hashes it; found by an own scan.

    <store>/step-000001200/state-5f3a90c2.ckpt   <store>/step-000001200/manifest.json

The manifest alone makes a checkpoint exist, in a folder and in an object store alike: what a killed writer leaves without
one is nothing. A checkpoint lies at the end of an epoch, once that is scored, or within one.
"""

from __future__ import annotations

import json
import math
import pickle
import re
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch

from trainyard.data.packed import file_sha256
from trainyard.errors import IntegrityError
from trainyard.training.store import FolderStore, Hashed, Store, open_store, put

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a checkpoint's manifest says of the training."""

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
    """One checkpoint, as its manifest states it; whether its state is still what was written, `fetch` finds out."""

    store: Store = field(compare=False)
    name: str
    facts: Facts
    file: str
    sha256: str
    size: int
    """In bytes, of the state."""

    @property
    def address(self) -> str:
        """For people."""
        return f"{self.store.address}/{self.name}"

    @property
    def state(self) -> Path:
        """The file with the state, where the store is a folder."""
        if not isinstance(self.store, FolderStore):
            raise TypeError(f"{self.address} is in no folder; fetch it")
        return self.store.path(f"{self.name}/{self.file}")


def write(place: Store | Path, facts: Facts, state: Mapping[str, Any] | Callable[[BinaryIO], Any]) -> Checkpoint:
    """Write a state, or let a function write it, and then make the checkpoint exist.

    Raises:
        OSError: the disk is full, read-only or broken; what was there before is untouched.
        ServiceError: the store does not take it; as well.
    """
    store = _store(place)
    name = f"step-{facts.step:09d}"
    # A name of its own: one that is written once more must not touch what is there before it is whole.
    file = f"state-{secrets.token_hex(4)}.ckpt"
    hashed: list[Hashed] = []

    def save(target: BinaryIO) -> None:
        hashed.append(Hashed(target))
        (state if callable(state) else lambda file: save_state(state, file))(hashed[0])  # type: ignore[arg-type]

    store.write(f"{name}/{file}", save)
    sha256, size = hashed[0].digest.hexdigest(), hashed[0].size
    manifest = {**asdict(facts), "file": file, "sha256": sha256, "bytes": size}
    put(store, f"{name}/{MANIFEST}", f"{json.dumps(manifest)}\n".encode())
    for other in store.names(name):
        if other not in (file, MANIFEST):
            store.delete(f"{name}/{other}")
    return Checkpoint(store, name, facts, file, sha256, size)


def save_state(state: Mapping[str, Any], file: Any) -> None:
    """Write a training state, which `torch.load(..., weights_only=True)` reads.

    Raises:
        OSError: the disk is full or broken.
    """
    try:
        torch.save(state, file)
    except RuntimeError as error:
        # The archive's writer tells of a failed write only that it is not where it should be.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def stated(place: Store | Path, fingerprint: str) -> tuple[list[Checkpoint], list[str]]:
    """Return the checkpoints that have a manifest, oldest first, and a line about each one that is refused.

    Their states are not read.
    """
    store = _store(place)
    found, refused = [], []
    for name in store.names():
        if not name.startswith("step-"):
            continue
        try:
            checkpoint = _stated(store, name)
        except FileNotFoundError:
            # Its writer was killed before it was whole.
            continue
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            refused.append(f"{store.address}/{name}: cannot be read ({error})")
            continue
        if checkpoint.facts.fingerprint != fingerprint:
            refused.append(f"{checkpoint.address}: belongs to {checkpoint.facts.fingerprint}, not to {fingerprint}")
        else:
            found.append(checkpoint)
    return sorted(found, key=lambda checkpoint: checkpoint.facts.place), refused


def scan(place: Store | Path, fingerprint: str) -> tuple[list[Checkpoint], list[str]]:
    """Return the checkpoints whose states are what was written, oldest first, and a line about each other one.

    Raises:
        ServiceError: the store does not answer.
    """
    found, refused = stated(place, fingerprint)
    problems = {checkpoint.name: problem for checkpoint in found if (problem := damage(checkpoint))}
    return [checkpoint for checkpoint in found if checkpoint.name not in problems], [*refused, *problems.values()]


def named(store: Store, name: str) -> Checkpoint | None:
    """Return one checkpoint as its manifest states it; None where there is none that can be read."""
    try:
        return _stated(store, name)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _stated(store: Store, name: str) -> Checkpoint:
    values = json.loads(store.read(f"{name}/{MANIFEST}"))
    file, sha256, size = values.pop("file"), values.pop("sha256"), values.pop("bytes")
    facts = Facts(**values)
    kinds = {"fingerprint": str, "epoch": int, "step": int, "ended": bool, "score": float | None, "finished": bool}
    for field_name, kind in kinds.items():
        if not isinstance(getattr(facts, field_name), kind):
            raise TypeError(f"{field_name}: {getattr(facts, field_name)!r} is not of its type")
    if not isinstance(sha256, str) or not isinstance(size, int) or not isinstance(file, str) or "/" in file:
        raise TypeError(f"file: {file!r} of {size!r} bytes with hash {sha256!r}")
    return Checkpoint(store, name, facts, file, sha256, size)


def fetch(checkpoint: Checkpoint, path: Path) -> Path:
    """Return a file of this machine that holds the state as it was written: in the store's folder, or fetched to `path`.

    Raises:
        IntegrityError: the state is gone, or not what was written.
        ServiceError: the store does not answer.
    """
    store, name = checkpoint.store, f"{checkpoint.name}/{checkpoint.file}"
    try:
        if isinstance(store, FolderStore):
            path = checkpoint.state
            sha256 = file_sha256(path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            sha256 = store.fetch(name, path)
    except FileNotFoundError:
        raise IntegrityError(f"{checkpoint.address}: {checkpoint.file} is gone") from None
    if sha256 != checkpoint.sha256:
        raise IntegrityError(f"{checkpoint.address}: does not match the hash it was written with")
    return path


def load(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the state, whose tensors are on the CPU; nothing in it can run code.

    Raises:
        IntegrityError: as for `fetch`.
        ServiceError: as for `fetch`.
    """
    with tempfile.TemporaryDirectory(prefix="trainyard-") as folder:
        return read_state(fetch(checkpoint, Path(folder) / "state"))


def read_state(path: Path) -> dict[str, Any]:
    """Return the state in a file; its tensors are on the CPU.

    Raises:
        IntegrityError: it holds more than tensors and plain values: whoever could write it would have it run code.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
        raise forged(path, error) from None
    return state


def forged(path: Path, error: Exception) -> IntegrityError:
    """Return what to raise where a state that has its manifest's hash could not be read safely."""
    # Without what torch says: it advises to load the file all the same.
    return IntegrityError(
        f"{path}: is no state of a training ({type(error).__name__}), though it has the hash that its manifest states; "
        f"nothing in it was run. See who could write there, and delete {path.parent}"
    )


def damage(checkpoint: Checkpoint) -> str:
    """Return what is wrong with a state; nothing where it is what was written.

    Raises:
        ServiceError: the store does not answer.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="trainyard-") as folder:
            fetch(checkpoint, Path(folder) / "state")
    except IntegrityError as error:
        return str(error)
    return ""


@dataclass(frozen=True, slots=True)
class Newest:
    """The checkpoint to continue from."""

    checkpoint: Checkpoint
    state: Path
    """File of this machine with its state, which is what was written."""
    refused: list[str]
    """A line about each one that is not valid, and on what that costs."""


def newest(place: Store | Path, fingerprint: str, path: Path, keep: Literal["best", "last"] = "best") -> Newest | None:
    """Return the newest valid checkpoint that leads to the weights that are to be kept, or None before the first one.

    Where those of the best epoch so far are damaged, that is one before it, so that the epoch is trained once more.

    Args:
        place: where they are.
        fingerprint: of the training.
        path: where its state is fetched to, unless it is in a folder.
        keep: which weights the training is to end with.

    Raises:
        IntegrityError: there are checkpoints, and none serves.
        ServiceError: the store does not answer.
    """
    found, refused = stated(place, fingerprint)
    while found:
        last, top = found[-1], best(found) if keep == "best" else None
        try:
            state = fetch(last, path)
        except IntegrityError as error:
            refused.append(str(error))
            found.pop()
            continue
        if top is None or top is last or not (problem := damage(top)):
            return Newest(last, state, [_told(line, last) for line in refused])
        refused.append(problem)
        found = [other for other in found if other.facts.place < top.facts.place]
    if refused:
        raise IntegrityError(
            f"{_store(place).address}: none of {len(refused)} checkpoints is valid ({refused[-1]}); "
            "delete that folder to train from the start"
        )
    return None


def _told(line: str, checkpoint: Checkpoint) -> str:
    """Add to a line about a damaged checkpoint what it costs."""
    number = re.search(r"step-(\d{9}): ", line)
    lost = int(number[1]) - checkpoint.facts.step if number else 0
    return f"{line}; continuing from step {checkpoint.facts.step}" + (f": {lost} steps are lost" if lost > 0 else "")


def best(checkpoints: list[Checkpoint]) -> Checkpoint | None:
    """Return the epoch's end with the highest score, the earlier one of equals; a score that is no number never wins."""
    scores = [(score, found) for found in checkpoints if (score := found.facts.score) is not None and not math.isnan(score)]
    return max(scores, key=lambda scored: scored[0], default=(None, None))[1]


def kept_weights(
    place: Store | Path, fingerprint: str, keep: Literal["best", "last"] = "best"
) -> tuple[dict[str, torch.Tensor], Facts]:
    """Return the network's weights at the best validation score or after the last epoch, and what their checkpoint says.

    Of a training that averages them, these are the averages.

    Raises:
        IntegrityError: no checkpoint has a score, or the one that is wanted is damaged.
        ServiceError: the store does not answer.
    """
    ended = [found for found in stated(place, fingerprint)[0] if found.facts.ended]
    top = best(ended) if keep == "best" else next(reversed(ended), None)
    if top is None:
        raise IntegrityError(f"{_store(place).address}: no checkpoint has a validation score; train the recipe again")
    try:
        state = load(top)["state_dict"]
    except IntegrityError as error:
        raise IntegrityError(f"{error}; it is the {keep} epoch's: delete {top.store.address} and train again") from None
    # The average is what was scored, where there is one.
    prefix = next(prefix for prefix in ("averaged.", "network.") if any(name.startswith(prefix) for name in state))
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}, top.facts


def prune(checkpoints: list[Checkpoint], keep: int = 2) -> None:
    """Delete all but the `keep` newest and the best."""
    kept = {checkpoint.name for checkpoint in checkpoints[-keep:]}
    if (top := best(checkpoints)) is not None:
        kept.add(top.name)
    for checkpoint in checkpoints:
        if checkpoint.name not in kept:
            # The manifest first: without it, what is left of a deletion that was cut short is nothing.
            checkpoint.store.delete(f"{checkpoint.name}/{MANIFEST}")
            checkpoint.store.delete(checkpoint.name)


def _store(place: Store | Path) -> Store:
    return open_store(place) if isinstance(place, Path) else place
