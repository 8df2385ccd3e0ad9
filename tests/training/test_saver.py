from __future__ import annotations

import errno
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainyard.errors import MachineError, ServiceError
from trainyard.training import checkpoint, saver
from trainyard.training.checkpoint import Facts
from trainyard.training.saver import Saver, snapshot
from trainyard.training.store import FolderStore, Save

SECONDS = 120.0


def facts(step: int, score: float | None = None) -> Facts:
    return Facts(fingerprint="a", epoch=step // 10, step=step, ended=score is not None, score=score, finished=False)


class GatedStore(FolderStore):
    """A folder whose writes wait until they are let through, and fail when told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.errors: list[Exception | None] = []

    def write(self, name: str, save: Save) -> None:
        if name.endswith(".ckpt"):
            self.entered.release()
            assert self.gate.acquire(timeout=SECONDS)
            if self.errors and (error := self.errors.pop(0)) is not None:
                raise error
        super().write(name, save)

    def steps(self) -> list[int]:
        return [found.facts.step for found in checkpoint.scan(self, "a")[0]]


@pytest.fixture
def store(tmp_path: Path) -> GatedStore:
    return GatedStore(tmp_path / "store")


def state(number: float) -> dict[str, Any]:
    return {"state_dict": {"network.head": torch.tensor([number])}}


def test_the_state_is_written_as_it_was_when_it_was_submitted(store: GatedStore) -> None:
    weights = torch.zeros(3)
    running = Saver(store, "a")
    running.submit(facts(10, 0.5), {"state_dict": {"network.head": weights}})
    assert store.entered.acquire(timeout=SECONDS)
    weights += 1
    store.gate.release()
    assert running.drain() is None
    running.close()
    kept, found = checkpoint.kept_weights(store, "a")
    assert kept["head"].tolist() == [0, 0, 0]
    assert found.step == 10


def test_a_newer_state_takes_the_place_of_one_that_waits_but_not_of_the_end_of_an_epoch(store: GatedStore) -> None:
    running = Saver(store, "a")
    running.submit(facts(2), state(2))
    assert store.entered.acquire(timeout=SECONDS)
    for step, score in ((4, None), (6, None), (10, 0.5), (12, None), (14, None)):
        running.submit(facts(step, score), state(step))
    for _ in range(3):
        store.gate.release()
    assert running.drain() is None
    running.close()
    # 4, 6 and 12 were overtaken; 2 was written, and pruned.
    assert store.steps() == [10, 14]


def test_every_end_of_an_epoch_is_written_however_slow_the_store(store: GatedStore) -> None:
    written: list[int] = []
    running = Saver(store, "a")
    submitter = threading.Thread(
        target=lambda: [
            running.submit(facts(10 * epoch, -float(epoch)), state(epoch), lambda epoch=epoch: written.append(epoch))
            for epoch in range(1, 6)
        ]
    )
    submitter.start()
    for _ in range(5):
        assert store.entered.acquire(timeout=SECONDS)
        store.gate.release()
    submitter.join(SECONDS)
    assert running.drain() is None
    running.close()
    assert written == [1, 2, 3, 4, 5]
    assert store.steps() == [10, 40, 50]


def test_a_save_within_an_epoch_that_fails_is_said_and_the_next_one_works(store: GatedStore) -> None:
    said: list[str] = []
    store.errors = [OSError(errno.ENOSPC, "No space left on device")]
    running = Saver(store, "a", said.append)
    for step in (2, 4):
        running.submit(facts(step), state(step))
        store.gate.release()
        assert running.drain() is None
    running.close()
    assert store.steps() == [4]
    (line,) = said
    assert line.startswith(f"{store.address}: the checkpoint of epoch 1, step 2, could not be written ([Errno 28] No space")
    assert line.endswith("; the next save tries again")


@pytest.mark.parametrize(
    ("error", "kind"),
    [(OSError(errno.EIO, "Input/output error"), MachineError), (ServiceError("s3://bucket: cannot be used"), ServiceError)],
)
def test_an_end_of_an_epoch_that_cannot_be_written_is_handed_over(
    store: GatedStore, error: Exception, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver, "RETRY_SECONDS", 0.0)
    store.errors = [None, error]
    running = Saver(store, "a")
    store.gate.release()
    running.submit(facts(10, 0.5), state(1))
    assert running.drain() is None
    assert running.problem() is None
    running.submit(facts(20, 0.6), state(2))
    store.gate.release()
    problem = running.drain()
    assert isinstance(problem, kind)
    assert problem == running.problem()
    assert "the checkpoint of epoch 3, step 20, could not be written" in str(problem)
    assert "run the same command again to continue" in str(problem)
    running.close()
    assert store.steps() == [10]


def test_a_store_that_is_away_for_a_while_is_offered_the_end_of_an_epoch_again(
    store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(saver, "RETRY_SECONDS", SECONDS)
    store.errors = [ServiceError("away")] * 3
    running = Saver(store, "a")
    running.submit(facts(10, 0.5), state(1))
    for _ in range(4):
        store.gate.release()
    assert running.drain() is None
    running.close()
    assert store.steps() == [10]


def test_closing_forgets_what_waits_and_ends_what_is_written(store: GatedStore) -> None:
    running = Saver(store, "a")
    running.submit(facts(2), state(2))
    assert store.entered.acquire(timeout=SECONDS)
    running.submit(facts(4), state(4))
    closer = threading.Thread(target=running.close)
    closer.start()
    deadline = time.monotonic() + SECONDS
    while not running.closed:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    store.gate.release()
    closer.join(SECONDS)
    assert not closer.is_alive()
    assert store.steps() == [2]


def test_what_is_one_tensor_twice_and_a_state_dicts_own_facts_stay_so_in_a_copy() -> None:
    tensor = torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)
    given = OrderedDict(a=tensor, b=[tensor, {"c": (1, "x", tensor)}])
    given._metadata = {"": {"version": 2}}  # type: ignore[attr-defined]
    copied = snapshot(given)
    assert type(copied) is OrderedDict
    assert copied._metadata == given._metadata  # type: ignore[attr-defined]
    assert copied["a"] is not tensor
    assert copied["a"] is copied["b"][0] is copied["b"][1]["c"][2]
    assert copied["a"].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(copied["a"], tensor)


@pytest.mark.faults
def test_a_file_that_cannot_grow_is_a_problem_and_the_checkpoint_before_is_whole(
    tmp_path: Path, out_of_space: Callable[[str], str]
) -> None:
    """The kernel lets no file grow past 10,000 bytes: torch's writer meets EFBIG in the middle of a tensor."""
    said = out_of_space(
        "import torch, pathlib, sys; from trainyard.training.saver import Saver;"
        "from trainyard.training.checkpoint import Facts, scan;"
        "place = pathlib.Path.cwd() / 'store'; running = Saver(place, 'a');"
        "facts = dict(fingerprint='a', ended=True, score=0.5, finished=False);"
        "running.submit(Facts(epoch=0, step=10, **facts), {'weights': torch.zeros(10)});"
        "assert running.drain() is None;"
        "running.submit(Facts(epoch=1, step=20, **facts), {'weights': torch.zeros(10000)});"
        "problem = running.drain(); running.close();"
        "found, refused = scan(place, 'a');"
        "sys.stderr.write(f'{type(problem).__name__} {problem} {[c.facts.step for c in found]} {refused}')"
    )
    assert said.startswith("MachineError"), said
    assert "step 20, could not be written ([Errno 27] File too large" in said
    assert said.endswith("[10] []")
