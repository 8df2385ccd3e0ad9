"""A network is compiled where it is wanted, or where what is left of a training pays it back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainyard.data.batches import Batch
from trainyard.recipe import Recipe
from trainyard.training.compiling import COMPILE_SECONDS, GAIN, Compiling, has_compiler, pays_back
from trainyard.training.fit import fit
from trainyard.training.job import FitJob
from trainyard.training.spool import Reader

MakeRecipe = Callable[..., Recipe]


def test_compiling_pays_where_what_is_left_is_long_enough() -> None:
    enough = int(COMPILE_SECONDS / GAIN / 0.1)
    assert pays_back(0.1, enough + 1)
    assert not pays_back(0.1, enough - 1)


def test_steps_are_timed_before_it_is_decided(make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    recipe = make_recipe(epochs=2, batch_size=64, deterministic=False)
    job = FitJob(recipe=recipe, data_dir=packed_digits, scratch_dir=tmp_path / "s", fingerprint="f")
    result = fit(job)
    said, decided = [record.note for record in Reader(job.spool).read() if record.note]
    assert "compiled if the first steps show that it pays" in said
    assert result.precision in said
    assert decided.startswith("not compiled: ")
    assert "steps of" in decided


@pytest.mark.long
@pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler")
def test_a_compiled_network_learns_as_it_does_uncompiled(make_recipe: MakeRecipe, packed_digits: Path, tmp_path: Path) -> None:
    losses = []
    for wanted in ("never", "always"):
        (tmp_path / wanted).mkdir()
        recipe = make_recipe(epochs=2, batch_size=64, precision="fp32", compile=wanted)
        job = FitJob(recipe=recipe, data_dir=packed_digits, scratch_dir=tmp_path / wanted, fingerprint="f")
        losses.append([row["val/loss"] for row in fit(job).history])
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def test_only_whole_batches_of_training_are_compiled() -> None:
    compiled: list[torch.fx.GraphModule] = []

    def note(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> torch.fx.GraphModule:
        compiled.append(graph)
        return graph

    network = Doubling()
    compiling = Compiling(network, at_once=True, full_batch=4, total_steps=1, say=lambda line: None)
    network.compile(backend=note)
    nobody: Any = None
    for rows in (4, 3, 4, 2):
        compiling.on_train_batch_start(nobody, nobody, batch_of(rows), 0)
        network(torch.zeros(rows, 3))
    compiling.on_validation_start(nobody, nobody)
    network(torch.zeros(5, 3))
    compiling.teardown()
    assert len(compiled) == 1
    network(torch.zeros(5, 3))
    assert len(compiled) == 2


class Doubling(torch.nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return 2 * features


def batch_of(rows: int) -> Batch:
    nothing = torch.zeros(rows, dtype=torch.int64)
    return Batch((nothing,), nothing, 1.0, nothing, 0)
