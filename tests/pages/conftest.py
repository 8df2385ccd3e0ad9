"""A page of each kind of model, in folders as `trainyard web` writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.data.digits import DigitsConfig
from trainyard.data.packed import open_split, read_card
from trainyard.data.prepare import prepare
from trainyard.evaluation.config import EvaluateConfig
from trainyard.export.config import ExportConfig
from trainyard.export.export import export
from trainyard.lessons.loop import build, train_whole
from trainyard.models.cnn_config import CNNConfig
from trainyard.models.saved import SavedModel, save_model
from trainyard.models.spec import InputSpec
from trainyard.recipe import Recipe
from trainyard.tasks.train_config import TrainConfig
from trainyard.web.folder import write_folder


@pytest.fixture(scope="session")
def bundles(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Exported models: one that knows digits, and untrained ones of each kind, for what is tested is the way to them."""
    return {"digits": trained(tmp_path_factory.mktemp("digits")), **models}


@pytest.fixture(scope="session")
def pages(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the folder of each page."""
    site = tmp_path_factory.mktemp("site")
    for name, bundle in bundles.items():
        write_folder(bundle, site / name)
    return site


def trained(folder: Path) -> Path:
    """Export a network that has learned the digits."""
    data = DigitsConfig(source="digits", seed=0, val_fraction=0.15, test_fraction=0.2)
    packed, out = folder / "packed", folder / "models" / "digits"
    prepare("digits", data, packed)
    card = read_card(packed)
    recipe = Recipe(
        name="digits",
        family="cnn",
        data=data,
        model=CNNConfig(widths=(16, 32), convolutions=2, normalisation="group"),
        train=TrainConfig(epochs=6, batch_size=64, optimizer="adam", learning_rate=5e-3, schedule="cosine", precision="fp32"),
        evaluate=EvaluateConfig(),
        export=ExportConfig(verify_samples=9, latency_runs=1),
    )
    network = build(recipe, card)
    train_whole(network, recipe, open_split(packed, "train"))
    spec = InputSpec.from_card(card)
    save_model(out / "model.safetensors", out / "recipe.json", network.state_dict(), recipe, spec, "digits")
    export(SavedModel(network.eval(), recipe, spec, "digits"), packed, out)
    return out
