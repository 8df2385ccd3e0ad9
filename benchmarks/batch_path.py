"""How fast batches come, without a model: packed arrays against a torch DataLoader over the folder of images.

    python benchmarks/batch_path.py data/raw/mnist --size 28 --channels 1

Both give every training image once, shuffled, as uint8 batches (N, C, H, W) with labels. The two take turns; medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from trainyard.data.batches import TrainBatches
from trainyard.data.image_folder import ImageFolderConfig
from trainyard.data.packed import open_split
from trainyard.data.prepare import prepare


class Folder(Dataset[tuple[torch.Tensor, int]]):
    """What a user would write: one file a sample, decoded when it is asked for."""

    def __init__(self, folder: Path, mode: str) -> None:
        classes = sorted(path.name for path in folder.iterdir())
        self.files = [(file, number) for number, name in enumerate(classes) for file in sorted((folder / name).iterdir())]
        self.mode = mode

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        file, label = self.files[index]
        with Image.open(file) as image:
            pixels = np.array(image.convert(self.mode))
        return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1), label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with train/<class>/")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", type=int, choices=(1, 3), default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2, help="processes of the DataLoader")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    dataset = Folder(arguments.folder / "train", "L" if arguments.channels == 1 else "RGB")
    loader = DataLoader(dataset, arguments.batch_size, shuffle=True, num_workers=arguments.workers)
    with tempfile.TemporaryDirectory() as scratch:
        config = ImageFolderConfig(
            source="image_folder",
            path=str(arguments.folder),
            size=(arguments.size, arguments.size),
            channels=arguments.channels,
            val_fraction=0.01,
            test_fraction=0.1,
        )
        prepare("benchmark", config, Path(scratch) / "packed", root=Path.cwd())
        batches = TrainBatches(open_split(Path(scratch) / "packed", "train"), batch_size=arguments.batch_size, seed=0)
        rates: dict[str, list[float]] = {"packed": [], "DataLoader": []}
        for epoch in range(arguments.repeats):
            batches.epoch = epoch
            rates["packed"].append(rate(batches))
            rates["DataLoader"].append(rate(loader))
    packed, folder = (statistics.median(values) for values in rates.values())
    print(
        f"packed {packed:,.0f} samples/s, DataLoader of {arguments.workers} workers {folder:,.0f}: {packed / folder:.0f} times"
    )


def rate(batches: Iterable[tuple[object, ...]]) -> float:
    """Return samples a second over one pass."""
    began, samples = time.monotonic(), 0
    for inputs, *_ in batches:
        images = inputs[0] if isinstance(inputs, tuple) else inputs
        samples += len(images)  # type: ignore[arg-type]
    return samples / (time.monotonic() - began)


if __name__ == "__main__":
    main()
