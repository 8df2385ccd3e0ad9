from __future__ import annotations

import numpy as np
import pytest

from trainyard.data import digit_scenes, digits
from trainyard.data.digit_scenes import DigitScenesConfig
from trainyard.data.digits import DigitsConfig

SCENES = DigitScenesConfig(source="digit_scenes", scenes=120, size=48, largest_digit=24)


def test_digits_are_the_real_ones_scaled_without_loss() -> None:
    raw = digits.load(DigitsConfig(source="digits"))
    assert raw.arrays["images"].shape == (1797, 1, 8, 8)
    assert len(np.unique(raw.arrays["images"])) == 17
    assert raw.arrays["images"].max() == 255


def test_scenes_have_exact_masks() -> None:
    raw = digit_scenes.load(SCENES)
    images, masks = raw.arrays["images"], raw.arrays["masks"]
    assert images.shape == (120, 1, 48, 48)
    assert set(np.unique(masks)) <= set(range(11))
    for image, mask in zip(images[:, 0], masks, strict=True):
        # Ink is lighter than what lies around it, for every digit of every scene.
        for digit in set(mask[mask > 0]):
            assert image[mask == digit].mean() > image[mask == 0].mean()


def test_each_scene_is_a_function_of_seed_and_number() -> None:
    first, again = digit_scenes.load(SCENES), digit_scenes.load(SCENES)
    assert np.array_equal(first.arrays["images"], again.arrays["images"])
    import dataclasses

    other = digit_scenes.load(dataclasses.replace(SCENES, seed=1))
    assert not np.array_equal(first.arrays["images"], other.arrays["images"])


def test_no_digit_is_drawn_in_two_splits() -> None:
    ink, labels = digits.read_digits()
    parts = digit_scenes.digits_by_split(ink, labels, SCENES)
    seen = [{ink[index].tobytes() for index in part} for part in parts]
    assert all(not (seen[a] & seen[b]) for a in range(3) for b in range(a))
    assert all(set(labels[part]) == set(range(10)) for part in parts)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 16}, "size 16 cannot hold a digit of largest_digit 32"),
        ({"smallest_digit": 40}, "smallest_digit 40 is larger than largest_digit 32"),
        ({"scenes": 3}, "leaves a split empty"),
        ({"val_fraction": 0.6, "test_fraction": 0.6}, "their sum must be below 1"),
        ({"val_fraction": 0.0}, "leaves no samples to score"),
    ],
)
def test_contradictions_are_refused(change: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DigitScenesConfig(source="digit_scenes", **change)  # type: ignore[arg-type]
