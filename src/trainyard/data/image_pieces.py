"""Image files decoded on all processors into one array on disk, piece by piece; what is finished survives a kill.

    <scratch>/images.npy   <scratch>/masks.npy   <scratch>/rows-000001024.json

A piece's file is written once its rows are on the disk, if nothing was wrong with them. It holds a hash over the names,
sizes and times of the piece's files and over the settings: where that changed, the piece is decoded again. A file that
changes between the listing of the folder and the end of its piece is named. A process holds one image at a time, however
many there are. Rows are written with the file's own calls and not through a memory map, which would kill the process where
the disk is full.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import __version__ as pillow_version

from trainyard.data.image_files import RULES, ImageFacts, ImageFileError, inspect
from trainyard.data.image_tree import FileState
from trainyard.data.parallel import in_order
from trainyard.data.problems import Problem

FILES_PER_PIECE = 512
"""Enough that flushing to the disk takes little of the time, few enough that a kill costs little."""
BYTES_PER_PIECE = 2**24
"""Of files: a piece of large ones ends sooner, so that the processes have all something to do."""
WRITTEN_AT_ONCE = 2**20
"""Bytes."""
PROGRESS_SECONDS = 5.0
OF_THE_FILE = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""What the system says of a single file, and not of what it lies on."""
Progress = Callable[[str], None]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The files of one sample."""

    folder: Path
    """Of the raw data."""
    name: str
    """Path of the image below the folder."""
    mask_name: str = ""
    """Path of the mask below it, where there is one."""
    state: FileState | None = None
    """Of the image, as the listing found it; None: as it is when its piece begins."""
    mask_state: FileState | None = None

    @property
    def image(self) -> Path:
        """The image's file. Made where it is opened: by the processes that read."""
        return self.folder / self.name

    @property
    def mask(self) -> Path | None:
        """The mask's file."""
        return self.folder / self.mask_name if self.mask_name else None


class Row(NamedTuple):
    """What became of one sample."""

    problems: tuple[Problem, ...] = ()
    stratum: int = 0
    """What the splits are stratified by, where the decoder knows."""
    uniform: bool = False
    """Whether its mask shows one class only."""

    @property
    def usable(self) -> bool:
        """Whether its pixels were written."""
        return not self.problems or all(problem.severity == "warning" for problem in self.problems)


Decoder = Callable[[Sample], tuple[dict[str, NDArray[np.uint8]], Row]]
"""Returns arrays by name, none for a sample with an error."""


def survey(samples: Sequence[Sample], progress: Progress | None, workers: int) -> list[ImageFacts | Problem]:
    """Return what the header of each image says, or what is wrong with it."""
    facts: list[ImageFacts | Problem] = []
    pieces = _pieces(samples)
    results = in_order(partial(_inspect_piece, samples=samples), pieces, workers if len(pieces) > 1 else 1)
    for found in _told(results, len(samples), "looked at", progress):
        facts += found
    return facts


def decode(
    samples: Sequence[Sample],
    decoder: Decoder,
    shapes: dict[str, tuple[int, ...]],
    scratch: Path,
    *,
    settings: str,
    progress: Progress | None,
    workers: int,
) -> tuple[dict[str, Any], list[Row]]:
    """Return memory-mapped uint8 arrays (N, ...) by name, and what became of each sample.

    Args:
        samples: in the order of the rows.
        decoder: of one sample.
        shapes: of one row of each array.
        scratch: where the arrays go; the caller deletes it when they are packed.
        settings: whatever else the pixels depend on.
        progress: is told of it about every 5 seconds.
        workers: processes, or -1 for one a processor; the result is the same.

    Raises:
        OSError: the disk is full or read-only.
    """
    paths = {name: _create(scratch, name, (len(samples), *shape)) for name, shape in sorted(shapes.items())}
    key = json.dumps([settings, RULES, pillow_version, shapes], sort_keys=True)
    work = partial(_decode_piece, samples=samples, decoder=decoder, scratch=scratch, key=key)
    rows: list[Row] = []
    pieces = _pieces(samples)
    results = in_order(work, pieces, workers if len(pieces) > 1 else 1)
    for found in _told(results, len(samples), "decoded", progress):
        rows += found
    return {name: np.load(path, mmap_mode="r", allow_pickle=False) for name, path in paths.items()}, rows


def keep(arrays: dict[str, Any], kept: NDArray[np.int64], scratch: Path) -> dict[str, Any]:
    """Return the arrays with the rows `kept` only, in ascending order; copied on disk where rows are left out."""
    if all(len(kept) == len(array) for array in arrays.values()):
        return arrays
    result = {}
    for name, array in arrays.items():
        path = scratch / f"kept-{name}.npy"
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, _header((len(kept), *array.shape[1:])))
            for index in kept:
                file.write(np.ascontiguousarray(array[index]).data)
        result[name] = np.load(path, mmap_mode="r" if len(kept) else None, allow_pickle=False)
    return result


def _inspect_piece(piece: range, samples: Sequence[Sample]) -> list[ImageFacts | Problem]:
    found: list[ImageFacts | Problem] = []
    # One object for all that are equal, which then travels between processes once.
    known: dict[ImageFacts, ImageFacts] = {}
    for sample in samples[piece.start : piece.stop]:
        try:
            facts = inspect(sample.image)
            found.append(known.setdefault(facts, facts))
        except ImageFileError as error:
            found.append(error.problem(sample.name))
        except OSError as error:
            found.append(unreadable(sample.name, error))
    return found


def unreadable(name: str, error: OSError) -> Problem:
    """Return what the system says of a file that it does not open or read.

    Only what is the file's own fault may leave its sample out: a disk or a network that fails today reads it tomorrow.
    """
    if error.errno in OF_THE_FILE:
        found = f"cannot be opened: {error.strerror or error}"
        return Problem(rule="unreadable-image", where=name, found=found, expected="make it readable", sample=True)
    found, expected = f"cannot be read: {error.strerror or error}", "look after the disk or the network that it is on"
    return Problem(rule="failing-disk", where=name, found=found, expected=f"{expected}, and run it again")


def _decode_piece(piece: range, samples: Sequence[Sample], decoder: Decoder, scratch: Path, key: str) -> list[Row]:
    samples = samples[piece.start : piece.stop]
    marker = scratch / f"rows-{piece.start:09d}.json"
    listed = [_listed(sample) for sample in samples]
    identity = _identity(samples, listed, key)
    rows = _finished(marker, identity)
    if rows is not None:
        return rows
    marker.unlink(missing_ok=True)
    rows = _write_rows(piece.start, samples, decoder, scratch)
    changed = _changed(samples, listed)
    if changed:
        return [Row(problems=(*row.problems, *changed.get(index, ()))) for index, row in enumerate(rows)]
    if not all(row.usable for row in rows):
        # A file that was made readable, or restored, may have the size and the time that it had.
        return rows
    lines = {
        "identity": identity,
        "rows": [{**row._asdict(), "problems": [asdict(p) for p in row.problems]} for row in rows],
    }
    # Not flushed to the disk: after a power cut, a piece without its file is decoded again.
    temporary = marker.with_suffix(".tmp")
    temporary.write_text(json.dumps(lines), encoding="utf-8")
    os.replace(temporary, marker)
    return rows


def _write_rows(start: int, samples: Sequence[Sample], decoder: Decoder, scratch: Path) -> list[Row]:
    files: dict[str, tuple[Any, int]] = {}
    rows = []
    known: dict[Row, Row] = {}
    for number, sample in enumerate(samples, start):
        arrays, row = decoder(sample)
        rows.append(known.setdefault(row, row))
        for name, array in arrays.items():
            if name not in files:
                # Closed below, after all rows.
                file = (scratch / f"{name}.npy").open("r+b", buffering=WRITTEN_AT_ONCE)
                np.lib.format.read_magic(file)
                np.lib.format.read_array_header_1_0(file)
                files[name] = file, file.tell()
            file, first = files[name]
            place = first + number * array.nbytes
            if file.tell() != place:
                # Only here: it empties the buffer.
                file.seek(place)
            file.write(np.ascontiguousarray(array).data)
    for file, _ in files.values():
        with file:
            file.flush()
            os.fsync(file.fileno())
    return rows


def _listed(sample: Sample) -> tuple[FileState | None, FileState | None]:
    """Return the states of a sample's files that its pixels must be from."""
    mask = None if sample.mask is None else sample.mask_state or _state(sample.mask)
    return sample.state or _state(sample.image), mask


def _state(path: Path) -> FileState | None:
    try:
        status = os.stat(path)
    except OSError:
        # The decoder will say more.
        return None
    return status.st_size, status.st_mtime_ns


def _changed(
    samples: Sequence[Sample], listed: Sequence[tuple[FileState | None, FileState | None]]
) -> dict[int, tuple[Problem, ...]]:
    """Return problems by sample for the files that are not as they were listed."""
    found = {}
    for index, (sample, (image, mask)) in enumerate(zip(samples, listed, strict=True)):
        names = [sample.name] if _state(sample.image) != image else []
        if sample.mask is not None and _state(sample.mask) != mask:
            names.append(sample.mask_name)
        if names:
            found[index] = tuple(_change(name) for name in names)
    return found


def _change(name: str) -> Problem:
    return Problem(
        rule="changed-while-read",
        where=name,
        found="another size or time than when the folder was listed",
        expected="run it again when nothing writes there",
    )


def _finished(marker: Path, identity: str) -> list[Row] | None:
    """Return the rows of a piece that was decoded before, from the same files in the same way."""
    try:
        content = json.loads(marker.read_bytes())
    except (OSError, ValueError):
        return None
    if content["identity"] != identity:
        return None
    return [Row(**{**row, "problems": tuple(Problem(**problem) for problem in row["problems"])}) for row in content["rows"]]


def _identity(samples: Sequence[Sample], listed: Sequence[Any], key: str) -> str:
    digest = hashlib.sha256(key.encode())
    for sample, states in zip(samples, listed, strict=True):
        digest.update(repr((os.fsencode(sample.name), os.fsencode(sample.mask_name), states)).encode())
    return digest.hexdigest()


def _create(scratch: Path, name: str, shape: tuple[int, ...]) -> Path:
    """Return an array file of a shape: the one that is there, or else a new one, with all pieces to be done."""
    path = scratch / f"{name}.npy"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.shape == shape and array.dtype == np.uint8:
            return path
    except (OSError, ValueError, EOFError):
        pass
    scratch.mkdir(parents=True, exist_ok=True)
    for marker in scratch.glob("rows-*.json"):
        marker.unlink()
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, _header(shape))
        file.truncate(file.tell() + int(np.prod(shape)))
    return path


def _header(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"descr": "|u1", "fortran_order": False, "shape": shape}


def _pieces(samples: Sequence[Sample]) -> list[range]:
    """Return the rows that are worked on at once."""
    pieces, first, size = [], 0, 0
    for number, sample in enumerate(samples, 1):
        size += (sample.state[0] if sample.state else 0) + (sample.mask_state[0] if sample.mask_state else 0)
        if number - first == FILES_PER_PIECE or size >= BYTES_PER_PIECE or number == len(samples):
            pieces.append(range(first, number))
            first, size = number, 0
    return pieces


def _told(results: Iterator[list[Item]], total: int, verb: str, progress: Progress | None) -> Iterator[list[Item]]:
    done, last = 0, time.monotonic()
    for found in results:
        done += len(found)
        if progress is not None and time.monotonic() - last >= PROGRESS_SECONDS:
            last = time.monotonic()
            progress(f"{verb} {done:,} of {total:,} images")
        yield found
