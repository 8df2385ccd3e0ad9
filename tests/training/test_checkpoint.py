from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainyard.training import checkpoint
from trainyard.training.checkpoint import Facts


def facts(epoch: int, score: float | None = 0.5, mark: str = "a") -> Facts:
    """At the end of an epoch of ten steps, or at its fourth step where there is no score."""
    step = 10 * epoch + (4 if score is None else 10)
    return Facts(fingerprint=mark, epoch=epoch, step=step, ended=score is not None, score=score, finished=False)


def write(folder: Path, epoch: int, score: float | None = 0.5, content: bytes = b"weights") -> checkpoint.Checkpoint:
    return checkpoint.write(folder, facts(epoch, score), lambda path: path.write_bytes(content * 100) and None)


def test_what_was_written_is_found_in_order(tmp_path: Path) -> None:
    for epoch in (2, 0, 1):
        write(tmp_path, epoch)
    valid, refused = checkpoint.scan(tmp_path, "a")
    assert [found.facts.epoch for found in valid] == [0, 1, 2]
    assert refused == []


@pytest.mark.parametrize("part", range(4))
def test_one_changed_byte_is_refused_and_the_one_before_is_newest(tmp_path: Path, part: int) -> None:
    write(tmp_path, 0)
    damaged = write(tmp_path, 1).state
    content = bytearray(damaged.read_bytes())
    content[part * len(content) // 4] ^= 1
    damaged.write_bytes(content)
    valid, refused = checkpoint.scan(tmp_path, "a")
    assert [found.facts.epoch for found in valid] == [0]
    assert "does not match the hash" in refused[0]


@pytest.mark.parametrize("name", [checkpoint.STATE, checkpoint.MANIFEST])
def test_truncated_and_missing_files_are_refused(tmp_path: Path, name: str) -> None:
    for epoch in (0, 1):
        write(tmp_path, epoch)
    path = tmp_path / "step-000000010" / name
    path.write_bytes(path.read_bytes()[:5])
    (tmp_path / "step-000000020" / name).unlink()
    valid, refused = checkpoint.scan(tmp_path, "a")
    assert valid == []
    assert len(refused) == 2


def test_a_checkpoint_of_another_state_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 0)
    valid, refused = checkpoint.scan(tmp_path, "b")
    assert valid == []
    assert "belongs to a, not to b" in refused[0]


def test_the_best_is_the_first_of_the_highest_and_never_a_nan(tmp_path: Path) -> None:
    scores = [0.5, 0.9, float("nan"), 0.9]
    found = checkpoint.best([write(tmp_path, epoch, score) for epoch, score in enumerate(scores)])
    assert found is not None
    assert found.facts.epoch == 1


def test_the_two_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoint.prune([write(tmp_path, epoch, score) for epoch, score in enumerate([0.1, 0.9, 0.2, 0.3, 0.4])])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000020", "step-000000040", "step-000000050"]


def test_one_within_an_epoch_is_newest_but_never_the_best(tmp_path: Path) -> None:
    for epoch, score in ((0, -3.0), (1, -2.0), (2, None)):
        write(tmp_path, epoch, score)
    valid = checkpoint.scan(tmp_path, "a")[0]
    assert [found.facts.step for found in valid] == [10, 20, 24]
    assert checkpoint.best(valid) == valid[1]
    assert checkpoint.best(valid[2:]) is None


def test_a_write_that_fails_leaves_the_old_ones_and_no_rest(tmp_path: Path) -> None:
    write(tmp_path, 0)

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        checkpoint.write(tmp_path, facts(1), fail)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000010"]


@pytest.mark.faults
def test_a_state_that_does_not_fit_on_the_disk_is_an_oserror(tmp_path: Path, out_of_space: Callable[[str], str]) -> None:
    said = out_of_space(
        "import pathlib, torch; from trainyard.training.checkpoint import save_state;"
        "save_state({'weights': torch.zeros(10000)}, pathlib.Path('state.ckpt'))"
    )
    assert said.rstrip().endswith("OSError: [Errno 27] File too large")


def test_what_is_saved_is_what_is_read(tmp_path: Path) -> None:
    checkpoint.save_state({"weights": torch.arange(5), "epoch": 3}, tmp_path / "state.ckpt")
    found = torch.load(tmp_path / "state.ckpt", weights_only=True)
    assert found["epoch"] == 3
    assert torch.equal(found["weights"], torch.arange(5))


@pytest.mark.parametrize(("keep", "epoch"), [("best", 1), ("last", 2)])
def test_the_weights_of_the_best_or_of_the_last_epoch_are_kept(tmp_path: Path, keep: Any, epoch: int) -> None:
    for number, score in enumerate((0.3, 0.9, 0.6)):
        state = {"state_dict": {"network.head": torch.tensor([float(number)]), "loss.weight": torch.ones(1)}}
        checkpoint.write(tmp_path, facts(number, score), lambda path, state=state: torch.save(state, path))  # type: ignore[misc]
    write(tmp_path, 3, None)
    weights, found = checkpoint.kept_weights(tmp_path, "a", keep)
    assert found.epoch == epoch
    assert {name: value.item() for name, value in weights.items()} == {"head": epoch}
