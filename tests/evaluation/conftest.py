"""Small packed splits of each kind."""

import numpy as np
import pytest

from trainyard.data.packed import Split


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def image_split(rng: np.random.Generator) -> Split:
    """Forty images of 6 x 6 pixels; class 1 is bright, class 0 dark, class 2 between."""
    labels = np.arange(40) % 3
    level = np.array([30, 220, 120])[labels]
    images = np.clip(level[:, None, None, None] + rng.normal(0, 10, (40, 1, 6, 6)), 0, 255).astype(np.uint8)
    return Split("image_classification", "test", {"images": images, "labels": labels})


@pytest.fixture
def mask_split(rng: np.random.Generator) -> Split:
    """Twelve images of 24 x 24 pixels with a bright square of class 1 and a dark one of class 2."""
    images = rng.normal(128, 8, (12, 1, 24, 24))
    masks = np.zeros((12, 24, 24), dtype=np.uint8)
    for index in range(12):
        row, column = rng.integers(0, 14, 2)
        masks[index, row : row + 6, column : column + 6] = 1 + index % 2
    images[:, 0] += np.array([0, 90, -90])[masks]
    return Split("segmentation", "test", {"images": np.clip(images, 0, 255).astype(np.uint8), "masks": masks})


@pytest.fixture
def text_split() -> Split:
    """Thirty texts: the word decides the class. One costs $5 and $6, one holds signs that no Latin font has."""
    words = ["good", "bad"]
    texts = [f"a {words[index % 2]} text, number {index}" for index in range(28)] + ["good: $5 or $6", "bad 日本"]
    encoded = [text.encode() for text in texts]
    lengths = np.array([len(text.split()) for text in texts])
    return Split(
        "text_classification",
        "test",
        {
            "tokens": np.concatenate([np.arange(2, 2 + length) for length in lengths]).astype(np.int32),
            "offsets": np.concatenate([[0], np.cumsum(lengths)]),
            "labels": np.arange(30) % 2,
            "text": np.frombuffer(b"".join(encoded), dtype=np.uint8),
            "text_offsets": np.concatenate([[0], np.cumsum([len(text) for text in encoded])]),
        },
    )
