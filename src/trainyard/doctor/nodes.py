"""The nodes of a cluster, before a GPU is taken: what each says of itself, in one table, and what is wrong with it.

A process of its own joins the cluster and asks, so that neither what hangs there nor Ray's own words reach this one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trainyard.data.packed import read_card
from trainyard.doctor.finding import MACHINE, SERVICE, Finding, ok, problem, warning
from trainyard.errors import TrainyardError
from trainyard.masking import mask
from trainyard.terminal import Rows, columns
from trainyard.training.access import host_of
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.node_facts import Facts, Question
from trainyard.training.preflight import Answer, faults, gib
from trainyard.training.versions import CODE, versions

ANSWER_SECONDS = 30.0
"""How long nodes may take to start a process and to look around."""
JOIN_SECONDS = 60.0
"""How long it may take to join, and to bring the code to the nodes, beside that."""
SHOWN = ("python", "torch", "ray", CODE)
COLUMNS = ("node", "python, torch, ray, code", "data", "tracking", "CPUs", "GPUs", "disk", "/dev/shm", "interface", "clock")
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """What was found of a cluster's nodes."""

    asked: Question
    answers: tuple[Answer, ...]
    findings: list[Finding]
    here: dict[str, str]
    """Versions of this machine, which is what theirs are held against."""


def question(root: Path, cluster: ClusterConfig, uri: str, address: str) -> Question:
    """Return what the nodes are asked: of the data of each recipe that are here, of the storage, and of the tracking server."""
    data = []
    for card in sorted((root / "data" / "prepared").glob("*/card.json")):
        try:
            data.append((card.parent.name, card.parent.resolve(), read_card(card.parent).sha256))
        except TrainyardError:
            continue  # `trainyard verify` says what is wrong with it
    parts = urlsplit(uri)
    tracking = None
    if parts.scheme in PORTS and parts.hostname:
        tracking = parts.hostname, parts.port or PORTS[parts.scheme]
    return Question(head=host_of(address), data=tuple(data), storage=cluster.storage, tracking=tracking)


def examine_nodes(asked: Question, cluster: ClusterConfig, address: str) -> Nodes:
    """Ask all nodes, and say what is wrong with each."""
    here = versions()
    reply = _ask(asked, cluster, address)
    if isinstance(reply, Finding):
        return Nodes(asked=asked, answers=(), findings=[reply], here=here)
    answers = tuple(Answer.of(values) for values in reply)
    found = faults(answers, here, fetches=cluster.storage is not None)
    wrong = {fault.node for fault in found}
    findings = [
        problem(f"node {fault.node}", fault.what, fault.fix, MACHINE)
        if fault.grave
        else warning(f"node {fault.node}", fault.what, fault.fix)
        for fault in found
    ]
    findings += [ok(f"node {answer.node}", "can train") for answer in answers if str(answer.node) not in wrong]
    return Nodes(asked=asked, answers=answers, findings=findings, here=here)


def _ask(asked: Question, cluster: ClusterConfig, address: str) -> list[dict[str, Any]] | Finding:
    values = {**asdict(asked), "data": [(name, str(folder), sha256) for name, folder, sha256 in asked.data]}
    values.pop("environment")
    line = {"address": address, "insecure": cluster.insecure, "seconds": ANSWER_SECONDS, "question": values}
    source = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "trainyard.training.ray_probe"],
            input=json.dumps(line) + "\n",
            env={**os.environ, "PYTHONPATH": source},
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS + JOIN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        fix = "see `ray status` on the head, and whether this machine reaches all ports of the nodes"
        return problem("nodes", f"could not be asked within {ANSWER_SECONDS + JOIN_SECONDS:.0f} s", fix, SERVICE)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        said = mask((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
        return problem("nodes", f"could not be asked ({said})", "see `ray status` on the head", SERVICE)
    reply = json.loads(lines[-1])
    if "problem" in reply:
        found, _, fix = str(reply["problem"]).partition("; ")
        return problem("nodes", found, fix, int(reply["code"]))
    return list(reply["answers"])


def table(nodes: Nodes) -> Rows:
    """Return what each node has, below what this machine has: a line each, or a line for each fact where those are too long."""
    rows: list[Sequence[str]] = [("here", ", ".join(nodes.here[name] for name in SHOWN))]
    for answer in nodes.answers:
        cells = (answer.problem,) if answer.facts is None else _cells(answer, answer.facts, nodes)
        rows.append((f"{answer.node.name}\n{answer.node.address}", *cells))
    return Rows(columns(1, COLUMNS), rows)


def _cells(answer: Answer, facts: Facts, nodes: Nodes) -> Sequence[str]:
    other = [f"{name} {version}" for name, version in facts.versions.items() if nodes.here.get(name) != version]
    missing = [f"{name}: {state}" for name, state in facts.data.items() if state != "same"]
    offset, doubt = answer.clock or (0.0, 0.0)
    cards = [f"{gib(free)} of {gib(size)}" for _, free, size in facts.gpus]
    return (
        ", ".join(other) or "the same",
        ", ".join(missing) or ("seen" if facts.data else "none here"),
        "no server" if nodes.asked.tracking is None else facts.tracking or "reached",
        f"{answer.free_processors:g} of {answer.node.processors:g}",
        "\n".join([f"{answer.free_gpus:g} of {answer.node.gpus:g}", *cards]) if answer.node.gpus or cards else "none",
        gib(facts.disk[0]),
        gib(facts.shared_memory[0]) if facts.shared_memory[1] else "none",
        f"{facts.interface} {facts.address}" if facts.interface else "none",
        f"{offset:+.2f} ± {doubt:.2f} s" if answer.clock else "",
    )
