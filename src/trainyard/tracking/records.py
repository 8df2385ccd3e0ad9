"""What becomes of a training's records: points of metrics, each step once over all attempts."""

from __future__ import annotations

from trainyard.training.spool import Record

Points = list[tuple[str, float, int, int]]
"""(key, value, milliseconds since 1970, step)."""


class Passed:
    """The steps that records have passed. A resumed attempt passes those since its checkpoint again, with the same bits."""

    def __init__(self) -> None:
        self.steps = {"progress": -1, "epoch": -1}

    def is_new(self, record: Record) -> bool:
        """Return whether a record goes further than all before it."""
        if (step := step_of(record)) <= self.steps[record.kind]:
            return False
        self.steps[record.kind] = step
        return True


def step_of(record: Record) -> int:
    """Return the step of a record's points: the epoch at its end, the optimizer's step within."""
    return record.epoch if record.kind == "epoch" else record.step


def points_of(record: Record) -> Points:
    """Return a record's values as points."""
    at = int(record.at * 1000)
    # A name has one kind of step: within an epoch it is another one than at its end.
    within = "" if record.kind == "epoch" else "train/step_"
    return [
        (key if key.startswith(within) else within + key, value, at, step_of(record))
        for key, value in record.values.items()
        if key != "step"
    ]
