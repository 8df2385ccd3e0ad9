"""A recipe for a folder of images, or of images and masks, that a user points at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from trainyard.data.image_files import ImageFileError, inspect, read_mask
from trainyard.data.image_folder import name_like_splits, split_layout
from trainyard.data.image_masks import splits_within
from trainyard.data.image_tree import Tree, walk
from trainyard.data.problems import DataError, Problem, printable
from trainyard.data.raw import MASK_CLASSES
from trainyard.errors import InputError
from trainyard.suggest_training import training_length

LOOKED_AT = 300
"""Files whose headers are read to see what there is; `trainyard check` reads them all."""
MASKS_LOOKED_AT = 50
SMALLEST, LARGEST = 8, 128
"""Pixels a side of images that keep their size, where all of them have it."""
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
            f"{path}: found {len(counts)} folders with {len(files)} images; expected one folder for each class, with its images"
        )
    pictures = look(path, files)
    side, channels = pictures.side(), 3 if pictures.colour else 1
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
        f"  size: {side} # pixels a side; every image is scaled to it. Larger shows more, and takes longer with its square",
        "  resize: crop # the middle of what is longer than it is wide; stretch and pad keep all of it",
        f"  channels: {channels} # {'colours' if channels == 3 else 'grey'}",
        "  on_bad_sample: stop # or skip: leave out what cannot be read, and list it in the card",
        "  seed: 0",
        *_fractions(_folders(tree, ()) if top else ()),
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
    tree, top = _listed(path)
    start = 1 if top else 0
    images, masks = ([file for file in tree.files if file.split("/")[start:-1][:1] == [name]] for name in ("images", "masks"))
    if not images or not masks:
        raise InputError(
            f"{path}: found {len(images)} files in images/ and {len(masks)} in masks/; expected one mask for each image, "
            "of the same name"
        )
    problems: list[Problem] = []
    within = not top and splits_within([PurePosixPath(file) for file in tree.files], ("images", "masks"), problems)
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
        *_mask_classes(path, masks),
        f"  size: {size} # pixels: height, width; images are scaled smoothly, masks by the nearest pixel",
        f"  channels: {3 if pictures.colour else 1}",
        "  on_bad_sample: stop # or skip: leave out what cannot be used, and list it in the card",
        "  seed: 0",
        *_fractions(_folders(tree, ()) if top else _folders(tree, ("images",)) if within else ()),
        "model:",
        f"  depth: {depth} # halvings on the way down",
        "  base_width: 16 # doubles at each level",
        "  normalisation: batch",
        *_training(len(images), "cross_entropy_dice", False, batch_size=16),
        "evaluate:",
    ]


def look(folder: Path, files: Sequence[str]) -> Pictures:
    """Return what the headers of some of the files say, evenly chosen; what is no image is left to the checks."""
    sizes: Counter[tuple[int, int]] = Counter()
    colour = False
    for file in _some(files, LOOKED_AT):
        try:
            facts = inspect(folder / file)
        except (OSError, ImageFileError):
            continue
        sizes[facts.width, facts.height] += 1
        colour = colour or facts.channels == 3
    if not sizes:
        raise InputError(f"{folder}: none of its files could be read as an image; look at {printable(files[0])}")
    return Pictures(count=len(files), sizes=sizes, colour=colour)


def _mask_classes(folder: Path, masks: Sequence[str]) -> list[str]:
    """Return the lines that say what the values of the masks mean, from those that are in some of them."""
    values: set[int] = set()
    for file in _some(masks, MASKS_LOOKED_AT):
        try:
            values.update(np.unique(read_mask(folder / file)).tolist())
        except ImageFileError as error:
            if error.rule == "damaged-image":
                continue
            hint = "write the recipe by hand, with mask_values: {class: [red, green, blue]}"
            expected = f"masks of colours need a colour map: {hint}" if error.rule == "mask-colours" else error.expected
            raise InputError(f"{folder / file}: {error.found}; {expected}") from None
        except OSError:
            continue
    if not values:
        raise InputError(f"{folder}: none of its masks could be read as an image; look at {printable(masks[0])}")
    return _value_lines(folder, sorted(values))


def _value_lines(folder: Path, values: list[int]) -> list[str]:
    """Return names for the values of masks, and which value is which class."""
    found = f"# found {values}"
    if set(values) <= {0, 255} or set(values) <= {0, 1}:
        binary = "binary" if 255 in values else "ids"
        return ["  classes: [background, object]", f"  mask_values: {binary} {found}"]
    if values[0] == 0 and values[-1] < 2 * len(values) and values[-1] < MASK_CLASSES:
        names = ", ".join(["background", *(f"class_{number}" for number in range(1, values[-1] + 1))])
        return [f"  classes: [{names}] {found}", "  mask_values: ids"]
    if len(values) > MASK_CLASSES:
        raise InputError(
            f"{folder}: the masks hold {len(values):,} different values, from {values[0]} to {values[-1]}; expected the number "
            f"of a class for each pixel, {MASK_CLASSES} classes at most: numbers of single objects, or shades, are none"
        )
    # Ids up to the highest value would be classes of which nearly all are never seen.
    known = values if len(values) > 1 else [0, *values]
    names_of = {value: "background" if value == 0 else f"class_{value}" for value in known}
    pairs = ", ".join(f"{name}: {value}" for value, name in names_of.items())
    return [
        f"  classes: [{', '.join(names_of.values())}] # the first one counts as background",
        f"  mask_values: {{{pairs}}} {found}",
    ]


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


def _some(files: Sequence[str], count: int) -> Sequence[str]:
    return files[:: -(-len(files) // count)]
