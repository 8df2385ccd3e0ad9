"""Kill trainings at random steps, in random phases, and count how many end as one that was never killed.

    python benchmarks/kills.py --kills 60

Compared are weights, optimizer, history, loss and samples of each step on each worker, and the records: all bits. Every
training is killed once and started again; the kill is proven by the worker's exit code.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from small_digits import DATA, recipe
from tests.training.gang import Gang, assert_same_end, final_state, newest_facts

from trainyard.data.prepare import prepare
from trainyard.tasks.augment_config import AugmentConfig
from trainyard.training import checkpoint
from trainyard.training.job import FitJob

PHASES = ("forward", "backward", "reduce", "step", "save", "report", "validation")
RECIPE = recipe({"normalisation": "batch"}, augment=AugmentConfig(shift=1, brightness=0.1))
EVERY = 4
"""Steps between two checkpoints within an epoch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        root = Path(temporary)
        prepare("digits", DATA, root / "packed")
        job = FitJob(
            recipe=RECIPE, data_dir=root / "packed", scratch_dir=root / "whole", fingerprint="f", checkpoint_steps=EVERY
        )
        whole = Gang(job, arguments.workers)
        if not (end := whole.attempt()).finished:
            raise SystemExit(f"the undisturbed training failed: {end.said}")
        steps = int(final_state(whole.job)["global_step"])
        same, most_lost = 0, 0
        for number in range(arguments.kills):
            phase = PHASES[number % len(PHASES)]
            rank = 0 if phase in ("save", "report") else chance.randrange(arguments.workers)
            step = chance.randint(1, steps)
            gang = Gang(dataclasses.replace(job, scratch_dir=root / f"killed-{number}"), arguments.workers)
            lost, problem = killed_once(gang, whole, phase, rank, step)
            same += not problem
            most_lost = max(most_lost, lost)
            told = problem or "same"
            print(f"{number + 1:3} of {arguments.kills}: rank {rank}, step {step:2}, {phase:10} {lost} steps again, {told}")
        print(f"{same} of {arguments.kills} ended with the same bits; at most {most_lost} steps were done again")
    sys.exit(same != arguments.kills)


def killed_once(gang: Gang, whole: Gang, phase: str, rank: int, step: int) -> tuple[int, str]:
    """Kill one worker, start all of them again, and return how many steps were done twice, and what differs."""
    end = gang.attempt(f"kill:rank{rank}:step{step}:phase={phase}")
    if end.exit_codes[rank] != -signal.SIGKILL:
        return 0, f"was not killed: {end.exit_codes} {end.said}"
    before = len(gang.steps(0)) if gang.trace.exists() else 0
    durable = newest_facts(gang).step if checkpoint.stated(gang.job.checkpoints, gang.job.fingerprint)[0] else 0
    end = gang.attempt()
    if not end.finished:
        return 0, f"did not go on: {end.said}"
    try:
        assert_same_end(whole, gang)
    except AssertionError as error:
        return before - durable, str(error)[:500]
    again = len(gang.steps(0)) - len(whole.steps(0))
    return again, "" if again == before - durable else f"{again} steps done again, {before - durable} not durable"


if __name__ == "__main__":
    began = time.monotonic()
    main()
