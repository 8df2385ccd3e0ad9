"""An image seen from several sides: what is scored, and what is exported, under `evaluate.flips`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

POSITIONS: dict[str, tuple[tuple[int, bool], ...]] = {
    "horizontal": ((0, False), (0, True)),
    "all": tuple((turns, flip) for flip in (False, True) for turns in range(4)),
}
"""Quarter turns, and whether the image is mirrored before them, by what `evaluate.flips` says."""
LEAST = 1e-30
"""Probability below which none is told apart from others: its logarithm must be a number."""


class Turned(nn.Module):
    """A network that looks at an image in several positions, turned and mirrored, and averages the probabilities.

    Not the logits: their mean is the geometric mean of the probabilities, in which one position that is sure of itself, and
    wrong, outvotes all others.
    """

    def __init__(self, network: nn.Module, positions: tuple[tuple[int, bool], ...] = POSITIONS["all"]) -> None:
        super().__init__()
        self.network = network
        self.positions = positions

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to the logarithm of mean probabilities, whose softmax they are.

        They are (N, K) where the network labels images, and (N, K, H, W) in the image's own position where it labels pixels.
        """
        first, *others = self.positions
        total = self._probabilities(images, *first)
        for position in others:
            total += self._probabilities(images, *position)
        return (total / len(self.positions)).clamp_min(LEAST).log()

    def _probabilities(self, images: Tensor, turns: int, flip: bool) -> Tensor:
        found: Tensor = self.network(torch.rot90(images.flip(3) if flip else images, turns, (2, 3))).float().softmax(dim=1)
        if found.ndim == 2:
            return found
        found = torch.rot90(found, -turns, (2, 3))
        return found.flip(3) if flip else found


def seen_from(network: nn.Module, flips: str) -> nn.Module:
    """Return what looks at images in the positions that `evaluate.flips` says; the network itself for one."""
    return network if flips == "none" else Turned(network, POSITIONS[flips])
