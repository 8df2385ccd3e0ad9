"""Runs in a tracking store, recorded as the stages record them, and sent at once by this process instead of one beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from tests.tracking.conftest import NoSender
from tests.tracking.journals import drive
from trainyard.data.digits import DigitsConfig
from trainyard.data.packed import read_card
from trainyard.evaluation.config import EvaluateConfig
from trainyard.evaluation.note import PLACE, note, preview
from trainyard.export.config import ExportConfig
from trainyard.models.cnn_config import CNNConfig
from trainyard.recipe import Recipe
from trainyard.tasks.train_config import TrainConfig
from trainyard.tracking import run
from trainyard.tracking.poster import Poster
from trainyard.training.cluster_config import TrackingConfig

EPOCHS = 6
CONFIG = TrackingConfig(system_metrics=False)
RECIPE = Recipe(
    name="digits",
    family="cnn",
    data=DigitsConfig(source="digits", seed=0, val_fraction=0.15, test_fraction=0.2),
    model=CNNConfig(widths=(8, 16), convolutions=1, normalisation="group", dropout=0.2),
    train=TrainConfig(epochs=EPOCHS, batch_size=64, optimizer="adamw", learning_rate=3e-3),
    evaluate=EvaluateConfig(),
    export=ExportConfig(),
)


def record(root: Path, recipe: Recipe, packed: Path, seeds: Sequence[int]) -> None:
    """Record a run of a recipe for each seed: curves that fall, a test, a gate, figures, and a note."""
    card, rng = read_card(packed), np.random.default_rng(0)
    with patch.object(run, "Sender", NoSender):
        for seed in seeds:
            varied = replace(
                recipe, train=replace(recipe.train, seed=seed, learning_rate=round(10 ** rng.uniform(-3.5, -1.5), 5))
            )
            mark, folder = f"{recipe.name}-{seed:016x}", root / "work" / str(seed)
            reports = _reports(folder, seed, rng)
            with run.Tracking(root, CONFIG, varied, "train") as tracking:
                tracking.start(folder / "run.json", mark, card, {"mlflow.source.git.commit": "0" * 40, "git.dirty": "false"})
                with tracking.running(folder / "spool.jsonl"):
                    for epoch in range(EPOCHS):
                        left = 2.3 * 0.6**epoch + 0.02 * rng.random()
                        curves = {"train/loss": left, "val/loss": 1.1 * left, "val/accuracy": 1 - left / 2.4}
                        tracking.metrics({**curves, "learning_rate": 0.01 / (epoch + 1)}, step=epoch)
                    train = json.loads((folder / "train.json").read_text())
                    tracking.metrics(train)
                tracking.metrics(json.loads((folder / "evaluate.json").read_text()))
                tracking.metrics({f"class_f1/{name}": rng.random() for name in card.classes})
                tracking.tag({"gate": "passed"})
                tracking.artifacts(reports, "evaluate")
                tracking.artifacts(sorted((folder / "figures").glob("*.png")), "figures")
                with preview(folder) as pictures:
                    tracking.artifacts(pictures, PLACE[0])
                tracking.note(note(folder, card, ("train", "evaluate")))
    drive(Poster(root, f"sqlite:///{root}/mlflow.db"))


def _reports(folder: Path, seed: int, rng: np.random.Generator) -> list[Path]:
    """Write what stages `train` and `evaluate` would leave of a run."""
    (folder / "figures").mkdir(parents=True)
    reached = round(0.85 + 0.1 * rng.random(), 4)
    train = {"best/accuracy": reached, "best/epoch": EPOCHS, "epochs": EPOCHS, "seconds": 10.0 + seed, "samples_per_s": 900.0}
    scores = {"test/accuracy": reached, "test/accuracy_low": reached - 0.02, "test/accuracy_high": reached + 0.02}
    (folder / "train.json").write_text(json.dumps({**train, "parameters": 1442}))
    (folder / "evaluate.json").write_text(json.dumps({**scores, "baseline/accuracy": 0.9}))
    pixels = np.zeros((64, 128, 3), dtype=np.uint8)
    pixels[:, 64:] = (31, 111, 214)
    Image.fromarray(pixels).save(folder / "figures" / "samples.png")
    return [folder / "train.json", folder / "evaluate.json"]
