"""Real samples as a user has them: what an exported file takes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainyard.data.batches import gather
from trainyard.data.packed import Split
from trainyard.export.scale import logit_scale

Inputs = tuple[Tensor, ...]


def raw_inputs(split: Split, indices: NDArray[np.int64]) -> Inputs:
    """Return pixels, tokens, or numbers in the columns' own units, of some samples."""
    inputs = gather(split, indices).inputs
    if split.kind != "forecasting":
        return inputs
    mean, std = (torch.from_numpy(np.array(split.arrays[name])) for name in ("mean", "std"))
    return ((inputs[0] * std + mean).float(), *inputs[1:])


def output_scale(split: Split) -> NDArray[np.float64] | float:
    """Return by what differences of the output are divided: logits by 1, each target by its standard deviation."""
    if split.kind != "forecasting":
        return 1.0
    scale: NDArray[np.float64] = split.arrays["std"][: split.arrays["window"][2]]
    return scale


def answer_scale(split: Split, answers: NDArray[np.float32]) -> NDArray[np.floating] | float:
    """Return by what differences of answers (N, ...) are divided: logits by `logit_scale`, forecasts by `output_scale`."""
    return output_scale(split) if split.kind == "forecasting" else logit_scale(answers)
