from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from trainyard.errors import InputError, MachineError
from trainyard.training.store import FolderStore
from trainyard.training.trail import SAME_CRASHES, Crash, Trail, explain, look_back, shown

Places = Mapping[int, tuple[int, int] | None]


class Nodes:
    """Some nodes with a store in common, and nothing else; rank 1 is on node 1, unless it is said to be elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FolderStore(folder / "store")

    def node(self, number: int) -> Path:
        return self.folder / f"node-{number}"

    def look_back(self, workers: int, nodes: int = 4) -> tuple[Crash | None, str]:
        left = [each for number in range(nodes) for each in Trail(self.node(number), self.store, 0).left_here()]
        return look_back(self.store, left, workers)

    def attempt(self, places: Places, errors: Mapping[int, str] | None = None, moved: Mapping[int, int] | None = None) -> None:
        """Let an attempt begin, and leave what its workers leave when they were at these places as they died."""
        _, name = self.look_back(len(places))
        for rank, place in places.items():
            trail = Trail(self.node((moved or {}).get(rank, rank)), self.store, rank)
            trail.begin(name)
            if place is not None:
                trail.at(*place)
            if errors and rank in errors:
                trail.end(RuntimeError(errors[rank]))

    def crashes(self) -> list[Crash]:
        """Look back, and return what is known of all crashes then."""
        self.look_back(2)
        return [Crash(**crash) for crash in json.loads(self.store.read("trail/crashes.json"))["crashes"]]


@pytest.fixture
def nodes(tmp_path: Path) -> Nodes:
    return Nodes(tmp_path)


def test_the_one_that_said_nothing_is_the_one_that_died(nodes: Nodes) -> None:
    # Rank 0 was a step further when it lost rank 1, and said so.
    nodes.attempt({0: (2, 6), 1: (2, 5)}, {0: "Connection closed by peer"})
    (crash,) = nodes.crashes()
    assert (crash.epoch, crash.step, crash.silent) == (2, 5, [1])
    assert crash.errors == {"0": "RuntimeError: Connection closed by peer"}


def test_the_one_of_which_nothing_is_left_was_lost_with_its_node(nodes: Nodes) -> None:
    nodes.attempt({0: (2, 5), 1: (2, 5)}, {0: "Connection closed by peer"})
    (nodes.node(1) / "rank-1.at").unlink()
    (crash,) = nodes.crashes()
    assert (crash.epoch, crash.step, crash.silent) == (2, 5, [1])


def test_what_was_said_is_known_though_its_node_is_not_there_any_more(nodes: Nodes) -> None:
    nodes.attempt({0: (2, 5), 1: (2, 5)}, {0: "Connection closed by peer", 1: "bad mask"})
    (nodes.node(1) / "rank-1.at").unlink()
    (crash,) = nodes.crashes()
    assert crash.silent == [] and crash.errors["1"] == "RuntimeError: bad mask"


def test_what_an_earlier_attempt_left_on_a_node_is_not_taken_for_the_last_one_s(nodes: Nodes) -> None:
    nodes.attempt({0: (0, 7), 1: (0, 7)})
    # Rank 1 goes on elsewhere, and this attempt ends well there.
    nodes.attempt({0: None, 1: None}, moved={1: 2})
    assert [(crash.epoch, crash.step) for crash in nodes.crashes()] == [(0, 7)]


def test_an_attempt_that_ended_well_or_never_began_is_no_crash(nodes: Nodes) -> None:
    nodes.attempt({0: None, 1: None})
    assert nodes.crashes() == []
    _, name = nodes.look_back(1)
    trail = Trail(nodes.node(0), nodes.store, 0)
    trail.begin(name)
    trail.at(0, 3)
    trail.end()
    assert nodes.crashes() == []


def test_the_same_step_three_times_in_a_row_is_a_loop_and_others_between_are_not(nodes: Nodes) -> None:
    for step in (5, 5, 4, 5, 5):
        nodes.attempt({0: (0, step)})
    assert nodes.look_back(1)[0] is None
    nodes.attempt({0: (0, 5)})
    crash, name = nodes.look_back(1)
    assert crash is not None and crash.step == 5 and name == ""
    # Said once: the same command tries anew.
    assert nodes.look_back(1)[0] is None
    assert nodes.crashes() == []


def test_a_crash_without_a_word_is_the_machines_and_one_with_a_word_the_users(nodes: Nodes) -> None:
    for _ in range(SAME_CRASHES):
        nodes.attempt({0: (1, 5), 1: (1, 5)}, {0: "closed"})
    crash, _ = nodes.look_back(2)
    assert crash is not None
    told = explain(crash, {0: [1, 2], 1: [30, 40]})
    assert isinstance(told, MachineError)
    assert "at epoch 2, step 6 of it, where workers died without a word" in str(told)
    assert "(rank 1 at training samples 30, 40)" in str(told)
    for _ in range(SAME_CRASHES):
        nodes.attempt({0: (1, 5)}, {0: "bad mask"})
    crash, _ = nodes.look_back(1)
    assert crash is not None
    told = explain(crash, {0: [1, 2]})
    assert isinstance(told, InputError)
    assert "RuntimeError: bad mask (rank 0 at training samples 1, 2)" in str(told)


def test_damaged_files_are_no_reason_to_stop(nodes: Nodes) -> None:
    nodes.attempt({0: (0, 5)}, {0: "closed"})
    (nodes.node(0) / "rank-0.at").write_bytes(b"x")
    (nodes.store.folder / "trail" / "rank-0.json").write_text("[]")
    assert nodes.crashes() == []
    (nodes.store.folder / "trail" / "crashes.json").write_text("{half")
    assert nodes.look_back(1)[0] is None


def test_a_long_batch_is_shown_by_its_beginning() -> None:
    assert shown(list(range(20))) == "0, 1, 2, 3, 4, 5, 6, 7, ..."
    assert shown([]) == "none"
