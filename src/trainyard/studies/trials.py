"""The trials of a sweep, each in a file of its own that is on the disk before the trial begins.

<sweep>/trials/0003/trial.json    which values, how far it came, how it ended
<sweep>/trials/0003/run.json      which run in MLflow it is
<sweep>/trials/0003/...           its checkpoints, until it has ended

What a killed sweep has done is there; it is neither lost nor done again.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from trainyard.errors import IntegrityError
from trainyard.files import write_whole
from trainyard.tasks.primary import merit

FILE = "trial.json"
State = Literal["running", "finished", "stopped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One trial."""

    number: int
    """From 0."""
    values: dict[str, Any]
    """By dotted key in the recipe."""
    state: State = "running"
    """stopped: ended early, because it was worse than others. failed: its values cannot be trained."""
    history: tuple[dict[str, float], ...] = ()
    """Metrics by epoch."""
    reason: str = ""
    """Why it failed."""
    attempts: int = 1
    """How often it was begun: once more than it was interrupted."""
    mark: str = ""
    """Like no other trial's: in a storage there may be trials with such numbers of another clone, or from before `--again`."""

    @property
    def seconds(self) -> float:
        """Of training, all attempts together."""
        return self.history[-1]["seconds"] if self.history else 0.0

    def scores(self, metric: str, primary: str, keep: Literal["best", "last"]) -> list[float]:
        """Return the metric after each epoch, on the validation split, of the weights that would be kept if it ended there."""
        if keep == "last":
            return [values[f"val/{metric}"] for values in self.history]
        kept: list[float] = []
        best = -math.inf
        for values in self.history:
            found = merit(primary, values[f"val/{primary}"])
            if not kept or found > best:
                best = found if not math.isnan(found) else best
                kept.append(values[f"val/{metric}"])
            else:
                kept.append(kept[-1])
        return kept

    def with_epochs(self, epochs: list[dict[str, float]]) -> Trial:
        """Return the trial with epochs that it has not yet; an attempt that continues tells of some once more."""
        last = self.history[-1]["step"] if self.history else -1.0
        return replace(self, history=(*self.history, *(values for values in epochs if values["step"] > last)))


@dataclass(slots=True)
class Book:
    """All trials of a sweep, as they are on the disk."""

    folder: Path
    trials: dict[int, Trial] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Book:
        """Read what earlier attempts have left.

        Raises:
            IntegrityError: a record cannot be read.
        """
        book = cls(folder)
        for path in sorted((folder / "trials").glob(f"*/{FILE}")):
            try:
                values = json.loads(path.read_text(encoding="utf-8"))
                trial = Trial(**{**values, "history": tuple(values["history"])})
                if trial.number != int(path.parent.name):
                    raise ValueError(f"it is of trial {trial.number}")
            except (ValueError, TypeError, KeyError) as error:
                raise IntegrityError(
                    f"{path}: is no record of a trial ({error}); delete {path.parent} to have that trial made again"
                ) from None
            book.trials[trial.number] = trial
        return book

    def place(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.folder / "trials" / f"{number:04d}"

    def state(self, recipe: str, trial: Trial) -> str:
        """Return the name of what is trained in a trial, under which a storage has its checkpoints."""
        return "-".join(filter(None, [recipe, "sweep", self.folder.name, f"{trial.number:04d}", trial.mark]))

    def write(self, trial: Trial) -> Trial:
        """Record a trial; it is on the disk when this returns.

        Raises:
            OSError: the disk is full or broken.
        """
        write_whole(self.place(trial.number) / FILE, f"{json.dumps(asdict(trial))}\n".encode())
        self.trials[trial.number] = trial
        return trial

    def in_state(self, *states: State) -> list[Trial]:
        """Return the trials in some states, by number."""
        return [trial for _, trial in sorted(self.trials.items()) if trial.state in states]

    def next_number(self) -> int:
        """Return a number that no trial has."""
        return max(self.trials, default=-1) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What came out."""

    recipe: str
    metric: str
    """On the validation split."""
    trials: tuple[Trial, ...]
    best: int
    """Number of the best trial: of those that came to their end, where there are any."""
    scores: dict[int, float]
    """By number of trial, of those that have one."""
    values: dict[str, Any]
    """Of the best trial, by dotted key."""
    folder: Path = field(compare=False)
    """Where numbers and charts are."""
