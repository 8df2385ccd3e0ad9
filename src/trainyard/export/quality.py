"""The primary metric of the test split, as an exported file reaches it: what 8 bits cost, in points."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from trainyard.data.batches import gather
from trainyard.data.packed import Split
from trainyard.errors import IntegrityError
from trainyard.evaluation.metrics import confusions, mask_counts, scores, total
from trainyard.export.config import ExportConfig
from trainyard.export.departure import first_departure
from trainyard.export.inputs import output_scale, raw_inputs
from trainyard.export.int8_format import spread
from trainyard.export.opened import Opened
from trainyard.tasks.primary import LOWER_IS_BETTER, PRIMARY

BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What a format loses against fp32."""

    metric: str
    samples: int
    """Of the test split."""
    fp32: float
    value: float
    drop: float
    """fp32 less value; for an error, by which share of itself it grew."""
    allowed: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def check_quality(
    opened: Opened, fp32: Opened, network: nn.Module, split: Split, classes: int, config: ExportConfig
) -> Quality:
    """Compare a file with that in fp32 by the primary metric.

    Args:
        opened: the file.
        fp32: the verified one.
        network: that both came from, which says where the file departs.
        split: the test split.
        classes: how many there are.
        config: how much it may lose.

    Raises:
        IntegrityError: it loses more, with the numbers, the sample that differs most and the layer at which it begins.
    """
    metric, indices = PRIMARY[split.kind], spread(len(split), config.quality_samples)
    ours, theirs = _Score(split, classes), _Score(split, classes)
    differences: list[float] = []
    for start in range(0, len(indices), BATCH):
        some = indices[start : start + BATCH]
        inputs, truth = raw_inputs(split, some), gather(split, some).targets.numpy()
        answer, other = opened.answer(inputs), fp32.answer(inputs)
        ours.add(answer, truth)
        theirs.add(other, truth)
        differences.extend(np.abs(answer - other).reshape(len(some), -1).max(axis=1).tolist())
    value, reference = ours.value(), theirs.value()
    drop = (value - reference) / max(reference, 1e-12) if metric in LOWER_IS_BETTER else reference - value
    if not drop <= config.max_quality_drop:
        place = int(np.argmax(np.nan_to_num(differences, nan=np.inf)))
        where = first_departure(network, opened, raw_inputs(split, indices[place : place + 1]), None)
        raise IntegrityError(
            f"{opened.path}: {opened.form} reaches {metric} {value:.4f} on {len(indices):,} test samples, fp32 "
            f"{reference:.4f}: worse by {drop:.4f}, export.max_quality_drop is {config.max_quality_drop:g}; test sample "
            f"{int(indices[place])} differs most, by {differences[place]:.2e}; {where}; not exported. Leave {opened.form} out "
            "of export.formats, or allow more"
        )
    return Quality(metric=metric, samples=len(indices), fp32=reference, value=value, drop=drop, allowed=config.max_quality_drop)


class _Score:
    """The primary metric, batch by batch."""

    def __init__(self, split: Split, classes: int) -> None:
        self.split, self.classes = split, classes
        self.matrices: list[NDArray[np.int64]] = []
        self.errors: list[NDArray[np.float64]] = []

    def add(self, answer: NDArray[np.float32], truth: NDArray[Any]) -> None:
        """Count the answers (n, ...) to some samples."""
        if self.split.kind == "forecasting":
            targets = truth.shape[2]
            raw = truth * self.split.arrays["std"][:targets] + self.split.arrays["mean"][:targets]
            self.errors.append(((answer - raw) / output_scale(self.split)) ** 2)
        else:
            labels = truth.reshape(len(truth), -1)
            predicted = answer.argmax(axis=1).reshape(len(truth), -1)
            self.matrices.append(confusions(labels, predicted, self.classes))

    def value(self) -> float:
        """Return the metric of all that were added."""
        if self.split.kind == "forecasting":
            return float(np.concatenate(self.errors).mean())
        counts = mask_counts(np.concatenate(self.matrices))
        return float(scores(self.split.kind, total(counts))[PRIMARY[self.split.kind]])
