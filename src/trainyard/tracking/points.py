"""Points of metrics, and which of them a tracking store has already."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one metric."""

    key: str
    value: float
    at: int
    """Milliseconds since 1970."""
    step: int
    once: bool
    """One value a step: a resumed training passes the same steps again. Otherwise another value may come later."""


@dataclass(slots=True)
class Stored:
    """What the store has of one metric."""

    steps: set[int] = field(default_factory=set)
    moments: set[tuple[int, int]] = field(default_factory=set)
    """(step, at)."""
    values: set[tuple[int, str]] = field(default_factory=set)
    """(step, value), as text, since not-a-number is unequal to itself."""

    def add(self, step: int, at: int, value: float) -> None:
        """Note a point down."""
        self.steps.add(step)
        self.moments.add((step, at))
        self.values.add((step, repr(value)))

    def has(self, point: Point) -> bool:
        """Return whether a point need not be sent."""
        if point.once:
            return point.step in self.steps
        return (point.step, point.at) in self.moments or (point.step, repr(point.value)) in self.values


@dataclass(slots=True)
class Known:
    """What this process knows of a run's metrics."""

    sure: bool = False
    """Nothing is in the store but what this process has sent; the points of curves among it are not noted down."""
    metrics: dict[str, Stored] = field(default_factory=dict)
