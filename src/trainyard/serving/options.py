"""What a server allows: each limit with its unit, and what happens beyond it."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainyard.serving.raw_inputs import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Limits of one server. Beyond them a request is refused at once, with the field and the limit in the reply."""

    inputs: Limits = field(default_factory=lambda: Limits(pixels=16_000_000, characters=100_000, rows=20_000))
    """Of each image, text or series; 422 beyond them."""
    inputs_at_once: int = 64
    """Of one request; 422 beyond it."""
    body_bytes: int = 32 * 2**20
    """Of one request; 413 beyond it."""
    held_bytes: int = 256 * 2**20
    """Of all requests together that are not answered yet; 503 beyond it."""
    connections: int = 1000
    """Open at once; 503 beyond it."""
    waiting: int = 1024
    """Inputs that wait for an answer; 429 beyond it."""
    head_seconds: float = 10.0
    """For the head of a request to arrive; then the connection is closed."""
    body_seconds: float = 30.0
    """For its body to arrive; 408 after it."""
    answer_seconds: float = 30.0
    """For the answer to be found; 503 after it."""
    idle_seconds: float = 15.0
    """That a connection is kept open between two requests, and that a client may read nothing of its answer."""
    drain_seconds: float = 2.0
    """After SIGTERM, that new requests are still taken while whoever sends them learns from /ready to stop."""
    batch_inputs: int = 32
    """Answered in one call of the network."""
    batch_numbers: int = 4_000_000
    """Pixels, tokens or numbers in one call, unless one input alone has more."""
    batch_seconds: float = 0.002
    """That a call waits for inputs which other requests are about to bring; nobody waits where there are none."""
    reload_seconds: float = 2.0
    """Between two looks at whether a model's file changed."""
