"""What came out for each test sample, in a Parquet file: each sample once, in the order of the split.

labels     index, sample, label, prediction, correct, confidence, loss, brier, probabilities (one a class)
masks      index, sample, iou, pixel_accuracy, confidence, loss, brier, rand_error; overlap, truth, predicted (pixels by class)
forecasts  index, sample, mse, mae, coverage; squared, absolute (one a target, standardised)

All metrics can be made of it again. The file says in its metadata whose results they are, and on which data.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainyard.data.packed import Card, Split
from trainyard.data.raw import Kind
from trainyard.errors import InputError, IntegrityError
from trainyard.evaluation.metrics import SampleCounts, label_counts
from trainyard.files import write_whole
from trainyard.lean import without

FORMAT = 1
"""Raised when files change so that older ones cannot be read."""
NOT_TESTED = frozenset({"tokens", "offsets", "names", "names_offsets"})
"""Arrays that two recipes may have made differently of the same samples: how words are numbered, what a file is called."""
COMPARED = {
    "image_classification": ("index", "label", "prediction"),
    "text_classification": ("index", "label", "prediction"),
    "segmentation": ("index", "overlap", "truth", "predicted"),
    "forecasting": ("index", "mse", "mae"),
}
"""Columns that another model's results are compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Whose results they are, and on which data."""

    recipe: str
    fingerprint: str
    kind: Kind
    primary: str
    """The metric by which recipes of the kind are compared."""
    classes: tuple[str, ...]
    """Of the samples or pixels; the names of the targets for forecasting."""
    test_sha256: str
    """The identity of the tested samples and their truth."""
    block: int = 1
    """Samples that are drawn together in a bootstrap, because they follow one another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A file of results, as far as it was read."""

    about: About
    columns: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.columns["index"])

    def counts(self) -> SampleCounts:
        """Return what is counted of each sample, of labels or masks."""
        if self.about.kind == "segmentation":
            return SampleCounts(**{name: self.columns[name].astype(np.float64) for name in ("overlap", "truth", "predicted")})
        return label_counts(self.columns["label"], self.columns["prediction"], len(self.about.classes))


def sha256_of_test(card: Card) -> str:
    """Return the identity of the test split: what is shown to a model, and the truth about it."""
    arrays = {
        name: list(described["files"].values()) for name, described in card.arrays["test"].items() if name not in NOT_TESTED
    }
    text = json.dumps([card.kind, list(card.classes), arrays], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@without("pandas")
def write_results(path: Path, about: About, test: Split, columns: dict[str, NDArray[Any]]) -> None:
    """Write the columns (N, ...) with index and name of each sample."""
    import pyarrow as pa

    names = [test.sample_name(index) for index in range(len(test))]
    arrays = {"index": pa.array(np.arange(len(test))), "sample": pa.array(names, pa.string())}
    for name, values in columns.items():
        if len(values) != len(test):
            raise ValueError(f"{name}: holds {len(values)} values for {len(test)} samples")
        if name in ("label", "prediction"):
            numbers = pa.array(values.astype(np.int32))
            arrays[name] = pa.DictionaryArray.from_arrays(numbers, pa.array(about.classes, pa.string()))
        elif values.ndim == 2:
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            arrays[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        else:
            arrays[name] = pa.array(values)
    _write(path, about, pa.table(arrays))


@without("pandas")
def write_compared(source: Path, path: Path) -> About:
    """Copy what another model's results are compared with, and leave out what takes room; return whose they are."""
    from pyarrow import parquet

    about = read_results(source).about
    _write(path, about, parquet.read_table(source, columns=list(COMPARED[about.kind])))
    return about


@without("pandas")
def read_results(path: Path) -> Results:
    """Return what another model's results are compared with.

    Raises:
        InputError: there is no such file.
        IntegrityError: it is none of ours.
    """
    import pyarrow as pa
    from pyarrow import parquet

    if not path.is_file():
        raise InputError(f"{path}: no such file; run `dvc repro` to evaluate the recipe")
    try:
        with parquet.ParquetFile(path) as file:
            said = json.loads(file.schema_arrow.metadata[b"trainyard"])
            if said.pop("format") != FORMAT:
                raise ValueError("another version wrote it")
            about = About(**{**said, "classes": tuple(said["classes"])})
            table = file.read(columns=list(COMPARED[about.kind]))
        columns = {name: _numbers(table[name].combine_chunks(), about.classes) for name in table.column_names}
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise IntegrityError(f"{path}: cannot be read ({error}); run `dvc repro` to evaluate the recipe again") from None
    results = Results(about=about, columns=columns)
    if not np.array_equal(columns["index"], np.arange(len(results))):
        raise IntegrityError(f"{path}: does not hold each sample once; run `dvc repro` to evaluate the recipe again")
    return results


def read_made(path: Path, missing: str) -> dict[str, Any]:
    """Return the JSON object in a file that a stage made.

    Args:
        path: of the file.
        missing: what to do where there is none.

    Raises:
        InputError: there is no file yet.
        IntegrityError: it cannot be read.
    """
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return values
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {missing}") from None
    except ValueError as error:
        raise IntegrityError(f"{path}: cannot be read ({error}); run `dvc repro` to make it again") from None


def _write(path: Path, about: About, table: Any) -> None:
    from pyarrow import parquet

    said = json.dumps({"format": FORMAT, **asdict(about)})
    buffer = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata({"trainyard": said}), buffer, compression="zstd")
    write_whole(path, buffer.getvalue())


def _numbers(column: Any, classes: tuple[str, ...]) -> NDArray[Any]:
    """Return a column as (N,) numbers, those of the classes where it holds their names, or as (N, K)."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        if tuple(column.dictionary.to_pylist()) != classes:
            raise ValueError("its labels are not its classes")
        return np.asarray(column.indices.to_numpy())
    if pa.types.is_fixed_size_list(column.type):
        return np.asarray(column.flatten().to_numpy()).reshape(len(column), -1)
    return np.asarray(column.to_numpy(zero_copy_only=False))
