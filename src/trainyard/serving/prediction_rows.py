"""Answers as rows of a table.

labels     input, label, probability, probabilities (one a class), problem
masks      input, mask (the path of a PNG), confidence, shares (of each class), problem
forecasts  input, series, step, time, a column for each target, problem

A row with a problem holds nothing else but its input. In a CSV file, which has no lists, what is one a class has a column
for each: probability_CLASS, share_CLASS. A target with the name of another column is forecast_TARGET.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from trainyard.data.spreadsheet import text_cell
from trainyard.serving.answers import Answer, Forecast, Label, Mask, forecast_column
from trainyard.serving.batch_inputs import Item
from trainyard.serving.model_file import Signature
from trainyard.serving.own_files import METADATA

LONGEST_NAME = 80
"""Characters of a mask's name that come from its image's."""
SINGULAR = {"probabilities": "probability", "shares": "share"}
"""Of columns that hold a list, one a class."""
BESIDE_TARGETS = ("input", "series", "step", "time", "problem")
"""Columns of forecasts that are no target's."""
Row = dict[str, Any]


def rows_of(item: Item, answer: Answer | None, problem: str = "", mask: str = "") -> list[Row]:
    """Return the rows of one item.

    Args:
        item: what was asked about.
        answer: to it.
        problem: why there is none.
        mask: the path of its PNG, for a mask.
    """
    match answer:
        case None:
            return [{"input": item.name, "series": item.series or None, "problem": problem}]
        case Label():
            return [
                {
                    "input": item.name,
                    "label": answer.number,
                    "probability": answer.probability,
                    "probabilities": answer.probabilities,
                }
            ]
        case Mask():
            shares = np.array(list(answer.shares.values()), dtype=np.float32)
            return [{"input": item.name, "mask": mask, "confidence": answer.confidence, "shares": shares}]
        case Forecast():
            targets = [forecast_column(name, BESIDE_TARGETS) for name in answer.targets]
            return [
                {
                    "input": item.name,
                    "series": item.series or None,
                    "step": step + 1,
                    "time": item.times[step] if item.times else None,
                    **dict(zip(targets, values.tolist(), strict=True)),
                }
                for step, values in enumerate(answer.values)
            ]


def mask_name(number: int, item: Item) -> str:
    """Return the name of the file for the mask of the input of a number."""
    stem = re.sub(r"[^\w.-]", "_", Path(item.name).stem)[:LONGEST_NAME]
    return f"{number:07d}-{stem}.png"


def table_schema(pa: Any, signature: Signature) -> Any:
    """Return the schema of the table, which says in its metadata which model answered.

    Args:
        pa: pyarrow, which not everyone who serves has to import.
        signature: of the model.
    """
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
            *((forecast_column(name, BESIDE_TARGETS), pa.float32()) for name in signature.classes),
        ],
    }.get(
        signature.kind,
        [
            ("label", pa.dictionary(pa.int32(), pa.string())),
            ("probability", pa.float32()),
            ("probabilities", pa.list_(pa.float32())),
        ],
    )
    said = {"recipe": signature.recipe, "fingerprint": signature.fingerprint, "sha256": signature.sha256}
    about = {**said, "kind": signature.kind, "classes": list(signature.classes)}
    return pa.schema([("input", pa.string()), *fields, ("problem", pa.string())]).with_metadata({METADATA: json.dumps(about)})


def table_of(pa: Any, schema: Any, rows: list[Row], classes: tuple[str, ...]) -> Any:
    """Return rows as a table of a schema."""
    columns = [_column(pa, field, [row.get(field.name) for row in rows], classes) for field in schema]
    return pa.table(columns, schema=schema)


def flat(pa: Any, table: Any, classes: tuple[str, ...]) -> Any:
    """Return a table as a CSV file can hold it: no lists, and no text that a spreadsheet would run as a formula."""
    columns: dict[str, Any] = {}
    for field in table.schema:
        column = table.column(field.name)
        if isinstance(field.type, pa.ListType):
            values = column.to_pylist()
            for place, name in enumerate(classes):
                numbers = [None if every is None else every[place] for every in values]
                columns[f"{SINGULAR[field.name]}_{name}"] = pa.array(numbers, pa.float32())
        elif isinstance(field.type, pa.DictionaryType) or pa.types.is_string(field.type):
            texts = column.to_pylist()
            columns[field.name] = pa.array([None if text is None else text_cell(text) for text in texts], pa.string())
        else:
            columns[field.name] = column
    return pa.table(columns)


def _column(pa: Any, field: Any, values: list[Any], classes: tuple[str, ...]) -> Any:
    """Return a column; of classes, values are their numbers."""
    if isinstance(field.type, pa.DictionaryType):
        return pa.DictionaryArray.from_arrays(pa.array(values, pa.int32()), pa.array(classes, pa.string()))
    return pa.array(values, field.type)
