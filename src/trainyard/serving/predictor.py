"""A model's file and raw inputs in, answers out: with onnxruntime, NumPy, Pillow and tokenizers, and no framework.

    predictor = Predictor.load(Path("models/cnn"))
    [answer] = predictor.predict([Path("seven.png").read_bytes()])
    answer.label, answer.probability

What the graph sees of an image, a text or a series is what training and evaluation saw of the same file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from trainyard.data.raw_form import ImageForm, SeriesForm, TextForm
from trainyard.errors import InputError, IntegrityError, first_line
from trainyard.serving.answers import Answer, Forecast, Label, Mask, check_finite, softmax
from trainyard.serving.bad_input import BadInput
from trainyard.serving.model_file import Signature, open_model
from trainyard.serving.raw_inputs import Limits, Raw, Sample, image_sample, series_sample, text_sample

Variant = Literal["fp32", "int8"]
FILES: dict[Variant, str] = {"fp32": "model.onnx", "int8": "formats/model.int8.onnx"}
"""In the folder of a model."""
FIELDS = {
    "image_classification": "images",
    "segmentation": "images",
    "text_classification": "texts",
    "forecasting": "series",
}
"""What raw inputs are called, by kind."""
NO_LIMITS = Limits()


class Predictor:
    """One model, ready to answer; several threads may ask it at once."""

    def __init__(self, session: onnxruntime.InferenceSession, signature: Signature) -> None:
        """Take what `model_file.open_model` returned.

        Raises:
            IntegrityError: its tokenizer cannot be read.
        """
        self.session = session
        self.signature = signature
        self.field = FIELDS[signature.kind]
        self._tokenizer = _tokenizer(signature) if signature.tokenizer else None

    @classmethod
    def load(cls, path: Path, variant: Variant = "fp32", threads: int = 0) -> Predictor:
        """Open a model, and see that it answers.

        Args:
            path: of a folder that export wrote, such as models/cnn, or of an ONNX file.
            variant: which of the folder's files.
            threads: that one answer is computed with; 0: as many as onnxruntime likes.

        Raises:
            InputError: there is no such model.
            IntegrityError: its file is damaged, or is none of ours.
        """
        file = path / FILES[variant] if path.is_dir() else path
        if not file.is_file():
            if variant == "int8" and (path / FILES["fp32"]).is_file():
                raise InputError(
                    f"{path}: has no model in 8 bits; add onnx_int8 to the recipe's export.formats and run `dvc repro`, or "
                    "leave --int8 out"
                )
            raise InputError(f"{file}: no such file; run `dvc repro` to export the recipe")
        predictor = cls(*open_model(file, threads))
        predictor._try(file)
        return predictor

    def predict(self, raws: Sequence[Raw], limits: Limits = NO_LIMITS) -> list[Answer]:
        """Answer to raw inputs, in their order.

        Raises:
            BadInput: naming the first one that cannot be answered, and why.
        """
        fields = [f"{self.field}[{number}]" for number in range(len(raws))]
        answers = self.answer([self.sample(raw, field, limits) for raw, field in zip(raws, fields, strict=True)])
        for answer, field in zip(answers, fields, strict=True):
            check_finite(answer, field)
        return answers

    def sample(self, raw: object, field: str = "", limits: Limits = NO_LIMITS) -> Sample:
        """Bring one raw input to what the graph takes.

        Args:
            raw: the bytes of an image file, a text, or the rows of a series, the oldest first.
            field: what an error calls it.
            limits: of what is taken.

        Raises:
            BadInput: naming what is wrong.
        """
        field = field or self.field
        match self.signature.form:
            case ImageForm() as form:
                return image_sample(raw, form, field, limits)
            case TextForm() as form:
                if self._tokenizer is None:
                    raise TypeError(f"a model for texts without a tokenizer: {self.signature.recipe}")
                return text_sample(raw, form, self._tokenizer, self.signature.max_length, field, limits)
            case SeriesForm() as form:
                return series_sample(raw, self.signature, form, field, limits)

    def answer(self, samples: Sequence[Sample]) -> list[Answer]:
        """Answer to samples, those of one shape together."""
        answers: dict[int, Answer] = {}
        for places in self._alike(samples):
            some = [samples[place] for place in places]
            answers.update(zip(places, self._read(self.run(some), some), strict=True))
        return [answers[place] for place in range(len(samples))]

    def run(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """Return what the graph gives for samples that fit into one batch: logits or forecasts (N, ...)."""
        arrays = [sample.array for sample in samples]
        names = [entry.name for entry in self.session.get_inputs()]
        lengths = np.array([len(array) for array in arrays], dtype=np.int64)
        inputs = {names[0]: _padded(arrays) if len(names) > 1 else np.stack(arrays)}
        if len(names) > 1:
            inputs[names[1]] = lengths
        found: NDArray[np.float32] = self.session.run(None, inputs)[0]
        return found

    def _alike(self, samples: Sequence[Sample]) -> list[list[int]]:
        """Return the places of the samples that fit into one batch."""
        if self.signature.kind == "text_classification":
            return [list(range(len(samples)))] if samples else []
        by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, sample in enumerate(samples):
            by_shape[sample.array.shape].append(place)
        return list(by_shape.values())

    def _read(self, found: NDArray[np.float32], samples: Sequence[Sample]) -> list[Answer]:
        signature = self.signature
        if signature.kind == "forecasting":
            return [Forecast(targets=signature.classes, values=values) for values in found]
        probabilities = softmax(found, signature.temperature)
        numbers = probabilities.argmax(axis=1)
        if signature.threshold is not None:
            numbers = (probabilities[:, 1] >= signature.threshold).astype(np.int64)
        chosen = np.take_along_axis(probabilities, numbers[:, None], axis=1)[:, 0]
        if signature.kind == "segmentation":
            form = signature.form
            resize = form.resize if isinstance(form, ImageForm) else "stretch"
            return [
                Mask(
                    classes=signature.classes,
                    ids=ids.astype(np.uint8),
                    confidence=float(confidence.mean()),
                    size=sample.size,
                    resize=resize,
                )
                for ids, confidence, sample in zip(numbers, chosen, samples, strict=True)
            ]
        return [
            Label(
                label=signature.classes[number],
                number=int(number),
                probability=float(probability),
                probabilities=every,
                logits=logits,
            )
            for number, probability, every, logits in zip(numbers, chosen, probabilities, found, strict=True)
        ]

    def _try(self, file: Path) -> None:
        """Ask about nothing in particular: a graph that fails, or gives another shape, is found before it is used."""
        signature, form = self.signature, self.signature.form
        match form:
            case ImageForm():
                array: NDArray[Any] = np.zeros((form.channels, *(form.size or form.trained_size)), dtype=np.uint8)
            case TextForm():
                array = np.ones(1, dtype=np.int64)
            case SeriesForm():
                array = np.zeros((signature.context_length, len(signature.columns)), dtype=np.float32)
        expected: tuple[int, ...] = (1, len(signature.classes))
        if signature.kind == "segmentation":
            expected = (*expected, *array.shape[1:])
        elif signature.kind == "forecasting":
            expected = (1, signature.horizon, len(signature.classes))
        try:
            found = self.run([Sample(array=array)])
        except Exception as error:  # onnxruntime has exceptions of its own, without a parent
            raise IntegrityError(f"{file}: does not answer ({first_line(error)}); export it again") from None
        if found.shape != expected or not np.isfinite(found).all():
            raise IntegrityError(f"{file}: answers {found.shape}, or no numbers, expected {expected}; export it again")


def _padded(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return sequences (T, ...) as (N, longest T, ...), with zeros behind the shorter ones."""
    longest = max(len(array) for array in arrays)
    batch = np.zeros((len(arrays), longest, *arrays[0].shape[1:]), dtype=arrays[0].dtype)
    for row, array in zip(batch, arrays, strict=True):
        row[: len(array)] = array
    return batch


def _tokenizer(signature: Signature) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(signature.tokenizer)
    except Exception as error:  # the library raises plain Exception
        raise IntegrityError(f"{signature.recipe}: its tokenizer cannot be read ({error}); export it again") from None


__all__ = ["Answer", "BadInput", "Forecast", "Label", "Limits", "Mask", "Predictor", "Raw", "Sample", "Signature"]
