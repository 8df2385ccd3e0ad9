"""ExecuTorch's programs of each kind of network, on its own runtime."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.export.kinds import KINDS, QUICK, Made, made
from tests.files_of_this_run import folder_of_this_run
from trainyard.data.packed import read_card
from trainyard.errors import IntegrityError
from trainyard.export.config import EXECUTORCH
from trainyard.export.executorch_format import ExecutorchFile, limits, write_executorch
from trainyard.export.export import export
from trainyard.export.inputs import raw_inputs
from trainyard.export.verify import compare
from trainyard.models.build import build_network
from trainyard.models.saved import SavedModel
from trainyard.models.spec import InputSpec
from trainyard.recipe import Recipe

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_spec("executorch") is None, reason=f'executorch is not installed here: pip install "{EXECUTORCH}"'),
]


@functools.cache
def program(kind: str) -> tuple[Made, Path]:
    """Return a network and its program; whoever damages one takes a copy."""
    of = made(kind)
    path = folder_of_this_run("program") / "model.pte"
    write_executorch(of.network, of.spec, raw_inputs(of.split, np.arange(1)), path)
    return of, path


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_agrees_with_torch_at_several_shapes(kind: str) -> None:
    of, path = program(kind)
    parity = compare(ExecutorchFile(path), of.network, of.split, QUICK)
    assert parity.max_difference <= 1e-4
    assert parity.labels_equal == (None if kind == "series" else 1.0)
    assert len({tuple(shape[1:]) for shape in parity.shapes}) >= (1 if kind == "images" else 3)


def test_a_program_takes_the_largest_sizes_that_are_stated_and_no_larger() -> None:
    of, path = program("scenes")
    opened, most = ExecutorchFile(path), limits(of.spec)
    for size in ((most["height"], most["width"]), (1, 1), (1, most["width"])):
        images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 1, *size), dtype=np.uint8))
        with torch.inference_mode():
            assert np.abs(opened.answer((images,)) - of.network(images).numpy()).max() <= 1e-4
    with pytest.raises(RuntimeError):
        opened.answer((torch.zeros(1, 1, most["height"] + 1, most["width"], dtype=torch.uint8),))
    of, path = program("texts")
    tokens = torch.ones(1, limits(of.spec)["length"], dtype=torch.int64)
    with torch.inference_mode():
        expected = of.network(tokens, torch.tensor([tokens.shape[1]])).numpy()
    assert np.abs(ExecutorchFile(path).answer((tokens, torch.tensor([tokens.shape[1]]))) - expected).max() <= 1e-4


def test_the_same_network_gives_the_same_program_and_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    of, path = program("images")
    write_executorch(of.network, of.spec, raw_inputs(of.split, np.arange(1)), tmp_path / "again.pte")
    content = path.read_bytes()
    assert (tmp_path / "again.pte").read_bytes() == content
    assert b"site-packages" not in content and b"/src/trainyard" not in content


@pytest.mark.parametrize(
    "change", [lambda whole: whole[: len(whole) // 2], lambda whole: b"\0" * 64 + whole[64:], lambda _: b""]
)
def test_a_damaged_program_is_refused(change: object, tmp_path: Path) -> None:
    assert callable(change)
    (tmp_path / "model.pte").write_bytes(change(program("images")[1].read_bytes()))
    with pytest.raises(IntegrityError, match=r"model.pte: is no whole ExecuTorch program \(.+\); export it again"):
        ExecutorchFile(tmp_path / "model.pte")


def test_a_bundle_says_how_its_program_agrees_and_what_it_takes(
    series_recipe: Recipe, packed_series: Path, tmp_path: Path
) -> None:
    spec = InputSpec.from_card(read_card(packed_series))
    recipe = replace(series_recipe, export=replace(QUICK, formats=("onnx", "executorch")))
    export(SavedModel(build_network(recipe.model, spec).eval(), recipe, spec, "f"), packed_series, tmp_path)
    found = json.loads((tmp_path / "parity.json").read_text())["formats"]["executorch"]
    assert found["max_difference"] <= 1e-4 and found["samples"] >= 20
    stated = json.loads((tmp_path / "preprocessing" / "constants.json").read_text())["executorch"]
    assert stated == {"batch": 1, "at_most": limits(spec)}
    assert ExecutorchFile(tmp_path / "formats" / "model.pte").path.stat().st_size > 0
