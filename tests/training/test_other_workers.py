"""Another number of workers takes the same steps: same samples, same global batches, losses equal but for rounding."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.training.gang import Gang, final_state

from trainyard.data.packed import open_split, read_card, write_arrays, write_card
from trainyard.training.job import FitJob

pytestmark = pytest.mark.faults
Build = Callable[..., FitJob]
EXACT = {"precision": "fp32", "epochs": 1}
TOLERANCE = 1e-6


def losses(gang: Gang, workers: int) -> list[float]:
    """Return the loss of every global batch: the mean over the workers' shares, whose weights add up to that of the whole."""
    by_step: dict[int, list[float]] = {}
    for rank in range(workers):
        for step in gang.steps(rank):
            by_step.setdefault(step["step"], []).append(float.fromhex(step["loss"]))
    assert {len(values) for values in by_step.values()} == {workers}
    return [math.fsum(values) / workers for _, values in sorted(by_step.items())]


def samples(gang: Gang, workers: int) -> list[list[int]]:
    """Return the samples of every global batch, those that only stand in for an empty share left out."""
    by_step: dict[int, list[int]] = {}
    for rank in range(workers):
        for step in gang.steps(rank):
            by_step.setdefault(step["step"], []).extend(step["samples"] if step["weight"] else [])
    return [sorted(found) for _, found in sorted(by_step.items())]


def trained(job: FitJob, workers: int) -> Gang:
    gang = Gang(job, workers)
    end = gang.attempt()
    assert end.finished, end.said
    return gang


def worst(one: list[float], two: list[float]) -> float:
    assert len(one) == len(two)
    return max(abs(a - b) / abs(a) for a, b in zip(one, two, strict=True))


def without_batch_normalisation(job: FitJob) -> FitJob:
    if job.recipe.family == "lstm":
        return job
    model = dataclasses.replace(job.recipe.model, normalisation="group")  # type: ignore[call-arg]
    return dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, model=model))


@pytest.mark.parametrize(
    ("family", "workers"),
    [
        pytest.param("cnn", 2, id="cnn-2"),
        pytest.param("cnn", 3, marks=pytest.mark.long, id="cnn-3"),
        pytest.param("unet", 2, marks=pytest.mark.long, id="unet-2"),
        pytest.param("unet", 3, marks=pytest.mark.long, id="unet-3"),
        pytest.param("lstm", 2, marks=pytest.mark.long, id="lstm-2"),
        pytest.param("lstm", 3, id="lstm-3"),
    ],
)
def test_more_workers_have_the_losses_of_one(build: Build, family: str, workers: int) -> None:
    """With dropout and augmentation, which follow the sample and not the worker."""
    one = trained(without_batch_normalisation(build(family, "one", **EXACT)), 1)
    more = trained(without_batch_normalisation(build(family, "more", **EXACT)), workers)
    assert samples(more, workers) == samples(one, 1)
    assert worst(losses(one, 1), losses(more, workers)) <= TOLERANCE
    expected, found = (final_state(gang.job)["history"][0] for gang in (one, more))
    assert found["train/loss"] == pytest.approx(expected["train/loss"], rel=TOLERANCE)
    assert found["val/loss"] == pytest.approx(expected["val/loss"], rel=10 * TOLERANCE)


@pytest.mark.parametrize("workers", [2, pytest.param(3, marks=pytest.mark.long)])
def test_global_batch_statistics_give_the_losses_of_one(build: Build, workers: int) -> None:
    one = trained(build("cnn", "one", **EXACT), 1)
    more = trained(build("cnn", "more", **EXACT, batch_statistics="global"), workers)
    assert worst(losses(one, 1), losses(more, workers)) <= 10 * TOLERANCE
    expected, found = (final_state(gang.job)["state_dict"] for gang in (one, more))
    names = [name for name in expected if "running" in name]
    assert names
    for name in names:
        assert float((expected[name] - found[name]).abs().max()) <= 1e-5, name


@pytest.mark.long
def test_a_training_goes_on_with_another_number_of_workers(build: Build) -> None:
    whole = trained(without_batch_normalisation(build("cnn", "whole", **EXACT)), 2)
    changed = Gang(without_batch_normalisation(build("cnn", "changed", **EXACT)), 2)
    assert not changed.attempt("kill:rank1:step5:phase=forward:settled").finished
    end = changed.attempt(world_size=1)
    assert end.finished, end.said
    seen = Counter(sample for step in samples(whole, 2) for sample in step)
    assert set(seen.values()) == {1}
    # From the checkpoint after step 3 of 10.
    assert [sorted(step["samples"]) for step in changed.steps(0)[-7:]] == samples(whole, 2)[3:]
    expected, found = (final_state(gang.job)["history"][0] for gang in (whole, changed))
    assert found["train/loss"] == pytest.approx(expected["train/loss"], rel=TOLERANCE)


def test_more_workers_than_samples_count_each_sample_once(build: Build, tmp_path: Path) -> None:
    """Three workers, five samples in batches of two, two to validate with: shares and validations that are empty."""
    job = build("cnn", "few", epochs=2, batch_size=2, precision="fp32")
    job = without_batch_normalisation(dataclasses.replace(job, data_dir=few(job.data_dir, tmp_path / "packed", train=5, val=2)))
    three = trained(job, 3)
    assert [len(found) for found in samples(three, 3)] == [2, 2, 1, 2, 2, 1]
    assert Counter(sample for found in samples(three, 3) for sample in found) == {sample: 2 for sample in range(5)}
    one = trained(dataclasses.replace(job, scratch_dir=tmp_path / "one"), 1)
    assert worst(losses(one, 1), losses(three, 3)) <= 10 * TOLERANCE
    for name in ("train/loss", "val/loss", "val/accuracy"):
        for expected, found in zip(final_state(one.job)["history"], final_state(three.job)["history"], strict=True):
            assert found[name] == pytest.approx(expected[name], rel=1e-5), name


def few(source: Path, folder: Path, **counts: int) -> Path:
    """Pack the first samples of some splits of packed digits anew."""
    shutil.copytree(source, folder)
    card = read_card(source)
    arrays = dict(card.arrays)
    for name, count in counts.items():
        arrays[name] = write_arrays(folder, name, open_split(source, name, card).arrays, np.arange(count))  # type: ignore[arg-type]
    write_card(folder, dataclasses.replace(card, arrays=arrays))
    return folder
