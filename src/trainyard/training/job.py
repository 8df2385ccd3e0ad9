"""What goes to a worker, and what comes back. Imports no torch: Ray's own processes read both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainyard.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class FitJob:
    """All that a worker needs to know; every path is absolute."""

    recipe: Recipe
    data_dir: Path
    scratch_dir: Path
    """Of this fingerprint: checkpoints/ and spool.jsonl."""
    fingerprint: str
    weights: Path | None = None
    """File to begin with, as the recipe's `train.start_from` names it."""
    checkpoint_seconds: float | None = None
    """Between two checkpoints within an epoch. None: any number."""
    checkpoint_steps: int | None = None
    """Optimizer steps a multiple of which is followed by a checkpoint. None: none."""

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.scratch_dir / "checkpoints"

    @property
    def trail(self) -> Path:
        """Folder of the workers' places."""
        return self.scratch_dir / "trail"

    @property
    def spool(self) -> Path:
        """File of the records."""
        return self.scratch_dir / "spool.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """What a finished fit says of itself."""

    history: list[dict[str, float]]
    """Metrics by epoch."""
    parameters: int
    """Numbers that are trained."""
    precision: str
    """The arithmetic used, and why."""
    start_seconds: float
    """From the call to the first step."""
    resumed_epoch: int | None
    """Epochs that an earlier attempt had finished."""
