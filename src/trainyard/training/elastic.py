"""A training on nodes that come and go: how many workers, what the nodes need, and what is said of those that leave.

Imports no Ray: `launch.py` hands in what is asked of it here.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.errors import Interrupted
from trainyard.params import ParamsError
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.timing import BUSY_SECONDS, CONNECT_SECONDS, HEAD_SECONDS, NODE_POLL_SECONDS


@dataclass(frozen=True)
class Node:
    """One node of a cluster, alive."""

    identity: str
    name: str
    address: str
    processors: float
    gpus: float
    leaving: bool = False
    """Its owner is about to take it away; it takes no new work."""

    @classmethod
    def of(cls, facts: dict[str, Any], leaving: Container[str] = ()) -> Node:
        """Return the node that one entry of `ray.nodes()` tells of, given the identities of those that are leaving."""
        resources = facts["Resources"]
        return cls(
            facts["NodeID"],
            facts["NodeManagerHostname"],
            facts["NodeManagerAddress"],
            resources.get("CPU", 0.0),
            resources.get("GPU", 0.0),
            facts["NodeID"] in leaving,
        )

    def __str__(self) -> str:
        return f"{self.name} ({self.address})"


RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Variable of the environment in which Ray tells a job's command what came with it."""


def code_environment() -> dict[str, Any]:
    """Return the runtime environment with which Ray brings this very code to every node, also where the project is not.

    It is empty in a job that came with code: it is everywhere already, and Ray refuses to bring modules twice.
    """
    if json.loads(os.environ.get(RAY_JOB, "{}")).get("runtime_env", {}).get("py_modules"):
        return {}
    return {"py_modules": [str(Path(__file__).parents[1])], "excludes": ["__pycache__", "*.pyc"]}


def places(cluster: ClusterConfig, nodes: Iterable[Node]) -> int:
    """Return how many workers the nodes have room for: one a GPU, or, where no node has one, by their processors."""
    nodes = [node for node in nodes if not node.leaving]
    on_gpus = any(node.gpus for node in nodes)
    by_processors = [int(node.processors // cluster.threads) for node in nodes]
    return sum(min(int(node.gpus), room) if on_gpus else room for node, room in zip(nodes, by_processors, strict=True))


def wanted(cluster: ClusterConfig, nodes: list[Node]) -> tuple[int, int]:
    """Return the least and the most workers that a training takes.

    Raises:
        ParamsError: the nodes have no room for the least.
    """
    room = places(cluster, nodes)
    least, most = (max(1, room),) * 2 if cluster.workers == "auto" else (cluster.least, cluster.most)
    if room < least:
        raise ParamsError(
            f"params.yaml: cluster.workers: {least} workers with {_each(cluster, nodes)} each are asked for, and the cluster "
            f"has room for {room} ({', '.join(map(str, nodes)) or 'no node'}); start more nodes, or ask for fewer workers"
        )
    return least, most


def room_for_trials(cluster: ClusterConfig, nodes: list[Node]) -> int:
    """Return how many trials, of one worker each, run at a time.

    Raises:
        ParamsError: no node has room for one; Ray would wait for such a node for ever, and say nothing.
    """
    if room := places(cluster, nodes):
        return room
    raise ParamsError(
        f"params.yaml: cluster.cpus_per_worker: a trial takes {_each(cluster, nodes)}, and no node of the cluster has them "
        f"({', '.join(map(str, nodes)) or 'no node'}); ask for fewer processors, or start a larger node"
    )


def _each(cluster: ClusterConfig, nodes: list[Node]) -> str:
    """Return what a worker takes, for people."""
    processors = "one processor" if cluster.threads == 1 else f"{cluster.threads} processors"
    return processors + (" and a GPU" if any(node.gpus for node in nodes) else "")


class NodeWatch:
    """Follows the nodes of a cluster in the background: what there is to say of them, and whether it is worth waiting on."""

    def __init__(
        self,
        cluster: ClusterConfig,
        least: int,
        head: tuple[str, int],
        look: Callable[[], list[Node]],
        unplaced: Callable[[], str] = str,
    ) -> None:
        """Begin.

        Args:
            cluster: what is asked for.
            least: the fewest workers that may train.
            head: its host and port.
            look: returns the living nodes, and may block while the head is away.
            unplaced: returns what is free while workers wait for room, and nothing while none do; may block, too.
        """
        self.trains = False
        """Whether workers have said that they train; until then it may be room that they wait for."""
        self._unplaced = unplaced
        self.cluster = cluster
        self.least = least
        self.head = head
        self._look = look
        self._nodes: dict[str, Node] = {}
        self._news: list[str] = []
        self._problem: str | None = None
        self.head_lost = False
        """Whether the head is gone, so that nothing more can be asked of the cluster."""
        self._over = threading.Event()
        for loop in (self._watch_head, self._watch_nodes):
            threading.Thread(target=loop, name=loop.__name__, daemon=True).start()

    def news(self) -> list[str]:
        """Return the lines about nodes that came or went since the last call."""
        news, self._news = self._news, []
        return news

    def check(self) -> None:
        """Go on while there is hope.

        Raises:
            Interrupted: the head is gone, or too few nodes have been left for longer than `cluster.lost_node_seconds`.
        """
        if self._problem is not None:
            raise Interrupted(f"{self._problem}; run the same command again to continue from the newest checkpoint")

    @property
    def hopeless(self) -> bool:
        """Whether `check` has something to raise: there is nobody to be told to save."""
        return self._problem is not None

    @property
    def leaving(self) -> set[str]:
        """Identities of the nodes that are about to be taken away."""
        return {identity for identity, node in self._nodes.items() if node.leaving}

    @contextmanager
    def told(self, tell: Callable[[str], object], lost: Callable[[Interrupted], object]) -> Iterator[None]:
        """Tell the news within the block, for a caller who has no moment to ask, and end the watch after it.

        Args:
            tell: takes a line.
            lost: takes what `check` raises, once there is no hope.
        """

        def follow() -> None:
            while not self._over.wait(NODE_POLL_SECONDS):
                for line in self.news():
                    tell(line)
                try:
                    self.check()
                except Interrupted as error:
                    lost(error)
                    return

        thread = threading.Thread(target=follow, name="told", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stop()
            thread.join()

    def stop(self) -> None:
        """End the watch."""
        self._over.set()

    def _watch_head(self) -> None:
        answered = time.monotonic()
        while not self._over.wait(NODE_POLL_SECONDS):
            if _answers(self.head):
                answered = time.monotonic()
            elif time.monotonic() - answered > HEAD_SECONDS:
                self.head_lost = True
                self._problem = (
                    f"the head of the cluster, {self.head[0]}:{self.head[1]}, has not answered for {HEAD_SECONDS:.0f} s; "
                    "start it and its nodes"
                )
                return

    def _watch_nodes(self) -> None:
        begun = enough = time.monotonic()
        told = False
        while not self._over.wait(NODE_POLL_SECONDS):
            if not (told or self.trains) and time.monotonic() - begun > BUSY_SECONDS:
                told = self._tell_of_waiting()
            nodes = {node.identity: node for node in self._look()}
            self._compare(nodes)
            if places(self.cluster, nodes.values()) >= self.least:
                enough = time.monotonic()
            elif time.monotonic() - enough > self.cluster.lost_node_seconds:
                self._problem = (
                    f"the cluster has had room for fewer than {self.least} workers for {self.cluster.lost_node_seconds:g} s "
                    f"({', '.join(map(str, nodes.values())) or 'no node'} left); start the lost nodes, or ask for fewer workers"
                )
                return

    def _tell_of_waiting(self) -> bool:
        """Say so where workers wait for room; return whether they do."""
        free = ""
        with suppress(Exception):  # the head is away, and says so in many ways
            free = self._unplaced()
        if not free:
            return False
        workers = "a worker" if self.least == 1 else f"{self.least} workers"
        processors = "one processor" if self.cluster.threads == 1 else f"{self.cluster.threads} processors each"
        self._news.append(
            f"waits for room on the cluster for {workers} with {processors}: {free}; others have the rest (`ray status`)"
        )
        return True

    def _compare(self, nodes: dict[str, Node]) -> None:
        came = [str(node) for identity, node in nodes.items() if identity not in self._nodes]
        leave = [str(node) for identity, node in nodes.items() if node.leaving and identity not in self.leaving]
        went = [str(node) for identity, node in self._nodes.items() if identity not in nodes]
        if self._nodes:
            self._news += [f"node {name} is about to be taken away" for name in leave]
            self._news += [f"node {name} has left the cluster" for name in went]
            self._news += [f"node {name} has joined the cluster" for name in came]
        self._nodes = nodes


def _answers(head: tuple[str, int]) -> bool:
    try:
        socket.create_connection(head, timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
