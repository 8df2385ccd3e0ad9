"""The model that MLflow serves: raw inputs in, answers out, by the bundle's ONNX file. MLflow imports this where it is loaded.

    images     column `image`: the bytes of an image file each, or     label, probability, probabilities, or mask and shares
               these in base64, as JSON has them
    texts      column `text`, or the columns that the recipe joins     label, probability, probabilities
    series     the recipe's columns, a row a step, the oldest first,   step and the targets, a row a step ahead
               and their own column of series, or `series`, where
               there are several

Nothing here imports the frameworks of the training. The files are hashed before they are used.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard.data.raw_form import SeriesForm, TextForm
from trainyard.export.bundle import SERVED, read_bundle
from trainyard.serving.answers import Forecast, Label, Mask, forecast_column
from trainyard.serving.bad_input import BadInput
from trainyard.serving.predictor import Predictor

if TYPE_CHECKING:
    from pandas import DataFrame

IMAGE, SERIES, STEP = "image", "series", "step"


def _load_pyfunc(path: str) -> RawModel:
    """Open what is in a folder; the name is MLflow's.

    Raises:
        IntegrityError: a file in it is not the one that was written.
    """
    folder = Path(path)
    read_bundle(folder, SERVED)
    return RawModel(Predictor.load(folder))


class RawModel:
    """Answers to tables of raw inputs."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, model_input: DataFrame, params: dict[str, Any] | None = None) -> DataFrame:
        """Return an answer a row; of series a row for each step ahead.

        Raises:
            MlflowException: naming the row that cannot be answered, and why. Of others, MLflow's server says that something
                unexpected happened.
        """
        from mlflow.exceptions import MlflowException

        try:
            return self._answers(model_input)
        except BadInput as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _answers(self, model_input: DataFrame) -> DataFrame:
        from pandas import DataFrame

        if self.predictor.signature.kind == "forecasting":
            return self._forecast(model_input)
        answers = self.predictor.predict(self._raws(model_input))
        return DataFrame([_row(answer) for answer in answers])

    def _raws(self, table: DataFrame) -> list[Any]:
        form = self.predictor.signature.form
        if not isinstance(form, TextForm):
            return [_file(cell) for cell in table[IMAGE]]
        # A table has NaN where there is no text.
        texts = table[list(form.columns)].astype(object)
        texts = texts.where(texts.notna(), None)
        if len(form.columns) == 1:
            return list(texts[form.columns[0]])
        rows: list[Any] = texts.to_dict(orient="records")
        return rows

    def _forecast(self, table: DataFrame) -> DataFrame:
        from pandas import DataFrame

        form, columns = self.predictor.signature.form, list(self.predictor.signature.columns)
        own = form.series if isinstance(form, SeriesForm) else None
        given = [name for name in series_columns(own, columns) if name in table.columns and table[name].notna().any()]
        several = given[0] if given else None
        if several and table[several].isna().any():
            row = int(table[several].isna().to_numpy().argmax())
            raise BadInput(f"row {row}: {several}", "nothing", "expected the name of a series, as in other rows", "no-series")
        groups = table.groupby(several, sort=False) if several else [("", table)]
        names = [str(name) for name, _ in groups]
        answers = self.predictor.predict([group[columns].to_dict(orient="records") for _, group in groups])
        rows = []
        for name, answer in zip(names, answers, strict=True):
            if not isinstance(answer, Forecast):
                raise TypeError(f"a forecast was asked for, {type(answer).__name__} came")
            for step, values in enumerate(answer.values.tolist(), start=1):
                said = {forecast_column(key, (SERIES, STEP)): value for key, value in zip(answer.targets, values, strict=True)}
                rows.append({**({SERIES: name} if several else {}), STEP: step, **said})
        return DataFrame(rows)


def series_columns(own: str | None, columns: Sequence[str]) -> list[str]:
    """Return the columns that may say to which of several series a row belongs: the recipe's own, or else SERIES.

    Args:
        own: the column of the training's tables that did; None: they held one series.
        columns: that hold the series' numbers.
    """
    return [name for name in dict.fromkeys((own, SERIES)) if name and name not in columns]


def _file(cell: object) -> object:
    """Return the bytes of an image file: of what JSON has in base64, MLflow decodes `dataframe_split` and `_records` alone."""
    if not isinstance(cell, str | bytes):
        return cell
    try:
        # Every kind of image file has bytes in it that base64 has not.
        return base64.b64decode(b"".join(cell.encode().split() if isinstance(cell, str) else cell.split()), validate=True)
    except ValueError:
        return cell


def _row(answer: object) -> dict[str, Any]:
    match answer:
        case Label():
            probabilities = answer.probabilities.astype(float).tolist()
            return {"label": answer.label, "probability": answer.probability, "probabilities": probabilities}
        case Mask():
            return {"mask": answer.png(), "confidence": answer.confidence, "shares": list(answer.shares.values())}
    raise TypeError(f"no row can be made of {type(answer).__name__}")
