"""Many raw inputs through a model on a Ray cluster: read here, decoded and answered on all nodes, written here as they come.

Ray Data streams: readers on the node where the command runs hand blocks of raw inputs to as many predictors as the cluster
has room for, and wait where those are behind, so that memory does not grow with the inputs. Rows come in any order.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray

from trainyard.errors import InputError
from trainyard.on_ray.place import Place
from trainyard.on_ray.plain_errors import plain_errors
from trainyard.serving.answers import Mask
from trainyard.serving.batch_inputs import check_apart, items, listed
from trainyard.serving.model_file import Signature
from trainyard.serving.predict import Progress, Summary, answer_batch, batches
from trainyard.serving.prediction_rows import Row, mask_name, rows_of, table_of, table_schema
from trainyard.serving.predictions_file import PredictionsFile
from trainyard.serving.predictor import FILES, Predictor, Variant
from trainyard.training.cluster_config import ClusterConfig
from trainyard.training.hardware import processors
from trainyard.training.ray_session import session

COPY = "model.onnx"
"""What the model is called on the nodes."""
READERS = 4
"""Processes that read files, at most; each takes every so-manieth of them."""
BLOCK_BYTES = 4 * 2**20
"""Of raw inputs that go to a predictor together."""
READ_AT_ONCE = 32
"""Items that a reader hands on at a time."""


def predict(
    model: Path,
    variant: Variant,
    paths: Sequence[Path],
    out: Path,
    place: Place,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> Summary:
    """Answer to all that paths hold, and write it; see `serving.predict.predict`.

    Args:
        model: the folder of an exported model, or an ONNX file.
        variant: which of the folder's files.
        paths: files, or folders of them, on this machine.
        out: a Parquet or CSV file.
        place: on which Ray.
        threads: of one call of the network, and processors that each predictor takes.
        progress: told how many inputs are done.

    Raises:
        InputError: nothing was found, a path is not there, or `out` is one of the files to read.
        MachineError: the file cannot be written.
        ServiceError: the cluster does not answer.
    """
    # Ray would write on the terminal that the processes of Ray Data are started as they are.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    predictor = Predictor.load(model, variant, 1)
    for path in paths:
        # Or it would be known after a Ray was started.
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; name files to predict, or folders of them")
    check_apart(out, paths, predictor.signature)
    file = model / FILES[variant] if model.is_dir() else model
    cluster = ClusterConfig(cpus_per_worker=threads, insecure=place.insecure)
    room = max(1, processors() // threads)
    with (
        PredictionsFile(out, predictor.signature) as table,
        TemporaryDirectory(prefix="ty-model-") as copies,
        session(cluster, room, address=place.address, files=None if place.is_local else _copied(file, Path(copies))),
        plain_errors(place.address),
    ):
        summary = Summary()
        there = file.resolve() if place.is_local else Path(COPY)
        for block in _answered(there, predictor.signature, paths, threads, table.masks):
            _write(block, table)
            _count(block, summary)
            if progress is not None:
                progress(summary.answered + summary.bad)
        summary.check(predictor, paths)
    return summary


def read(batch: dict[str, NDArray[Any]], *, paths: Sequence[Path], signature: Signature, folder: Path) -> Iterator[Any]:
    """Yield the numbers and the items of those files that fall to a reader.

    Args:
        batch: the number of the reader, and how many there are.
        paths: as they were given, in `folder`.
        signature: of the model.
        folder: where the command runs.
    """
    reader, readers = int(batch["id"][0]), int(batch["of"][0])
    numbers: list[int] = []
    found: list[Any] = []
    with chdir(folder):
        for number, path in enumerate(listed(paths, signature), start=1):
            if number % readers != reader:
                continue
            for item in items([path], signature):
                numbers.append(number)
                found.append(item)
                if len(found) == READ_AT_ONCE:
                    yield _block(numbers, found)
                    numbers, found = [], []
    if found:
        yield _block(numbers, found)


class Predictors:
    """A process that answers."""

    def __init__(self, file: Path, threads: int, masks: str) -> None:
        """Open the model; `masks` is the name of the folder for masks."""
        self.predictor = Predictor.load(file, threads=threads)
        self.masks = masks
        self.schema = table_schema(pa, self.predictor.signature)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> Any:
        """Return the rows of some items, with the images of masks."""
        rows: list[Row] = []
        pngs: list[bytes | None] = []
        numbers = iter(batch["number"].tolist())
        for part in batches(self.predictor, batch["item"]):
            for item, answer, problem in answer_batch(self.predictor, part):
                name = mask_name(next(numbers), item)
                own = rows_of(item, answer, problem, f"{self.masks}/{name}")
                pngs += [answer.png() if isinstance(answer, Mask) else None] * len(own)
                rows += own
        table = table_of(pa, self.schema, rows, self.predictor.signature.classes)
        return table.append_column("png", pa.array(pngs, pa.binary()))


def _answered(file: Path, signature: Signature, paths: Sequence[Path], threads: int, masks: Path | None) -> Iterator[Any]:
    """Yield tables of rows as they come."""
    _be_quiet()
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    room = max(1, int(ray.cluster_resources().get("CPU", 1) // threads))
    readers = min(READERS, room)
    asked = ray.data.from_items([{"id": reader, "of": readers} for reader in range(readers)], override_num_blocks=readers)
    raws = asked.map_batches(
        read,
        batch_size=1,
        fn_kwargs={"paths": list(paths), "signature": signature, "folder": Path.cwd()},
        num_cpus=0,
        label_selector=here,
    )
    answers = raws.map_batches(
        Predictors,
        batch_size=None,
        fn_constructor_args=(file, threads, "" if masks is None else masks.name),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=room),
        num_cpus=threads,
    )
    schema = table_schema(pa, signature)
    for block in answers.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield block.select([*schema.names, "png"]).cast(schema.append(pa.field("png", pa.binary())))


def _copied(file: Path, folder: Path) -> Path:
    """Copy the model into a folder that the cluster's nodes get; return the folder."""
    shutil.copyfile(file, folder / COPY)
    return folder


def _block(numbers: list[int], found: list[Any]) -> dict[str, NDArray[Any]]:
    column = np.empty(len(found), dtype=object)
    column[:] = found
    return {"number": np.array(numbers), "item": column}


def _write(block: Any, table: PredictionsFile) -> None:
    if table.masks is not None:
        for name, png in zip(block.column("mask").to_pylist(), block.column("png").to_pylist(), strict=True):
            if png is not None:
                table.add_mask(Path(name).name, png)
    table.add_table(block.drop_columns("png"))


def _count(block: Any, summary: Summary) -> None:
    """Add what a block holds to a summary; of a forecast the first step counts."""
    names = block.column("input").to_pylist()
    problems = block.column("problem").to_pylist()
    steps = block.column("step").to_pylist() if "step" in block.column_names else [1] * len(names)
    for name, problem, step in zip(names, problems, steps, strict=True):
        if problem is not None:
            summary.add_problem(name, problem)
        elif step == 1:
            summary.answered += 1
    if "label" in block.column_names:
        summary.labels.update(label for label in block.column("label").to_pylist() if label is not None)


def _be_quiet() -> None:
    """Have Ray Data draw no bars of its own, and hand on small blocks."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = BLOCK_BYTES
    logging.getLogger("ray.data").setLevel(logging.ERROR)
