"""How many replicas answer: between a least and a most, by how much each of them has to do."""

from __future__ import annotations

from dataclasses import dataclass

from trainyard.errors import InputError

LEAST_LOOK_BACK_SECONDS = 11.0
"""Ray Serve wants to look back for longer than the 10 s between two reports of its replicas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Beyond the target load of each replica more of them are started, below it some are ended."""

    min_replicas: int = 1
    """That answer at any time."""
    max_replicas: int = 4
    """That answer at most."""
    target_load: float = 16.0
    """Requests that each replica has at once, on average; a replica answers those that come together in one call."""
    up_seconds: float = 10.0
    """That there is more to do than the target before a replica is started."""
    down_seconds: float = 300.0
    """That there is less to do than the target before a replica is ended."""

    def __post_init__(self) -> None:
        if self.min_replicas < 1:
            raise InputError(f"min_replicas: {self.min_replicas}; whoever asks first would wait for one: expected 1 or more")
        if self.max_replicas < self.min_replicas:
            raise InputError(f"max_replicas: {self.max_replicas} is fewer than min_replicas, {self.min_replicas}; raise it")
        if self.target_load <= 0:
            raise InputError(f"target_load: {self.target_load:g}; expected a number above 0")

    def as_ray_says_it(self) -> dict[str, float]:
        """Return it in the words of Ray Serve's `autoscaling_config`."""
        return {
            "min_replicas": self.min_replicas,
            "max_replicas": self.max_replicas,
            "target_ongoing_requests": self.target_load,
            "upscale_delay_s": self.up_seconds,
            "downscale_delay_s": self.down_seconds,
            "look_back_period_s": max(LEAST_LOOK_BACK_SECONDS, self.up_seconds),
        }
