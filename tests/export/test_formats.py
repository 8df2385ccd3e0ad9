"""Each format of each kind of network, held against torch."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from tests.export.kinds import CLASSES, KINDS, QUICK, Made, made
from trainyard.data.batches import gather
from trainyard.errors import IntegrityError
from trainyard.export.inputs import raw_inputs
from trainyard.export.onnx_format import write_onnx
from trainyard.export.opened import OnnxFile, Opened, open_session, run
from trainyard.export.pt2_format import Pt2File
from trainyard.export.quality import check_quality
from trainyard.export.verify import ask, calls, compare, verify


def opened(of: Made, form: str) -> Opened:
    return OnnxFile(of.onnx) if form == "onnx" else Pt2File(of.pt2)


@pytest.mark.parametrize("form", ["onnx", "pt2"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_agrees_with_torch_at_several_shapes(kind: str, form: str) -> None:
    of = made(kind)
    parity = compare(opened(of, form), of.network, of.split, QUICK)
    assert parity.max_difference <= 1e-4
    assert parity.labels_equal == (None if kind == "series" else 1.0)
    assert {shape[0] for shape in parity.shapes} >= {1, 2, 7, 9}
    assert len({tuple(shape[1:]) for shape in parity.shapes}) >= (1 if kind == "images" else 3)


def test_files_name_no_folder_of_this_machine() -> None:
    for kind in KINDS:
        of = made(kind)
        for path in (of.onnx, of.int8, of.pt2):
            content = path.read_bytes()
            assert b"site-packages" not in content and b"/src/trainyard" not in content, path.name
            assert str(path.parent).encode() not in content, path.name


LAYERS = {
    "images": "network.blocks.1.0 (Conv2d)",
    "scenes": "network.decoder.0.0 (Conv2d)",
    "texts": "forward_layers.0 (LSTM)",
    "series": "network.network.forward_layers.0 (LSTM)",
}


@pytest.mark.parametrize("form", ["onnx", "pt2"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_that_departs_is_named_with_the_worst_sample(kind: str, form: str) -> None:
    of = made(kind)
    network, name = copy.deepcopy(of.network), LAYERS[kind]
    layer = network.get_submodule(name.partition(" ")[0])
    with torch.no_grad():
        next(layer.parameters()).mul_(1.5)
    with pytest.raises(IntegrityError, match=r"test sample \d+ (differs from torch by|is class \d)") as refused:
        compare(opened(of, form), network, of.split, QUICK)
    assert f"the first layer to depart is {name}" in str(refused.value)
    assert f" in {form}" in str(refused.value) and "not exported" in str(refused.value)


def test_a_wrong_normalisation_is_found_before_the_first_layer() -> None:
    of = made("images")
    network = copy.deepcopy(of.network)
    network.mean += 0.3
    with pytest.raises(IntegrityError, match="the first layer to depart is the preprocessing"):
        compare(OnnxFile(of.onnx), network, of.split, QUICK)


def test_labels_that_hang_on_the_last_bit_are_counted_and_not_refused() -> None:
    of = made("images")
    network = copy.deepcopy(of.network)
    head = network.network.head
    with torch.no_grad():
        # Classes 0 and 1 are the same but for 1e-5, which the file turns over; class 2 is out of the question.
        head.weight[1], head.bias[1], head.bias[2] = head.weight[0], head.bias[0] - 1e-5, head.bias[2] - 100

    class Tied(OnnxFile):
        def answer(self, inputs: tuple[torch.Tensor, ...]) -> NDArray[np.float32]:
            with torch.inference_mode():
                return network(*inputs).numpy() - np.array([5e-5, 0, 0], dtype=np.float32)

    tied = Tied(of.onnx)
    parity = compare(tied, network, of.split, QUICK)
    assert parity.ties > 0 and parity.labels_equal is not None and parity.labels_equal < 1
    with pytest.raises(IntegrityError, match="is class 1 in onnx and 0 in torch"):
        compare(tied, network, of.split, dataclasses.replace(QUICK, max_logit_difference=4e-7))


@pytest.mark.parametrize("kind", ["images", "scenes"])
def test_large_logits_may_differ_by_more_for_they_have_no_more_digits(kind: str, tmp_path: Path) -> None:
    of = made(kind)
    network = copy.deepcopy(of.network)
    head = network.network.head
    with torch.no_grad():
        head.weight.mul_(1000)
    path = tmp_path / "model.onnx"
    write_onnx(network, of.spec, raw_inputs(of.split, np.arange(2)), path, {"recipe": "test"})

    class Off(OnnxFile):
        share = 0.0

        def answer(self, inputs: tuple[torch.Tensor, ...]) -> NDArray[np.float32]:
            logits = super().answer(inputs)
            largest = np.abs(logits).reshape(len(logits), -1).max(axis=1)
            assert largest.min() > 100
            return logits + self.share * largest.reshape(-1, *[1] * (logits.ndim - 1))

    off = Off(path)
    plain = np.abs(off.answer(raw_inputs(of.split, np.arange(8))) - ask(network, of.split, 8)[0].expected).max()
    assert compare(off, network, of.split, QUICK).max_difference < min(plain, 1e-4)
    # Of a constant no label changes, and it is refused once it is no matter of digits.
    off.share = 2e-5
    with pytest.raises(IntegrityError, match="differs from torch by 2"):
        compare(off, network, of.split, QUICK)


@pytest.mark.parametrize("part", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["onnx", "int8", "pt2"])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, part: int) -> None:
    source: Path = getattr(made("images"), name)
    content, path = source.read_bytes(), tmp_path / source.name
    path.write_bytes(content[: len(content) * part // 4])
    with pytest.raises(IntegrityError, match=source.name.replace(".", r"\.")):
        Pt2File(path) if name == "pt2" else OnnxFile(path)


def test_a_file_that_points_at_another_one_is_refused(tmp_path: Path) -> None:
    path = Path(shutil.copy(made("images").onnx, tmp_path))
    model = onnx.load(path)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], location="../weights.bin")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(IntegrityError, match="in another file"):
        open_session(path)


def test_the_files_say_how_to_read_them() -> None:
    of = made("images")
    for path, precision in ((of.onnx, "fp32"), (of.int8, "int8")):
        model = onnx.load(path)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        assert json.loads(metadata["classes"]) == list(CLASSES)
        assert json.loads(metadata["mean"]) == [0.4]
        assert metadata["recipe"] == "test" and metadata["precision"] == precision
        assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_a_forecaster_takes_and_gives_raw_units() -> None:
    of = made("series")
    session = open_session(of.onnx)
    assert [entry.name for entry in (*session.get_inputs(), *session.get_outputs())] == ["values", "lengths", "forecast"]
    values, lengths = raw_inputs(of.split, np.arange(3))
    assert values[..., 0].mean() > 4000
    inside = gather(of.split, np.arange(3)).inputs
    standardised = of.network.network(*inside).detach().numpy()
    expected = standardised * of.split.arrays["std"][:2] + of.split.arrays["mean"][:2]
    assert run(session, (values, lengths)) == pytest.approx(expected, rel=1e-4, abs=1e-3)
    metadata = {entry.key: entry.value for entry in onnx.load(of.onnx).metadata_props}
    assert json.loads(metadata["columns"]) == ["a", "b", "x"] and metadata["horizon"] == "4"


def test_differences_of_forecasts_are_measured_in_standard_deviations() -> None:
    of = made("series")
    network = copy.deepcopy(of.network)
    assert verify(of.onnx, network, of.split, QUICK).max_difference < 1e-4
    network.std *= 1.001  # up to one unit of the first column, a thousandth of its deviation
    with pytest.raises(IntegrityError, match=r"test sample \d+ differs from torch by \d\.\d+e-0[34] in onnx"):
        verify(of.onnx, network, of.split, QUICK)


@pytest.mark.parametrize("kind", KINDS)
def test_int8_answers_at_every_shape_and_is_near(kind: str) -> None:
    of = made(kind)
    quantised = OnnxFile(of.int8, "onnx_int8")
    types = {tensor.data_type for tensor in onnx.load(of.int8).graph.initializer}
    assert types & {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}, "nothing in it is quantised"
    for _, inputs in calls(of.split, 9):
        expected = of.network(*inputs).detach().numpy()
        found = quantised.answer(inputs)
        assert found.shape == expected.shape
        spread = float(np.std(expected)) or 1.0
        assert float(np.abs(found - expected).mean()) < 0.2 * spread


def labelled_by(of: Made) -> Made:
    """Return the data with the network's own answers for their truth."""
    with torch.inference_mode():
        answers = of.network(*raw_inputs(of.split, np.arange(12))).numpy().argmax(axis=1)
    split = copy.copy(of.split)
    split.arrays = {**of.split.arrays, "labels": answers.astype(np.int64)}
    return dataclasses.replace(of, split=split)


def test_int8_that_loses_too_much_is_refused_with_the_numbers(tmp_path: Path) -> None:
    of = labelled_by(made("images"))
    path = Path(shutil.copy(of.int8, tmp_path))
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8 and "blocks.1.0" in tensor.name:
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(-values, tensor.name))
    onnx.save(model, path)
    fp32 = OnnxFile(of.onnx)
    good = check_quality(
        OnnxFile(of.int8, "onnx_int8"), fp32, of.network, of.split, 3, dataclasses.replace(QUICK, max_quality_drop=0.3)
    )
    assert good.fp32 == 1.0 and good.drop == pytest.approx(1.0 - good.value)
    said = r"reaches accuracy 0\.\d+ on 12 test samples, fp32 1\.0000: worse by 0\.\d+, export\.max_quality_drop is 0\.01"
    with pytest.raises(IntegrityError, match=said) as refused:
        check_quality(OnnxFile(path, "onnx_int8"), fp32, of.network, of.split, 3, QUICK)
    assert "the first layer to depart is network.blocks.1.0 (Conv2d)" in str(refused.value)
