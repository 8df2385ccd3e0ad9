"""One small model of each kind, exported as the stage does it; none is trained, for what is tested is the way to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from tests.serving.files import write_cells, write_load, write_photographs, write_reviews
from trainyard.data.image_folder import ImageFolderConfig
from trainyard.data.image_masks import ImageMasksConfig
from trainyard.data.packed import read_card
from trainyard.data.prepare import prepare
from trainyard.data.series_csv import SeriesCSVConfig
from trainyard.data.sources import DataConfig
from trainyard.data.text_table import TextTableConfig
from trainyard.evaluation.config import EvaluateConfig
from trainyard.export.config import ExportConfig
from trainyard.export.export import export
from trainyard.models.build import ModelConfig, build_network
from trainyard.models.cnn_config import CNNConfig
from trainyard.models.lstm_config import LSTMConfig
from trainyard.models.saved import SavedModel
from trainyard.models.spec import InputSpec
from trainyard.models.unet_config import UNetConfig
from trainyard.recipe import Family, Recipe
from trainyard.tasks.train_config import TrainConfig

Made = tuple[Family, DataConfig, ModelConfig, Callable[[Path], None]]
MODELS: dict[str, Made] = {
    "photos": (
        "cnn",
        ImageFolderConfig(source="image_folder", path="raw", size=12, channels=3),
        CNNConfig(widths=(4, 8), normalisation="batch"),
        write_photographs,
    ),
    "cells": (
        "unet",
        ImageMasksConfig(source="image_masks", path="raw", classes=("background", "cell")),
        UNetConfig(depth=2, base_width=4, normalisation="batch"),
        write_cells,
    ),
    "reviews": (
        "lstm",
        TextTableConfig(
            source="text_table",
            path="raw",
            text=("title", "body"),
            label="mood",
            delimiter=",",
            max_tokens=9,
            vocabulary_size=60,
        ),
        LSTMConfig(embedding_size=8, hidden_size=8, pooling="mean_max"),
        write_reviews,
    ),
    "load": (
        "lstm",
        SeriesCSVConfig(
            source="series_csv",
            path="raw",
            time="hour",
            targets=("sun", "load"),
            features=("wind",),
            context_length=24,
            horizon=6,
        ),
        LSTMConfig(hidden_size=8, bidirectional=False, residual="last"),
        write_load,
    ),
}


def make_model(folder: Path, name: str, seed: int = 0) -> Path:
    """Write raw data, pack them, and export an untrained network for them; return the folder of the model."""
    family, data, model, write = MODELS[name]
    suffix = ".csv" if family == "lstm" else ""
    raw = folder / f"raw{suffix}"
    write(raw)
    data = type(data)(**{**{key: getattr(data, key) for key in data.__dataclass_fields__}, "path": raw.name})
    packed = folder / "packed"
    prepare(name, data, packed, root=folder)
    spec = InputSpec.from_card(read_card(packed))
    recipe = Recipe(
        name=name,
        family=family,
        data=data,
        model=model,
        train=TrainConfig(
            epochs=1, batch_size=8, optimizer="sgd", learning_rate=0.1, loss="mse" if name == "load" else "cross_entropy"
        ),
        evaluate=EvaluateConfig(),
        export=ExportConfig(verify_samples=3, latency_runs=1),
    )
    torch.manual_seed(seed)
    network = build_network(model, spec)
    for parameter in network.parameters():
        # An untrained head may give zeros alone, which would agree with anything.
        torch.nn.init.normal_(parameter, std=0.4)
    saved = SavedModel(network.eval(), recipe, spec, f"fingerprint{seed}")
    out = folder / "models" / name
    export(saved, packed, out)
    return out
