from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from trainyard.data.batches import gather
from trainyard.data.digits import DigitsConfig
from trainyard.data.packed import Split, open_split, read_card
from trainyard.errors import IntegrityError
from trainyard.evaluation.config import EvaluateConfig
from trainyard.export.config import ExportConfig
from trainyard.export.export import export
from trainyard.export.inputs import raw_inputs
from trainyard.export.onnx_format import write_onnx
from trainyard.export.verify import open_session, run, verify
from trainyard.models.build import ModelConfig, build_network, in_raw_units
from trainyard.models.cnn_config import CNNConfig
from trainyard.models.forecaster import Forecaster
from trainyard.models.lstm_config import LSTMConfig
from trainyard.models.saved import SavedModel
from trainyard.models.spec import InputSpec
from trainyard.models.unet_config import UNetConfig
from trainyard.recipe import Recipe

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


def exported(make: Callable[[], tuple[ModelConfig, InputSpec, Split]], path: Path) -> tuple[torch.nn.Module, Split]:
    config, spec, split = make()
    torch.manual_seed(0)
    network = build_network(config, spec)
    if isinstance(network, Forecaster):
        for part in (network.network.head, network.autoregression):  # untrained it gives the last value alone
            torch.nn.init.normal_(part.weight, std=0.3)
    network = in_raw_units(network.eval(), spec)
    write_onnx(network, spec, raw_inputs(split, np.arange(2)), path, {"recipe": "test"})
    return network, split


@pytest.mark.parametrize("make", [images, scenes, texts, series])
def test_every_family_agrees_with_torch_at_several_shapes(
    make: Callable[[], tuple[ModelConfig, InputSpec, Split]], tmp_path: Path
) -> None:
    network, split = exported(make, tmp_path / "model.onnx")
    parity = verify(tmp_path / "model.onnx", network, split, QUICK)
    assert parity.max_difference <= 1e-4
    assert parity.labels_equal == (None if make is series else 1.0)
    assert len({tuple(shape) for shape in parity.shapes}) >= 3
    if make is scenes:
        assert len({tuple(shape[2:]) for shape in parity.shapes}) == 2
    content = (tmp_path / "model.onnx").read_bytes()
    assert b"site-packages" not in content and b"/src/trainyard" not in content, "it names folders of this machine"


@pytest.mark.parametrize("make", [images, scenes, texts, series])
def test_a_changed_weight_is_refused_with_the_worst_sample(
    make: Callable[[], tuple[ModelConfig, InputSpec, Split]], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    network, split = exported(make, path)
    model = onnx.load(path)
    weights = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    values = onnx.numpy_helper.to_array(weights).copy()
    values += 0.01
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    onnx.save(model, path)
    with pytest.raises(IntegrityError, match=r"model.onnx: test sample \d+ (differs from torch by|is class \d)"):
        verify(path, network, split, QUICK)


@pytest.mark.parametrize("part", [0, 1, 2, 3])
def test_a_truncated_file_is_refused(tmp_path: Path, part: int) -> None:
    path = tmp_path / "model.onnx"
    network, split = exported(images, path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * part // 4])
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        verify(path, network, split, QUICK)


def test_a_file_that_points_at_another_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    exported(images, path)
    model = onnx.load(path)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], location="../weights.bin")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(IntegrityError, match="in another file"):
        open_session(path)


def test_the_file_says_how_to_read_it(tmp_path: Path) -> None:
    exported(images, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["classes"]) == list(CLASSES)
    assert json.loads(metadata["mean"]) == [0.4]
    assert metadata["recipe"] == "test"
    axes = model.graph.input[0].type.tensor_type.shape.dim
    assert axes[0].dim_param == "batch"
    assert str(tmp_path) not in model.SerializeToString().decode("latin-1")


def saved_model(packed: Path) -> SavedModel:
    from trainyard.tasks.train_config import TrainConfig

    spec = InputSpec.from_card(read_card(packed))
    recipe = Recipe(
        name="digits",
        family="cnn",
        data=DigitsConfig(source="digits"),
        model=CNNConfig(widths=(4,)),
        train=TrainConfig(epochs=1, batch_size=1, optimizer="sgd", learning_rate=1.0),
        evaluate=EvaluateConfig(),
        export=QUICK,
    )
    torch.manual_seed(0)
    return SavedModel(build_network(recipe.model, spec).eval(), recipe, spec, "f")


def test_an_export_leaves_a_verified_file_and_its_figures(packed_digits: Path, tmp_path: Path) -> None:
    found = export(saved_model(packed_digits), packed_digits, tmp_path / "model.onnx", tmp_path / "parity.json")
    assert found.metrics["size_bytes"] == (tmp_path / "model.onnx").stat().st_size
    assert found.metrics["latency_p50_ms"] <= found.metrics["latency_p95_ms"]
    assert json.loads((tmp_path / "parity.json").read_text())["labels_equal"] == 1.0
    inputs = tuple(torch.from_numpy(value) for value in found.example.values())
    assert np.array_equal(run(open_session(found.path), inputs), found.logits)


def test_an_export_that_fails_leaves_nothing(packed_digits: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"the one before")
    saved = saved_model(packed_digits)
    strict = replace(saved, recipe=replace(saved.recipe, export=replace(QUICK, max_logit_difference=1e-12)))
    with pytest.raises(IntegrityError, match=r"differs from torch by .* export.max_logit_difference is 1e-12"):
        export(strict, packed_digits, tmp_path / "model.onnx", tmp_path / "parity.json")
    assert list(tmp_path.iterdir()) == []


def test_other_data_than_the_trainings_are_refused(packed_digits: Path, tmp_path: Path) -> None:
    saved = saved_model(packed_digits)
    other = replace(saved, spec=replace(saved.spec, data_sha256="0" * 64))
    with pytest.raises(IntegrityError, match="the model was trained on 000000000000"):
        export(other, packed_digits, tmp_path / "model.onnx", tmp_path / "parity.json")


def test_samples_are_the_test_splits(packed_digits: Path) -> None:
    assert len(open_split(packed_digits, "test")) == 359


def test_a_forecaster_takes_and_gives_raw_units(tmp_path: Path) -> None:
    network, split = exported(series, tmp_path / "model.onnx")
    session = open_session(tmp_path / "model.onnx")
    assert [entry.name for entry in (*session.get_inputs(), *session.get_outputs())] == ["values", "lengths", "forecast"]
    values, lengths = raw_inputs(split, np.arange(3))
    assert values[..., 0].mean() > 4000
    inside = gather(split, np.arange(3)).inputs
    standardised = network.network(*inside).detach().numpy()
    expected = standardised * split.arrays["std"][:2] + split.arrays["mean"][:2]
    assert run(session, (values, lengths)) == pytest.approx(expected, rel=1e-4, abs=1e-3)
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert json.loads(metadata["columns"]) == ["a", "b", "x"] and metadata["horizon"] == "4"


def test_differences_of_forecasts_are_measured_in_standard_deviations(tmp_path: Path) -> None:
    network, split = exported(series, tmp_path / "model.onnx")
    parity = verify(tmp_path / "model.onnx", network, split, QUICK)
    assert parity.max_difference < 1e-4
    network.std *= 1.001  # up to one unit of the first column, a thousandth of its deviation
    with pytest.raises(IntegrityError, match=r"test sample \d+ differs from torch by \d\.\d+e-0[34] in onnx"):
        verify(tmp_path / "model.onnx", network, split, QUICK)


def test_an_exported_forecaster_stands_with_its_figures(series_recipe: Recipe, packed_series: Path, tmp_path: Path) -> None:
    spec = InputSpec.from_card(read_card(packed_series))
    saved = SavedModel(build_network(series_recipe.model, spec).eval(), series_recipe, spec, "f")
    found = export(saved, packed_series, tmp_path / "model.onnx", tmp_path / "parity.json")
    assert json.loads((tmp_path / "parity.json").read_text())["labels_equal"] is None
    assert found.logits.shape == (2, 12, 2) and 30 < found.logits[..., 0].mean() < 80
