"""The gate that every format passes: the same logits and labels, or forecasts, as the torch network, at several shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import pad

from trainyard.data.packed import Split
from trainyard.errors import IntegrityError
from trainyard.export.config import ExportConfig
from trainyard.export.departure import first_departure
from trainyard.export.inputs import Inputs, answer_scale, raw_inputs
from trainyard.export.opened import OnnxFile, Opened

BATCHES = (32, 7, 2, 1)
"""Sizes of the batches that are asked; all samples go in batches of the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How closely a format follows the torch network."""

    format: str
    samples: int
    """Test samples compared, each as often as it was in a batch."""
    shapes: list[list[int]]
    """Of the first input, one for each call."""
    max_difference: float
    """Largest absolute difference of two logits, of a sample with larger ones than 10 divided by a tenth of its largest; or of
    two forecasts, in standard deviations of the target."""
    worst_sample: int
    """Position in the test split of the sample with that difference."""
    labels_equal: float | None
    """Share of samples (pixels of masks) that get the same label; None for forecasts, which have none."""
    ties: int = 0
    """Of the others, those whose two best logits lie nearer to each other than the tolerance: the label is then a matter
    of the last bit. More than that is refused in fp32."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Asked:
    """One call: real test samples, and what torch answers."""

    indices: NDArray[np.int64]
    """(N,) their positions in the test split."""
    inputs: Inputs
    expected: NDArray[np.float32]
    """(N, ...)"""


def ask(network: nn.Module, split: Split, samples: int) -> list[Asked]:
    """Return what torch answers to test samples at several shapes.

    Args:
        network: takes raw inputs, in evaluation mode.
        split: the test split.
        samples: how many of it.
    """
    asked = []
    for indices, inputs in calls(split, samples):
        with torch.inference_mode():
            asked.append(Asked(indices, inputs, network(*inputs).numpy()))
    return asked


def verify(path: Path, network: nn.Module, split: Split, config: ExportConfig, form: str = "onnx") -> Parity:
    """Compare an ONNX file with the network it came from, on real test samples.

    Raises:
        IntegrityError: naming the sample that departs most and the first layer that does, or what is wrong with the file.
    """
    return compare(OnnxFile(path, form), network, split, config)


def compare(
    opened: Opened,
    network: nn.Module,
    split: Split,
    config: ExportConfig,
    *,
    exact: bool = True,
    asked: list[Asked] | None = None,
) -> Parity:
    """Compare an open file with the network it came from, on real test samples.

    Args:
        opened: the file.
        network: takes raw inputs, in evaluation mode.
        split: the test split.
        config: what is allowed.
        exact: false for 8 bits, whose differences are counted here and judged by quality.py.
        asked: what `ask` returned; None: asked here.

    Raises:
        IntegrityError: as `verify`.
    """
    worst, worst_sample, worst_inputs, equal, ties, labels = 0.0, 0, None, 0, 0, 0
    shapes, samples = [], 0
    for one in ask(network, split, config.verify_samples) if asked is None else asked:
        indices, inputs, expected = one.indices, one.inputs, one.expected
        found = opened.answer(inputs)
        if found.shape != expected.shape:
            raise IntegrityError(
                f"{opened.path}: gives logits {found.shape} in {opened.form} for inputs {tuple(inputs[0].shape)}, torch gives "
                f"{expected.shape}; not exported: leave {opened.form} out of export.formats"
            )
        scale = answer_scale(split, expected)
        differences = (np.abs(found - expected) / scale).reshape(len(indices), -1).max(axis=1)
        # A NaN differs from everything, also from the largest difference so far.
        position = int(np.argmax(np.where(np.isnan(differences), np.inf, differences)))
        if not differences[position] <= worst:
            worst, worst_sample, worst_inputs = float(differences[position]), int(indices[position]), inputs
        if split.kind != "forecasting":
            same = found.argmax(axis=1) == expected.argmax(axis=1)
            tied = ~same & _tied(expected / scale, config.max_logit_difference)
            if exact and not (same | tied).all():
                where = first_departure(network, opened, inputs, config.max_logit_difference)
                raise _other_label(opened, indices, found, expected, same | tied, where)
            equal, ties, labels = equal + int(same.sum()), ties + int(tied.sum()), labels + same.size
        samples += len(indices)
        shapes.append(list(inputs[0].shape))
    if exact and not worst <= config.max_logit_difference:
        where = "" if worst_inputs is None else first_departure(network, opened, worst_inputs, config.max_logit_difference)
        raise IntegrityError(
            f"{opened.path}: test sample {worst_sample} differs from torch by {worst:.2e} in {opened.form}, "
            f"export.max_logit_difference is {config.max_logit_difference:g}; {where}; not exported: leave "
            f"{opened.form} out of export.formats, or raise that bound if so much is no matter"
        )
    return Parity(
        format=opened.form,
        samples=samples,
        shapes=shapes,
        max_difference=worst,
        worst_sample=worst_sample,
        labels_equal=equal / labels if labels else None,
        ties=ties,
    )


def _tied(logits: NDArray[np.float32], tolerance: float) -> NDArray[np.bool_]:
    """Return where the two best logits (N, K, ...) lie so near to each other that the tolerance may turn them over."""
    if logits.shape[1] < 2:
        return np.zeros_like(logits[:, 0], dtype=bool)
    second, first = np.partition(logits, -2, axis=1)[:, -2], logits.max(axis=1)
    tied: NDArray[np.bool_] = first - second <= 2 * tolerance
    return tied


def _other_label(
    opened: Opened,
    indices: NDArray[np.int64],
    found: NDArray[np.float32],
    expected: NDArray[np.float32],
    same: NDArray[np.bool_],
    where: str,
) -> IntegrityError:
    """Return the error about the first sample whose label is another one in the file."""
    odd = int(np.argmin(same.reshape(len(indices), -1).all(axis=1)))
    truth, other = expected[odd].argmax(axis=0), found[odd].argmax(axis=0)
    pixel = np.unravel_index(np.argmin(same[odd]), truth.shape) if truth.ndim else ()
    return IntegrityError(
        f"{opened.path}: test sample {int(indices[odd])} is class {int(other[pixel])} in {opened.form} and "
        f"{int(truth[pixel])} in torch (largest logit difference {float(np.abs(found[odd] - expected[odd]).max()):.2e}); "
        f"{where}; not exported: leave {opened.form} out of export.formats"
    )


def calls(split: Split, samples: int) -> Iterator[tuple[NDArray[np.int64], Inputs]]:
    """Yield real test samples in batches of several sizes, and in other sizes of image or length where they are free."""
    everything = np.arange(min(samples, len(split)))
    for start in range(0, len(everything), BATCHES[0]):
        indices = everything[start : start + BATCHES[0]]
        yield indices, raw_inputs(split, indices)
    for size in BATCHES[1:]:
        indices = everything[-size:]
        yield indices, raw_inputs(split, indices)
    some = everything[:3]
    for inputs in _other_sizes(split.kind, raw_inputs(split, some)):
        yield some, inputs


def _other_sizes(kind: str, inputs: Inputs) -> Iterator[Inputs]:
    match kind:
        case "segmentation":
            # Real pixels: the images beside and below themselves, cut to an odd, larger size, and a part of them.
            images = inputs[0]
            height, width = images.shape[2:]
            yield (images.tile(1, 1, 2, 2)[:, :, : height + height // 2 + 1, : width + 5],)
            yield (images[:, :, : height // 2 + 1, : width // 3 + 1],)
        case "text_classification":
            # The same texts with more padding, which must change nothing; longer ones; and one token of each.
            tokens, lengths = inputs
            yield pad(tokens, (0, 7)), lengths
            yield tokens.tile(1, 3), torch.full_like(lengths, 3 * tokens.shape[1])
            yield tokens[:, :1], torch.ones_like(lengths)
        case "forecasting":
            # The later part of the context alone; the whole of it with padding behind, which must change nothing; twice of it.
            values, lengths = inputs
            skipped = values.shape[1] // 3
            yield values[:, skipped:], lengths - skipped
            yield pad(values, (0, 0, 0, 7)), lengths
            yield values.tile(1, 2, 1), 2 * lengths
        case _:
            return
