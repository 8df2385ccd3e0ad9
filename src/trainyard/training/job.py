"""What goes to a worker, and what comes back. Imports no torch: Ray's own processes read both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainyard.recipe import Recipe
from trainyard.training.store import Store, open_store

MARK = "mark"
"""File in a storage by which workers know that it is the driver's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitJob:
    """All that a worker needs to know; every path is absolute."""

    recipe: Recipe
    data_dir: Path
    scratch_dir: Path
    """Of this fingerprint, on each node: checkpoints/ and spool.jsonl, which go through `storage` where there is one."""
    fingerprint: str
    weights: Path | None = None
    """File to begin with, as the recipe's `train.start_from` names it."""
    data_sha256: str | None = None
    """Of the packed data, as its card says. None: what lies in `data_dir` is taken as it is."""
    storage: str | None = None
    """Where checkpoints, and data for other nodes, go. None: checkpoints go to `scratch_dir`."""
    storage_mark: str | None = None
    """What the driver wrote there, so that a worker sees whether its node has the same place. None: unchecked."""
    data_cache_gigabytes: float = 50.0
    """Most that a node keeps of packed data that it has fetched."""
    checkpoint_seconds: float | None = None
    """Between two checkpoints within an epoch. None: any number."""
    checkpoint_steps: int | None = None
    """Optimizer steps a multiple of which is followed by a checkpoint. None: none."""

    @property
    def weights_sha256(self) -> str | None:
        """Of `weights`, as the recipe states it; None: what lies there is taken as it is."""
        wanted = self.recipe.train.start_from
        return None if wanted is None else wanted.sha256

    @property
    def cache_bytes(self) -> int:
        """Most that a node keeps of what it has fetched."""
        return int(self.data_cache_gigabytes * 1e9)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints, where there is no `storage`."""
        return self.scratch_dir / "checkpoints"

    def store(self) -> Store:
        """Open the place of the checkpoints.

        Raises:
            InputError: `storage` is no address.
            ServiceError: it does not answer.
        """
        return open_store(self.checkpoints) if self.storage is None else open_store(self.storage, self.fingerprint)

    def trail_store(self) -> Store:
        """Open what all workers see beside the checkpoints: the storage, or the scratch folder, which they share without one.

        Raises:
            InputError: `storage` is no address.
            ServiceError: it does not answer.
        """
        return open_store(self.scratch_dir) if self.storage is None else self.store()

    @property
    def trail(self) -> Path:
        """Folder of the places of this node's workers."""
        return self.scratch_dir / "trail"

    @property
    def spool(self) -> Path:
        """File of the records, as the driver reads it."""
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
