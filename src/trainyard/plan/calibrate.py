"""A few real steps of a recipe, in a process of their own: its network, its batches, its arithmetic, one worker's share.

    python -m trainyard.plan.calibrate RECIPE DATA_DIR WORKERS THREADS SECONDS

writes one line of JSON. Nothing of it stays: checkpoints and records go to a folder that is deleted.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trainyard.errors import TrainyardError, last_line

WARM_STEPS = 3
"""Steps that compile, fill caches and choose kernels, which are not counted."""
LEAST_STEPS = 5
"""That are counted, however long they take."""
TIMEOUT_FACTOR = 20.0
"""More than that many times the seconds asked for, and a calibration is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a calibration came to, of one worker."""

    step_seconds: float
    steps: int
    forward_seconds: float
    """Of a step: what validation needs for as many samples."""
    bytes: int
    gpu_bytes: int


def calibrate(root: Path, recipe: str, data_dir: Path, workers: int, threads: int, seconds: float) -> Measured | str:
    """Measure some steps, or say why that was not possible.

    Args:
        root: the project.
        recipe: its name.
        data_dir: its packed data.
        workers: among whom a batch is shared.
        threads: of each.
        seconds: to measure for, about.
    """
    arguments = [recipe, str(data_dir), str(workers), str(threads), str(seconds)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "trainyard.plan.calibrate", *arguments],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120 + TIMEOUT_FACTOR * seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{LEAST_STEPS + WARM_STEPS} steps took longer than {120 + TIMEOUT_FACTOR * seconds:.0f} s"
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return last_line(Exception(done.stderr)) if done.stderr.strip() else f"ended with exit code {done.returncode}"
    return Measured(**json.loads(lines[-1]))


def measure(recipe_name: str, data_dir: Path, workers: int, threads: int, seconds: float) -> Measured:
    """Train until enough steps are measured, and return what they took."""
    from trainyard.lean import load_lightning

    load_lightning()
    import torch

    from trainyard.data.packed import read_card
    from trainyard.errors import Interrupted
    from trainyard.recipe import read_recipe
    from trainyard.training.fit import fit
    from trainyard.training.job import FitJob

    torch.set_num_threads(threads)
    recipe = read_recipe(Path("params.yaml"), recipe_name)
    card = read_card(data_dir)
    train = recipe.train
    whole = card.samples["train"] if train.batch_size == "full" else min(train.batch_size, card.samples["train"])
    share = -(-whole // max(1, workers))
    stop = threading.Event()
    # Epochs without end, so that there are steps to measure; what the weights become is not looked at.
    endless = replace(train, batch_size=share, epochs=max(1000, train.epochs), early_stopping_patience=None)
    with tempfile.TemporaryDirectory(prefix="trainyard-plan-") as folder:
        job = FitJob(
            recipe=replace(recipe, train=endless),
            data_dir=data_dir.resolve(),
            scratch_dir=Path(folder),
            fingerprint="plan",
            weights=Path(train.start_from.weights).resolve() if train.start_from else None,
            checkpoint_seconds=None,
        )
        watch = _watch(seconds, stop)
        with suppress(Interrupted):
            fit(job, stop=stop, callbacks=[watch])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return Measured(
        step_seconds=watch.step_seconds, steps=watch.steps, forward_seconds=watch.forward_seconds, bytes=peak, gpu_bytes=gpu
    )


def _watch(seconds: float, stop: threading.Event) -> Any:
    """Return the callback that measures; Lightning is imported by then."""
    import time

    import pytorch_lightning as pl

    from trainyard.training.beat import STEP_PHASES, Place, Progress
    from trainyard.training.pulse import Pulse

    class Watch(Pulse):
        """Counts steps from the first warm one on."""

        def __init__(self) -> None:
            super().__init__(Progress(Place(rank=0, workers=1, host="", node="", pid=os.getpid(), actor="")))
            self.warm: tuple[int, float, float, float] | None = None
            self.steps, self.step_seconds, self.forward_seconds = 0, 0.0, 0.0

        def on_train_batch_end(
            self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            done, spent = trainer.global_step, self.progress.spent
            now = (done, sum(spent.get(phase, 0.0) for phase in STEP_PHASES), spent.get("forward", 0.0), time.monotonic())
            if self.warm is None:
                if done >= WARM_STEPS:
                    self.warm = now
                return
            self.steps = done - self.warm[0]
            if self.steps:
                self.step_seconds = (now[1] - self.warm[1]) / self.steps
                self.forward_seconds = (now[2] - self.warm[2]) / self.steps
            if self.steps >= LEAST_STEPS and now[3] - self.warm[3] >= seconds:
                stop.set()

    return Watch()


def main() -> None:
    """Measure, and write what came out."""
    recipe, data_dir, workers, threads, seconds = sys.argv[1:]
    try:
        found = measure(recipe, Path(data_dir), int(workers), int(threads), float(seconds))
    except TrainyardError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    sys.stdout.write(f"{json.dumps(asdict(found))}\n")


if __name__ == "__main__":
    main()
