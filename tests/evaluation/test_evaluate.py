import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trainyard.data.digits import DigitsConfig
from trainyard.data.packed import Card, Split, SplitName, content_sha256, write_arrays, write_card
from trainyard.errors import IntegrityError
from trainyard.evaluation.baseline import Baseline
from trainyard.evaluation.config import EvaluateConfig
from trainyard.evaluation.evaluate import Evaluation, all_metrics, evaluate, write_per_class
from trainyard.evaluation.metrics import scores, total
from trainyard.evaluation.paths import ReportPaths
from trainyard.evaluation.predictions import label_predictions
from trainyard.evaluation.results import read_results
from trainyard.export.config import ExportConfig
from trainyard.models.build import build_network
from trainyard.models.cnn_config import CNNConfig
from trainyard.models.saved import SavedModel
from trainyard.models.spec import InputSpec
from trainyard.recipe import Recipe
from trainyard.tasks.augment_config import AugmentConfig
from trainyard.tasks.train_config import TrainConfig

CONFIG = EvaluateConfig(bootstrap_samples=50, shown_samples=4)


@pytest.fixture
def data_dir(tmp_path: Path, image_split: Split) -> Path:
    folder = tmp_path / "data"
    names: tuple[SplitName, ...] = ("train", "val", "test")
    arrays = {name: write_arrays(folder, name, image_split.arrays) for name in names}
    card = Card(
        name="shades",
        source="made up",
        kind="image_classification",
        about="Images of three shades.",
        classes=("dark", "bright", "grey"),
        counts={},
        samples={},
        input={"channels": 1, "height": 6, "width": 6},
        normalisation={"mean": [0.5], "std": [0.25]},
        libraries={},
        arrays=arrays,
        files={},
        duplicates_dropped=0,
        sha256=content_sha256(("dark", "bright", "grey"), arrays, {}),
    )
    write_card(folder, card)
    (tmp_path / "history.csv").write_text("epoch,train/loss,val/loss,val/accuracy\n1,1.0,1.1,0.5\n2,0.9,1.0,0.6\n")
    return folder


@pytest.fixture
def saved(data_dir: Path) -> SavedModel:
    card = json.loads((data_dir / "card.json").read_text())
    spec = InputSpec.from_card(Card(**{**card, "classes": tuple(card["classes"])}))
    recipe = Recipe(
        name="shades",
        family="cnn",
        data=DigitsConfig(source="digits"),
        model=CNNConfig(widths=(4,)),
        train=TrainConfig(epochs=1, batch_size=8, optimizer="sgd", learning_rate=0.1),
        evaluate=CONFIG,
        export=ExportConfig(),
    )
    torch.manual_seed(0)
    return SavedModel(build_network(recipe.model, spec).eval(), recipe, spec, "shades-0")


def run(saved: SavedModel, data_dir: Path, report: str = "report") -> tuple[Evaluation, ReportPaths]:
    folder = data_dir.parent / report
    paths = ReportPaths.within(folder)
    return evaluate(saved, data_dir, data_dir.parent / "history.csv", paths), paths


def test_evaluation_writes_numbers_a_table_and_figures(saved: SavedModel, data_dir: Path) -> None:
    found, paths = run(saved, data_dir)
    metrics = json.loads(paths.metrics.read_text())
    assert metrics == found.metrics
    assert all(isinstance(value, float) and math.isfinite(value) for value in metrics.values())
    for name in ("accuracy", "macro_f1", "loss"):
        for prefix in ("test", "baseline"):
            value, low, high = (metrics[f"{prefix}/{name}{end}"] for end in ("", "_low", "_high"))
            assert low <= value <= high
    assert metrics["baseline/accuracy"] == 1
    gain = metrics["test/accuracy"] - metrics["baseline/accuracy"]
    assert metrics["test/accuracy_minus_baseline"] == pytest.approx(gain)
    assert found.baseline == "logistic regression on pixels"
    assert {path.name for path in paths.figures.iterdir()} == {
        "learning_curves.png",
        "confusion_matrix.png",
        "classes.png",
        "samples.png",
        "calibration.png",
        "worst.png",
    }
    rows = list(csv.DictReader(paths.per_class.read_text().splitlines()))
    assert [row["part"] for row in rows] == ["dark", "bright", "grey"]
    assert [row["score"] for row in rows] == [row["f1"] for row in rows]
    assert [row["support"] for row in rows] == ["14", "13", "13"]
    assert [row["baseline_f1"] for row in rows] == ["1.0000"] * 3


def test_every_test_sample_is_written_once_and_gives_the_metrics_again(saved: SavedModel, data_dir: Path) -> None:
    found, paths = run(saved, data_dir)
    results = read_results(paths.results)
    assert len(results) == 40
    again = scores("image_classification", total(results.counts()))
    assert again["accuracy"] == found.metrics["test/accuracy"] and again["macro_f1"] == found.metrics["test/macro_f1"]
    report = json.loads(paths.report.read_text())
    assert report["test"] == {"samples": 40, "sha256": results.about.test_sha256}
    assert report["metrics"] == {name: value for name, value in found.metrics.items() if "seconds" not in name}
    assert [row["class"] for row in report["classes"]] == ["dark", "bright", "grey"]
    assert set(found.by_class) == {
        f"class_{metric}/{name}" for name in ("dark", "bright", "grey") for metric in ("precision", "recall", "f1", "iou")
    }
    worst = list(csv.DictReader(paths.worst.read_text().splitlines()))
    losses = [float(row["loss"]) for row in worst]
    assert len(worst) == 40 and losses == sorted(losses, reverse=True)


def test_a_fitted_temperature_is_reported_beside_what_the_model_says_as_trained(saved: SavedModel, data_dir: Path) -> None:
    config = replace(saved.recipe.evaluate, temperature="fit")
    plain, _ = run(saved, data_dir, "plain")
    fitted, paths = run(replace(saved, recipe=replace(saved.recipe, evaluate=config)), data_dir, "fitted")
    for name in ("accuracy", "loss", "brier", "ece"):
        assert fitted.metrics[f"test/{name}"] == plain.metrics[f"test/{name}"]
    # The validation split holds the same samples here, so the loss can only fall.
    assert fitted.metrics["test/loss_at_temperature"] < fitted.metrics["test/loss"]
    calibration = json.loads(paths.report.read_text())["calibration"]
    assert calibration["temperature"] == fitted.metrics["test/temperature"]
    assert sum(row["count"] for row in calibration["at_temperature"]["bins"]) == 40


def test_evaluation_shows_augmentation_where_the_training_had_some(saved: SavedModel, data_dir: Path) -> None:
    train = replace(saved.recipe.train, augment=AugmentConfig(shift=1))
    config = replace(saved.recipe.evaluate, baseline=False)
    _, paths = run(replace(saved, recipe=replace(saved.recipe, train=train, evaluate=config)), data_dir)
    assert (paths.figures / "augmentation.png").is_file()


def test_evaluation_again_finds_the_same(saved: SavedModel, data_dir: Path) -> None:
    (first, _), (again, _) = run(saved, data_dir, "first"), run(saved, data_dir, "again")
    del first.metrics["baseline/seconds"], again.metrics["baseline/seconds"]
    assert first.metrics == again.metrics


def test_evaluation_without_a_baseline_reads_the_test_split_alone(saved: SavedModel, data_dir: Path) -> None:
    (data_dir / "train" / "images.npy").unlink()
    config = replace(saved.recipe.evaluate, baseline=False)
    found, _ = run(replace(saved, recipe=replace(saved.recipe, evaluate=config)), data_dir)
    assert found.baseline is None
    assert not [name for name in found.metrics if "baseline" in name]


@pytest.mark.parametrize("split", ["train", "test"])
def test_data_that_changed_since_they_were_prepared_are_refused(saved: SavedModel, data_dir: Path, split: str) -> None:
    path = data_dir / split / "images.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=rf"{split}/images.npy: is not what the card was written for"):
        run(saved, data_dir)


def test_data_of_another_training_are_refused(saved: SavedModel, data_dir: Path) -> None:
    other = replace(saved, spec=replace(saved.spec, data_sha256="0" * 64))
    with pytest.raises(IntegrityError, match="the model was trained on 000000000000; run `dvc repro`"):
        run(other, data_dir)


def test_gain_over_an_equal_baseline_is_nothing_with_certainty() -> None:
    labels = np.arange(60) % 3
    predictions = label_predictions(np.random.default_rng(0).dirichlet(np.ones(3), 60), labels)
    baseline = Baseline(predictions=predictions, description="the same", seconds=0.0)
    found = all_metrics("image_classification", predictions, baseline, CONFIG)
    assert [found[f"test/accuracy_minus_baseline{end}"] for end in ("", "_low", "_high")] == [0, 0, 0]
    assert found["test/accuracy_low"] < found["test/accuracy_high"]


def test_the_name_of_a_class_is_never_a_formula_in_a_spreadsheet(tmp_path: Path) -> None:
    classes = ("=cmd|'/C calc'!A0", "+SUM(A1)", "-2+3", "@x", "\uff1dA1", "-1", "a=b")
    labels = np.arange(len(classes))
    predictions = label_predictions(np.eye(len(classes)), labels)
    write_per_class(tmp_path / "classes.csv", "text_classification", classes, predictions, None)
    rows = list(csv.DictReader((tmp_path / "classes.csv").read_text().splitlines()))
    written = [row["part"] for row in rows]
    assert written == ["'=cmd|'/C calc'!A0", "'+SUM(A1)", "'-2+3", "'@x", "'\uff1dA1", "-1", "a=b"]
