"""What nodes of a cluster lack for a training, by what they say of themselves: known before a GPU is taken. Imports no Ray."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from trainyard.errors import MachineError
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.elastic import Node, places
from trainyard.training.node_facts import Facts
from trainyard.training.timing import CLOCK_SECONDS
from trainyard.training.versions import difference, versions

GIB = 2**30
LITTLE_DISK, NO_DISK = 5 * GIB, GIB
SHARED_MEMORY = 256 * 2**20
"""Ray's store of objects, and what NCCL exchanges between the GPUs of a machine."""
LITTLE_MEMORY = GIB
NAMED_AT_MOST = 5
"""Nodes that one line names."""
CLOCK_OFF_SECONDS = 5.0
"""Curves of several nodes are drawn over their own clocks, and stores refuse signatures of other times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is known of a node."""

    node: Node
    facts: Facts | None
    """None where it did not say."""
    problem: str
    """Why it did not."""
    free_processors: float
    free_gpus: float
    """What Ray has not promised to anybody."""
    clock: tuple[float, float] | None
    """Seconds that it is ahead, and how far that may be wrong."""

    @classmethod
    def of(cls, values: dict[str, Any]) -> Answer:
        """Return the answer that was written as JSON."""
        facts = values.pop("facts")
        clock = values.pop("clock")
        return cls(
            node=Node(**values.pop("node")),
            facts=None if facts is None else Facts(**{key: _tuples(value) for key, value in facts.items()}),
            clock=None if clock is None else (clock[0], clock[1]),
            **values,
        )


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a node, and what to do about it."""

    node: str
    what: str
    fix: str
    grave: bool
    """Whether no worker can train there."""

    def __str__(self) -> str:
        return f"node {self.node}: {self.what}; {self.fix}"


def faults(answers: Iterable[Answer], here: dict[str, str], *, fetches: bool) -> list[Fault]:
    """Return what is wrong with nodes, given the versions that are here, and whether nodes fetch data that they do not see."""
    return [fault for answer in answers for fault in _faults(answer, here, fetches)]


def hopeless(cluster: ClusterConfig, answers: Sequence[Answer], found: Sequence[Fault], least: int) -> bool:
    """Say whether the nodes without a grave fault have no room for the least number of workers."""
    grave = {fault.node for fault in found if fault.grave}
    return bool(grave) and places(cluster, [answer.node for answer in answers if str(answer.node) not in grave]) < least


def _faults(answer: Answer, here: dict[str, str], fetches: bool) -> list[Fault]:
    name, facts = str(answer.node), answer.facts
    if facts is None:
        fix = "see whether it is up, and `ray status`; a training that waits for it takes longer to start"
        return [Fault(name, answer.problem, fix, grave=False)]
    found = []
    if other := difference(here, facts.versions, facts.host):
        what, _, fix = other.removeprefix(f"node {facts.host} ").partition("; ")
        found.append(Fault(name, what, fix.removesuffix(", then run the same command again"), grave=True))
    found += [*_places(name, facts, fetches), *_rooms(name, facts)]
    if facts.chosen:
        has = f"has no interface {facts.chosen.partition('=')[2]}, which {facts.chosen.partition('=')[0]} names"
        found.append(Fault(name, has, "unset it before `ray start` there, or name one of `ip link`", grave=True))
    elif not facts.interface:
        found.append(Fault(name, "has no way to the cluster's head", "see `ip route` there", grave=True))
    if answer.clock is not None and abs(answer.clock[0]) - answer.clock[1] > CLOCK_OFF_SECONDS:
        found.append(Fault(name, f"its clock is {answer.clock[0]:+.0f} s off", "set it (chrony, ntpd)", grave=False))
    return found


def _places(name: str, facts: Facts, fetches: bool) -> list[Fault]:
    found = []
    for recipe, state in facts.data.items():
        if state != "same" and not fetches:
            what = "has other packed data of" if state == "other" else "does not see the packed data of"
            fix = "share the project's folder with all nodes, or set cluster.storage, from which they fetch them"
            found.append(Fault(name, f"{what} {recipe}", fix, grave=True))
    if facts.storage:
        fix = "mount it there, or see the network and the credentials in TRAINYARD_HANDED_ON"
        found.append(Fault(name, f"cannot use cluster.storage ({facts.storage})", fix, grave=True))
    if facts.tracking:
        fix = "nothing to do if the driver runs elsewhere: it alone talks to the tracking server"
        found.append(Fault(name, f"does not reach the tracking server ({facts.tracking})", fix, grave=False))
    return found


def _rooms(name: str, facts: Facts) -> list[Fault]:
    found = []
    free, _ = facts.disk
    if free < LITTLE_DISK:
        found.append(
            Fault(
                name, f"has {gib(free)} of disk left", "make room there: `trainyard clean`, Ray's old sessions", free < NO_DISK
            )
        )
    free, size = facts.shared_memory
    if size and free < SHARED_MEMORY:
        fix = "in a container: --shm-size=1g, or an emptyDir with medium: Memory"
        found.append(Fault(name, f"has {gib(free)} of /dev/shm left", fix, grave=False))
    free, _ = facts.memory
    if free < LITTLE_MEMORY:
        found.append(Fault(name, f"has {gib(free)} of memory left", "end other programs there", grave=False))
    return found


class Preflight:
    """Asks the nodes while a training starts, says what is wrong with them, and holds up nothing.

    A training ends where the nodes without a grave fault have no room for it. Whatever else is wrong is said.
    """

    def __init__(self, ask: Callable[[threading.Event], list[Answer]], cluster: ClusterConfig, least: int) -> None:
        """Begin.

        Args:
            ask: returns what the nodes say, or raises whatever Ray does where it cannot; soon after the event, in any case.
            cluster: what is asked for.
            least: the fewest workers that may train.
        """
        self._ask = ask
        self._cluster = cluster
        self._least = least
        self._faults: list[Fault] = []
        self._told = False
        self._hopeless = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="preflight", daemon=True)
        self._thread.start()

    def news(self) -> list[str]:
        """Return the lines about nodes, once there are some and once only; nodes with the same fault share one."""
        if self._told or not self._faults:
            return []
        self._told = True
        nodes: dict[tuple[str, str], list[str]] = {}
        for fault in self._faults:
            nodes.setdefault((fault.what, fault.fix), []).append(fault.node)
        return [str(Fault(_some(names), what, fix, grave=False)) for (what, fix), names in nodes.items()]

    def check(self) -> None:
        """Go on while there is room on nodes that can train.

        Raises:
            MachineError: there is none.
        """
        if self._hopeless:
            raise MachineError(
                f"cluster.workers: {self._least} at least, and the nodes that can train have no room for so many:\n"
                + "\n".join(f"  {fault}" for fault in self._faults if fault.grave)
            )

    def stop(self) -> None:
        """End it: Ray must not be asked while it is left."""
        self._over.set()
        self._thread.join(CLOCK_SECONDS)

    def _look(self) -> None:
        with suppress(Exception):  # the cluster or a node goes: others tell of that
            answers = self._ask(self._over)
            if self._over.is_set():
                return
            found = faults(answers, versions(), fetches=self._cluster.storage is not None)
            self._faults = found
            self._hopeless = hopeless(self._cluster, answers, found, self._least)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return ", ".join(names[:NAMED_AT_MOST]) + more


def gib(size: float) -> str:
    """Return a size for people."""
    return f"{size / GIB:.1f} GiB"


def _tuples(value: Any) -> Any:
    return tuple(_tuples(inner) for inner in value) if isinstance(value, list) else value
