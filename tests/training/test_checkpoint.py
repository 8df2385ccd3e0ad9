from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainyard.errors import IntegrityError
from trainyard.training import checkpoint
from trainyard.training.checkpoint import Facts


def facts(epoch: int, score: float | None = 0.5, mark: str = "a") -> Facts:
    """At the end of an epoch of ten steps, or at its fourth step where there is no score."""
    step = 10 * epoch + (4 if score is None else 10)
    return Facts(fingerprint=mark, epoch=epoch, step=step, ended=score is not None, score=score, finished=False)


def write(folder: Path, epoch: int, score: float | None = 0.5, content: bytes = b"weights") -> checkpoint.Checkpoint:
    return checkpoint.write(folder, facts(epoch, score), lambda file: file.write(content * 100))


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


def test_truncated_empty_and_missing_states_are_refused(tmp_path: Path) -> None:
    cut, empty, gone, good = (write(tmp_path, epoch) for epoch in range(4))
    cut.state.write_bytes(cut.state.read_bytes()[:5])
    empty.state.write_bytes(b"")
    gone.state.unlink()
    valid, refused = checkpoint.scan(tmp_path, "a")
    assert valid == [good]
    assert refused == [
        f"{cut.address}: does not match the hash it was written with",
        f"{empty.address}: does not match the hash it was written with",
        f"{gone.address}: {gone.file} is gone",
    ]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"file": "../../../etc/passwd"}'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str) -> None:
    found = write(tmp_path, 0)
    (tmp_path / found.name / checkpoint.MANIFEST).write_text(content)
    valid, refused = checkpoint.scan(tmp_path, "a")
    assert valid == []
    assert refused[0].startswith(f"{found.address}: cannot be read (")


def test_a_state_without_a_manifest_never_existed(tmp_path: Path) -> None:
    found = write(tmp_path, 0)
    (tmp_path / found.name / checkpoint.MANIFEST).unlink()
    assert checkpoint.scan(tmp_path, "a") == ([], [])
    assert checkpoint.newest(tmp_path, "a", tmp_path / "copy") is None


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


@pytest.mark.parametrize("part", range(16))
def test_a_damaged_newest_one_gives_way_to_the_one_before_and_the_lost_steps_are_told(tmp_path: Path, part: int) -> None:
    write(tmp_path, 0)
    write(tmp_path, 1)
    damaged = write(tmp_path, 2, None)
    content = bytearray(damaged.state.read_bytes())
    content[part * len(content) // 16] ^= 1 << part % 8
    damaged.state.write_bytes(content)
    found = checkpoint.newest(tmp_path, "a", tmp_path / "copy")
    assert found is not None
    assert found.checkpoint.facts.step == 20
    assert found.refused == [
        f"{damaged.address}: does not match the hash it was written with; continuing from step 20: 4 steps are lost"
    ]


def test_where_all_are_damaged_nothing_starts_over(tmp_path: Path) -> None:
    for epoch in range(3):
        write(tmp_path, epoch).state.write_bytes(b"x")
    with pytest.raises(IntegrityError, match=rf"{tmp_path}: none of 3 checkpoints is valid .*; delete that folder") as raised:
        checkpoint.newest(tmp_path, "a", tmp_path / "copy")
    assert raised.value.exit_code == 5


def test_a_damaged_best_epoch_is_trained_again(tmp_path: Path) -> None:
    write(tmp_path, 0, 0.1)
    write(tmp_path, 1, 0.9).state.write_bytes(b"x")
    write(tmp_path, 2, 0.2)
    again = checkpoint.newest(tmp_path, "a", tmp_path / "copy")
    assert again is not None and again.checkpoint.facts.epoch == 0
    unneeded = checkpoint.newest(tmp_path, "a", tmp_path / "copy", keep="last")
    assert unneeded is not None and unneeded.checkpoint.facts.epoch == 2


def test_weights_that_are_wanted_and_damaged_are_not_replaced_by_others(tmp_path: Path) -> None:
    write(tmp_path, 0, 0.1)
    write(tmp_path, 1, 0.9).state.write_bytes(b"x")
    with pytest.raises(IntegrityError, match=r"does not match the hash .*; it is the best epoch's: delete"):
        checkpoint.kept_weights(tmp_path, "a")


def test_an_orphan_that_is_newer_is_found_whatever_else_lies_there(tmp_path: Path) -> None:
    """What a framework left beside the checkpoints, or did not know of, decides nothing."""
    write(tmp_path, 0)
    (tmp_path / "checkpoint_manager_snapshot.json").write_text('{"checkpoint_results": [{"checkpoint_dir_name": "gone"')
    orphan = write(tmp_path, 1)
    found = checkpoint.newest(tmp_path, "a", tmp_path / "copy")
    assert found is not None and found.checkpoint == orphan


def test_one_that_is_written_again_replaces_the_damaged_one(tmp_path: Path) -> None:
    write(tmp_path, 0).state.write_bytes(b"x")
    again = write(tmp_path, 0)
    assert checkpoint.scan(tmp_path, "a") == ([again], [])
    assert sorted(path.name for path in (tmp_path / again.name).iterdir()) == ["manifest.json", again.file]


def test_a_state_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (marker,)

    written = checkpoint.write(tmp_path / "store", facts(0), {"state_dict": Harmful()})
    with pytest.raises(IntegrityError, match="nothing in it was run"):
        checkpoint.load(written)
    assert not marker.exists()


def test_one_within_an_epoch_is_newest_but_never_the_best(tmp_path: Path) -> None:
    for epoch, score in ((0, -3.0), (1, -2.0), (2, None)):
        write(tmp_path, epoch, score)
    valid = checkpoint.scan(tmp_path, "a")[0]
    assert [found.facts.step for found in valid] == [10, 20, 24]
    assert checkpoint.best(valid) == valid[1]
    assert checkpoint.best(valid[2:]) is None


def test_a_write_that_fails_leaves_the_old_ones_and_no_rest(tmp_path: Path) -> None:
    write(tmp_path, 0)

    def fail(file: Any) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        checkpoint.write(tmp_path, facts(1), fail)
    assert list((tmp_path / "step-000000020").iterdir()) == []
    valid, refused = checkpoint.scan(tmp_path, "a")
    assert [found.facts.epoch for found in valid] == [0]
    assert refused == []


@pytest.mark.faults
def test_a_state_that_does_not_fit_on_the_disk_is_an_oserror(tmp_path: Path, out_of_space: Callable[[str], str]) -> None:
    said = out_of_space(
        "import torch; from trainyard.training.checkpoint import Hashed, save_state;"
        "save_state({'weights': torch.zeros(10000)}, Hashed(open('state.ckpt', 'wb')))"
    )
    assert said.rstrip().endswith("OSError: [Errno 27] File too large")


def test_what_is_saved_is_what_is_read(tmp_path: Path) -> None:
    found = checkpoint.load(checkpoint.write(tmp_path, facts(0), {"weights": torch.arange(5), "epoch": 3}))
    assert found["epoch"] == 3
    assert torch.equal(found["weights"], torch.arange(5))


@pytest.mark.parametrize(("keep", "epoch"), [("best", 1), ("last", 2)])
def test_the_weights_of_the_best_or_of_the_last_epoch_are_kept(tmp_path: Path, keep: Any, epoch: int) -> None:
    for number, score in enumerate((0.3, 0.9, 0.6)):
        state = {"state_dict": {"network.head": torch.tensor([float(number)]), "loss.weight": torch.ones(1)}}
        checkpoint.write(tmp_path, facts(number, score), state)
    write(tmp_path, 3, None)
    weights, found = checkpoint.kept_weights(tmp_path, "a", keep)
    assert found.epoch == epoch
    assert {name: value.item() for name, value in weights.items()} == {"head": epoch}
