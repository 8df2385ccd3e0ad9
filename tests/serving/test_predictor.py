"""A model's file answers to raw inputs as the network did that it came from."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from trainyard.data.packed import Split, open_split
from trainyard.errors import InputError, IntegrityError
from trainyard.serving.answers import Forecast, Label, Mask, check_finite, palette, softmax
from trainyard.serving.bad_input import BadInput
from trainyard.serving.predictor import Predictor, Raw
from trainyard.serving.raw_inputs import Limits

UNWANTED = ("torch", "pytorch_lightning", "lightning", "ray", "mlflow", "onnx", "sklearn", "scipy", "pandas", "pydantic")


def raws(model: Path) -> tuple[Split, list[Raw]]:
    """Return the test split, and of each of its samples the raw input."""
    folder = model.parents[1]
    split = open_split(folder / "packed", "test")
    names = [split.sample_name(index) for index in range(len(split))]
    if (folder / "raw").is_dir():
        return split, [(folder / "raw" / name).read_bytes() for name in names]
    with (folder / "raw.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if split.kind == "text_classification":
        return split, [rows[int(name.partition(":")[2]) - 2] for name in names]
    numbers = [{key: float(value) for key, value in row.items()} for row in rows]
    first = len(rows) - len(split.arrays["values"])
    return split, [numbers[first + start : first + start + 24] for start in split.arrays["starts"]]


def logits_of_torch(model: Path, name: str, split: Split) -> Any:
    """Return what the exported network gave for packed samples, one by one, from the network itself made anew."""
    import torch

    from tests.serving.made import MODELS
    from trainyard.data.batches import gather
    from trainyard.data.packed import read_card
    from trainyard.models.build import build_network
    from trainyard.models.spec import InputSpec

    spec = InputSpec.from_card(read_card(model.parents[1] / "packed"))
    torch.manual_seed(0)
    network = build_network(MODELS[name][2], spec)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    with torch.inference_mode():
        return network.eval()(*gather(split, np.arange(len(split))).inputs).numpy()


def test_images_texts_and_series_get_the_answers_of_the_network_that_evaluation_scores(models: dict[str, Path]) -> None:
    for name, model in models.items():
        split, inputs = raws(model)
        expected = logits_of_torch(model, name, split)
        answers = Predictor.load(model, threads=1).predict(inputs)
        assert len(answers) == len(split) > 1
        for answer, logits in zip(answers, expected, strict=True):
            match answer:
                case Label():
                    assert np.allclose(answer.logits, logits, atol=1e-4)
                    assert answer.number == logits.argmax()
                    assert answer.probability == answer.probabilities.max() == answer.probabilities[answer.number]
                    assert abs(answer.probabilities.sum() - 1) < 1e-6
                case Mask():
                    assert np.array_equal(answer.ids, logits.argmax(axis=0))
                    assert 0.5 <= answer.confidence <= 1
                    assert abs(sum(answer.shares.values()) - 1) < 1e-9
                case Forecast():
                    std, mean = split.arrays["std"][:2], split.arrays["mean"][:2]
                    assert np.allclose((answer.values - mean) / std, logits, atol=1e-4)


def test_an_answer_does_not_depend_on_what_else_is_asked_at_once(models: dict[str, Path]) -> None:
    for model in models.values():
        predictor = Predictor.load(model, threads=1)
        inputs = raws(model)[1]
        together = predictor.predict([*inputs, *inputs[:2]])
        for alone, other in zip((predictor.predict([raw])[0] for raw in inputs), together, strict=False):
            for key in ("logits", "values", "ids"):
                if hasattr(alone, key):
                    assert np.allclose(getattr(alone, key), getattr(other, key), atol=1e-5)


def test_masks_of_images_of_any_size_have_the_size_of_the_image(models: dict[str, Path]) -> None:
    predictor = Predictor.load(models["cells"], threads=1)
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (1, 9), (37, 23), (20, 28), (64, 64)]
    images = []
    for size in sizes:
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(buffer, "PNG")
        images.append(buffer.getvalue())
    for answer, size in zip(predictor.predict(images), sizes, strict=True):
        assert isinstance(answer, Mask)
        assert answer.at_own_size.shape == size
        shown = Image.open(io.BytesIO(answer.png()))
        assert shown.mode == "P" and np.array_equal(np.asarray(shown), answer.ids)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(40, 90), (90, 40), (7, 5), (33, 33)])
def test_a_mask_is_laid_back_where_the_image_was(resize: Any, size: tuple[int, int]) -> None:
    # What is drawn into an image is found again at its place, through the resizing of prepare and the way back.
    from trainyard.data.image_files import resize_mask

    drawn = np.zeros(size, dtype=np.uint8)
    drawn[size[0] // 4 : size[0] * 3 // 4, size[1] // 3 : size[1] * 2 // 3] = 1
    seen = resize_mask(drawn, (32, 32), resize)
    back = Mask(classes=("a", "b"), ids=seen, confidence=1.0, size=size, resize=resize).at_own_size
    height, width = size
    side = min(size)
    rows = slice((height - side) // 2, (height + side) // 2) if resize == "crop" else slice(0, height)
    columns = slice((width - side) // 2, (width + side) // 2) if resize == "crop" else slice(0, width)
    assert back.shape == size
    assert (back[rows, columns] == drawn[rows, columns]).mean() > 0.9


def test_probabilities_are_tempered_and_a_threshold_decides(models: dict[str, Path], tmp_path: Path) -> None:
    plain = Predictor.load(models["reviews"], threads=1).predict(["fine and warm"])[0]
    assert isinstance(plain, Label)
    copy = changed(models["reviews"], tmp_path, {"temperature": "4.0", "threshold": "0.0"})
    tempered = Predictor.load(copy, threads=1).predict(["fine and warm"])[0]
    assert isinstance(tempered, Label)
    assert np.allclose(tempered.probabilities, softmax(plain.logits[None] / 4, 1.0)[0])
    assert (tempered.number, tempered.probability) == (1, tempered.probabilities[1]), "anything reaches a threshold of 0"


def test_the_first_bad_input_is_named(models: dict[str, Path]) -> None:
    predictor = Predictor.load(models["photos"], threads=1)
    with pytest.raises(BadInput, match=r"^images\[1\]: an empty file"):
        predictor.predict([raws(models["photos"])[1][0], b""])
    with pytest.raises(BadInput, match=r"^texts\[0\]: 3 characters; expected at most 2"):
        Predictor.load(models["reviews"], threads=1).predict(["abc"], Limits(characters=2))


def test_what_answers_imports_no_framework(models: dict[str, Path]) -> None:
    for model in models.values():
        code = (
            "import sys; from pathlib import Path; from trainyard.serving.predictor import Predictor\n"
            f"Predictor.load(Path({str(model)!r}))\n"
            f"print([name for name in {UNWANTED!r} if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


def changed(model: Path, place: Path, metadata: dict[str, str | None]) -> Path:
    """Return a copy of a model's folder with other metadata; None takes a key out."""
    copy = Path(shutil.copytree(model, place / "changed", dirs_exist_ok=True))
    proto = onnx.load(copy / "model.onnx")
    kept = {entry.key: entry.value for entry in proto.metadata_props} | metadata
    del proto.metadata_props[:]
    for key, value in kept.items():
        if value is not None:
            proto.metadata_props.add(key=key, value=value)
    onnx.save_model(proto, copy / "model.onnx")
    return copy


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"trainyard.format": None}, "was not exported by trainyard"),
        ({"trainyard.format": "2"}, "has metadata of format 2, this version reads format 1"),
        ({"raw": None}, "was exported by an earlier version"),
        ({"raw": "{}"}, "metadata that contradict it"),
        ({"raw": json.dumps({"type": "text", "columns": ["a"]})}, "kind image_classification and raw inputs of TextForm"),
        ({"raw": json.dumps({"type": "image", "channels": 1, "size": [12, 12], "trained_size": [12, 12]})}, "takes images"),
        ({"classes": "[1, 2]"}, "classes are no names"),
        ({"classes": '["one"]'}, "answers"),
        ({"kind": "text_classification"}, "metadata that contradict it"),
        ({"kind": "segmentation"}, "answers"),
        ({"temperature": "0"}, "temperature 0"),
        ({"temperature": "NaN"}, "temperature nan"),
        ({"threshold": "7"}, "threshold 7"),
        ({"classes": "[" * 100_000}, "metadata that contradict it"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    models: dict[str, Path], tmp_path: Path, metadata: dict[str, str | None], said: str
) -> None:
    copy = changed(models["photos"], tmp_path, metadata)
    with pytest.raises(IntegrityError, match=r"model\.onnx: .*") as caught:
        Predictor.load(copy)
    assert said in str(caught.value)


def test_a_truncated_or_damaged_file_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    whole = (models["photos"] / "model.onnx").read_bytes()
    path = tmp_path / "model.onnx"
    for sixteenth in range(16):
        path.write_bytes(whole[: len(whole) * sixteenth // 16])
        with pytest.raises(IntegrityError, match=r"model\.onnx"):
            Predictor.load(path)
    for content in (b"\x80\x04\x95pickle", b"not a model", b"\xff" * 1000):
        path.write_bytes(content)
        with pytest.raises(IntegrityError, match=r"model\.onnx: is not a whole ONNX file"):
            Predictor.load(tmp_path)


def test_a_file_that_points_at_another_one_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    proto = onnx.load(models["photos"] / "model.onnx")
    onnx.external_data_helper.set_external_data(proto.graph.initializer[0], location="../../etc/passwd")
    proto.graph.initializer[0].ClearField("raw_data")
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(IntegrityError, match="keeps weights in another file"):
        Predictor.load(tmp_path)
    # Also where the tensor is an attribute of a node within a graph within a node.
    tensor = onnx.helper.make_tensor("far", onnx.TensorProto.FLOAT, [1], [1.0])
    onnx.external_data_helper.set_external_data(tensor, location="/etc/passwd") if tensor.raw_data else None
    tensor.data_location = onnx.TensorProto.EXTERNAL
    inner = onnx.helper.make_graph([onnx.helper.make_node("Constant", [], ["y"], value=tensor)], "inner", [], [])
    proto = onnx.load(models["photos"] / "model.onnx")
    proto.graph.node.append(onnx.helper.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=inner))
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(IntegrityError, match="keeps weights in another file"):
        Predictor.load(tmp_path)


def test_a_model_that_is_not_there_is_said(tmp_path: Path, models: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"model\.onnx: no such file; run `dvc repro`"):
        Predictor.load(tmp_path)
    with pytest.raises(InputError, match=r"photos: has no model in 8 bits; add onnx_int8"):
        Predictor.load(models["photos"], "int8")


def test_every_class_has_a_colour_of_its_own() -> None:
    assert len(set(palette(256))) == 256 and palette(1) == [(0, 0, 0)]


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_an_answer_without_an_end_is_refused_with_the_name_of_the_input(number: float) -> None:
    numbers = np.array([0.5, number], dtype=np.float32)
    forecast = Forecast(targets=("a",), values=numbers[:, None])
    label = Label(label="a", number=0, probability=0.5, probabilities=numbers, logits=numbers)
    mask = Mask(classes=("a",), ids=np.zeros((1, 1), np.uint8), confidence=number, size=(1, 1), resize="stretch")
    for answer in (forecast, label, mask):
        with pytest.raises(BadInput, match=r"series\[3\]: numbers that the network finds no answer to"):
            check_finite(answer, "series[3]")
