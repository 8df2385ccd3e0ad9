"""`trainyard check`: everything that `prepare` would find, without packing anything."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainyard.data import series_windows
from trainyard.data.problems import DataError, Problem
from trainyard.data.raw import RawDataset
from trainyard.data.series_csv import SeriesCSVConfig
from trainyard.data.sources import DataConfig, load
from trainyard.data.splits import Splits, split_dataset
from trainyard.errors import InputError


def check(
    config: DataConfig, root: Path, progress: Callable[[str], None] | None = None
) -> tuple[dict[str, int], list[Problem]]:
    """Return the samples of each split, and the warnings.

    Raises:
        DataError: listing everything that is wrong with the raw data.
        InputError: the samples cannot be split as asked.
    """
    with tempfile.TemporaryDirectory(prefix="trainyard-check-") as scratch:
        raw = load(config, root, Path(scratch), progress)
        if isinstance(config, SeriesCSVConfig):
            windows = series_windows.pack(raw, config).samples
            return windows, [*raw.skipped, *raw.warnings]
        splits = split_dataset(raw, val_fraction=config.val_fraction, test_fraction=config.test_fraction, seed=config.seed)
        samples = {str(name): len(rows) for name, rows in splits.indices.items()}
        return samples, [*raw.skipped, *raw.warnings, *splits.warnings, *_check_texts(config, raw, splits, root)]


def _check_texts(config: DataConfig, raw: RawDataset, splits: Splits, root: Path) -> list[Problem]:
    """Return the warnings about tokens: of word vectors, and of texts that are longer than the limit.

    As with `prepare`, training texts alone make the tokens.
    """
    from trainyard.data.text import TextConfig, cut_warning, encode_counted
    from trainyard.data.vocabulary import vocabulary_for

    if not isinstance(config, TextConfig):
        return []
    texts: list[str] = raw.arrays["texts"]
    chosen = {split: [texts[row] for row in rows] for split, rows in splits.indices.items()}
    vocabulary = vocabulary_for(config, chosen["train"], root)
    longer = sum(encode_counted(vocabulary.tokenizer, part, config.max_tokens)[2] for part in chosen.values())
    of_vectors = vocabulary.vectors.warnings if vocabulary.vectors else ()
    return [*of_vectors, *cut_warning(longer, sum(map(len, chosen.values())), config.max_tokens)]


def as_json(
    recipe: str, config: DataConfig, root: Path, progress: Callable[[str], None] | None = None
) -> tuple[dict[str, Any], int]:
    """Return what `check` finds as plain values, which any JSON writer takes, and the exit code."""
    found: dict[str, Any] = {"recipe": recipe, "source": config.source, "path": str(config.path), "samples": {}}
    code = 0
    problems: list[Problem] = []
    try:
        found["samples"], problems = check(config, root, progress)
    except DataError as error:
        problems, code = list(error.problems), error.exit_code
    except InputError as error:
        problems, code = [Problem(rule="split", where=recipe, found=str(error), expected="see there")], error.exit_code
    found["problems"] = [problem.to_json() for problem in problems]
    return found, code
