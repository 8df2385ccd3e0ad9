"""A small untrained network of each kind, with data of its own, and the files it leaves in, each made once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tests.files_of_this_run import folder_of_this_run
from trainyard.data.packed import Split
from trainyard.export.config import ExportConfig
from trainyard.export.inputs import raw_inputs
from trainyard.export.int8_format import write_int8
from trainyard.export.onnx_format import write_onnx
from trainyard.export.pt2_format import write_pt2
from trainyard.models.build import ModelConfig, build_network, in_raw_units
from trainyard.models.cnn_config import CNNConfig
from trainyard.models.forecaster import Forecaster
from trainyard.models.lstm_config import LSTMConfig
from trainyard.models.spec import InputSpec
from trainyard.models.unet_config import UNetConfig

CLASSES = ("a", "b", "c")
QUICK = ExportConfig(verify_samples=9, latency_runs=3)
RNG = np.random.default_rng(0)


def images() -> tuple[ModelConfig, InputSpec, Split]:
    arrays = {"images": RNG.integers(0, 256, (12, 1, 8, 8), dtype=np.uint8), "labels": RNG.integers(0, 3, 12)}
    spec = InputSpec(
        kind="image_classification", classes=CLASSES, channels=1, height=8, width=8, mean=(0.4,), std=(0.2,), data_sha256="d"
    )
    return CNNConfig(widths=(4, 8), normalisation="batch"), spec, Split("image_classification", "test", arrays)


def scenes() -> tuple[ModelConfig, InputSpec, Split]:
    arrays = {
        "images": RNG.integers(0, 256, (12, 1, 17, 16), dtype=np.uint8),
        "masks": RNG.integers(0, 3, (12, 17, 16), dtype=np.uint8),
    }
    spec = InputSpec(kind="segmentation", classes=CLASSES, channels=1, height=17, width=16, mean=(0.4,), std=(0.2,))
    return UNetConfig(depth=2, base_width=4, normalisation="batch"), spec, Split("segmentation", "test", arrays)


def texts() -> tuple[ModelConfig, InputSpec, Split]:
    lengths = RNG.integers(1, 12, 12)
    arrays = {
        "tokens": RNG.integers(1, 20, lengths.sum()).astype(np.int32),
        "offsets": np.cumsum([0, *lengths]),
        "labels": RNG.integers(0, 3, 12),
    }
    spec = InputSpec(kind="text_classification", classes=CLASSES, vocabulary_size=20, max_length=12)
    return LSTMConfig(embedding_size=4, hidden_size=5, pooling="mean_max"), spec, Split("text_classification", "test", arrays)


def series() -> tuple[ModelConfig, InputSpec, Split]:
    """Return columns whose sizes are far apart, as raw ones are."""
    mean, std = np.array([5000.0, -3.0, 0.2]), np.array([800.0, 0.5, 0.01])
    arrays = {
        "values": RNG.normal(size=(40, 3)).astype(np.float32),
        "starts": np.arange(12),
        "window": np.array([9, 4, 2]),
        "mean": mean,
        "std": std,
    }
    spec = InputSpec(
        kind="forecasting",
        classes=("a", "b"),
        mean=tuple(mean),
        std=tuple(std),
        num_features=3,
        columns=("a", "b", "x"),
        context_length=9,
        horizon=4,
    )
    config = LSTMConfig(hidden_size=5, residual="last", targets="apart", autoregression=True)
    return config, spec, Split("forecasting", "test", arrays)


KINDS = {"images": images, "scenes": scenes, "texts": texts, "series": series}


@dataclass(frozen=True, slots=True)
class Made:
    """A network, its data, and its files."""

    network: torch.nn.Module
    """Takes raw inputs."""
    spec: InputSpec
    split: Split
    onnx: Path
    int8: Path
    pt2: Path


def network_of(make: Callable[[], tuple[ModelConfig, InputSpec, Split]]) -> tuple[torch.nn.Module, InputSpec, Split]:
    """Return a network that takes raw inputs, and whose every layer matters."""
    config, spec, split = make()
    torch.manual_seed(0)
    network = build_network(config, spec)
    if isinstance(network, Forecaster):
        for part in (network.network.head, network.autoregression):  # untrained it gives the last value alone
            torch.nn.init.normal_(part.weight, std=0.3)
    return in_raw_units(network.eval(), spec), spec, split


@functools.cache
def made(kind: str) -> Made:
    """Return the files of a kind; whoever damages one takes a copy."""
    network, spec, split = network_of(KINDS[kind])
    folder = folder_of_this_run(kind)
    paths = [folder / name for name in ("model.onnx", "model.int8.onnx", "model.pt2")]
    write_onnx(network, spec, raw_inputs(split, np.arange(2)), paths[0], {"recipe": "test"})
    write_int8(paths[0], None if kind in ("texts", "series") else split, 12, paths[1])
    write_pt2(network, spec, raw_inputs(split, np.arange(2)), paths[2])
    return Made(network, spec, split, *paths)
