"""Predictions as they come, into one Parquet or CSV file that is seen whole or not at all, with masks in a folder beside it."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from trainyard.errors import InputError, MachineError
from trainyard.file_lock import take
from trainyard.files import flush
from trainyard.lean import without
from trainyard.serving.answers import Answer, Mask
from trainyard.serving.batch_inputs import Item
from trainyard.serving.model_file import Signature
from trainyard.serving.own_files import CSV, MASKS, PARQUET
from trainyard.serving.prediction_rows import Row, flat, mask_name, rows_of, table_of, table_schema

GROUP_ROWS = 5000
"""Rows that are held until they are written."""


class PredictionsFile:
    """`with PredictionsFile(path, signature) as file: file.add(item, answer)`; an error leaves what was there before."""

    @without("pandas")
    def __init__(self, path: Path, signature: Signature) -> None:
        """Open a file aside.

        Raises:
            InputError: its name says neither Parquet nor CSV, or a folder of masks is there already.
            MachineError: it cannot be written.
        """
        import pyarrow as pa

        self.is_csv = path.suffix.lower() == CSV
        if not self.is_csv and path.suffix.lower() not in PARQUET:
            raise InputError(
                f"--out {path}: predictions are written as Parquet or CSV; name a file that ends with .parquet or .csv"
            )
        if path.exists() and not path.is_file():
            what = "a folder" if path.is_dir() else "no regular file"
            raise InputError(f"--out {path}: is {what}; name a file that ends with .parquet or .csv")
        self.path, self.signature = path, signature
        self.masks = path.with_name(f"{path.stem}{MASKS}") if signature.kind == "segmentation" else None
        if self.masks is not None and self.masks.exists():
            raise InputError(f"{self.masks}: is there already; masks go into a new folder: move it, or choose another --out")
        self.rows: list[Row] = []
        self._tables: list[Any] = []
        self.number = 0
        self.schema = table_schema(pa, signature)
        self._pa = pa
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._temporary_masks = path.with_name(f".{path.stem}{MASKS}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._alone = self._hold()
            self._writer = self._open()
            shutil.rmtree(self._temporary_masks, ignore_errors=True)
        except OSError as error:
            raise self._unwritten(error) from None

    def __enter__(self) -> PredictionsFile:
        return self

    def add(self, item: Item, answer: Answer | None, problem: str = "") -> None:
        """Write what came out for an item; `problem` where nothing did."""
        self.number += 1
        mask = ""
        if isinstance(answer, Mask):
            mask = self.add_mask(mask_name(self.number, item), answer.png())
        self.rows += rows_of(item, answer, problem, mask)
        if len(self.rows) >= GROUP_ROWS:
            self._flush()

    def add_table(self, table: Any) -> None:
        """Write rows that are a table of the file's schema already."""
        self._tables.append(table)
        if sum(len(held) for held in self._tables) >= GROUP_ROWS:
            self._flush()

    def add_mask(self, name: str, png: bytes) -> str:
        """Write the file of a mask; return its path as the table says it."""
        if self.masks is None:
            raise TypeError(f"a mask from a model for {self.signature.kind}")
        self._temporary_masks.mkdir(exist_ok=True)
        (self._temporary_masks / name).write_bytes(png)
        return f"{self.masks.name}/{name}"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self._finish()
        except OSError as broken:
            error = broken
            raise self._unwritten(broken) from None
        finally:
            if error is not None:
                with suppress(OSError):
                    self._writer.close()
                self._temporary.unlink(missing_ok=True)
                shutil.rmtree(self._temporary_masks, ignore_errors=True)
            self._alone.close()
        if isinstance(error, OSError):
            raise self._unwritten(error) from None

    def _hold(self) -> BinaryIO:
        """Keep others from writing the same file aside, until this process ends however it does."""
        file = self._temporary.open("ab")
        with suppress(OSError):  # a file system without locks
            if not take(file):
                file.close()
                raise MachineError(
                    f"{self.path}: another `trainyard predict` is writing it; wait until it ends, or choose another --out"
                )
        return file

    def _open(self) -> Any:
        if self.is_csv:
            from pyarrow import csv

            empty = flat(self._pa, self.schema.empty_table(), self.signature.classes)
            return csv.CSVWriter(self._temporary, empty.schema)
        from pyarrow import parquet

        return parquet.ParquetWriter(self._temporary, self.schema, compression="zstd")

    def _finish(self) -> None:
        self._flush()
        self._writer.close()
        flush(self._temporary)
        if self.masks is not None:
            # The paths in the file must lead somewhere, so they come first.
            self._temporary_masks.mkdir(exist_ok=True)
            os.replace(self._temporary_masks, self.masks)
        os.replace(self._temporary, self.path)

    def _unwritten(self, error: OSError) -> MachineError:
        return MachineError(f"{self.path}: cannot be written ({error.strerror or error}); make room, or choose another --out")

    def _flush(self) -> None:
        if self.rows:
            self._tables.append(table_of(self._pa, self.schema, self.rows, self.signature.classes))
        if self._tables:
            table = self._pa.concat_tables(self._tables)
            self._writer.write_table(flat(self._pa, table, self.signature.classes) if self.is_csv else table)
        self.rows.clear()
        self._tables.clear()
