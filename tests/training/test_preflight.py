from __future__ import annotations

import shutil
import socket
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from trainyard.data.packed import read_card
from trainyard.errors import MachineError
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.elastic import Node
from trainyard.training.node_facts import Facts, Probe, Question
from trainyard.training.preflight import GIB, Answer, Preflight, faults, hopeless
from trainyard.training.versions import CODE, versions

HERE = versions()
CLUSTER = ClusterConfig(workers=2, cpus_per_worker=1, address="10.0.0.1:6379")


@pytest.fixture(scope="module")
def facts() -> Facts:
    """What this machine says of itself, with room enough."""
    found = Probe().look(Question(head="127.0.0.1"))
    return replace(found, disk=(90 * GIB, 100 * GIB), memory=(8 * GIB, 8 * GIB), shared_memory=(GIB, GIB))


def answer(facts: Facts | None, name: str = "north", **changes: Any) -> Answer:
    node = Node(identity=name, name=name, address="10.0.0.2", processors=1.0, gpus=0.0)
    values = {"problem": "", "free_processors": 1.0, "free_gpus": 0.0, "clock": (0.0, 0.01), **changes}
    return Answer(node=node, facts=facts, **values)


def test_a_machine_says_what_it_has_and_what_it_sees(packed_digits: Path, tmp_path: Path) -> None:
    sha256 = read_card(packed_digits).sha256
    other = tmp_path / "other"
    shutil.copytree(packed_digits, other)
    data = (("cnn", packed_digits, sha256), ("gone", tmp_path / "no", sha256), ("old", other, "0" * 64))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen
        place = silent.getsockname()
        found = Probe().look(Question(head="127.0.0.1", data=data, storage=str(tmp_path / "unmounted"), tracking=place))
    assert found.data == {"cnn": "same", "gone": "missing", "old": "other"}
    assert found.storage == "is no folder there" and "refused" in found.tracking
    assert found.versions == HERE and found.address == "127.0.0.1" and found.interface.startswith("lo")
    assert 0 < found.disk[0] <= found.disk[1] and 0 < found.memory[0] <= found.memory[1]
    # What a program writes down is read again as it was.
    written = answer(found)
    assert Answer.of(asdict(written)) == written


@pytest.mark.parametrize(
    ("changes", "what", "grave"),
    [
        ({"versions": {**HERE, "torch": "2.0.1"}}, "has torch 2.0.1 (here: ", True),
        ({"versions": {**HERE, CODE: "0" * 12}}, "has trainyard's code 000000000000", True),
        ({"data": {"cnn": "missing"}}, "does not see the packed data of cnn", True),
        ({"data": {"cnn": "other"}}, "has other packed data of cnn", True),
        ({"storage": "is no folder there"}, "cannot use cluster.storage (is no folder there)", True),
        ({"tracking": "timed out"}, "does not reach the tracking server (timed out)", False),
        ({"disk": (3 * GIB, 100 * GIB)}, "has 3.0 GiB of disk left", False),
        ({"disk": (GIB // 2, 100 * GIB)}, "has 0.5 GiB of disk left", True),
        ({"shared_memory": (64 * 2**20, 64 * 2**20)}, "has 0.1 GiB of /dev/shm left", False),
        ({"memory": (GIB // 2, 8 * GIB)}, "has 0.5 GiB of memory left", False),
        ({"chosen": "GLOO_SOCKET_IFNAME=ib7"}, "has no interface ib7, which GLOO_SOCKET_IFNAME names", True),
        ({"interface": "", "address": ""}, "has no way to the cluster's head", True),
    ],
)
def test_each_fault_of_a_node_is_named_with_its_fix(facts: Facts, changes: dict[str, Any], what: str, grave: bool) -> None:
    (fault,) = faults([answer(replace(facts, **changes))], HERE, fetches=False)
    assert what in fault.what and fault.grave is grave and len(fault.fix) > 10
    assert str(fault).startswith("node north (10.0.0.2): ")


def test_a_whole_node_and_one_that_fetches_its_data_have_no_fault(facts: Facts) -> None:
    assert faults([answer(facts)], HERE, fetches=False) == []
    assert faults([answer(replace(facts, data={"cnn": "missing"}))], HERE, fetches=True) == []


def test_a_clock_counts_as_off_only_beyond_what_the_question_took(facts: Facts) -> None:
    assert faults([answer(facts, clock=(7.0, 3.0))], HERE, fetches=False) == []
    (fault,) = faults([answer(facts, clock=(-70.0, 3.0))], HERE, fetches=False)
    assert fault.what == "its clock is -70 s off" and not fault.grave


def test_a_node_that_does_not_answer_is_told_of_and_may_train(facts: Facts) -> None:
    answers = [answer(facts), answer(None, "south", problem="has not answered within 15 s", clock=None)]
    found = faults(answers, HERE, fetches=False)
    assert [(fault.what, fault.grave) for fault in found] == [("has not answered within 15 s", False)]
    assert not hopeless(CLUSTER, answers, found, 2)


def test_a_training_ends_only_where_the_nodes_that_can_train_have_no_room_for_it(facts: Facts) -> None:
    blind = answer(replace(facts, data={"cnn": "missing"}), "south")
    answers = [answer(facts), answer(facts, "east"), blind]
    ahead = Preflight(lambda over: answers, CLUSTER, least=2)
    ahead._thread.join()
    ahead.check()
    (line,) = ahead.news()
    assert line.startswith("node south (10.0.0.2): does not see the packed data of cnn; share the project's folder")
    assert ahead.news() == []
    ahead = Preflight(lambda over: answers, CLUSTER, least=3)
    ahead._thread.join()
    with pytest.raises(MachineError, match=r"no room for so many:\n  node south \(10\.0\.0\.2\): does not see"):
        ahead.check()


def test_nodes_with_the_same_fault_share_a_line() -> None:
    answers = [answer(None, f"n{number}", problem="has not answered within 15 s", clock=None) for number in range(7)]
    ahead = Preflight(lambda over: answers, CLUSTER, least=2)
    ahead._thread.join()
    (line,) = ahead.news()
    assert line.startswith("node n0 (10.0.0.2), n1 (10.0.0.2), ") and " and 2 more: has not answered" in line


def test_what_cannot_be_asked_holds_up_nothing() -> None:
    def lost(over: threading.Event) -> list[Answer]:
        over.wait()
        raise ConnectionError("the head is gone")

    ahead = Preflight(lost, CLUSTER, least=2)
    ahead.check()
    assert ahead.news() == []
    ahead.stop()
    assert not ahead._thread.is_alive()
