"""The gate that every format passes: the same logits and labels, or forecasts, as the torch network, at several shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from trainyard.data.packed import Split
from trainyard.errors import IntegrityError
from trainyard.export.config import ExportConfig
from trainyard.export.inputs import Inputs, output_scale, raw_inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How closely a format follows the torch network."""

    format: str
    samples: int
    """Test samples compared."""
    shapes: list[list[int]]
    """Of the first input, one for each call."""
    max_difference: float
    """Largest absolute difference of two logits, or of two forecasts in standard deviations of the target."""
    worst_sample: int
    """Position in the test split of the sample with that difference."""
    labels_equal: float | None
    """Share of samples (pixels of masks) that get the same label; None for forecasts, which have none."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Open an ONNX file for the processor, once it is sure that it is one whole file.

    Raises:
        IntegrityError: it is truncated, not ONNX, or points at other files.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        outside = [tensor.name for tensor in model.graph.initializer if tensor.external_data]
        if outside:
            raise IntegrityError(f"{path}: keeps {outside[0]} in another file; export it again as one file")
        onnx.checker.check_model(model)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except IntegrityError:
        raise
    except Exception as error:  # protobuf, the checker and onnxruntime each have exceptions of their own, without a parent
        headline = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise IntegrityError(f"{path}: is not a whole ONNX file ({headline}); export it again") from error


def run(session: onnxruntime.InferenceSession, inputs: Inputs) -> NDArray[np.float32]:
    """Return the logits, or the forecast, that the file gives for raw inputs."""
    names = [entry.name for entry in session.get_inputs()]
    values = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    logits: NDArray[np.float32] = session.run(None, values)[0]
    return logits


def verify(path: Path, network: nn.Module, split: Split, config: ExportConfig, form: str = "onnx") -> Parity:
    """Compare a file with the network it came from, on real test samples.

    Raises:
        IntegrityError: naming the sample that departs most, or what is wrong with the file.
    """
    session = open_session(path)
    worst, worst_sample, equal, labels = 0.0, 0, 0, 0
    shapes, samples, scale = [], 0, output_scale(split)
    for indices, inputs in calls(split, config.verify_samples):
        with torch.inference_mode():
            expected = network(*inputs).numpy()
        found = run(session, inputs)
        if found.shape != expected.shape:
            raise IntegrityError(
                f"{path}: gives logits {found.shape} for inputs {tuple(inputs[0].shape)}, torch gives {expected.shape}"
            )
        differences = (np.abs(found - expected) / scale).reshape(len(indices), -1).max(axis=1)
        # A NaN differs from everything, also from the largest difference so far.
        position = int(np.argmax(np.where(np.isnan(differences), np.inf, differences)))
        if not differences[position] <= worst:
            worst, worst_sample = float(differences[position]), int(indices[position])
        if split.kind != "forecasting":
            same = found.argmax(axis=1) == expected.argmax(axis=1)
            if not same.all():
                raise _other_label(path, form, indices, found, expected)
            equal, labels = equal + int(same.sum()), labels + same.size
        samples += len(indices)
        shapes.append(list(inputs[0].shape))
    if not worst <= config.max_logit_difference:
        raise IntegrityError(
            f"{path}: test sample {worst_sample} differs from torch by {worst:.2e} in {form}, "
            f"export.max_logit_difference is {config.max_logit_difference:g}; not exported"
        )
    return Parity(
        format=form,
        samples=samples,
        shapes=shapes,
        max_difference=worst,
        worst_sample=worst_sample,
        labels_equal=equal / labels if labels else None,
    )


def _other_label(
    path: Path, form: str, indices: NDArray[np.int64], found: NDArray[np.float32], expected: NDArray[np.float32]
) -> IntegrityError:
    """Return the error about the first sample whose label is another one in the file."""
    same = found.argmax(axis=1) == expected.argmax(axis=1)
    odd = int(np.argmin(same.reshape(len(indices), -1).all(axis=1)))
    truth, other = expected[odd].argmax(axis=0), found[odd].argmax(axis=0)
    pixel = np.unravel_index(np.argmax(truth != other), truth.shape) if truth.ndim else ()
    return IntegrityError(
        f"{path}: test sample {int(indices[odd])} is class {int(other[pixel])} in {form} and {int(truth[pixel])} in torch "
        f"(largest logit difference {float(np.abs(found[odd] - expected[odd]).max()):.2e}); not exported"
    )


def calls(split: Split, samples: int) -> Iterator[tuple[NDArray[np.int64], Inputs]]:
    """Yield real test samples in batches of several shapes: many, three, one; and other sizes where they are free."""
    everything = np.arange(min(samples, len(split)))
    for indices in (everything, everything[:3], everything[-1:]):
        yield indices, raw_inputs(split, indices)
    some = everything[:3]
    inputs = raw_inputs(split, some)
    match split.kind:
        case "segmentation":
            # Real pixels at an odd, larger size: the images beside and below themselves, cut.
            images = inputs[0]
            height, width = images.shape[2:]
            yield some, (images.tile(1, 1, 2, 2)[:, :, : height + height // 2 + 1, : width + 5],)
        case "text_classification":
            # The same texts with more padding, which must change nothing.
            yield some, (torch.nn.functional.pad(inputs[0], (0, 7)), inputs[1])
        case "forecasting":
            # The later part of the context alone, and the whole of it with padding behind, which must change nothing.
            skipped = inputs[0].shape[1] // 3
            yield some, (inputs[0][:, skipped:], inputs[1] - skipped)
            yield some, (torch.nn.functional.pad(inputs[0], (0, 0, 0, 7)), inputs[1])
        case "image_classification":
            pass
