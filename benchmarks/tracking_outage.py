"""The longest delay of a training's step while its MLflow server is black-holed, and what arrives afterwards.

Trains the digits twice in this process, beside a real server behind a proxy: once with the server there, once with its
connections dropped from the second epoch on. Prints the longest time between two steps of each, and the points lost and
doubled.

    PYTHONPATH=src:. python benchmarks/tracking_outage.py
"""

from __future__ import annotations

import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path

from mlflow.tracking import MlflowClient
from small_digits import DATA, recipe
from tests.faults.flaky import Mode, Proxy, mlflow_server
from tests.tracking.journals import curve, drive, the_run

from trainyard.data.packed import read_card
from trainyard.data.prepare import prepare
from trainyard.recipe import Recipe
from trainyard.tracking.poster import Poster
from trainyard.tracking.run import Tracking
from trainyard.training.cluster_config import TrackingConfig
from trainyard.training.fit import fit
from trainyard.training.job import FitJob
from trainyard.training.keeper import Keeper
from trainyard.training.spool import Reader

EPOCHS = 8


def main() -> None:
    trained = recipe({"dropout": 0.0}, epochs=EPOCHS, batch_size=64)
    with tempfile.TemporaryDirectory() as folder, mlflow_server(Path(folder)) as port:
        root = Path(folder)
        prepare("digits", DATA, root / "packed")
        proxy = Proxy(port)
        for mode in ("pass", "drop"):
            measure(trained, root, root / mode, proxy, mode, MlflowClient(f"http://127.0.0.1:{port}"))
        proxy.close()


def measure(recipe: Recipe, root: Path, folder: Path, proxy: Proxy, mode: Mode, client: MlflowClient) -> None:
    """Train once, with the server in a mode from the second epoch on, and print what it cost."""
    folder.mkdir()
    job = FitJob(recipe=recipe, data_dir=root / "packed", scratch_dir=folder, fingerprint=f"digits-{mode}")
    moments: list[float] = []
    start = Keeper.on_train_batch_start

    def stamped(self: Keeper, *arguments: object) -> None:
        moments.append(time.monotonic())
        start(self, *arguments)  # type: ignore[arg-type]

    Keeper.on_train_batch_start = stamped  # type: ignore[assignment]
    trained = threading.Thread(target=fit, args=(job,))
    with Tracking(folder, TrackingConfig(uri=proxy.uri, system_metrics=False), recipe, "train") as tracking:
        tracking.start(folder / "run.json", job.fingerprint, read_card(job.data_dir), {})
        with tracking.running(job.spool):
            reader = Reader(job.spool)
            trained.start()
            while trained.is_alive():
                if any(record.kind == "epoch" and record.epoch == 1 for record in tracking.record(reader)):
                    proxy.turn(mode)
                trained.join(0.2)
            tracking.record(reader)
    Keeper.on_train_batch_start = start  # type: ignore[method-assign]
    proxy.turn("pass")
    drive(Poster(folder, proxy.uri))
    stored = curve(client, the_run(client, tracking.key).info.run_id, "train/loss")
    steps = [step for step, _ in stored]
    longest = max(after - before for before, after in pairwise(moments))
    lost, twice = EPOCHS - len(set(steps)), len(steps) - len(set(steps))
    print(f"{mode}: longest step {longest:.2f} s of {len(moments)}, points lost {lost}, twice {twice}", flush=True)


if __name__ == "__main__":
    main()
