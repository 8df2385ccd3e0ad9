"""Run on a host of the bench: train the recipe of a folder as stage `train` does, without DVC and MLflow around it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from trainyard.files import write_whole
from trainyard.progress import TrainProgress
from trainyard.recipe import read_recipe, read_settings
from trainyard.stage import Clock, run_stage
from trainyard.tasks.primary import PRIMARY
from trainyard.training.job import FitJob
from trainyard.training.launch import started
from trainyard.training.outcome import open_storage
from trainyard.training.spool import Reader


def train(clock: Clock) -> str:
    folder, data_dir = Path(sys.argv[1]), Path(sys.argv[2])
    recipe = read_recipe(folder / "params.yaml", "cnn")
    cluster = read_settings(folder / "params.yaml")[0]
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    job = FitJob(recipe=recipe, data_dir=data_dir, scratch_dir=scratch, fingerprint="f", storage=cluster.storage)
    if job.storage is not None:
        job = open_storage(job)
    progress, reader = TrainProgress("cnn", recipe.train.epochs, PRIMARY["image_classification"]), Reader(job.spool)

    def watch() -> None:
        for record in reader.read():
            progress.show(record)

    with started(job, cluster) as launched:
        result = launched.wait(watch)
    write_whole(folder / "history.json", json.dumps(result.history).encode())
    return "done"


if __name__ == "__main__":
    run_stage("cnn", "train", train)
