"""Small real data, and recipes that train in a second."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.disks import Disks
from tests.files_of_this_run import delete_all
from trainyard.data.digits import DigitsConfig
from trainyard.data.prepare import prepare
from trainyard.data.series_csv import SeriesCSVConfig
from trainyard.evaluation.config import EvaluateConfig
from trainyard.export.config import ExportConfig
from trainyard.models.cnn_config import CNNConfig
from trainyard.models.lstm_config import LSTMConfig
from trainyard.recipe import Recipe
from trainyard.tasks.train_config import TrainConfig

ROOT = Path(__file__).parents[1]
SERIES = SeriesCSVConfig(
    source="series_csv", path="waves.csv", time="time", targets="all", context_length=24, horizon=12, val_fraction=0.15
)


def pytest_sessionfinish() -> None:
    delete_all()


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's own folder."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of well-known data sets, which is no part of the project."""
    folder = Path(os.environ.get("TRAINYARD_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "mnist-png.zip").is_file():
        pytest.skip(f"{folder}: no real data there; TRAINYARD_DATA says where they are")
    return folder


@pytest.fixture
def disks() -> Iterator[Disks]:
    """File systems of the test's own."""
    made = Disks()
    yield made
    made.close()


@pytest.fixture
def out_of_space(root: Path, tmp_path: Path) -> Callable[[str], str]:
    """Run code where a file cannot grow past 10,000 bytes, as the kernel sees to; return what it wrote to stderr."""
    limit = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000));"
    )

    def run(code: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [sys.executable, "-c", limit + code], cwd=tmp_path, env=environment, capture_output=True, text=True
        ).stderr

    return run


@pytest.fixture(scope="session")
def packed_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scikit-learn's digits, packed."""
    folder = tmp_path_factory.mktemp("digits") / "packed"
    prepare("digits", DigitsConfig(source="digits", seed=0, val_fraction=0.15, test_fraction=0.2), folder)
    return folder


@pytest.fixture
def digits_copy(packed_digits: Path, tmp_path: Path) -> Path:
    """Packed digits that a test may damage."""
    return Path(shutil.copytree(packed_digits, tmp_path / "packed"))


@pytest.fixture
def make_recipe() -> Callable[..., Recipe]:
    """Return a function that makes a small CNN recipe, with changes to its `train` and `model` blocks."""

    def make(model: dict[str, Any] | None = None, **train: Any) -> Recipe:
        defaults = TrainConfig(
            epochs=3, batch_size=64, optimizer="adamw", learning_rate=3e-3, schedule="one_cycle", warmup_fraction=0.25
        )
        network = CNNConfig(widths=(8, 16), convolutions=1, normalisation="group", dropout=0.2)
        return Recipe(
            name="digits",
            family="cnn",
            data=DigitsConfig(source="digits", seed=0, val_fraction=0.15, test_fraction=0.2),
            model=dataclasses.replace(network, **(model or {})),
            train=dataclasses.replace(defaults, **train),
            evaluate=EvaluateConfig(),
            export=ExportConfig(),
        )

    return make


@pytest.fixture(scope="session")
def packed_series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two waves on slopes, hours of fifty days, with 24 steps of context and 12 of horizon, packed."""
    folder = tmp_path_factory.mktemp("series")
    steps = np.arange(1200)
    rng = np.random.default_rng(0)
    wave = np.sin(2 * np.pi * steps / 24)
    load = 50 + 10 * wave + 0.01 * steps + rng.normal(0, 0.5, len(steps))
    heat = 20 - 3 * np.roll(wave, 6) - 0.002 * steps + rng.normal(0, 0.2, len(steps))
    lines = [f"{1_700_000_000 + 3600 * step},{load[step]:.4f},{heat[step]:.4f}" for step in steps]
    (folder / "waves.csv").write_text("\n".join(["time,load,heat", *lines]) + "\n")
    out = folder / "packed"
    prepare("waves", SERIES, out, root=folder)
    return out


@pytest.fixture
def series_recipe() -> Recipe:
    """A small LSTM that forecasts the packed series."""
    return Recipe(
        name="waves",
        family="lstm",
        data=SERIES,
        model=LSTMConfig(hidden_size=24, bidirectional=False, residual="last"),
        train=TrainConfig(
            epochs=6, batch_size=32, optimizer="adam", learning_rate=1e-2, schedule="cosine", loss="mse", precision="fp32"
        ),
        evaluate=EvaluateConfig(bootstrap_samples=200),
        export=ExportConfig(verify_samples=9, latency_runs=3),
    )


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of a small exported model of each kind; its data lie beside `models`, under raw and packed."""
    # What it takes to export is not for every test.
    from tests.serving.made import MODELS, make_model

    return {name: make_model(tmp_path_factory.mktemp(name), name) for name in MODELS}
