"""What it costs to sum a buffer over many processes: each algorithm as so many messages and so many bytes on a link."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What joins two processes, or two nodes."""

    bytes_per_second: float
    """In each direction."""
    latency_seconds: float
    """Of one message, whatever its size."""


Reduction = Callable[[int, float, Link], float]
"""Seconds to sum so many bytes over so many processes."""


def ring(processes: int, size: float, link: Link) -> float:
    """Return the seconds of a ring: 2 (n - 1) messages of size / n (Patarasuk and Yuan 2009)."""
    messages = 2 * (processes - 1)
    return messages * (link.latency_seconds + size / processes / link.bytes_per_second)


def halving_doubling(processes: int, size: float, link: Link) -> float:
    """Return the seconds of recursive halving and doubling: 2 log2 n messages, as many bytes as a ring (Thakur et al. 2005)."""
    messages = 2 * math.ceil(math.log2(processes))
    return messages * link.latency_seconds + 2 * (processes - 1) / processes * size / link.bytes_per_second


def double_tree(processes: int, size: float, link: Link) -> float:
    """Return the seconds of two binary trees that take half of the bytes each (Sanders, Speck and Träff 2009; NCCL 2.4).

    Up and down, log2 n messages each; a process receives and sends the whole buffer at most twice. What the first bytes wait
    for on their way through the tree is in the latency.
    """
    if processes == 1:
        return 0.0
    return 2 * math.ceil(math.log2(processes)) * link.latency_seconds + 2 * size / link.bytes_per_second
