"""How long a suggested training is, whatever it learns."""

from __future__ import annotations

import numpy as np


def training_length(train: int, steps: int, epochs: tuple[int, int], batch_size: int = 64) -> list[str]:
    """Return the first lines of a recipe's `train:`.

    Args:
        train: samples of the training split.
        steps: of the optimizer that it should have, as far as that makes a sensible number of epochs.
        epochs: fewest and most of them that are sensible.
        batch_size: the largest one; few samples have smaller batches, so that an epoch has some steps.
    """
    train = max(1, train)
    batch_size = max(4, min(batch_size, 2 ** int(np.log2(max(1, train // 16)))))
    count = int(np.clip(round(steps * batch_size / train), *epochs))
    return [
        "train:",
        f"  epochs: {count} # about {count * -(-train // batch_size):,} steps",
        f"  batch_size: {batch_size}",
    ]
