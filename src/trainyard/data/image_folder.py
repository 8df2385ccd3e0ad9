"""A folder of images by class, as users have them: `<class>/<image>`, or `train/<class>/<image>` with val and test.

Classes are the folders' names in alphabetical order; images in folders below a class belong to it. Where only some of
train, val and test are there, the training samples are still to be divided: `RawDataset.split` is -1 for them.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import __version__ as pillow_version

from trainyard.data.groups import check_options, number_groups, read_groups
from trainyard.data.image_files import Channels, ImageFacts, ImageFileError, Resize, Size, read_image_and_facts
from trainyard.data.image_pieces import Progress, Row, Sample, decode, keep, survey, unreadable
from trainyard.data.image_tree import Tree, walk
from trainyard.data.problems import DataError, Problem, printable, settle
from trainyard.data.raw import RawDataset
from trainyard.data.splits import check_fractions, official_split
from trainyard.data.table_form import Findings
from trainyard.errors import InputError
from trainyard.params import Count, Fraction, Seed

SPLIT_FOLDERS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2, "testing": 2}
MANY_LOOSE = 5
"""Images of one folder and without a class, beyond which they are counted and not listed."""
_SPLIT_IN_NAME = re.compile(rf"(?:^|[^a-z])({'|'.join(SPLIT_FOLDERS)})(?:_?(?:set|data|images?|imgs?))?(?:$|[^a-z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFolderConfig:
    """Which folder of images, and how they become arrays of one shape."""

    source: Literal["image_folder"]
    path: str
    """Of the folder, relative to the project."""
    size: Count | tuple[Count, Count] | None = None
    """Height and width in pixels, or one number for both; needed where the images differ."""
    resize: Resize = "stretch"
    """stretch to the size, crop the middle of it, or pad with black."""
    channels: Channels | None = None
    """1 grey, 3 colours; needed where the images differ."""
    group: str | None = None
    """A regular expression to look for in the paths below the folder: what its parentheses hold names what must not be in two
    splits, such as (patient[0-9]+)_."""
    groups: str | None = None
    """Instead of it, a table in the folder with the columns path and group."""
    on_bad_sample: Literal["stop", "skip"] = "stop"
    """stop at images that cannot be read, or leave them out and count them."""
    seed: Seed = 0
    """Of the split."""
    val_fraction: Fraction = 0.1
    """Share of the samples, where no folder says which."""
    test_fraction: Fraction = 0.2
    """Share of the samples, where no folder says which."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        check_fractions(self.val_fraction, self.test_fraction)
        check_options(self.group, self.groups)


def load(
    config: ImageFolderConfig, root: Path, scratch: Path, *, progress: Progress | None = None, workers: int = -1
) -> RawDataset:
    """Return images (N, C, H, W) uint8, memory-mapped below `scratch`, and labels (N,), in the order of the paths.

    Raises:
        DataError: listing all that is wrong with the folder.
    """
    folder = existing_folder(config.path, root)
    tree = walk(folder, root, known=config.groups)
    problems = list(tree.problems)
    top = split_layout(tree, problems)
    if not top:
        name_like_splits(tree, problems)
    places = _places(tree.files, top, problems)
    found = [(path, split, name) for path, (split, name) in zip(tree.files, places, strict=True) if name is not None]
    classes = _classes(tree, top, found, problems)
    groups = read_groups(
        [(path, split) for path, split, _ in found],
        group=config.group,
        groups=config.groups,
        folder=folder,
        listed=tree.files,
        found=Findings(config.path, problems),
    )
    if any(p.severity != "warning" and not p.sample for p in problems):
        raise DataError(config.path, problems)
    found = [place for place in found if groups is None or place[0] in groups]
    samples = [Sample(folder=folder, name=path, state=tree.states[path]) for path, _, _ in found]
    shape, bad = common_shape(samples, config.size, config.channels, config.path, problems, progress, workers)
    kept = np.array([index for index in range(len(samples)) if index not in bad], dtype=np.int64)
    decoder = partial(decode_image, shape=shape, resize=config.resize)
    arrays, rows = decode(
        [samples[index] for index in kept],
        decoder,
        {"images": shape},
        scratch,
        settings=config.resize,
        progress=progress,
        workers=workers,
    )
    problems += [problem for row in rows for problem in row.problems]
    warnings, skipped = settle(config.path, problems, config.on_bad_sample)
    usable = np.array([row.usable for row in rows], dtype=bool)
    arrays = keep(arrays, np.flatnonzero(usable), scratch)
    chosen = [found[index] for index in kept[usable]]
    numbers = {name: number for number, name in enumerate(classes)}
    arrays["labels"] = np.array([numbers[name] for _, _, name in chosen], dtype=np.int64)
    return RawDataset(
        kind="image_classification",
        classes=classes,
        arrays=arrays,
        about=f"{len(chosen):,} images of {len(classes)} classes from {printable(config.path)}",
        libraries={"Pillow": pillow_version},
        groups=None if groups is None else number_groups([groups[path] for path, _, _ in chosen]),
        split=official_split([split for _, split, _ in chosen]) if top else None,
        names=tuple(printable(path) for path, _, _ in chosen),
        warnings=warnings,
        skipped=skipped,
    )


def existing_folder(path: str, root: Path) -> Path:
    """Return the folder of a source.

    Raises:
        InputError: it is not there.
    """
    folder = root / path
    if not folder.is_dir():
        raise InputError(f"data.path {path}: no such folder in {root}; put the images there, or mend the path")
    return folder


def split_layout(tree: Tree, problems: list[Problem]) -> bool:
    """Whether the top folders are train, val and test; adds what is wrong about them."""
    top = [folder.name for folder in tree.folders if len(folder.parts) == 1]
    named = [name for name in top if name.lower() in SPLIT_FOLDERS]
    others = [name for name in top if name not in named]
    if not any(SPLIT_FOLDERS[name.lower()] == 0 for name in named):
        if named and not others and any(path.count("/") > 1 for path in tree.files):
            expected = "add a folder train, or move what is to be divided one level up"
            add(problems, "no-train", ".", f"folder{'s' if len(named) > 1 else ''} {', '.join(named)} alone", expected)
        return False
    if others and any(path.count("/") > 1 and path.partition("/")[0] in named for path in tree.files):
        expected = f"keep splits or classes, not both: move {', '.join(others)} elsewhere, or rename what is a split"
        add(problems, "mixed-layout", ".", f"{', '.join(named)} beside {', '.join(others)}", expected)
    numbers = Counter(SPLIT_FOLDERS[name.lower()] for name in named)
    if max(numbers.values()) > 1 and not others:
        add(problems, "two-splits", ".", f"folders {', '.join(named)}", "keep one folder for each split")
    return not others


def name_like_splits(tree: Tree, problems: list[Problem]) -> None:
    """Add that folders of classes are named like splits, such as seg_train and seg_test: they would be learned as classes."""
    kinds: dict[str, dict[int, str]] = defaultdict(dict)
    for folder in tree.folders:
        name = folder.name.lower()
        if len(folder.parts) == 1 and (found := _SPLIT_IN_NAME.search(name)):
            rest = re.sub(r"[\W\d_]", "", name[: found.start()] + name[found.end() :])
            kinds[rest][SPLIT_FOLDERS[found[1]]] = folder.name
    for names in kinds.values():
        if 0 in names and len(names) > 1:
            listed = ", ".join(names[number] for number in sorted(names))
            said = f"folders {listed}, which are named like splits and would be classes"
            add(problems, "like-splits", ".", said, "rename them train, val and test, and move other folders elsewhere")


def add(problems: list[Problem], rule: str, where: str, found: str, expected: str, *, warning: bool = False) -> None:
    """Add what concerns more than one sample."""
    severity: Literal["warning", "error"] = "warning" if warning else "error"
    problems.append(Problem(rule=rule, where=where, found=found, expected=expected, severity=severity))


def _places(paths: Sequence[str], top: bool, problems: list[Problem]) -> list[tuple[int, str | None]]:
    """Return the split and the class of each image, which are those of its folder where nothing is wrong there."""
    known: dict[str, tuple[int, str | None]] = {}
    loose = Counter(path.rpartition("/")[0] for path in paths)
    places = []
    for path in paths:
        folder = path.rpartition("/")[0]
        place = known.get(folder)
        if place is None:
            before = len(problems)
            place = _place(path, top, problems)
            if place[1] is None and loose[folder] > MANY_LOOSE:
                # One line for all of them, such as those of a test folder without labels.
                found = f"{loose[folder]:,} images outside of any class folder, such as {path.rpartition('/')[2]}"
                expected = "put each into the folder of its class, or move those without a class elsewhere"
                problems[before:] = []
                add(problems, "no-class", folder or ".", found, expected)
                known[folder] = place
            if len(problems) == before:
                known[folder] = place
        places.append(place)
    return places


def _place(path: str, top: bool, problems: list[Problem]) -> tuple[int, str | None]:
    """Return the split and the class of an image."""
    first, *rest = path.split("/")
    parts = rest if top else [first, *rest]
    split = SPLIT_FOLDERS[first.lower()] if top and rest else 0
    if len(parts) < 2:
        add(problems, "no-class", path, "an image outside of any class folder", "put it into the folder of its class")
        return split, None
    if len(parts) > 2 and not top and parts[1].lower() in SPLIT_FOLDERS:
        add(problems, "mixed-layout", path, f"a split within class {parts[0]}", f"use {parts[1]}/{parts[0]}/ instead")
    return split, unicodedata.normalize("NFC", parts[0])


def _classes(tree: Tree, top: bool, found: Sequence[tuple[str, int, str | None]], problems: list[Problem]) -> tuple[str, ...]:
    """Return the classes, and add what is wrong about them and their folders."""
    depth = 2 if top else 1
    folders = [folder for folder in tree.folders if len(folder.parts) == depth]
    filled = Counter((split, name) for _, split, name in found)
    closed = {problem.where for problem in problems if problem.rule == "unreadable-folder"}
    seen: dict[tuple[str, ...], PurePosixPath] = {}
    for folder in folders:
        name = unicodedata.normalize("NFC", folder.name)
        split = SPLIT_FOLDERS[folder.parts[0].lower()] if top else 0
        if not _is_text(name):
            add(problems, "name-not-utf8", str(folder), "a name that is not UTF-8", "rename the folder")
        twin = seen.setdefault((*folder.parts[:-1], name), folder)
        if twin is not folder:
            add(problems, "twin-names", str(folder), f"the same name as {str(twin)!a} to a reader", "rename one of them")
        if not filled[split, name] and str(folder) not in closed:
            elsewhere = split != 0 and filled[0, name] > 0
            add(problems, "empty-class", str(folder), "no image in it", "add images, or take the folder out", warning=elsewhere)
    nested = sorted({path.rpartition("/")[0] for path, _, _ in found if path.count("/") > depth})
    for where in nested:
        add(problems, "nested-folder", where, "a folder within a class", "its images count for the class", warning=True)
    classes = tuple(sorted({name for _, _, name in found if name is not None}))
    _check_classes(classes, {name for split, name in filled if split == 0 and name is not None}, problems)
    return classes


def _check_classes(classes: tuple[str, ...], in_train: set[str], problems: list[Problem]) -> None:
    twins = _differ_in_case(classes)
    for name, other in twins.items():
        if name > other:
            found_twin = f"a class whose name differs from {other} in case only"
            add(problems, "case-only-classes", name, found_twin, "rename one, if they are meant to be one", warning=True)
    for name in classes:
        if name not in in_train:
            expected = f"rename it, if {twins[name]} is meant" if name in twins else "add some to train, or delete the class"
            add(problems, "class-not-in-train", name, "images in val or test only", expected)
    if len(classes) < 2:
        have = f"{len(classes)} class{'es' if len(classes) != 1 else ''} ({', '.join(classes) or 'no images'})"
        add(problems, "too-few-classes", ".", have, "make a folder of images for each of two classes or more")


def _differ_in_case(names: Sequence[str]) -> dict[str, str]:
    """Return names beside another one that is the same but for upper and lower case."""
    folded: dict[str, list[str]] = defaultdict(list)
    for name in names:
        folded[name.casefold()].append(name)
    pairs = [same for same in folded.values() if len(same) > 1]
    return {name: other for same in pairs for name, other in zip(same, [same[1], *same], strict=False)}


def _is_text(name: str) -> bool:
    return name == os.fsencode(name).decode("utf-8", "replace")


def common_shape(
    samples: Sequence[Sample],
    size: int | Size | None,
    channels: Channels | None,
    source: str,
    problems: list[Problem],
    progress: Progress | None,
    workers: int,
) -> tuple[tuple[int, int, int], set[int]]:
    """Return the shape (C, H, W) that all images get, and the numbers of those that cannot be opened.

    Raises:
        DataError: they differ, and nothing says what to make of them.
    """
    bad: set[int] = set()
    wanted = (size, size) if isinstance(size, int) else size
    if wanted is None or channels is None:
        found = survey(samples, progress, workers)
        bad = {index for index, facts in enumerate(found) if isinstance(facts, Problem)}
        problems += [facts for facts in found if isinstance(facts, Problem)]
        known = [facts for facts in found if isinstance(facts, ImageFacts)]
        sizes = Counter((facts.height, facts.width) for facts in known)
        kinds = Counter(facts.channels for facts in known)
        if wanted is None and len(sizes) > 1:
            table = _table(Counter({f"{height} x {width}": count for (height, width), count in sizes.items()}))
            add(problems, "mixed-sizes", ".", f"heights and widths {table}", "set data.size, such as 64, and data.resize")
        if channels is None and len(kinds) > 1:
            table = _table(Counter(f"{facts.mode} ({facts.channels} channels)" for facts in known))
            add(problems, "mixed-channels", ".", f"kinds of pixels {table}", "set data.channels: 3, or 1 for grey")
        if not known or any(problem.rule in ("mixed-sizes", "mixed-channels") for problem in problems):
            raise DataError(source, problems)
        wanted = wanted or next(iter(sizes))
        return (channels if channels is not None else next(iter(kinds)), *wanted), bad
    return (channels, *wanted), bad


def _table(counts: Counter[str]) -> str:
    listed = [f"{name}: {count:,} images" for name, count in counts.most_common(8)]
    return "; ".join(listed) + (f"; and {len(counts) - 8:,} more kinds" if len(counts) > 8 else "")


def decode_image(
    sample: Sample, shape: tuple[int, int, int], resize: Resize
) -> tuple[dict[str, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]], Row]:
    """Return the image (C, H, W) of a sample, or what is wrong with it."""
    channels: Channels = 1 if shape[0] == 1 else 3
    try:
        image, facts = read_image_and_facts(sample.image, channels=channels, size=shape[1:], resize=resize)
    except ImageFileError as error:
        return {}, Row(problems=(error.problem(sample.name),))
    except OSError as error:
        return {}, Row(problems=(unreadable(sample.name, error),))
    if facts.frames > 1 and facts.format != "MPO":
        problems: list[Problem] = []
        add(problems, "several-frames", sample.name, f"{facts.frames} frames", "the first one is taken", warning=True)
        return {"images": image}, Row(problems=tuple(problems))
    return {"images": image}, Row()
