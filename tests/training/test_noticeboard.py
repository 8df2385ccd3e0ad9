"""What driver and workers ask of each other, with a dictionary in the place of Ray's head."""

from __future__ import annotations

import pytest

from trainyard.training.noticeboard import Noticeboard


class Head:
    """Keeps values as Ray's head does."""

    def __init__(self) -> None:
        self.values: dict[tuple[bytes, bytes], bytes] = {}

    def internal_kv_put(self, name: bytes, value: bytes, overwrite: bool, namespace: bytes, timeout: float) -> None:
        self.values[namespace, name] = value

    def internal_kv_multi_get(self, names: list[bytes], namespace: bytes, timeout: float) -> dict[bytes, bytes]:
        return {name: self.values[namespace, name] for name in names if (namespace, name) in self.values}


@pytest.fixture
def board() -> Noticeboard:
    head = Head()
    return Noticeboard("launch", lambda: head)


def test_what_the_driver_asks_for_all_attempts_hear(board: Noticeboard) -> None:
    assert board.stopped(1) is None and board.stopped() is None
    board.stop("the driver was told to end")
    assert board.stopped(1) == board.stopped(2) == board.stopped() == "the driver was told to end"


def test_a_worker_that_was_replaced_ends_nobody_but_its_own(board: Noticeboard) -> None:
    board.leave("rank 0 was told to end", 1)
    assert board.stopped(1) == "rank 0 was told to end"
    assert board.stopped(2) is None
    board.leave("rank 1 was told to end", 2)
    assert board.stopped(2) == board.stopped() == "rank 1 was told to end"
