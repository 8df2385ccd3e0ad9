"""A recipe for a folder of images, or of images and masks, that a user points at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from trainyard.data.image_files import ImageFileError, inspect
from trainyard.data.image_folder import name_like_splits, split_layout
from trainyard.data.image_masks import splits_within
from trainyard.data.image_tree import Tree, walk
from trainyard.data.problems import DataError, Problem, printable
from trainyard.errors import InputError
from trainyard.intake.masks import Sides, find_sides, mask_classes, some
from trainyard.intake.training import training_length

LOOKED_AT = 300
"""Files whose headers are read to see what there is; `trainyard check` reads them all."""
SMALLEST, LARGEST = 8, 128
"""Pixels a side of images that keep their size, where all of them have it."""
LONG = 2
"""Times as long as wide, or wide as high, are images of which the middle alone would not do."""
SOME_LONG = 0.1
"""Share of such images, from which on nothing is cut off."""
LONGEST = 256
"""Pixels of the longer side that such images are scaled to."""
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
        own = max(next(iter(self.sizes)))
        if len(self.sizes) == 1 and SMALLEST <= own <= LARGEST:
            return own
        median = float(np.median([min(size) for size in self.sizes.elements()]))
        return next((side for side in (128, 96, 64, 48) if median >= side), 32)

    def shape(self) -> tuple[tuple[int, int], str]:
        """Return height and width to scale all images to, and how, for a recipe: nothing of long ones is cut off."""
        ratios = np.array([width / height for width, height in self.sizes.elements()])
        crop = "crop # the middle of what is longer than it is wide; stretch and pad keep all of it"
        if np.mean((ratios >= LONG) | (ratios <= 1 / LONG)) < SOME_LONG:
            return (self.side(), self.side()), crop
        pad = "pad # with black: many are so long that crop, the middle alone, would lose most of them"
        ratio = float(np.median(ratios))
        if 1 / LONG < ratio < LONG:
            return (self.side(), self.side()), pad
        (width, height), _ = self.sizes.most_common(1)[0]
        if len(self.sizes) == 1 and min(width, height) >= SMALLEST and max(width, height) <= LONGEST:
            return (height, width), "pad # keeps all of an image; all of these have that size"
        short = next(side for side in (64, 48, 32) if side <= self.side())
        long = min(LONGEST, 8 * round(short * max(ratio, 1 / ratio) / 8))
        return ((short, long) if ratio > 1 else (long, short)), pad


def suggest_cnn(path: Path, shown_path: str) -> list[str]:
    """Return the lines of a recipe for a folder that holds one for each class, without its `name:`, up to `evaluate:`.

    Raises:
        InputError: there are no classes, or no images.
    """
    tree, top = _listed(path)
    problems: list[Problem] = []
    if not top:
        name_like_splits(tree, problems)
    if problems:
        raise DataError(str(path), problems)
    depth = 2 if top else 1
    counts = Counter({folder.name: 0 for folder in tree.folders if len(folder.parts) == depth})
    files = [file for file in tree.files if file.count("/") >= depth]
    counts.update(file.split("/")[depth - 1] for file in files)
    if len(counts) < 2 or not files:
        raise InputError(
            f"{path}: found {len(counts)} folder{'' if len(counts) == 1 else 's'} with {len(files):,} images; expected one "
            f"folder for each class, with its images{_hint(path, tree, depth)}"
        )
    pictures = look(path, files)
    (height, width), resize = pictures.shape()
    side, channels = min(height, width), 3 if pictures.colour else 1
    rarest, most = min(counts.values()), max(counts.values())
    names = [f"{printable(entry)} {count:,}" for entry, count in counts.most_common(CLASSES_NAMED)]
    more = ", ..." if len(counts) > CLASSES_NAMED else ""
    widths = [32, 64, 128, 256][: max(2, int(np.log2(side)) - 2)]
    samples = len(files)
    return [
        "family: cnn",
        f"# {samples:,} images in {len(counts)} classes ({', '.join(names)}{more}), {pictures.describe()}.",
        "data:",
        "  source: image_folder",
        f"  path: {shown_path}",
        f"  size: {side} # pixels a side; every image is scaled to it. Larger shows more, and takes longer with its square"
        if height == width
        else f"  size: [{height}, {width}] # pixels: height, width; every image is scaled to it",
        f"  resize: {resize}",
        f"  channels: {channels} # {'colours' if channels == 3 else 'grey'}",
        "  on_bad_sample: stop # or skip: leave out what cannot be read, and list it in the card",
        "  seed: 0",
        *_fractions(_folders(tree, ()) if top else ()),
        "model:",
        f"  widths: {widths} # channels of each block; each one halves the {'side' if height == width else 'shorter side'}, "
        f"{side} to {side // 2 ** len(widths)} pixels",
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
    tree, top = _listed(path)
    start = 1 if top else 0
    sides = find_sides(path, tree, top)
    images, masks = (
        [file for file in tree.files if sides and file.split("/")[start:-1][:1] == [name]]
        for name in ((sides.images, sides.masks) if sides else ("images", "masks"))
    )
    if sides is None:
        have = ", ".join(_folders(tree, ())) or "no folders"
        raise InputError(
            f"{path}: has {have}, none of which are images and masks by their names or by what they show; expected one mask "
            "for each image, in images/ and masks/ or as data.images and data.masks of a recipe name them"
        )
    problems: list[Problem] = []
    names = (sides.images, sides.masks)
    within = not top and splits_within([PurePosixPath(file) for file in tree.files], names, problems)
    if problems:
        raise DataError(str(path), problems)
    pictures = look(path, images)
    (width, height), _ = pictures.sizes.most_common(1)[0]
    alike = len(pictures.sizes) == 1 and max(width, height) <= 256 and min(width, height) >= SMALLEST
    size = f"[{height}, {width}]" if alike else str(min(256, pictures.side() * 2))
    depth = 4 if min(height, width) >= 128 or not alike else 3
    return [
        "family: unet",
        f"# {len(images):,} images with masks, {pictures.describe()}.",
        "data:",
        "  source: image_masks",
        f"  path: {shown_path}",
        *sides.lines(),
        *mask_classes(path, masks),
        f"  size: {size} # pixels: height, width; images are scaled smoothly, masks by the nearest pixel",
        f"  channels: {3 if pictures.colour else 1}",
        "  on_bad_sample: stop # or skip: leave out what cannot be used, and list it in the card",
        "  seed: 0",
        *_fractions(_folders(tree, ()) if top else _folders(tree, (sides.images,)) if within else ()),
        "model:",
        f"  depth: {depth} # halvings on the way down",
        "  base_width: 16 # doubles at each level",
        "  normalisation: batch",
        *_training(len(images), "cross_entropy_dice", False, batch_size=16),
        "evaluate:",
    ]


def seen_sides(path: Path) -> tuple[Sides | None, int]:
    """Return which folders hold images and masks, if there are such, and how many images there are in all."""
    tree = walk(path, Path.cwd())
    top = split_layout(tree, [])
    return find_sides(path, tree, top), len(tree.files)


def look(folder: Path, files: Sequence[str]) -> Pictures:
    """Return what the headers of some of the files say, evenly chosen; what is no image is left to the checks."""
    sizes: Counter[tuple[int, int]] = Counter()
    colour, refused = False, ""
    for file in some(files, LOOKED_AT):
        try:
            facts = inspect(folder / file)
        except (OSError, ImageFileError) as error:
            refused = refused or f"{printable(file)}: {error}"
            continue
        sizes[facts.width, facts.height] += 1
        colour = colour or facts.channels == 3
    if not sizes:
        raise InputError(f"{folder}: none of its files could be read as an image; the first one is {refused}")
    return Pictures(count=len(files), sizes=sizes, colour=colour)


def _training(samples: int, loss: str, unbalanced: bool, batch_size: int = 64) -> list[str]:
    return [
        *training_length(int(0.75 * samples), STEPS, (5, 60), batch_size),
        "  optimizer: adamw",
        "  learning_rate: 3e-3 # of the highest point",
        "  weight_decay: 0.05",
        "  schedule: one_cycle",
        "  warmup_fraction: 0.25",
        f"  loss: {loss}",
        *(["  class_weights: balanced # one class has more than five times the samples of another"] if unbalanced else []),
        "  seed: 0",
    ]


def _fractions(given: Sequence[str]) -> list[str]:
    note = f" # for splits that have no folder; found {', '.join(given)}" if given else " # of the samples"
    return [f"  val_fraction: 0.1{note}", "  test_fraction: 0.15"]


def _hint(path: Path, tree: Tree, depth: int) -> str:
    """Return what is to be done where the folders are no classes."""
    if depth == 1 and len(tops := _folders(tree, ())) == 1 and len(_folders(tree, (tops[0],))) > 1:
        return f": these lie in {printable(tops[0])}/, so name {printable(str(path / tops[0]))}"
    for source, name in (
        ("numpy_arrays", "images.npy"),
        ("numpy_arrays", "train/images.npy"),
        ("idx_files", "train-images*ubyte*"),
        ("cifar_files", "data_batch_1.bin"),
        ("cifar_files", "train.bin"),
    ):
        if found := next(path.glob(name), None):
            return f"; {source} reads {found.relative_to(path)}: copy a recipe in params.yaml and name that under data.source"
    if not tree.files and tree.problems:
        return f"; of what lies there, {tree.problems[0]}"
    loose = sum(file.count("/") < depth for file in tree.files)
    flat = f"; {loose:,} images lie in no folder of a class" if loose else ""
    tables = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in (".csv", ".tsv", ".xlsx", ".json"))
    if tables:
        such = printable(tables[0])
        return f"{flat}; labels in a table, such as {such}, are not read: move each image into the folder of its class"
    return f"{flat}: move each into the folder of its class" if loose else ""


def _folders(tree: Tree, within: tuple[str, ...]) -> list[str]:
    """Return the names of the folders in a folder."""
    return sorted(folder.name for folder in tree.folders if folder.parts[:-1] == within)


def _listed(path: Path) -> tuple[Tree, bool]:
    """Return what lies below a folder, as the checks see it, and whether its folders are splits.

    Raises:
        DataError: some folders are splits and others are not.
    """
    tree = walk(path, Path.cwd())
    problems: list[Problem] = []
    top = split_layout(tree, problems)
    if problems:
        raise DataError(str(path), problems)
    return tree, top
