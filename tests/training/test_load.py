from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from trainyard.recipe import Recipe
from trainyard.training import load
from trainyard.training.beat import Place, Progress
from trainyard.training.fit import fit
from trainyard.training.job import FitJob
from trainyard.training.load import Loads, Machine, Sample, Sampler
from trainyard.training.pulse import Pulse

PLACE = Place(rank=1, workers=2, host="alpha", node="n", pid=7, actor="a")
SAMPLE = Sample(
    rank=1,
    host="alpha",
    pid=7,
    at=1.0,
    machine={"cpu_utilization_percentage": 50.0},
    process={"memory_usage_megabytes": 300.0, "memory_peak_megabytes": 400.0},
    steps=10,
    step_seconds=2.0,
    wait_seconds=0.5,
)


def test_a_training_is_sampled_to_its_last_step(
    make_recipe: Callable[..., Recipe], packed_digits: Path, tmp_path: Path
) -> None:
    progress, seen = Progress(PLACE), list[Sample]()
    job = FitJob(recipe=make_recipe(epochs=2), data_dir=packed_digits, scratch_dir=tmp_path, fingerprint="f")
    with Sampler(progress, first=True, post=seen.append):
        result = fit(job, callbacks=[Pulse(progress)])
    last = Sample.decode(seen[-1].encode())
    assert last == seen[-1]
    assert last.steps == result.history[-1]["step"]
    assert 0 < last.wait_seconds < last.step_seconds
    # The kernel counts both in its own time.
    assert 0 < last.process["memory_usage_megabytes"] <= 1.01 * last.process["memory_peak_megabytes"]
    assert last.machine["system_memory_usage_megabytes"] * 1e6 < psutil.virtual_memory().total
    summary = Loads(host="alpha", last={1: last}).summary()
    assert summary["throughput/step_seconds"] == pytest.approx(last.step_seconds / last.steps)
    assert summary["memory/worker_peak_megabytes"] == last.process["memory_peak_megabytes"]


def test_a_step_s_time_is_that_since_the_sample_before_of_the_same_process() -> None:
    loads = Loads(host="alpha")
    assert loads.take(SAMPLE)["system/rank_1/step_seconds"] == pytest.approx(0.2)
    later = loads.take(replace(SAMPLE, steps=12, step_seconds=3.0, wait_seconds=0.6))
    assert later["system/rank_1/step_seconds"] == pytest.approx(0.5)
    assert later["system/rank_1/data_wait_seconds"] == pytest.approx(0.05)
    # It was replaced, and counts anew.
    again = loads.take(replace(SAMPLE, pid=8, steps=4, step_seconds=4.0))
    assert again["system/rank_1/step_seconds"] == pytest.approx(1.0)
    # Nothing was done since: there is no time of a step.
    assert "system/rank_1/step_seconds" not in loads.take(replace(SAMPLE, pid=8, steps=4, step_seconds=4.0))


def test_machines_have_names_of_their_own_once_there_are_several() -> None:
    loads = Loads(host="alpha")
    # The driver looks at its own machine itself, under the plain names.
    assert not [key for key in loads.take(SAMPLE) if "cpu_utilization" in key]
    beta = loads.take(replace(SAMPLE, rank=0, host="beta"))
    assert beta["system/beta/cpu_utilization_percentage"] == 50.0
    assert loads.take(SAMPLE)["system/alpha/cpu_utilization_percentage"] == 50.0
    assert loads.hosts == {"alpha", "beta"}


def test_a_board_that_is_away_costs_samples_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "LOAD_SECONDS", 0.01)
    tried = []

    def post(sample: Sample) -> None:
        tried.append(sample)
        raise RuntimeError("the head does not answer")

    with Sampler(Progress(PLACE), first=False, post=post):
        deadline = time.monotonic() + 120
        while len(tried) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(tried) >= 3


def test_looking_takes_less_than_half_a_percent_of_a_processor() -> None:
    machine, sampler = Machine(), Sampler(Progress(replace(PLACE, pid=os.getpid())), first=True, post=lambda sample: None)
    began = time.process_time()
    for _ in range(50):
        machine.look()
        sampler.look()
    assert (time.process_time() - began) / 50 < 0.005 * load.LOAD_SECONDS
