"""Augmentation of whole batches against what is usually written: one sample after another in a torch Dataset.

    PYTHONPATH=src OMP_NUM_THREADS=1 python benchmarks/augment.py

Medians of some passes over the same images on one processor, samples a second, and their ratio.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import ndimage
from torch.utils.data import DataLoader, Dataset

from trainyard.data.batches import gather
from trainyard.data.packed import Split
from trainyard.tasks.augment_config import AugmentConfig
from trainyard.tasks.augmentation import Augmentation

PASSES = 7
Arrays = dict[str, NDArray[Any]]


class ShiftedFlippedCut(Dataset[tuple[torch.Tensor, int]]):
    """Small photographs by Pillow and numpy, as a tutorial has it."""

    def __init__(self, arrays: Arrays) -> None:
        self.images = arrays["images"].transpose(0, 2, 3, 1)
        self.labels = arrays["labels"]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = Image.fromarray(self.images[index])
        if np.random.rand() < 0.5:
            image = ImageOps.mirror(image)
        padded = np.pad(np.asarray(image), ((4, 4), (4, 4), (0, 0)), mode="reflect")
        top, left = np.random.randint(0, 9, 2)
        pixels = padded[top : top + 32, left : left + 32].copy()
        top, left = np.random.randint(0, 25, 2)
        pixels[top : top + 8, left : left + 8] = 128
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), int(self.labels[index])


class Elastic(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Slices and their masks by SciPy, as the notebooks of the U-Net have it."""

    def __init__(self, arrays: Arrays) -> None:
        self.images, self.masks = arrays["images"], arrays["masks"]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        side = self.images.shape[2]
        moves = [ndimage.zoom(np.random.normal(0, 10, (3, 3)), side / 3, order=3) for _ in range(2)]
        places = [axis + move for axis, move in zip(np.mgrid[:side, :side], moves, strict=True)]
        image = ndimage.map_coordinates(self.images[index, 0].astype(np.float32), places, order=1, mode="mirror")
        mask = ndimage.map_coordinates(self.masks[index], places, order=0, mode="mirror")
        return torch.from_numpy(image)[None], torch.from_numpy(mask).long()


def batches_of(split: Split, config: AugmentConfig, batch_size: int) -> Iterable[object]:
    """Yield ours: gathered, then augmented."""
    augment = Augmentation(config=config, kind=split.kind, seed=0, mean=(0.5, 0.5, 0.5))
    for start in range(0, len(split), batch_size):
        yield augment(gather(split, np.arange(start, min(start + batch_size, len(split))), epoch=start))


def rate(samples: int, one_pass: Callable[[], Iterable[object]]) -> float:
    """Return samples a second, the median of some passes after a first one."""
    seconds = []
    for _ in range(PASSES + 1):
        began = time.perf_counter()
        for _ in one_pass():
            pass
        seconds.append(time.perf_counter() - began)
    return samples / statistics.median(seconds[1:])


def main() -> None:
    rng = np.random.default_rng(0)
    small: Arrays = {"images": rng.integers(0, 256, (4096, 3, 32, 32), dtype=np.uint8), "labels": np.arange(4096) % 10}
    large = {
        "images": rng.integers(0, 256, (32, 1, 256, 256), dtype=np.uint8),
        "masks": rng.integers(0, 2, (32, 256, 256), dtype=np.uint8),
    }
    photographs, slices = Split("image_classification", "train", small), Split("segmentation", "train", large)
    quick = AugmentConfig(shift=4, flip="horizontal", cutout=8)
    smooth = AugmentConfig(elastic=10.0)
    rows = [
        ("shift, flip, cutout: 32 x 32 x 3, 512 a batch", photographs, quick, ShiftedFlippedCut(small), 512),
        ("elastic: 256 x 256 and masks, 16 a batch", slices, smooth, Elastic(large), 16),
    ]
    print(f"{'samples/s':46} {'one by one':>11} {'batches':>11} {'ratio':>7}")
    for name, split, config, dataset, size in rows:
        alone = rate(len(split), lambda dataset=dataset, size=size: DataLoader(dataset, batch_size=size))  # type: ignore[misc]
        ours = rate(len(split), lambda split=split, config=config, size=size: batches_of(split, config, size))  # type: ignore[misc]
        print(f"{name:46} {alone:11,.0f} {ours:11,.0f} {ours / alone:6.1f}x")


if __name__ == "__main__":
    main()
