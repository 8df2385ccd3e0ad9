"""Images seen in several positions: what is exported is what was scored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.export.kinds import QUICK, images, network_of, scenes
from tests.export.test_export import evaluated, saved_model
from trainyard.data.packed import open_split, read_card
from trainyard.errors import IntegrityError
from trainyard.evaluation.config import EvaluateConfig
from trainyard.evaluation.predictions import predict
from trainyard.evaluation.tiles import segmenter
from trainyard.export.departure import first_departure
from trainyard.export.export import Evaluated, export
from trainyard.export.inputs import raw_inputs
from trainyard.export.onnx_format import write_onnx
from trainyard.export.opened import OnnxFile
from trainyard.export.pt2_format import Pt2File, write_pt2
from trainyard.export.verify import compare
from trainyard.models.turned import LEAST, seen_from


def test_a_classifier_leaves_as_it_was_scored(packed_digits: Path, tmp_path: Path) -> None:
    saved = saved_model(packed_digits, replace(QUICK, formats=("onnx", "onnx_int8"), max_quality_drop=0.5))
    config = EvaluateConfig(flips="horizontal")
    saved = replace(saved, recipe=replace(saved.recipe, evaluate=config))
    report = evaluated(tmp_path)
    metrics = {**report.report["metrics"], "test/accuracy_one_position": 0.8765}
    model_dir = tmp_path / "model"
    exported = export(
        saved, packed_digits, model_dir, Evaluated(report={**report.report, "metrics": metrics}, figures=report.figures)
    )
    test = open_split(packed_digits, "test", read_card(packed_digits))
    scored = predict(segmenter(saved.network, saved.recipe.model, config)[0], test, 256).probabilities
    assert scored is not None
    answers = torch.from_numpy(OnnxFile(exported.path).answer(raw_inputs(test, np.arange(64)))).softmax(dim=1).numpy()
    assert np.abs(answers - scored[:64]).max() < 1e-5
    plain = predict(saved.network, test, 256).probabilities
    assert plain is not None and np.abs(plain[:64] - scored[:64]).max() > 1e-3
    # The samples that are passed on say so, too.
    said = json.loads((model_dir / "samples" / "expected.json").read_text())["samples"][0]
    assert list(said["probabilities"].values()) == pytest.approx(
        tempered(scored[said["test_sample"]], report.report["calibration"]["temperature"]), abs=1e-4
    )
    text = (model_dir / "README.md").read_text()
    assert "seen in 2 positions, whose probabilities are averaged" in text and "accuracy is 0.8765" in text


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    powers = probabilities ** (1 / temperature)
    return powers / powers.sum()


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_a_segmenter_of_all_eight_positions_agrees_with_torch_at_several_sizes(form: str, tmp_path: Path) -> None:
    network, spec, split = network_of(scenes)
    turned = seen_from(network, "all").eval()
    path = tmp_path / f"model.{form}"
    if form == "onnx":
        write_onnx(turned, spec, raw_inputs(split, np.arange(2)), path, {})
    else:
        write_pt2(turned, spec, raw_inputs(split, np.arange(2)), path)
    parity = compare(OnnxFile(path) if form == "onnx" else Pt2File(path), turned, split, QUICK)
    assert parity.max_difference <= 1e-4 and parity.labels_equal == 1.0
    assert len({tuple(shape[1:]) for shape in parity.shapes}) >= 3


def test_a_layer_that_departs_in_one_position_alone_is_named_with_its_call(tmp_path: Path) -> None:
    network, spec, split = network_of(images)
    turned = seen_from(network, "horizontal").eval()
    path = tmp_path / "model.onnx"
    write_onnx(turned, spec, raw_inputs(split, np.arange(2)), path, {})
    inputs = raw_inputs(split, np.arange(4))
    with torch.no_grad():
        next(network.network.blocks[1].parameters()).mul_(1.5)
    with pytest.raises(IntegrityError, match=r"the first layer to depart is network.network.blocks.1.0 \(Conv2d\)"):
        compare(OnnxFile(path), turned, split, QUICK)
    with torch.no_grad():
        next(network.network.blocks[1].parameters()).div_(1.5)
    # The second call of a layer, disturbed alone.
    layer = network.network.blocks[1][0]
    calls: list[int] = []

    def disturb(module: torch.nn.Module, taken: tuple[torch.Tensor, ...], given: torch.Tensor) -> torch.Tensor:
        calls.append(0)
        return given + 1 if len(calls) % 2 == 0 else given

    with layer.register_forward_hook(disturb):
        said = first_departure(turned, OnnxFile(path), inputs, 1e-4)
    assert "network.network.blocks.1.0 (Conv2d), call 2" in said


def test_a_class_that_no_position_gives_any_probability_has_a_logit_that_is_a_number() -> None:
    class Sure(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[500.0, -500.0]]).expand(len(pixels), 2)

    logits = seen_from(Sure(), "horizontal")(torch.zeros(3, 1, 4, 4))
    assert bool(torch.isfinite(logits).all())
    assert logits[0].tolist() == pytest.approx([0.0, float(np.log(LEAST))])
