from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from trainyard.errors import InputError
from trainyard.recipe import Recipe
from trainyard.training import watch as watch_module
from trainyard.training.beat import Place, Progress
from trainyard.training.failure import failure_of
from trainyard.training.job import FitJob
from trainyard.training.watch import Watch

MakeRecipe = Callable[..., Recipe]


class Board:
    """What Ray's head keeps, in this process."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def read(self, names: list[str]) -> dict[str, bytes]:
        return {name: self.values[name] for name in names if name in self.values}


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    yield started
    started.kill()
    started.wait()


@pytest.fixture
def watch(make_recipe: MakeRecipe, tmp_path: Path, board: Board) -> Iterator[Watch]:
    job = FitJob(recipe=make_recipe(batch_size=64), data_dir=tmp_path, scratch_dir=tmp_path, fingerprint="f")
    made = Watch(job, board, 2, has_ended=lambda _: False, end=lambda place: os.kill(place.pid, signal.SIGKILL))
    yield made
    made.stop()


def place(rank: int, pid: int) -> Place:
    return Place(rank=rank, workers=2, host=os.uname().nodename, node="n", pid=pid, actor="a")


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"waited 120 s for {what}"
        time.sleep(0.05)


def test_a_lost_process_is_named_with_its_place(watch: Watch, board: Board, process: subprocess.Popen[bytes]) -> None:
    own, other = Progress(place(0, os.getpid())), Progress(place(1, process.pid))
    other.enter("forward", 2, 17)
    board.values = {"rank-0": own.beat().encode(), "rank-1": other.beat().encode()}
    wait_for(lambda: len(watch.hearing.beats) == 2, "both workers to be heard")
    assert watch.trains
    process.kill()
    process.wait()
    wait_for(lambda: watch.cause, "the loss to be noticed")
    assert watch.cause == f"rank 1 (pid {process.pid} on {os.uname().nodename}) at epoch 3, step 18 (forward) was lost"
    assert watch.news() == [f"{watch.cause}; the workers start again"]
    assert watch.news() == []


def test_a_process_ended_for_lack_of_memory_brings_a_smaller_batch(
    watch: Watch, board: Board, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    board.values = {"rank-0": Progress(place(0, process.pid)).beat().encode()}
    wait_for(lambda: watch.hearing.beats, "the worker to be heard")
    kills = watch_module.killed_for_memory()
    monkeypatch.setattr(watch_module, "killed_for_memory", lambda: kills + 1)
    process.kill()
    process.wait()
    wait_for(lambda: watch.cause, "the loss to be noticed")
    assert "was ended as memory ran out (train.batch_size is 64: set train.micro_batch_size: 32" in watch.cause


def test_a_stopped_worker_is_ended(
    watch: Watch, board: Board, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainyard.training.beat.SILENCE_SECONDS", 2.0)
    board.values = {"rank-0": Progress(place(0, process.pid)).beat().encode()}
    process.wait(timeout=120)
    assert process.returncode == -signal.SIGKILL
    wait_for(lambda: watch.cause, "the hang to be told of")
    assert "has said nothing for" in watch.cause
    assert any("it is ended, and the workers start again" in line for line in watch.news())


def test_an_error_of_the_code_ends_the_training_and_one_of_the_machine_does_not(watch: Watch, board: Board) -> None:
    board.values = {"error-1": failure_of(ConnectionError("peer is gone"), "rank 1 (pid 7 on b) at epoch 1, step 3").encode()}
    wait_for(lambda: watch.cause, "the first error")
    assert watch.cause == "rank 1 (pid 7 on b) at epoch 1, step 3: ConnectionError: peer is gone"
    watch.check()
    try:
        {}["missing"]
    except KeyError as error:
        board.values = {"error-0": failure_of(error, "rank 0 (pid 6 on b) at epoch 1, step 4").encode()}

    def stopped() -> bool:
        try:
            watch.check()
        except InputError as error:
            assert "training stopped: rank 0 (pid 6 on b) at epoch 1, step 4: KeyError: 'missing' (test_watch.py, line" in str(
                error
            )
            return True
        return False

    wait_for(stopped, "the second error")


@pytest.mark.parametrize("first", ["complaint", "loss"])
def test_who_was_lost_is_the_cause_and_not_who_missed_it(
    watch: Watch, board: Board, process: subprocess.Popen[bytes], first: str
) -> None:
    left, lost = Progress(place(0, os.getpid())), Progress(place(1, process.pid))
    lost.enter("forward", 0, 4)
    spoken = {"rank-0": left.beat().encode(), "rank-1": lost.beat().encode()}
    board.values = spoken
    wait_for(lambda: len(watch.hearing.beats) == 2, "both workers to be heard")
    complaint = RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer")
    complained = {**spoken, "error-0": failure_of(complaint, f"{left.beat()}").encode()}
    if first == "complaint":
        board.values = complained
        wait_for(lambda: "Read error" in watch.cause, "the complaint to be heard")
    process.kill()
    process.wait()
    wait_for(lambda: f"rank 1 (pid {process.pid} on " in watch.cause, "the loss to be noticed")
    board.values = complained
    heard = watch.hearing.beats[0]
    left.enter("backward", 0, 4)
    board.values = {**complained, "rank-0": left.beat().encode()}
    wait_for(lambda: watch.hearing.beats[0] != heard, "the board to be read again")
    assert watch.cause.endswith("at epoch 1, step 5 (forward) was lost")
    # In the next attempt it may be the link that is to blame.
    again = dataclasses.replace(left.place, pid=1)
    board.values = {"error-0": failure_of(complaint, f"{Progress(again).beat()}").encode()}
    wait_for(lambda: "Read error" in watch.cause, "the complaint of another attempt")


def test_memory_of_a_device_that_runs_out_brings_a_smaller_batch(watch: Watch, board: Board) -> None:
    class OutOfMemoryError(RuntimeError):
        pass

    board.values = {"error-0": failure_of(OutOfMemoryError("CUDA out of memory"), "rank 0").encode()}
    wait_for(lambda: watch.cause, "the error")
    with pytest.raises(InputError, match=r"set train\.micro_batch_size: 32"):
        watch.check()


def test_an_allocation_that_no_machine_has_room_for_is_no_lost_worker() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.float64)
    failure = failure_of(caught.value, "worker 0 of 2")
    assert failure.memory and "can't allocate memory" in failure.said
