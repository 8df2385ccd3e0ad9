from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trainyard.errors import Interrupted
from trainyard.params import ParamsError
from trainyard.training import elastic
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.elastic import RAY_JOB, Node, NodeWatch, code_environment, places, room_for_trials, wanted

SMALL = Node("a", "north", "10.0.0.1", 4.0, 0.0)
GPU = Node("b", "south", "10.0.0.2", 8.0, 2.0)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("cpus", "nodes", "room"),
    [(1, [SMALL], 4), (3, [SMALL, SMALL], 2), (1, [SMALL, GPU], 2), (8, [GPU], 1), (1, [], 0)],
)
def test_a_worker_takes_a_gpu_or_else_its_processors_of_one_node(cpus: int, nodes: list[Node], room: int) -> None:
    assert places(ClusterConfig(cpus_per_worker=cpus), nodes) == room


def test_auto_takes_all_there_is_room_for_and_a_range_its_bounds() -> None:
    assert wanted(ClusterConfig(), [SMALL, GPU]) == (2, 2)
    assert wanted(ClusterConfig(workers=3), [SMALL]) == (3, 3)
    assert wanted(ClusterConfig(workers=(2, 9)), [SMALL]) == (2, 9)


def test_a_cluster_without_room_is_told_of_with_its_nodes() -> None:
    with pytest.raises(ParamsError, match=r"cluster.workers: 5 workers .* has room for 4 \(north \(10.0.0.1\)\); start more"):
        wanted(ClusterConfig(workers=5), [SMALL])
    with pytest.raises(ParamsError, match="has room for 0"):
        wanted(ClusterConfig(), [])


def test_trials_take_all_the_room_there_is_and_are_not_waited_for_where_no_node_is_large_enough() -> None:
    assert room_for_trials(ClusterConfig(), [SMALL, SMALL]) == 8
    said = r"cluster.cpus_per_worker: a trial takes 5 processors, and no node .* \(north \(10.0.0.1\)\); ask for fewer"
    with pytest.raises(ParamsError, match=said):
        room_for_trials(ClusterConfig(cpus_per_worker=5), [SMALL])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elastic, "NODE_POLL_SECONDS", 0.05)
    monkeypatch.setattr(elastic, "HEAD_SECONDS", 0.5)


def test_nodes_that_come_and_go_are_named_and_too_few_of_them_end_the_wait(quick: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        lists = [SMALL, GPU]
        asked = threading.Event()

        def look() -> list[Node]:
            seen = list(lists)
            asked.set()
            return seen

        watch = NodeWatch(ClusterConfig(lost_node_seconds=1), 2, head.getsockname(), look)
        try:
            assert asked.wait(120)
            lists[:] = [SMALL]
            wait_for(lambda: "node south (10.0.0.2) has left the cluster" in watch.news())
            lists[:] = [SMALL, GPU]
            wait_for(lambda: "node south (10.0.0.2) has joined the cluster" in watch.news())
            watch.check()
            lists[:] = []
            with pytest.raises(Interrupted, match=r"room for fewer than 2 workers for 1 s .*run the same command again"):
                wait_for(watch.check)
            assert not watch.head_lost
        finally:
            watch.stop()


def test_news_reach_whoever_has_no_moment_to_ask_for_them(quick: None) -> None:
    lists, news = [SMALL, GPU], list[str]()
    with socket.create_server(("127.0.0.1", 0)) as head:
        looked = threading.Event()
        watch = NodeWatch(ClusterConfig(), 1, head.getsockname(), lambda: (list(lists), looked.set())[0])
        with watch.told(news.append, lambda error: news.append(str(error))):
            assert looked.wait(120)
            lists[:] = [SMALL]
            wait_for(lambda: news == ["node south (10.0.0.2) has left the cluster"])
            head.close()
            wait_for(lambda: news[1:])
    assert news[1].startswith("the head of the cluster, 127.0.0.1:") and "run the same command again" in news[1]
    assert watch._over.is_set()


def test_workers_that_wait_for_room_are_told_of_once_and_only_before_they_train(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elastic, "BUSY_SECONDS", 0.1)
    looks, busy = [0], [""]

    def look() -> list[Node]:
        looks[0] += 1
        return [SMALL, GPU]

    def look_twice() -> None:
        seen = looks[0]
        wait_for(lambda: looks[0] > seen + 1)

    with socket.create_server(("127.0.0.1", 0)) as head:
        cluster, place = ClusterConfig(cpus_per_worker=2), head.getsockname()
        waiting = NodeWatch(cluster, 2, place, lambda: [SMALL, GPU], lambda: busy[0])
        training = NodeWatch(cluster, 2, place, look, lambda: busy[0])
        try:
            training.trains = True
            look_twice()
            busy[0] = "0 of 2 processors are free"
            news: list[str] = []
            wait_for(lambda: news.extend(waiting.news()) or news)
            look_twice()
            assert news + waiting.news() == [
                "waits for room on the cluster for 2 workers with 2 processors each: 0 of 2 processors are free; "
                "others have the rest (`ray status`)"
            ]
            assert training.news() == []
        finally:
            waiting.stop()
            training.stop()


def test_a_head_that_is_gone_ends_the_run(quick: None) -> None:
    head = socket.create_server(("127.0.0.1", 0))
    address = head.getsockname()
    watch = NodeWatch(ClusterConfig(), 1, address, lambda: [SMALL])
    try:
        watch.check()
        head.close()
        with pytest.raises(Interrupted, match=f"the head of the cluster, 127.0.0.1:{address[1]}, has not answered"):
            wait_for(watch.check)
        assert watch.head_lost
    finally:
        watch.stop()


def test_a_job_that_came_with_code_brings_it_no_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RAY_JOB, raising=False)
    assert code_environment()["py_modules"] == [str(Path(elastic.__file__).parents[1])]
    monkeypatch.setenv(RAY_JOB, '{"runtime_env": {"working_dir": "gcs://project.zip"}, "metadata": {}}')
    assert code_environment()["py_modules"]
    monkeypatch.setenv(RAY_JOB, '{"runtime_env": {"py_modules": ["gcs://code.zip"]}}')
    assert code_environment() == {}
