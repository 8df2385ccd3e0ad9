"""The model that MLflow serves: raw inputs in, answers out, by the bundle's ONNX file. MLflow imports this where it is loaded.

    images     column `image`: the bytes of an image file each         label, probability, probabilities, or mask and shares
    texts      column `text`, or the columns that the recipe joins     label, probability, probabilities
    series     the recipe's columns, a row a step, the oldest first,   step and the targets, a row a step ahead
               and `series` where there are several

Nothing here imports MLflow, or the frameworks of the training. The files are hashed before they are used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard.data.raw_form import TextForm
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
            BadInput: naming the row that cannot be answered, and why.
        """
        from pandas import DataFrame

        if self.predictor.signature.kind == "forecasting":
            return self._forecast(model_input)
        answers = self.predictor.predict(self._raws(model_input))
        return DataFrame([_row(answer) for answer in answers])

    def _raws(self, table: DataFrame) -> list[Any]:
        form = self.predictor.signature.form
        if not isinstance(form, TextForm):
            return list(table[IMAGE])
        # A table has NaN where there is no text.
        texts = table[list(form.columns)].astype(object)
        texts = texts.where(texts.notna(), None)
        if len(form.columns) == 1:
            return list(texts[form.columns[0]])
        rows: list[Any] = texts.to_dict(orient="records")
        return rows

    def _forecast(self, table: DataFrame) -> DataFrame:
        from pandas import DataFrame

        columns = list(self.predictor.signature.columns)
        several = SERIES in table.columns and SERIES not in columns and table[SERIES].notna().any()
        if several and table[SERIES].isna().any():
            row = int(table[SERIES].isna().to_numpy().argmax())
            raise BadInput(f"row {row}: {SERIES}", "nothing", "expected the name of a series, as in other rows", "no-series")
        groups = table.groupby(SERIES, sort=False) if several else [("", table)]
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


def _row(answer: object) -> dict[str, Any]:
    match answer:
        case Label():
            probabilities = answer.probabilities.astype(float).tolist()
            return {"label": answer.label, "probability": answer.probability, "probabilities": probabilities}
        case Mask():
            return {"mask": answer.png(), "confidence": answer.confidence, "shares": list(answer.shares.values())}
    raise TypeError(f"no row can be made of {type(answer).__name__}")
