from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from ruamel.yaml import YAML

from tests.narrow import narrow
from tests.pipeline.conftest import TINY
from trainyard.errors import InputError
from trainyard.recipe import read_recipe
from trainyard.studies.children import Child, show
from trainyard.studies.repeat import render, repeat, spread, summarise


def test_the_spread_is_that_of_single_trainings_and_the_interval_that_of_their_mean() -> None:
    found = spread([0.90, 0.92, 0.94, 0.91, 0.93])
    assert (found.mean, found.least, found.most) == pytest.approx((0.92, 0.90, 0.94))
    assert found.std == pytest.approx(np.sqrt(0.001 / 4))
    # Student's t with four degrees of freedom: 2.776.
    assert (found.low, found.high) == pytest.approx(
        (0.92 - 2.776 * found.std / 5**0.5, 0.92 + 2.776 * found.std / 5**0.5), abs=1e-4
    )


def test_the_primary_metric_is_told_first_and_every_one_with_an_interval() -> None:
    metrics = {"test/loss": 0.1, "test/loss_low": 0.1, "test/accuracy": 0.9, "test/accuracy_low": 0.8, "test/ece": 0.1}
    found = summarise("cnn", (3, 4), "accuracy", [metrics, {**metrics, "test/accuracy": 0.92}])
    assert list(found.metrics) == ["accuracy", "loss"]
    assert found.metrics["accuracy"].values == (0.9, 0.92)
    console = Console(file=io.StringIO(), width=100)
    console.print(render(found))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "2 seeds, 3 to 4" in text and "0.9100 (" in text and "0.9000 to 0.9200" in text


def test_large_numbers_are_not_broken_over_lines() -> None:
    metrics = {"test/mse": 12345.6, "test/mse_low": 12000.0}
    found = summarise("lstm", (0, 1), "mse", [metrics, {**metrics, "test/mse": 12110.5}])
    mean = found.metrics["mse"]
    interval = f"12228.0500 ({mean.low:.4f} to {mean.high:.4f})"
    narrow(render(found), interval, "12110.5000 to 12345.6000", "std of one training")


def test_one_training_has_no_spread(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one training has no spread"):
        repeat(tmp_path, "cnn", 1)


def test_a_child_sees_the_project_with_another_value(tmp_path: Path) -> None:
    root = tmp_path / "project"
    (root / "src").mkdir(parents=True)
    (root / "models").mkdir()
    (root / "params.yaml").write_text(TINY)
    changes = {"train.seed": 7, "evaluate.baseline": False, "train.augment": {"shift": 1}}
    child = Child(recipe="cnn", changes=changes, data_dir=root / "data", folder=root / ".trainyard" / "studies" / "one")
    show(root, child)
    show(root, child)
    found, plain = (read_recipe(folder / "params.yaml", "cnn") for folder in (child.folder, root))
    assert (found.train.seed, found.evaluate.baseline) == (7, False)
    assert found.train.learning_rate == plain.train.learning_rate == 5e-3
    assert list(YAML(typ="safe").load(child.folder / "params.yaml")["recipes"]) == ["cnn"]
    assert (child.folder / "src").resolve() == root / "src"
    assert not (child.folder / "models").exists()
    assert (root / "params.yaml").read_text() == TINY
