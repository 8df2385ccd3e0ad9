"""What is wrong with texts and their labels, beyond what one row shows."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trainyard.data.problems import printable
from trainyard.data.table_form import Findings

SPLITS = ("train", "val", "test")
LISTED = 8
LEAK_SHARE = 0.2
"""Texts that hold their own label as a word, from which on it is said; and only where they hold others half as often."""
LEAK_ROWS = 10
ID_CLASSES = 10
WHOLE = re.compile(r"[+-]?[0-9]{1,18}(\.0*)?")
TRUTHS = {"true": "1", "false": "0"}
"""As one program writes them, and another."""
NO_LABEL = {"nan", "na", "n/a", "#n/a", "<na>", "null", "\\n"}
"""What programs write where there is no label. `none` and the like are classes of many data sets."""


@dataclass(slots=True)
class Leak:
    """How often one column of texts holds the label of its row, and how often that of another row."""

    rows: int = 0
    equal: int = 0
    own: int = 0
    others: int = 0


@dataclass(slots=True)
class Samples:
    """The good rows of all files."""

    texts: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    splits: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    leaks: dict[str, Leak] = field(default_factory=lambda: defaultdict(Leak))
    seen: list[str] = field(default_factory=list)
    """Some labels, to compare texts with."""


def compare(samples: Samples, columns: Sequence[str], parts: Sequence[str], label: str) -> None:
    """Count whether a row's texts hold its label, and whether they hold another one."""
    if len(samples.seen) < LISTED and label not in samples.seen:
        samples.seen.append(label)
    others = [name for name in samples.seen if name != label]
    own = label.strip().casefold()
    # Another one for each row in turn, so that the order of the rows does not matter.
    other = others[len(samples.texts) % len(others)].strip().casefold() if others else own
    for column, part in zip(columns, parts, strict=True):
        leak, text = samples.leaks[column], part.strip().casefold()
        leak.rows += 1
        leak.equal += text == own
        leak.own += _holds(text, own)
        leak.others += other != own and _holds(text, other)


def _holds(text: str, word: str) -> bool:
    return word in text and re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


def check_leaks(samples: Samples, label: str, found: Findings) -> None:
    """Add the columns of texts that say the answer."""
    for column, leak in samples.leaks.items():
        share = leak.own / max(1, leak.rows)
        if leak.rows < LEAK_ROWS or share < LEAK_SHARE or leak.own < 2 * leak.others:
            continue
        said = f"the text {'equals' if leak.equal > leak.own / 2 else 'holds the word of'} {label} in {share:.0%} of the rows"
        expected = "a text that says its class teaches nothing: leave the column out, or take the word out of it"
        found.add("label-in-text", said, expected, at=column, severity="warning")


def check_classes(samples: Samples, label: str, found: Findings) -> tuple[str, ...]:
    """Return the classes in their order; what is wrong with them is added to `found`."""
    counts = Counter(samples.labels)
    whole = all(re.fullmatch(r"-?\d{1,18}", name) for name in counts)
    classes = sorted(counts, key=(lambda name: (int(name), name)) if whole else None)
    if len(counts) > max(ID_CLASSES, len(samples.labels) / 2):
        said = f"{len(counts):,} different values in {len(samples.labels):,} rows"
        found.add("label-is-id", said, "these look like ids or texts: name the column of the classes", at=label)
        return tuple(classes)
    if len(counts) < 2:
        said = f"one class ({printable(classes[0])})" if classes else "no rows that can be used"
        found.add("too-few-classes", said, "rows of two classes or more are needed", at=label)
        return tuple(classes)
    trained = Counter(name for name, split in zip(samples.labels, samples.splits, strict=True) if split == 0)
    missing = [split for number, split in enumerate(SPLITS) if number and number not in samples.splits]
    for name in classes:
        count = trained[name]
        place = "" if not missing or len(missing) == 2 else " in train"
        if not count:
            found.add("class-not-in-train", "rows in val or test only", "add some to train, or delete it", at=printable(name))
        elif count <= len(missing):
            needs = " and ".join(("train", *missing))
            expected = f"one for each of {needs} is needed: add rows of it, or leave the class out"
            found.add("rare-class", f"{count} row{'s' if count > 1 else ''}{place}", expected, at=printable(name))
        elif counts[name] == 1:
            found.add("rare-class", "1 row", "more are needed to learn it", at=printable(name), severity="warning")
    _check_names(counts, classes, found)
    return tuple(classes)


def _check_names(counts: Mapping[str, int], classes: Sequence[str], found: Findings) -> None:
    alike: dict[str, list[str]] = defaultdict(list)
    meant: dict[str, list[str]] = defaultdict(list)
    for label in classes:
        plain = label.strip().casefold()
        alike[plain].append(label)
        if WHOLE.fullmatch(plain) or plain in TRUTHS:
            meant[TRUTHS.get(plain) or str(int(plain.partition(".")[0]))].append(label)
        if plain in NO_LABEL:
            said, expected = (
                f"class {label!r} reads like a label that is missing",
                "if it is none, empty its cells, and see data.on_bad_sample",
            )
            found.add("no-class", said, expected, at=f"{counts[label]:,} rows", severity="warning")
    expected = "they count as different ones; if they are one, write it one way"
    for same in alike.values():
        if len(same) > 1:
            said = f"classes {', '.join(map(repr, same))} differ in case or outer spaces only"
            found.add("like-classes", said, expected, severity="warning")
    for same in meant.values():
        if len({label.strip().casefold() for label in same}) > 1:
            said = f"classes {', '.join(map(repr, same))} are ways to write one value"
            found.add("like-classes", said, expected, severity="warning")
