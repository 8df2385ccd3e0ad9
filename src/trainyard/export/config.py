"""Block `export` of a recipe: the formats a model leaves in, and what they must prove."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainyard.params import Count, Positive


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """What is exported and how it is verified."""

    formats: tuple[Literal["onnx"], ...] = ("onnx",)
    max_logit_difference: Positive = 1e-4
    """Largest absolute difference from the torch network's logits that a format may show, in fp32; of forecasts in
    standard deviations of the target."""
    verify_samples: Count = 64
    """Test samples on which a format is compared with the torch network."""
    latency_runs: Count = 50
    """Timed calls of batch 1, from which the percentiles are taken."""
