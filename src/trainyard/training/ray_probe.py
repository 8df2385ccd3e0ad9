"""Ask every node of the cluster what it has: one small process on each, all at once, and gone afterwards.

    python -m trainyard.training.ray_probe

answers the one question on stdin with one line on stdout, both JSON, for programs that join no Ray.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainyard.errors import TrainyardError
from trainyard.masking import headline_of
from trainyard.training.elastic import Node
from trainyard.training.node_facts import Facts, Probe, Question
from trainyard.training.preflight import Answer
from trainyard.training.timing import CLOCK_LOOKS, CLOCK_SECONDS

WAIT_SECONDS = 0.2
"""Between two looks at whether anybody still wants to know."""


def ask_nodes(question: Question, seconds: float, over: threading.Event | None = None) -> list[Answer]:
    """Return what each living node of the cluster says within so many seconds, or until it is over.

    This process must be part of the cluster.
    """
    import ray
    from ray._private.state import available_resources_per_node
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from trainyard.training.ray_start import nodes

    made = ray.remote(num_cpus=0, max_restarts=0)(Probe)
    found, free = nodes(), available_resources_per_node()
    probes = {
        node.identity: made.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.identity, soft=False)).remote()
        for node in found
    }
    looks = {node.identity: probes[node.identity].look.remote(question) for node in found}
    try:
        until = time.monotonic() + seconds
        while ray.wait(list(looks.values()), num_returns=len(looks), timeout=WAIT_SECONDS)[1]:
            if time.monotonic() > until or (over is not None and over.is_set()):
                break
        return [
            _answer(node, probes[node.identity], looks[node.identity], free.get(node.identity, {}), seconds) for node in found
        ]
    finally:
        for probe in probes.values():
            with suppress(Exception):  # it may never have begun
                ray.kill(probe)


def _answer(node: Node, probe: Any, look: Any, free: Mapping[str, float], seconds: float) -> Answer:
    import ray

    facts: Facts | None = None
    problem, offset = "", None
    try:
        facts = ray.get(look, timeout=0)
        offset = _offset(probe)
    except ray.exceptions.GetTimeoutError:
        problem = "" if facts else f"has not answered within {seconds:g} s"
    except Exception as error:  # whatever its own code raises there, and whatever Ray makes of a node that goes
        problem = f"cannot answer ({headline_of(error)})"
    return Answer(
        node=node,
        facts=facts,
        problem=problem,
        free_processors=free.get("CPU", 0.0),
        free_gpus=free.get("GPU", 0.0),
        clock=offset,
    )


def _offset(probe: Any) -> tuple[float, float]:
    """Return how far a node's clock is ahead of this one, and how far that may be wrong, in seconds: of the quickest answer."""
    import ray

    tried = []
    for _ in range(CLOCK_LOOKS):
        sent = time.time()
        there = ray.get(probe.clock.remote(), timeout=CLOCK_SECONDS)
        came = time.time()
        tried.append(((came - sent) / 2, there - (sent + came) / 2))
    doubt, offset = min(tried)
    return offset, doubt


def main() -> None:
    """Answer the one question on stdin."""
    from trainyard.training import ray_start
    from trainyard.training.workers import handed_on

    asked = json.loads(sys.stdin.readline())
    data = tuple((name, Path(folder), sha256) for name, folder, sha256 in asked["question"].pop("data"))
    place = asked["question"].pop("tracking")
    tracking = (str(place[0]), int(place[1])) if place else None
    question = Question(data=data, tracking=tracking, environment=handed_on(os.environ), **asked["question"])
    try:
        ray_start.join(asked["address"], asked["insecure"])
        answers = ask_nodes(question, asked["seconds"])
    except TrainyardError as error:
        print(json.dumps({"problem": str(error), "code": error.exit_code}))  # noqa: T201
        return
    print(json.dumps({"answers": [asdict(answer) for answer in answers]}))  # noqa: T201
    ray_start.leave()


if __name__ == "__main__":
    main()
