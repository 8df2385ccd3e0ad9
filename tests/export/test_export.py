"""Stage `export`: a bundle that is whole, or none."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.export.kinds import QUICK
from trainyard.data.digits import DigitsConfig
from trainyard.data.packed import open_split, read_card
from trainyard.errors import IntegrityError, MachineError
from trainyard.evaluation.config import EvaluateConfig
from trainyard.export.bundle import FILES, FOLDERS, MANIFEST, SERVED, read_bundle
from trainyard.export.config import ExportConfig
from trainyard.export.export import Evaluated, Exported, export
from trainyard.export.inputs import raw_inputs
from trainyard.export.opened import OnnxFile
from trainyard.export.samples import read_sample
from trainyard.models.build import build_network
from trainyard.models.cnn_config import CNNConfig
from trainyard.models.saved import SavedModel, save_model
from trainyard.models.spec import InputSpec
from trainyard.recipe import Recipe
from trainyard.tasks.train_config import TrainConfig

TEMPERATURE = 1.7
ALL = replace(QUICK, formats=("onnx", "onnx_int8", "pt2"), max_quality_drop=0.5, calibration_samples=24)


def saved_model(packed: Path, config: ExportConfig = QUICK) -> SavedModel:
    spec = InputSpec.from_card(read_card(packed))
    recipe = Recipe(
        name="digits",
        family="cnn",
        data=DigitsConfig(source="digits"),
        model=CNNConfig(widths=(4,)),
        train=TrainConfig(epochs=1, batch_size=1, optimizer="sgd", learning_rate=1.0),
        evaluate=EvaluateConfig(),
        export=config,
    )
    torch.manual_seed(0)
    return SavedModel(build_network(recipe.model, spec).eval(), recipe, spec, "f")


def evaluated(folder: Path, fingerprint: str = "f") -> Evaluated:
    """Return what an evaluation leaves: a report, and a figure."""
    metrics = {"test/accuracy": 0.9, "test/accuracy_low": 0.88, "test/accuracy_high": 0.92, "baseline/accuracy": 0.8}
    calibration = {"as_trained": {"ece": 0.1}, "at_temperature": {"ece": 0.02}, "temperature": TEMPERATURE}
    report = {
        "fingerprint": fingerprint,
        "test": {"samples": 359},
        "baseline": "logistic regression | <pixels>",
        "metrics": metrics,
        "calibration": calibration,
        "classes": [{"class": str(number), "support": 20 + 2 * number, "f1": 0.9} for number in range(10)],
    }
    figures = folder / "figures"
    figures.mkdir()
    Image.new("RGB", (8, 8), "red").save(figures / "confusion_matrix.png")
    return Evaluated(report=report, figures=figures)


@pytest.fixture(scope="module")
def bundle(packed_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Exported]]:
    """A bundle of all formats that need no package of their own."""
    folder = tmp_path_factory.mktemp("bundle")
    saved = saved_model(packed_digits, ALL)
    model_dir = folder / "models" / "digits"
    weights = saved.network.state_dict()
    save_model(model_dir / "model.safetensors", model_dir / "recipe.json", weights, saved.recipe, saved.spec, "f")
    yield model_dir, export(saved, packed_digits, model_dir, evaluated(folder))


def test_a_bundle_is_whole_and_its_list_says_what_is_in_it(bundle: tuple[Path, Exported]) -> None:
    folder, _ = bundle
    listed = read_bundle(folder)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {*listed["files"], MANIFEST}
    assert {path.name for path in folder.iterdir()} == {*FILES, *FOLDERS, MANIFEST, "model.safetensors", "recipe.json"}
    assert listed["formats"] == {
        "onnx": "model.onnx",
        "onnx_int8": "formats/model.int8.onnx",
        "pt2": "formats/model.pt2",
    }
    assert listed["temperature"] == TEMPERATURE and listed["fingerprint"] == "f"
    assert json.loads((folder / "labels.json").read_text()) == [str(number) for number in range(10)]


def test_figures_of_each_format_stand_beside_those_of_torch(bundle: tuple[Path, Exported]) -> None:
    folder, exported = bundle
    for prefix in ("", "onnx_int8_", "pt2_", "torch_"):
        assert 0 < exported.metrics[f"{prefix}latency_p50_ms"] <= exported.metrics[f"{prefix}latency_p95_ms"]
        assert exported.metrics[f"{prefix}samples_per_s_batch_32"] > 0
        assert 0 <= exported.metrics[f"{prefix}memory_mb"] < 2000
    assert exported.metrics["size_bytes"] == (folder / "model.onnx").stat().st_size
    assert exported.metrics["onnx_int8_quality_drop"] <= 0.5
    parity = json.loads((folder / "parity.json").read_text())["formats"]
    assert list(parity) == ["onnx", "onnx_int8", "pt2"]
    assert parity["onnx"]["labels_equal"] == parity["pt2"]["labels_equal"] == 1.0
    assert parity["onnx_int8"]["quality"]["metric"] == "accuracy"
    assert exported.tags["formats"] == "onnx, onnx_int8, pt2" and exported.tags["test.accuracy"] == "0.9000"


def test_probabilities_of_served_logits_are_calibrated(bundle: tuple[Path, Exported]) -> None:
    folder, _ = bundle
    metadata = OnnxFile(folder / "formats" / "model.int8.onnx").session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["temperature"]) == TEMPERATURE
    expected = json.loads((folder / "samples" / "expected.json").read_text())
    for entry in expected["samples"]:
        logits = np.array(entry["logits"]) / TEMPERATURE
        powers = np.exp(logits - logits.max())
        assert entry["probability"] == pytest.approx(float((powers / powers.sum()).max()), abs=1e-5)


def test_samples_hold_real_raw_inputs_and_what_to_expect(bundle: tuple[Path, Exported], packed_digits: Path) -> None:
    folder, _ = bundle
    split, spec = open_split(packed_digits, "test"), InputSpec.from_card(read_card(packed_digits))
    expected = json.loads((folder / "samples" / "expected.json").read_text())["samples"]
    assert len(expected) == 4
    for entry in expected:
        (pixels,) = read_sample(folder / "samples" / entry["file"], spec, None)
        assert torch.equal(pixels, raw_inputs(split, np.array([entry["test_sample"]]))[0])
        assert OnnxFile(folder / "model.onnx").answer((pixels,))[0] == pytest.approx(np.array(entry["logits"]), abs=1e-4)
        assert entry["truth"] == str(split.arrays["labels"][entry["test_sample"]])


def test_the_card_says_what_was_measured_in_both_forms(bundle: tuple[Path, Exported]) -> None:
    folder, exported = bundle
    text, page = ((folder / name).read_text() for name in ("README.md", "card.html"))
    for form in (text, page):
        assert "0.9000 (0.8800 to 0.9200)" in form
        assert f"{exported.metrics['onnx_int8_latency_p50_ms']:.3f} / " in form
        assert "scikit-learn" in form and "Licence" in form and "1.700" in form
        assert "Fewer than 30 test samples stand for 0, 1, 2, 3, 4" in form
    assert r"logistic regression \| \<pixels\>" in text and "logistic regression | &lt;pixels&gt;" in page
    assert "![True classes" in text and (folder / "pictures" / "confusion_matrix.png").is_file()
    assert page.count("data:image/png;base64,") == 1
    assert "http" not in page and 'src="pictures' not in page, "the page needs nothing but itself"


@pytest.mark.parametrize("way", ["a byte more", "another byte", "no file"])
def test_every_file_of_a_bundle_is_missed_where_it_is_another_one(way: str, bundle: tuple[Path, Exported]) -> None:
    folder, _ = bundle
    names = [*read_bundle(folder)["files"], MANIFEST]
    assert len(names) >= 14
    for name in names:
        path = folder / name
        whole = path.read_bytes()
        if way == "no file":
            path.unlink()
        else:
            path.write_bytes(whole + b" " if way == "a byte more" and name != MANIFEST else whole[:-3] + b"0" + whole[-2:])
        with pytest.raises(IntegrityError, match=path.name.replace(".", r"\.")):
            read_bundle(folder)
        path.write_bytes(whole)
    read_bundle(folder)


def test_what_is_served_is_told_apart_from_the_rest(bundle: tuple[Path, Exported], tmp_path: Path) -> None:
    folder, _ = bundle
    (tmp_path / MANIFEST).write_bytes((folder / MANIFEST).read_bytes())
    for name in read_bundle(folder)["files"]:
        if name.partition("/")[0] in SERVED:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes((folder / name).read_bytes())
    read_bundle(tmp_path, SERVED)
    (tmp_path / "model.onnx").write_bytes((tmp_path / "model.onnx").read_bytes() + b"\0")
    with pytest.raises(IntegrityError, match=r"model\.onnx: is not the file that bundle\.json lists"):
        read_bundle(tmp_path, SERVED)


def test_a_list_that_leads_out_of_the_bundle_is_refused(bundle: tuple[Path, Exported], tmp_path: Path) -> None:
    from trainyard.export import bundle as module

    values = json.loads((bundle[0] / MANIFEST).read_text())
    values["files"] = {"../outside": {"sha256": "0" * 64, "bytes": 1}}
    values["sha256"] = module.own_sha256(values)
    (tmp_path / MANIFEST).write_text(json.dumps(values))
    with pytest.raises(IntegrityError, match=r"lists \.\./outside, which is outside of the bundle"):
        read_bundle(tmp_path)


def test_a_bundle_of_links_as_dvc_makes_them_is_whole(bundle: tuple[Path, Exported], tmp_path: Path) -> None:
    linked, cache = shutil.copytree(bundle[0], tmp_path / "linked"), tmp_path / "cache"
    shutil.move(linked / "model.onnx", cache)
    (linked / "model.onnx").symlink_to(cache)
    assert read_bundle(linked) == read_bundle(bundle[0])
    cache.write_bytes(b"another one")
    with pytest.raises(IntegrityError, match=r"model\.onnx: is not the file that bundle\.json lists"):
        read_bundle(linked)


def test_an_export_that_fails_leaves_nothing(packed_digits: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"the one before")
    (tmp_path / "formats").mkdir()
    saved = saved_model(packed_digits, replace(QUICK, max_logit_difference=1e-12))
    with pytest.raises(IntegrityError, match=r"differs from torch by .* export.max_logit_difference is 1e-12"):
        export(saved, packed_digits, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_data_than_the_trainings_are_refused(packed_digits: Path, tmp_path: Path) -> None:
    saved = saved_model(packed_digits)
    other = replace(saved, spec=replace(saved.spec, data_sha256="0" * 64))
    with pytest.raises(IntegrityError, match="the model was trained on 000000000000"):
        export(other, packed_digits, tmp_path)


def test_an_evaluation_of_another_model_is_refused(packed_digits: Path, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="its evaluation is of another, the model is f; run `dvc repro`"):
        export(saved_model(packed_digits), packed_digits, tmp_path, evaluated(tmp_path, "another"))


def test_a_format_whose_package_is_missing_is_refused_before_anything_is_done(packed_digits: Path, tmp_path: Path) -> None:
    from importlib.util import find_spec

    if find_spec("executorch") is not None:
        pytest.skip("executorch is installed here")
    saved = saved_model(packed_digits, replace(QUICK, formats=("onnx", "executorch")))
    with pytest.raises(MachineError, match=r"is not installed; run: pip install \"executorch>=1.5,<1.6\", or leave it out"):
        export(saved, packed_digits, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_formats_without_onnx_or_twice_are_refused() -> None:
    with pytest.raises(ValueError, match=r"formats: \[pt2\] lacks onnx"):
        ExportConfig(formats=("pt2",))
    with pytest.raises(ValueError, match="names pt2 twice"):
        ExportConfig(formats=("onnx", "pt2", "pt2"))


def test_an_exported_forecaster_stands_with_its_figures(series_recipe: Recipe, packed_series: Path, tmp_path: Path) -> None:
    spec = InputSpec.from_card(read_card(packed_series))
    recipe = replace(series_recipe, export=replace(series_recipe.export, formats=("onnx", "onnx_int8", "pt2")))
    saved = SavedModel(build_network(recipe.model, spec).eval(), recipe, spec, "f")
    export(saved, packed_series, tmp_path)
    formats = json.loads((tmp_path / "parity.json").read_text())["formats"]
    assert formats["onnx"]["labels_equal"] is None and formats["onnx_int8"]["quality"]["metric"] == "mse"
    expected = json.loads((tmp_path / "samples" / "expected.json").read_text())["samples"][0]
    forecast = np.array(expected["forecast"])
    assert forecast.shape == (12, 2) and 30 < forecast[:, 0].mean() < 80
    with (tmp_path / "samples" / expected["file"]).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24 and set(rows[0]) == {"load", "heat"}
    assert "It forecasts load, heat for 12 steps and no further." in (tmp_path / "README.md").read_text()
