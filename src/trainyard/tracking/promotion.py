"""`trainyard promote`, as the tracking store is told of it: the registered version of the champion carries its alias."""

from __future__ import annotations

from pathlib import Path

from trainyard.data.packed import read_card
from trainyard.progress import say
from trainyard.provenance import scratch_root
from trainyard.recipe import Recipe
from trainyard.tracking.run import Tracking
from trainyard.training.cluster_config import TrackingConfig


def tell(root: Path, config: TrackingConfig, recipe: Recipe, fingerprint: str, data_dir: Path) -> None:
    """Have the version with a fingerprint be the recipe's champion in the registry; a store that is away is told later.

    Where the model's run or its data are not here, stage `gate` tells it when it judges the recipe next.

    Raises:
        OSError: the disk is full.
        ServiceError: the tables of the local database are of another version of MLflow.
    """
    identity = root / "models" / recipe.name / "run.json"
    if not (identity.is_file() and (data_dir / "card.json").is_file()):
        say(recipe.name, "promote", "its run is not here; `dvc repro gate` names the champion in MLflow")
        return
    with Tracking(scratch_root(), config, recipe, "promote") as tracking:
        tracking.attach(identity, fingerprint, read_card(data_dir))
        tracking.champion(fingerprint)
