"""What a training hands on: the curves and the figures, and the scratch folder's life."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from trainyard.errors import MachineError
from trainyard.files import write_whole
from trainyard.training.job import MARK, FitJob, FitResult
from trainyard.training.store import FolderStore, Store, open_store, put

DONE = "done"
"""Beside the checkpoints of a finished training: the md5 of the run.json that it handed on, by which DVC records it."""
RUN = "run.json"
"""Which run in MLflow a training is: in its scratch folder, and beside the checkpoints in a storage."""
KEPT_SECONDS = 7 * 24 * 3600.0
"""A finished training that DVC never recorded is kept so long."""


def open_scratch(root: Path, fingerprint: str, lock_path: Path) -> Path:
    """Return the folder of a training state: with what an attempt left, empty where DVC recorded a finished one.

    A training whose end DVC did not record, because it was killed then or its disk was full, is not done again.
    """
    folder = root / ".trainyard" / "train" / fingerprint
    if (folder / DONE).exists() and (recorded(folder, lock_path) or not (folder / "checkpoints").is_dir()):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DONE).unlink(missing_ok=True)
    return folder


def close_scratch(folder: Path, run: bytes, storage: Store | None = None) -> None:
    """Mark a training as finished. Its checkpoints stay until DVC has recorded what came out.

    Args:
        folder: what `open_scratch` returned.
        run: the content of run.json, which is like no other training's.
        storage: where the checkpoints are, if not in the folder.

    Raises:
        ServiceError: the storage does not answer.
    """
    mark = hashlib.md5(run, usedforsecurity=False).hexdigest().encode()
    if storage is not None:
        put(storage, DONE, mark)
        # Empty, it says that the checkpoints have not been given up.
        (folder / "checkpoints").mkdir(exist_ok=True)
    write_whole(folder / DONE, mark)
    for path in folder.glob("restored-*.ckpt"):
        path.unlink()


def free_scratch(root: Path, lock_path: Path) -> None:
    """Give the disk space of finished trainings back that DVC has recorded, or that nobody has asked for since."""
    for done in (root / ".trainyard" / "train").glob(f"*/{DONE}"):
        # What cannot be deleted now is deleted the next time.
        with suppress(OSError):
            if recorded(done.parent, lock_path) or time.time() - done.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(done.parent / "checkpoints", ignore_errors=True)


def check_storage(storage: str) -> None:
    """See that a storage can be used from here.

    Raises:
        InputError: `cluster.storage` is no address.
        MachineError: it is a folder that does not exist.
        ServiceError: it cannot be opened.
    """
    root = open_store(storage)
    if isinstance(root, FolderStore) and not root.folder.is_dir():
        # Made here, it would be a folder of this machine alone where the shared one is not mounted.
        raise MachineError(f"cluster.storage: {root.address} is no folder on this machine; mount it, or make it")


def open_storage(job: FitJob) -> FitJob:
    """Make the storage of a job ready, and return the job that knows its mark; a finished training in it goes on from its end.

    To be called by who holds it.

    Raises:
        ServiceError: it does not answer, or takes nothing.
    """
    store, mark = job.store(), secrets.token_hex(8)
    store.delete(DONE)
    put(store, MARK, mark.encode())
    return replace(job, storage_mark=mark)


def bring_identity(job: FitJob) -> None:
    """Continue the run in MLflow that another machine began for the checkpoints in a job's storage.

    Raises:
        ServiceError: the storage does not answer.
    """
    with suppress(FileNotFoundError):
        write_whole(job.scratch_dir / RUN, job.store().read(RUN))


def share_identity(job: FitJob) -> None:
    """Let other machines know which run in MLflow is that of the checkpoints in a job's storage.

    Raises:
        ServiceError: the storage does not answer.
    """
    put(job.store(), RUN, (job.scratch_dir / RUN).read_bytes())


def free_storage(storage: str, lock_path: Path) -> None:
    """Delete the finished trainings in a storage that DVC has recorded here; a forced run then starts from the beginning.

    Raises:
        InputError: it is no address of a storage.
        ServiceError: it does not answer.
    """
    root = open_store(storage)
    for name in root.names():
        with suppress(FileNotFoundError, NotADirectoryError):
            if _in_lock(root.read(f"{name}/{DONE}"), lock_path):
                # The mark last: a deletion that is cut short is taken up again.
                for inner in root.names(name):
                    if inner != DONE:
                        root.delete(f"{name}/{inner}")
                root.delete(name)


def recorded(folder: Path, lock_path: Path) -> bool:
    """Return whether dvc.lock holds a finished training's run.json; an empty mark is an older version's."""
    try:
        return _in_lock((folder / DONE).read_bytes(), lock_path)
    except OSError:
        return False


def _in_lock(mark: bytes, lock_path: Path) -> bool:
    try:
        return mark in lock_path.read_bytes()
    except OSError:
        return False


def write_history(path: Path, history: list[dict[str, float]]) -> None:
    """Write one row an epoch, for DVC's plots and the figure of the learning curves."""
    columns = ["epoch", *(name for name in history[0] if name != "epoch")]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    for epoch, values in enumerate(history, start=1):
        writer.writerow({"epoch": epoch, **{name: f"{value:.6g}" for name, value in values.items()}})
    write_whole(path, text.getvalue().encode())


def write_metrics(path: Path, metrics: dict[str, float]) -> None:
    """Write metrics for DVC."""
    write_whole(path, f"{json.dumps(metrics, indent=2)}\n".encode())


def summarise(result: FitResult, primary: str, best_epoch: int, receptive_field: int | None) -> dict[str, float]:
    """Return the figures of a training and its network. Epochs count from 1, the receptive field is a side in pixels."""
    best = result.history[best_epoch]
    seconds = result.history[-1]["seconds"]
    rates = sorted(values["throughput/samples_per_s"] for values in result.history)
    return {
        f"best/{primary}": best[f"val/{primary}"],
        "best/val_loss": best["val/loss"],
        "best/epoch": best_epoch + 1,
        "epochs": len(result.history),
        "steps": result.history[-1]["step"],
        "seconds": round(seconds, 2),
        "samples_per_s": round(rates[len(rates) // 2], 1),
        "parameters": result.parameters,
        **({} if receptive_field is None else {"receptive_field": receptive_field}),
    }
