"""What a training hands on: the curves and the figures, and the scratch folder's life."""

from __future__ import annotations

import csv
import json
import secrets
import shutil
from dataclasses import replace
from pathlib import Path

from trainyard.errors import MachineError
from trainyard.training.job import MARK, FitJob, FitResult
from trainyard.training.store import FolderStore, open_store, put

DONE = "done"


def open_scratch(root: Path, fingerprint: str) -> Path:
    """Return the folder of a training state: with what an interrupted attempt left, empty after a finished one."""
    folder = root / ".trainyard" / "train" / fingerprint
    if (folder / DONE).exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def open_storage(job: FitJob) -> FitJob:
    """Make the storage of a job ready, empty after a training that has finished; return the job that knows its mark.

    Raises:
        InputError: `cluster.storage` is no address.
        MachineError: it is a folder that does not exist.
        ServiceError: it does not answer, or takes nothing.
    """
    if job.storage is None:
        return job
    root = open_store(job.storage)
    if isinstance(root, FolderStore) and not root.folder.is_dir():
        # Made here, it would be a folder of this machine alone where the shared one is not mounted.
        raise MachineError(f"cluster.storage: {root.address} is no folder on this machine; mount it, or make it")
    store = job.store()
    if store.size(DONE) is not None:
        for name in store.names():
            if name != DONE:
                store.delete(name)
        # What is left here of that training goes with it.
        shutil.rmtree(job.scratch_dir)
        job.scratch_dir.mkdir()
        store.delete(DONE)
    mark = secrets.token_hex(8)
    put(store, MARK, mark.encode())
    return replace(job, storage_mark=mark)


def close_scratch(job: FitJob) -> None:
    """Mark a training as finished and give its space back.

    Raises:
        ServiceError: the storage does not answer.
    """
    if job.storage is not None:
        store = job.store()
        put(store, DONE, b"")
        for name in store.names():
            if name != DONE:
                store.delete(name)
    (job.scratch_dir / DONE).touch()
    shutil.rmtree(job.checkpoints, ignore_errors=True)
    for path in job.scratch_dir.glob("restored-*.ckpt"):
        path.unlink()


def write_history(path: Path, history: list[dict[str, float]]) -> None:
    """Write one row an epoch, for DVC's plots and the figure of the learning curves."""
    columns = ["epoch", *(name for name in history[0] if name != "epoch")]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for epoch, values in enumerate(history, start=1):
            writer.writerow({"epoch": epoch, **{name: f"{value:.6g}" for name, value in values.items()}})


def write_metrics(path: Path, metrics: dict[str, float]) -> None:
    """Write metrics for DVC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


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
