"""Predictions as they come, into one Parquet file that is seen whole or not at all.

labels     input, label, probability, probabilities (one a class), problem
masks      input, mask (the path of a PNG), confidence, shares (of each class), problem
forecasts  input, series, step, time, a column for each target, problem

A row with a problem holds nothing else but its input. The file says in its metadata which model answered.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from trainyard.errors import InputError, MachineError
from trainyard.files import flush
from trainyard.lean import without
from trainyard.serving.answers import Answer, Forecast, Label, Mask
from trainyard.serving.batch_inputs import Item
from trainyard.serving.model_file import Signature

GROUP_ROWS = 5000
"""Rows that are held until they are written."""
LONGEST_NAME = 80
"""Characters of a mask's name that come from its image's."""


class PredictionsFile:
    """`with PredictionsFile(path, signature) as file: file.add(item, answer)`; an error leaves what was there before."""

    @without("pandas")
    def __init__(self, path: Path, signature: Signature) -> None:
        """Open a file aside.

        Raises:
            InputError: it is no Parquet file by its name, or a folder of masks is there already.
            MachineError: it cannot be written.
        """
        import pyarrow as pa
        from pyarrow import parquet

        if path.suffix.lower() not in (".parquet", ".pq"):
            raise InputError(f"--out {path}: predictions are written as Parquet; name a file that ends with .parquet")
        if path.is_dir():
            raise InputError(f"--out {path}: is a folder; name a file that ends with .parquet")
        self.path, self.signature = path, signature
        self.masks = path.with_name(f"{path.stem}-masks") if signature.kind == "segmentation" else None
        if self.masks is not None and self.masks.exists():
            raise InputError(f"{self.masks}: is there already; masks go into a new folder: move it, or choose another --out")
        self.rows: list[dict[str, Any]] = []
        self.number = 0
        self._pa = pa
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._temporary_masks = path.with_name(f".{path.stem}-masks.tmp")
        said = {"recipe": signature.recipe, "fingerprint": signature.fingerprint, "sha256": signature.sha256}
        self._schema = _schema(pa, signature).with_metadata(
            {"trainyard": json.dumps({**said, "kind": signature.kind, "classes": list(signature.classes)})}
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = parquet.ParquetWriter(self._temporary, self._schema, compression="zstd")
            shutil.rmtree(self._temporary_masks, ignore_errors=True)
        except OSError as error:
            raise self._unwritten(error) from None

    def __enter__(self) -> PredictionsFile:
        return self

    def add(self, item: Item, answer: Answer | None, problem: str = "") -> None:
        """Write what came out for an item; `problem` where nothing did."""
        self.number += 1
        match answer:
            case None:
                self.rows.append({"input": item.name, "series": item.series or None, "problem": problem})
            case Label():
                self.rows.append(
                    {
                        "input": item.name,
                        "label": answer.number,
                        "probability": answer.probability,
                        "probabilities": answer.probabilities,
                    }
                )
            case Mask():
                self.rows.append(
                    {
                        "input": item.name,
                        "mask": self._write_mask(item, answer),
                        "confidence": answer.confidence,
                        "shares": np.array(list(answer.shares.values()), dtype=np.float32),
                    }
                )
            case Forecast():
                for step, values in enumerate(answer.values):
                    self.rows.append(
                        {
                            "input": item.name,
                            "series": item.series or None,
                            "step": step + 1,
                            "time": item.times[step] if item.times else None,
                            **dict(zip(answer.targets, values.tolist(), strict=True)),
                        }
                    )
        if len(self.rows) >= GROUP_ROWS:
            self._flush()

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
        if isinstance(error, OSError):
            raise self._unwritten(error) from None

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

    def _write_mask(self, item: Item, answer: Mask) -> str:
        if self.masks is None:
            raise TypeError(f"a mask from a model for {self.signature.kind}")
        stem = re.sub(r"[^\w.-]", "_", Path(item.name).stem)[:LONGEST_NAME]
        name = f"{self.number:07d}-{stem}.png"
        self._temporary_masks.mkdir(exist_ok=True)
        (self._temporary_masks / name).write_bytes(answer.png())
        return f"{self.masks.name}/{name}"

    def _flush(self) -> None:
        if self.rows:
            classes = self.signature.classes
            columns = [_column(self._pa, field, [row.get(field.name) for row in self.rows], classes) for field in self._schema]
            self._writer.write_table(self._pa.table(columns, schema=self._schema))
            self.rows.clear()


def _schema(pa: Any, signature: Signature) -> Any:
    # Lists of a fixed length would be smaller, but pyarrow 25 does not read back those that are missing.
    fields = {
        "segmentation": [
            ("mask", pa.string()),
            ("confidence", pa.float32()),
            ("shares", pa.list_(pa.float32())),
        ],
        "forecasting": [
            ("series", pa.string()),
            ("step", pa.int32()),
            ("time", pa.string()),
            *((name, pa.float32()) for name in signature.classes),
        ],
    }.get(
        signature.kind,
        [
            ("label", pa.dictionary(pa.int32(), pa.string())),
            ("probability", pa.float32()),
            ("probabilities", pa.list_(pa.float32())),
        ],
    )
    return pa.schema([("input", pa.string()), *fields, ("problem", pa.string())])


def _column(pa: Any, field: Any, values: list[Any], classes: tuple[str, ...]) -> Any:
    """Return a column; of classes, values are their numbers."""
    if isinstance(field.type, pa.DictionaryType):
        return pa.DictionaryArray.from_arrays(pa.array(values, pa.int32()), pa.array(classes, pa.string()))
    return pa.array(values, field.type)
