"""Two executions of one run, held against each other: the first difference, and what probably made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TIMES = ("seconds", "throughput/", "system/", "samples_per_s", "trainyard.")
"""Metrics that say how fast, not what: they differ from one execution to the next."""
LIBRARIES = (
    "torch",
    "pytorch-lightning",
    "numpy",
    "ray",
    "torchmetrics",
    "safetensors",
    "scikit-learn",
    "pillow",
    "tokenizers",
)
"""Those that compute, in the order of how much they decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What is not the same."""

    what: str
    recorded: str
    found: str

    def __str__(self) -> str:
        return f"{self.what}: {self.recorded} recorded, {self.found} now"


@dataclass(frozen=True, slots=True)
class Cause:
    """A fact that differs and that can make a result differ."""

    fact: str
    recorded: str
    found: str
    why: str

    def __str__(self) -> str:
        return f"{self.fact}: {self.recorded} recorded, {self.found} now; {self.why}"


def first_of_curves(recorded: Mapping[str, Mapping[int, float]], found: Mapping[str, Mapping[int, float]]) -> Difference | None:
    """Return the earliest point at which curves differ, None where all are the same.

    Args:
        recorded: values by epoch, by the name of the metric.
        found: the same of the other one.
    """
    differing = []
    for name in sorted({*recorded, *found}):
        if name.startswith(TIMES):
            continue
        one, other = recorded.get(name, {}), found.get(name, {})
        differing += [(step, name) for step in sorted({*one, *other}) if not same(one.get(step), other.get(step))]
    if not differing:
        return None
    # Training comes before validation, and what is first in an epoch makes the rest.
    step, name = min(differing, key=lambda place: (place[0], not place[1].startswith("train/"), place[1]))
    return Difference(
        what=f"{name} of epoch {step + 1}",
        recorded=_shown(recorded.get(name, {}), step),
        found=_shown(found.get(name, {}), step),
    )


def first_of_values(recorded: Mapping[str, float], found: Mapping[str, float]) -> Difference | None:
    """Return the first metric, by its name, that differs among those that both have."""
    for name in sorted(recorded.keys() & found.keys()):
        if not name.startswith(TIMES) and not same(recorded[name], found[name]):
            return Difference(what=name, recorded=repr(recorded[name]), found=repr(found[name]))
    return None


def same(one: float | None, other: float | None) -> bool:
    """Say whether two values have the same bits; one that is no number is the same as another such."""
    return one == other or (one is not None and other is not None and one != one and other != other)


def causes(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> list[Cause]:
    """Return what differs between two origins, the likeliest cause of another result first."""
    listed = []

    def look(fact: str, one: Any, other: Any, why: str) -> None:
        if one != other:
            listed.append(Cause(fact, _text(one), _text(other), why))

    look("data", recorded["data"]["sha256"], found["data"]["sha256"], "it learned from other samples")
    here, there = recorded["libraries"], found["libraries"]
    if recorded["fingerprint"] != found["fingerprint"]:
        libraries = [name for name in ("torch", "pytorch-lightning") if here.get(name) != there.get(name)]
        if not libraries:
            look("fingerprint", recorded["fingerprint"], found["fingerprint"], "code or parameters are not what they were")
    workers = recorded["attempts"][-1]["workers"]
    look("workers", workers, found["ray"]["workers"], "sums over workers are rounded in another order")
    before = sorted({str(attempt["workers"]) for attempt in recorded["attempts"]})
    if len(before) > 1:
        listed.append(Cause("workers of the attempts", ", ".join(before), str(found["ray"]["workers"]), "as above"))
    threads = "cpus_per_worker"
    look(threads, recorded["ray"][threads], found["ray"][threads], "threads share sums in another way")
    for name in LIBRARIES:
        look(name, here.get(name), there.get(name), "another version computes in another way")
    one, other = recorded["machine"], found["machine"]
    look("python", one.get("python"), other.get("python"), "another version may order or round in another way")
    for name, why in (
        ("gpu", "each kind of GPU has kernels of its own"),
        ("processor", "each kind of processor has kernels of its own"),
        ("native_bf16", "the arithmetic is another one"),
        ("processors", "without Ray, torch takes a thread for each"),
    ):
        if name != "processors" or not found["ray"]["workers"]:
            look(name, one.get(name), other.get(name), why)
    return listed


def _shown(curve: Mapping[int, float], step: int) -> str:
    return repr(curve[step]) if step in curve else "nothing"


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
