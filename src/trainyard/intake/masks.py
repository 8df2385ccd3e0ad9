"""What a folder of images and masks shows: which folders they are, how their names differ, and what the masks' values mean."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from trainyard.data.image_files import ImageFileError, inspect, packed_colours, read_image, read_mask
from trainyard.data.image_masks import stem_of, suffix_of
from trainyard.data.image_tree import Tree
from trainyard.data.problems import printable
from trainyard.data.raw import MASK_CLASSES
from trainyard.errors import InputError
from trainyard.recipe_text import in_quotes, quoted_path

MASKS_LOOKED_AT = 50
SIDES_LOOKED_AT = 5
"""Files of a folder that show whether it holds masks."""
VALUES_OF_MASKS = 48
"""Colours or values that a mask has at most, where a folder of another name is taken for one of masks."""
LONGEST_LABELMAP = 2**16
"""Signs that are read of it."""
SINGLE_OBJECTS = 5
"""Different numbers of values among masks that count from 1, from which on they look like those of single objects."""
SOFT_VALUES = 16
"""From so many values on, masks of 0 and 255 may be soft edges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The folders of the images and of their masks."""

    images: str
    masks: str
    suffix: str = ""
    """Behind the names of the masks."""

    def lines(self) -> list[str]:
        """Return the keys of a recipe that say so."""
        named = {"images": self.images, "masks": self.masks, "mask_suffix": self.suffix}
        usual = {"images": "images", "masks": "masks", "mask_suffix": ""}
        return [f"  {key}: {quoted_path(value)}" for key, value in named.items() if value != usual[key]]


def find_sides(path: Path, tree: Tree, top: bool) -> Sides | None:
    """Return which folders hold images and masks: those of these names, or two of which one shows masks of the other.

    Args:
        path: of the data.
        tree: what lies there.
        top: the first folders are splits.
    """
    start = 1 if top else 0
    files: dict[str, list[str]] = defaultdict(list)
    for file in tree.files:
        parts = file.split("/")
        if len(parts) > start + 1:
            files[parts[start]].append(file)
    if {"images", "masks"} <= files.keys():
        images, masks = ({stem_of(PurePosixPath(file), start) for file in files[name]} for name in ("images", "masks"))
        return Sides(images="images", masks="masks", suffix="" if images & masks else suffix_of(images, masks))
    few = {name for name in files if _show_masks(path, files[name])}
    if not few or len(few) == len(files):
        return None
    stems = {name: {stem_of(PurePosixPath(file), start): path / file for file in files[name]} for name in files}
    for mask, image in ((mask, image) for mask in sorted(few) for image in sorted(files.keys() - few)):
        suffix = "" if stems[image].keys() & stems[mask].keys() else suffix_of(stems[image].keys(), stems[mask].keys())
        if (suffix or stems[mask].keys() <= stems[image].keys()) and _as_large(stems[image], stems[mask], suffix):
            return Sides(images=image, masks=mask, suffix=suffix)
    return None


def _as_large(images: Mapping[tuple[str, ...], Path], masks: Mapping[tuple[str, ...], Path], suffix: str) -> bool:
    """Whether some masks have the sizes of their images."""
    every = -(-len(masks) // SIDES_LOOKED_AT)
    for stem in list(masks)[::every]:
        try:
            mask, image = inspect(masks[stem]), inspect(images[*stem[:-1], stem[-1].removesuffix(suffix)])
        except (OSError, ImageFileError):
            return False
        if (mask.width, mask.height) != (image.width, image.height):
            return False
    return True


def _show_masks(path: Path, files: Sequence[str]) -> bool:
    """Whether pictures have so few colours that they are masks, and not photographs."""
    most = 0
    for file in some(files, SIDES_LOOKED_AT):
        if file.lower().endswith((".jpg", ".jpeg")):
            return False
        try:
            colours = len(np.unique(_packed(path / file)))
        except (OSError, ImageFileError):
            return False
        if colours > VALUES_OF_MASKS:
            return False
        most = max(most, colours)
    return most > 1


def mask_classes(folder: Path, masks: Sequence[str]) -> list[str]:
    """Return the lines that say what the values of the masks mean, from those that are in some of them."""
    pixels: Counter[int] = Counter()
    counted_up: set[int] = set()
    counts_up = True
    for file in some(masks, MASKS_LOOKED_AT):
        try:
            found, counts = np.unique(read_mask(folder / file), return_counts=True)
            pixels.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
            counts_up = counts_up and found[-1] - found[0] == len(found) - 1 and found[0] <= 1
            counted_up.add(int(found[-1]))
        except ImageFileError as error:
            if error.rule == "damaged-image":
                continue
            if error.rule == "mask-colours":
                return _colour_lines(folder, masks)
            raise InputError(f"{folder / file}: {error.found}; {error.expected}") from None
        except OSError:
            continue
    if not pixels:
        raise InputError(f"{folder}: none of its masks could be read as an image; look at {printable(masks[0])}")
    _refuse_soft_edges(folder, pixels)
    lines = _value_lines(folder, sorted(pixels))
    if counts_up and len(counted_up) >= SINGLE_OBJECTS:
        lines[0] += ", in each mask from 1 on: if these number single objects, make 0 and 1 of them"
    return lines


def _colour_lines(folder: Path, masks: Sequence[str]) -> list[str]:
    """Return names for the colours of masks, those of labelmap.txt (as CVAT writes it) where they stand there."""
    pixels: Counter[int] = Counter()
    for file in some(masks, MASKS_LOOKED_AT):
        try:
            values, counts = np.unique(_packed(folder / file), return_counts=True)
        except (OSError, ImageFileError):
            continue
        pixels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        if len(pixels) > MASK_CLASSES:
            raise InputError(
                f"{folder / file}: with this mask, {len(pixels):,} colours in masks; expected one for each class, "
                f"{MASK_CLASSES} at most: save masks as PNG, with neither soft edges nor shades"
            )
    known = _labelmap(folder)
    first = 0 if 0 in pixels or len(pixels) < 2 else pixels.most_common(1)[0][0]
    colours = [first, *sorted(pixels.keys() - {first})]
    names = [known.get(colour, "background" if not number else f"class_{number}") for number, colour in enumerate(colours)]
    if len(set(names)) < len(names):
        names = ["background", *(f"class_{number}" for number in range(1, len(names)))]
    pairs = ", ".join(
        f"{in_quotes(name)}: [{colour >> 16}, {colour >> 8 & 255}, {colour & 255}]"
        for name, colour in zip(names, colours, strict=True)
    )
    return [
        f"  classes: [{', '.join(map(in_quotes, names))}] # the first one counts as background",
        f"  mask_values: {{{pairs}}} # red, green, blue, as found",
    ]


def _packed(mask: Path) -> NDArray[np.int64]:
    """Return the colour of each pixel (H, W) of a file as one number."""
    return packed_colours(np.moveaxis(read_image(mask, channels=3, size=None, resize="stretch"), 0, -1))


def _labelmap(folder: Path) -> dict[int, str]:
    """Return names by colour from lines such as `cat:128,0,0::`."""
    try:
        text = (folder / "labelmap.txt").read_text(encoding="utf-8")[:LONGEST_LABELMAP]
    except (OSError, UnicodeDecodeError):
        return {}
    found = re.findall(r"^([^#:\n][^:\n]*):(\d{1,3}),(\d{1,3}),(\d{1,3}):", text, flags=re.MULTILINE)
    return {int(red) << 16 | int(green) << 8 | int(blue): name.strip() for name, red, green, blue in found}


def _refuse_soft_edges(folder: Path, pixels: Counter[int]) -> None:
    """Refuse masks of 0 and 255 with greys between them: each would become a class."""
    between = [value for value in pixels if 0 < value < 255]
    sides = Counter(value > 127 for value in between)
    spread = min(sides[False], sides[True]) >= SOFT_VALUES // 4
    if len(between) >= SOFT_VALUES and spread and max(pixels) == 255 and pixels[0] + pixels[255] > 0.8 * pixels.total():
        raise InputError(
            f"{folder}: the masks hold {len(between)} greys between 0 and 255, as soft edges and JPEGs have; save them anew "
            "with 0 and 255 alone, such as `mask > 127`"
        )


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
    unlabelled = (
        "; 255 often means: not labelled. It is learned like the others" if known[-2] < 128 and known[-1] == 255 else ""
    )
    return [
        f"  classes: [{', '.join(names_of.values())}] # the first one counts as background{unlabelled}",
        f"  mask_values: {{{pairs}}} {found}",
    ]


def some(files: Sequence[str], count: int) -> Sequence[str]:
    """Return so many files or somewhat fewer, evenly chosen."""
    return files[:: -(-len(files) // count)]
