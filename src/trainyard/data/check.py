"""What `prepare` would find in raw data, and make of them, without packing anything."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from trainyard.data import series_windows
from trainyard.data.problems import Problem, disk_error
from trainyard.data.raw import Kind, RawDataset
from trainyard.data.series_csv import SeriesCSVConfig
from trainyard.data.sources import DataConfig, load
from trainyard.data.splits import Splits, split_dataset
from trainyard.file_lock import take

SCRATCH = "trainyard-check-"
"""How the names of its temporary folders begin."""
LOCK = "in-use"
NEW_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the card of the packed data would say, as far as a recipe has to fit it."""

    kind: Kind
    classes: tuple[str, ...]
    """As in a `Card`, as are the others."""
    samples: dict[str, int]
    input: dict[str, int]
    columns: tuple[str, ...] = ()
    duplicates_dropped: int = 0
    warnings: tuple[Problem, ...]


def check(config: DataConfig, root: Path, progress: Callable[[str], None] | None = None) -> Checked:
    """Read raw data to their last byte.

    Raises:
        DataError: listing everything that is wrong with them.
        InputError: the samples cannot be split as asked.
        MachineError: the disk of temporary files is full, or one fails.
    """
    try:
        return _check(config, root, progress)
    except OSError as error:
        room = "make room there, or set TMPDIR to a folder with room"
        problem = disk_error(error, root / config.path, Path(tempfile.gettempdir()), room)
        if problem is None:
            raise
        raise problem from error


@contextmanager
def _scratch() -> Iterator[Path]:
    """Give a temporary folder, and delete those of checks that were killed: all pixels of a data set may lie there."""
    place = Path(tempfile.gettempdir())
    for left in place.glob(f"{SCRATCH}*"):
        with suppress(OSError):
            # Of others nothing is opened: they might have put anything there.
            if left.is_symlink() or left.stat().st_uid != os.getuid():
                continue
            # A new one may not have its lock yet.
            if time.time() - left.stat().st_mtime > NEW_SECONDS:
                with (left / LOCK).open("r") as file:
                    if take(file):
                        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=SCRATCH) as folder, (Path(folder) / LOCK).open("w") as file:
        # Without locks on this file system, nothing is deleted there either.
        with suppress(OSError):
            take(file)
        yield Path(folder)


def _check(config: DataConfig, root: Path, progress: Callable[[str], None] | None) -> Checked:
    with _scratch() as scratch:
        raw = load(config, root, scratch, progress)
        if isinstance(config, SeriesCSVConfig):
            packed = series_windows.pack(raw, config)
            return Checked(
                kind=raw.kind,
                classes=raw.classes,
                samples=packed.samples,
                input=packed.input,
                columns=packed.columns,
                warnings=(*raw.skipped, *raw.warnings),
            )
        splits = split_dataset(raw, val_fraction=config.val_fraction, test_fraction=config.test_fraction, seed=config.seed)
        found, of_tokens = _tokens(config, raw, splits, root) if raw.kind == "text_classification" else (raw.input(), ())
        return Checked(
            kind=raw.kind,
            classes=raw.classes,
            samples={str(name): len(rows) for name, rows in splits.indices.items()},
            input=found,
            duplicates_dropped=splits.duplicates_dropped,
            warnings=(*raw.skipped, *raw.warnings, *splits.warnings, *of_tokens),
        )


def _tokens(config: DataConfig, raw: RawDataset, splits: Splits, root: Path) -> tuple[dict[str, int], tuple[Problem, ...]]:
    """Return what a network must know of the tokens, and what is odd about them."""
    from trainyard.data.vocabulary import encode_texts

    encoded = encode_texts(config, raw.arrays["texts"], splits.indices, root)
    return encoded.input, encoded.warnings
