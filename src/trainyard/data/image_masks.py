"""Images with a mask each, paired by their names: `images/cell_07.jpg` with `masks/cell_07.png`.

Both folders stand in `path`, or in its folders train, val and test; or these stand in both of them. A mask's values say
the class of each pixel as `mask_values` states; masks are resized to the nearest id, never between two.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import __version__ as pillow_version

from trainyard.data.groups import check_options, number_groups, read_groups
from trainyard.data.image_files import Channels, ImageFileError, Resize, read_image_and_facts, read_mask, resize_mask
from trainyard.data.image_folder import SPLIT_FOLDERS, add, common_shape, existing_folder, split_layout
from trainyard.data.image_pieces import Progress, Row, Sample, decode, keep, unreadable
from trainyard.data.image_tree import walk
from trainyard.data.problems import DataError, Problem, printable, settle
from trainyard.data.raw import MASK_CLASSES, RawDataset
from trainyard.data.splits import check_fractions, official_split, ordered_split
from trainyard.data.table_form import Findings
from trainyard.params import Count, Fraction, Seed

MaskValues = Literal["ids", "binary"] | dict[str, int | tuple[int, int, int]]
Pair = tuple[int, PurePosixPath, PurePosixPath]
"""Split, image and mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMasksConfig:
    """Which images and masks, and how they become arrays of one shape."""

    source: Literal["image_masks"]
    path: str
    """Of the folder, relative to the project."""
    classes: tuple[str, ...]
    """What the pixels show, in the order of the ids; the first one is the background."""
    images: str = "images"
    """Name of the folder with the images."""
    masks: str = "masks"
    """Name of the folder with the masks."""
    mask_suffix: str = ""
    """What the masks' names have behind those of their images, such as _mask: cell_07.jpg and cell_07_mask.png."""
    mask_values: MaskValues = "ids"
    """ids: 0 is the first class, 1 the second. binary: 0 and 255. Or for each class its value, or [red, green, blue]."""
    size: Count | tuple[Count, Count] | None = None
    """Height and width in pixels, or one number for both; needed where the images differ."""
    resize: Resize = "stretch"
    """stretch to the size, crop the middle of it, or pad with black and the first class."""
    channels: Channels | None = None
    """1 grey, 3 colours; needed where the images differ."""
    group: str | None = None
    """A regular expression to look for in the images' paths below the folder: what its parentheses hold names what must not
    be in two splits, such as (patient[0-9]+)_."""
    groups: str | None = None
    """Instead of it, a table in the folder with the columns path (of an image) and group."""
    on_bad_sample: Literal["stop", "skip"] = "stop"
    """stop at samples that cannot be read, or leave them out and count them."""
    split_by: Literal["chance", "order"] = "chance"
    """Where no folder says which. order: the last samples by their names are tested, those before them validated; for slices
    of a stack and frames of a film, which are much like their neighbours."""
    seed: Seed = 0
    """Of the split by chance."""
    val_fraction: Fraction = 0.1
    """Share of the samples, where no folder says which."""
    test_fraction: Fraction = 0.2
    """Share of the samples, where no folder says which."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        check_fractions(self.val_fraction, self.test_fraction)
        check_options(self.group, self.groups)
        if self.split_by == "order" and (self.group or self.groups):
            raise ValueError("split_by order cuts groups where the numbers fall; remove it, or group and groups")
        if not 2 <= len(set(self.classes)) == len(self.classes) <= MASK_CLASSES:
            raise ValueError(f"classes: found {list(self.classes)}; name between 2 and {MASK_CLASSES} classes, each once")
        if self.images == self.masks:
            raise ValueError(f"images and masks are both {self.images}; give each its own folder")
        if self.mask_values == "binary" and len(self.classes) != 2:
            raise ValueError(f"mask_values binary and {len(self.classes)} classes; name two classes, or give each its value")
        if not isinstance(self.mask_values, str):
            _check_values(self.mask_values, self.classes)


def load(
    config: ImageMasksConfig, root: Path, scratch: Path, *, progress: Progress | None = None, workers: int = -1
) -> RawDataset:
    """Return images (N, C, H, W) and masks (N, H, W), both uint8 and memory-mapped below `scratch`.

    Strata are the class that most pixels show besides the first one, or 0.

    Raises:
        DataError: listing all that is wrong with the folder.
    """
    folder = existing_folder(config.path, root)
    tree = walk(folder, root, known=config.groups)
    problems = list(tree.problems)
    top = split_layout(tree, problems)
    files = [PurePosixPath(file) for file in tree.files]
    split_at = 0 if top else 1 if splits_within(files, (config.images, config.masks), problems) else None
    if split_at is not None and config.split_by == "order":
        add(problems, "split-twice", ".", "folders train, val or test, and data.split_by: order", "remove one of them")
    pairs = _pairs(files, split_at, config, problems)
    groups = read_groups(
        [(str(image), split) for split, image, _ in pairs],
        group=config.group,
        groups=config.groups,
        folder=folder,
        listed=tree.files,
        found=Findings(config.path, problems),
    )
    if not pairs or any(p.severity != "warning" and not p.sample for p in problems):
        if not pairs and not any(problem.rule == "mask-names" for problem in problems):
            expected = f"put images into {config.images}/ and masks of the same names into {config.masks}/"
            add(problems, "no-pairs", ".", "no image with a mask", expected)
        raise DataError(config.path, problems)
    pairs = [pair for pair in pairs if groups is None or str(pair[1]) in groups]
    samples = [
        Sample(
            folder=folder,
            name=str(image),
            mask_name=str(mask),
            state=tree.states[str(image)],
            mask_state=tree.states[str(mask)],
        )
        for _, image, mask in pairs
    ]
    shape, bad = common_shape(samples, config.size, config.channels, config.path, problems, progress, workers)
    kept = np.array([index for index in range(len(samples)) if index not in bad], dtype=np.int64)
    arrays, rows = decode(
        [samples[index] for index in kept],
        partial(_decode, shape=shape, config=config),
        {"images": shape, "masks": shape[1:]},
        scratch,
        settings=repr((config.resize, config.classes, config.mask_values)),
        progress=progress,
        workers=workers,
    )
    problems += [problem for row in rows for problem in row.problems]
    usable = np.array([row.usable for row in rows], dtype=bool)
    strata = np.array([row.stratum for row in rows], dtype=np.int64)[usable]
    uniform = strata[np.array([row.uniform for row in rows], dtype=bool)[usable]]
    for rule, numbers in (("empty-masks", uniform[uniform == 0]), ("uniform-masks", uniform[uniform > 0])):
        if len(numbers):
            shown = ", ".join(config.classes[number] for number in np.unique(numbers))
            share = f"{len(numbers):,} of {len(strata):,} masks ({len(numbers) / len(strata):.0%})"
            found = f"{share} show nothing but {shown}" if rule == "empty-masks" else f"{share} show one class only ({shown})"
            add(problems, rule, config.masks, found, "check that this is meant", warning=True)
    warnings, skipped = settle(config.path, problems, config.on_bad_sample)
    chosen = [pairs[index] for index in kept[usable]]
    names = [str(image) for _, image, _ in chosen]
    split = None if split_at is None else official_split([split for split, _, _ in chosen])
    if config.split_by == "order":
        split = ordered_split(names, val_fraction=config.val_fraction, test_fraction=config.test_fraction)
    return RawDataset(
        kind="segmentation",
        classes=config.classes,
        arrays=keep(arrays, np.flatnonzero(usable), scratch),
        about=f"{len(chosen):,} images with masks of {len(config.classes)} classes from {printable(config.path)}",
        libraries={"Pillow": pillow_version},
        groups=None if groups is None else number_groups([groups[name] for name in names]),
        strata=strata,
        split=split,
        names=tuple(map(printable, names)),
        warnings=warnings,
        skipped=skipped,
    )


def _check_values(values: Mapping[str, int | tuple[int, int, int]], classes: tuple[str, ...]) -> None:
    if set(values) != set(classes):
        raise ValueError(f"mask_values names {sorted(values)} and classes {sorted(classes)}; name the same ones")
    if len({type(value) for value in values.values()}) > 1 or len(set(values.values())) < len(values):
        raise ValueError("mask_values: holds numbers beside colours, or one twice; give each class a value of its own")


def splits_within(files: list[PurePosixPath], sides: tuple[str, str], problems: list[Problem]) -> bool:
    """Whether the folders of images and of masks hold train, val and test, and no others; adds what is wrong about them."""
    within = {path.parts[1] if len(path.parts) > 2 else "" for path in files if path.parts[0] in sides}
    named = {name for name in within if name.lower() in SPLIT_FOLDERS}
    if not named or named < within:
        if any(SPLIT_FOLDERS[name.lower()] == 0 for name in named) and len(named) > 1:
            found = f"{', '.join(sorted(named))} in {' and '.join(sides)}, beside other files or folders"
            add(problems, "mixed-layout", ".", found, "put all into train, val and test, or rename those folders")
        return False
    if not any(SPLIT_FOLDERS[name.lower()] == 0 for name in named):
        expected = "add a folder train to both, or rename these"
        add(problems, "no-train", ".", f"{', '.join(sorted(named))} alone in {' and '.join(sides)}", expected)
    return True


def _pairs(files: list[PurePosixPath], split_at: int | None, config: ImageMasksConfig, problems: list[Problem]) -> list[Pair]:
    """Return images with their masks, in the order of the images' paths.

    Args:
        files: of the whole folder.
        split_at: which part of a path names its split: the first one, the second one, or none.
        config: names the folders.
        problems: what is wrong is added to it.
    """
    start = 1 if split_at == 0 else 0
    sides: dict[str, dict[tuple[str, ...], list[PurePosixPath]]] = {
        config.images: defaultdict(list),
        config.masks: defaultdict(list),
    }
    outside: Counter[str] = Counter()
    unnamed: Counter[str] = Counter()
    for path in files:
        side = path.parts[start] if len(path.parts) > start + 1 else ""
        suffix = config.mask_suffix if side == config.masks else ""
        if side not in sides:
            outside[str(path.parent)] += 1
        elif not path.stem.endswith(suffix):
            unnamed[str(path.parent)] += 1
        else:
            sides[side][stem_of(path, start, suffix)].append(path)
    for counts, said in (
        (outside, f"outside of {config.images}/ and {config.masks}/"),
        (unnamed, f"whose names do not end in {printable(config.mask_suffix)}"),
    ):
        for where, count in sorted(counts.items()):
            add(problems, "stray-files", where, f"{count:,} images {said}", "they are left out", warning=True)
    images, masks = sides[config.images], sides[config.masks]
    for stems in (images, masks):
        for same in stems.values():
            if len(same) > 1:
                found = f"the same name as {', '.join(map(str, same[:-1]))}"
                add(problems, "twin-names", str(same[-1]), found, "keep one, or rename it")
    if not images.keys() & masks.keys() and (suffix := suffix_of(images, masks)):
        found, expected = f"names that end in {suffix}, where those of the images do not", f"set data.mask_suffix: {suffix}"
        add(problems, "mask-names", config.masks, found, expected)
        return []
    _report_unpaired(images, masks, "missing-mask", f"no mask of this name in {config.masks}/", problems)
    _report_unpaired(masks, images, "missing-image", f"no image of this name in {config.images}/", problems)
    return [
        (0 if split_at is None else SPLIT_FOLDERS[same[0].parts[split_at].lower()], same[0], masks[stem][0])
        for stem, same in images.items()
        if stem in masks
    ]


def suffix_of(images: Collection[tuple[str, ...]], masks: Collection[tuple[str, ...]]) -> str:
    """Return what the names of all masks have behind those of images, or nothing where they have nothing in common.

    Args:
        images: folders and name, without its end, of each image.
        masks: of each mask.
    """
    by_length = sorted(masks, key=lambda stem: len(stem[-1]))
    if not by_length:
        return ""
    *folders, name = by_length[0]
    before = next((end for end in range(len(name) - 1, 0, -1) if (*folders, name[:end]) in images), len(name))
    suffix = name[before:]
    fits = all(name.endswith(suffix) and (*folders, name.removesuffix(suffix)) in images for *folders, name in masks)
    return suffix if fits else ""


def stem_of(path: PurePosixPath, start: int, suffix: str = "") -> tuple[str, ...]:
    """Return what an image and its mask have in common: folders and name, without what tells the two apart.

    Args:
        path: of either.
        start: which part of it names the folder of the images or that of the masks.
        suffix: what the name has behind that of the image.
    """
    parts = (*path.parts[:start], *path.parts[start + 1 : -1], path.stem.removesuffix(suffix))
    return tuple(unicodedata.normalize("NFC", part) for part in parts)


def _report_unpaired(
    stems: Mapping[tuple[str, ...], list[PurePosixPath]],
    others: Mapping[tuple[str, ...], list[PurePosixPath]],
    rule: str,
    found: str,
    problems: list[Problem],
) -> None:
    folded = {tuple(part.casefold() for part in stem): same[0] for stem, same in others.items()}
    for stem in stems.keys() - others.keys():
        near = folded.get(tuple(part.casefold() for part in stem))
        hint = f"{near} differs in case only: rename one of them" if near else "add it, or take this file out"
        problems.append(Problem(rule=rule, where=str(stems[stem][0]), found=found, expected=hint, sample=True))
    problems.sort(key=lambda problem: problem.where)


def _decode(sample: Sample, shape: tuple[int, int, int], config: ImageMasksConfig) -> tuple[dict[str, NDArray[np.uint8]], Row]:
    """Return the image (C, H, W) and the mask (H, W) of a sample, or all that is wrong with the two."""
    channels: Channels = 1 if shape[0] == 1 else 3
    problems = []
    image: NDArray[np.uint8] = np.empty(0, dtype=np.uint8)
    mask: NDArray[np.uint8] = np.empty(0, dtype=np.uint8)
    own: tuple[int, ...] = ()
    try:
        image, facts = read_image_and_facts(sample.image, channels=channels, size=shape[1:], resize=config.resize)
        own = facts.height, facts.width
    except (ImageFileError, OSError) as error:
        problems.append(_problem(sample.name, error))
    try:
        mask = _read_classes(sample.mask or sample.image, config)
    except (ImageFileError, OSError) as error:
        problems.append(_problem(sample.mask_name, error))
    if not problems and own != mask.shape:
        found = f"{mask.shape[0]} x {mask.shape[1]} pixels high and wide"
        expected = f"{sample.name} has {own[0]} x {own[1]}: make them the same"
        if own == mask.shape[::-1]:
            expected += "; images are turned as their camera notes, so turn the mask, or take the note out of the image"
        problems.append(Problem(rule="size-mismatch", where=sample.mask_name, found=found, expected=expected, sample=True))
    if problems:
        return {}, Row(problems=tuple(problems))
    if mask.shape != shape[1:]:
        mask = resize_mask(mask, shape[1:], config.resize)
    counts = np.bincount(mask.ravel(), minlength=len(config.classes))
    foreground = counts[1:]
    stratum = int(foreground.argmax()) + 1 if foreground.any() else 0
    return {"images": image, "masks": mask}, Row(stratum=stratum, uniform=bool(counts.max() == mask.size))


def _problem(name: str, error: ImageFileError | OSError) -> Problem:
    return error.problem(name) if isinstance(error, ImageFileError) else unreadable(name, error)


def _read_classes(path: Path, config: ImageMasksConfig) -> NDArray[np.uint8]:
    """Return the number of the class of each pixel (H, W)."""
    values = config.mask_values
    if isinstance(values, str):
        known = {0: 0, 1: 1, 255: 1} if values == "binary" else {number: number for number in range(len(config.classes))}
    else:
        colours = {value: config.classes.index(name) for name, value in values.items() if not isinstance(value, int)}
        if colours:
            return read_mask(path, colours=colours).astype(np.uint8)
        known = {value: config.classes.index(name) for name, value in values.items() if isinstance(value, int)}
    mask = read_mask(path)
    found, places, counts = np.unique(mask, return_inverse=True, return_counts=True)
    unknown = [number for number, value in enumerate(found.tolist()) if value not in known]
    if unknown:
        listed = ", ".join(f"{found[number]} ({counts[number]:,} pixels)" for number in unknown[:8])
        more = f" and {len(unknown) - 8:,} more" if len(unknown) > 8 else ""
        raise ImageFileError("mask-values", f"values without a class: {listed}{more}", _suggestion(found.tolist(), config))
    if values == "binary" and {1, 255} <= set(found.tolist()):
        said = f"1 ({counts[1]:,} pixels) beside 255 ({counts[-1]:,} pixels)"
        raise ImageFileError(
            "mask-values", said, "name three classes and their data.mask_values, or keep one of the two values"
        )
    table = np.array([known[value] for value in found.tolist()], dtype=np.uint8)
    return table[places].reshape(mask.shape)


def _suggestion(found: list[int], config: ImageMasksConfig) -> str:
    if set(found) <= {0, 255} and len(config.classes) == 2:
        return "set data.mask_values: binary"
    if len(config.classes) == 2 and {0, 255} < set(found) and len(found) > 3:
        return "keep 0 and 255 alone: if the others are soft edges, save the mask as `mask > 127`"
    if len(found) == len(config.classes):
        pairs = ", ".join(f"{name}: {value}" for name, value in zip(config.classes, found, strict=True))
        return f"if that is what they mean, set data.mask_values: {{{pairs}}}"
    return f"known are {len(config.classes)} classes: name more under data.classes, or mend the mask"
