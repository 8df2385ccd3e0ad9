"""A recipe for a folder of images, or of images and masks, that a user points at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainyard.errors import InputError

LOOKED_AT = 300
"""Files whose headers are read to see what there is; `trainyard check` reads them all."""
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
SPLIT_FOLDERS = {"train", "training", "val", "valid", "validation", "test"}
STEPS = 3000
"""Optimizer steps that a suggested training has, as far as that makes a sensible number of epochs."""
CLASSES_NAMED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """What the headers of some image files say."""

    count: int
    """Of all files, looked at or not."""
    sizes: Counter[tuple[int, int]]
    """Width and height in pixels."""
    colour: bool
    """Some have colours."""

    def describe(self) -> str:
        """Return the sizes in words."""
        (width, height), _ = self.sizes.most_common(1)[0]
        if len(self.sizes) == 1:
            return f"{width} x {height} pixels"
        widths, heights = zip(*self.sizes, strict=True)
        span = f"from {min(widths)} x {min(heights)} to {max(widths)} x {max(heights)} pixels"
        return f"{span}, most often {width} x {height}"

    def side(self) -> int:
        """Return a side in pixels to scale all images to: their own where all are small and alike, else 32 to 128."""
        if len(self.sizes) == 1 and max(next(iter(self.sizes))) <= 128:
            return max(next(iter(self.sizes)))
        median = float(np.median([min(size) for size in self.sizes.elements()]))
        return next((side for side in (128, 96, 64, 48) if median >= side), 32)


def suggest_cnn(path: Path, shown_path: str) -> list[str]:
    """Return the lines of a recipe for a folder that holds one for each class, without its `name:`, up to `evaluate:`.

    Raises:
        InputError: there are no classes, or no images.
    """
    parts = _split_folders(path) or [path]
    counts: Counter[str] = Counter()
    files: list[Path] = []
    for part in parts:
        for folder in sorted(entry for entry in part.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
            found = _images(folder)
            counts[folder.name] += len(found)
            files += found
    if len(counts) < 2 or not files:
        raise InputError(
            f"{path}: found {len(counts)} folders with {len(files)} images; expected one folder for each class, with its images"
        )
    pictures = look(files)
    side, channels = pictures.side(), 3 if pictures.colour else 1
    rarest, most = min(counts.values()), max(counts.values())
    names = [f"{entry} {count:,}" for entry, count in counts.most_common(CLASSES_NAMED)]
    more = ", ..." if len(counts) > CLASSES_NAMED else ""
    widths = [32, 64, 128, 256][: max(2, int(np.log2(side)) - 2)]
    samples = len(files)
    return [
        "family: cnn",
        f"# {samples:,} images in {len(counts)} classes ({', '.join(names)}{more}), {pictures.describe()}.",
        "data:",
        "  source: image_folder",
        f"  path: {shown_path}",
        f"  size: {side} # pixels a side; every image is scaled to it. Larger shows more, and takes longer with its square",
        "  resize: crop # the middle of what is longer than it is wide; stretch and pad keep all of it",
        f"  channels: {channels} # {'colours' if channels == 3 else 'grey'}",
        "  on_bad_sample: stop # or skip: leave out what cannot be read, and list it in the card",
        "  seed: 0",
        *_fractions(path),
        "model:",
        f"  widths: {widths} # channels of each block; each one halves the side, {side} to {side // 2 ** len(widths)} pixels",
        "  convolutions: 2",
        "  normalisation: group # does not depend on the number of workers",
        "  dropout: 0.3",
        *_training(samples, "cross_entropy", most > 5 * rarest),
        "evaluate:",
    ]


def suggest_unet(path: Path, shown_path: str) -> list[str]:
    """Return the lines of a recipe for a folder with `images` and `masks`, without its `name:`, up to `evaluate:`.

    Raises:
        InputError: one of them is missing.
    """
    parts = _split_folders(path) or [path]
    images = [file for part in parts for file in _images(part / "images")]
    masks = [file for part in parts for file in _images(part / "masks")]
    if not images or not masks:
        raise InputError(
            f"{path}: found {len(images)} files in images/ and {len(masks)} in masks/; expected one mask for each image, "
            "of the same name"
        )
    pictures = look(images)
    (width, height), _ = pictures.sizes.most_common(1)[0]
    alike = len(pictures.sizes) == 1 and max(width, height) <= 256
    size = f"[{height}, {width}]" if alike else str(min(256, pictures.side() * 2))
    depth = 4 if min(height, width) >= 128 or not alike else 3
    return [
        "family: unet",
        f"# {len(images):,} images with masks, {pictures.describe()}.",
        "data:",
        "  source: image_masks",
        f"  path: {shown_path}",
        *_mask_classes(masks),
        f"  size: {size} # pixels: height, width; images are scaled smoothly, masks by the nearest pixel",
        f"  channels: {3 if pictures.colour else 1}",
        "  on_bad_sample: stop # or skip: leave out what cannot be used, and list it in the card",
        "  seed: 0",
        *_fractions(path),
        "model:",
        f"  depth: {depth} # halvings on the way down",
        "  base_width: 16 # doubles at each level",
        "  normalisation: batch",
        *_training(len(images), "cross_entropy_dice", False, batch_size=16),
        "evaluate:",
    ]


def look(files: list[Path]) -> Pictures:
    """Return what the headers of some of the files say, evenly chosen; what is no image is left to the checks."""
    from PIL import Image, UnidentifiedImageError

    sizes: Counter[tuple[int, int]] = Counter()
    colour = False
    for file in _some(files):
        try:
            with Image.open(file) as image:
                sizes[image.size] += 1
                colour = colour or image.mode not in ("1", "L", "LA", "I", "I;16", "F")
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
            continue
    if not sizes:
        raise InputError(f"{files[0].parent}: none of its files could be read as an image; look at {files[0].name}")
    return Pictures(count=len(files), sizes=sizes, colour=colour)


def _mask_classes(masks: list[Path]) -> list[str]:
    """Return the lines that say what the values of the masks mean, from those that are in some of them."""
    from PIL import Image

    values: set[int] = set()
    for file in _some(masks)[:50]:
        with Image.open(file) as mask:
            if mask.mode not in ("1", "L", "P"):
                raise InputError(
                    f"{file}: is a mask of mode {mask.mode}; masks of colours need a colour map: write the recipe by hand, "
                    "with mask_values: {class: [red, green, blue]}"
                )
            values.update(np.unique(np.asarray(mask)).astype(int).tolist())
    if values <= {0, 255} or values <= {0, 1}:
        binary = "binary" if 255 in values else "ids"
        return ["  classes: [background, object]", f"  mask_values: {binary} # found {sorted(values)}"]
    highest = max(values)
    names = ", ".join(["background", *(f"class_{number}" for number in range(1, highest + 1))])
    return [f"  classes: [{names}] # found the values {sorted(values)}", "  mask_values: ids"]


def _training(samples: int, loss: str, unbalanced: bool, batch_size: int = 64) -> list[str]:
    train = max(1, int(0.75 * samples))
    batch_size = max(4, min(batch_size, 2 ** int(np.log2(max(1, train // 16)))))
    epochs = int(np.clip(round(STEPS * batch_size / train), 5, 60))
    steps = epochs * -(-train // batch_size)
    return [
        "train:",
        f"  epochs: {epochs} # about {steps:,} steps",
        f"  batch_size: {batch_size}",
        "  optimizer: adamw",
        "  learning_rate: 3e-3 # of the highest point",
        "  weight_decay: 0.05",
        "  schedule: one_cycle",
        "  warmup_fraction: 0.25",
        f"  loss: {loss}",
        *(["  class_weights: balanced # one class has more than five times the samples of another"] if unbalanced else []),
        "  seed: 0",
    ]


def _fractions(path: Path) -> list[str]:
    given = {folder.name for folder in _split_folders(path)}
    note = f" # for splits that have no folder; found {', '.join(sorted(given))}" if given else " # of the samples"
    return [f"  val_fraction: 0.1{note}", "  test_fraction: 0.15"]


def _split_folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and entry.name.lower() in SPLIT_FOLDERS)


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES and not entry.name.startswith("."))


def _some(files: list[Path]) -> list[Path]:
    return files[:: -(-len(files) // LOOKED_AT)]
