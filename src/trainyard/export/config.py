"""Block `export` of a recipe: the formats a model leaves in, and what they must prove."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainyard.params import Count, Fraction, Positive

Format = Literal["onnx", "onnx_int8", "pt2", "executorch"]
EXECUTORCH = "executorch>=1.5,<1.6"
"""The package that writes and runs ExecuTorch's programs; in pyproject.toml it is the extra `phone`. The app in android/ has
the runtime of the same version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """What is exported and how it is verified."""

    formats: tuple[Format, ...] = ("onnx",)
    """onnx: in fp32, always. onnx_int8: the same with 8-bit weights and, but for an LSTM, activations. pt2: torch.export's
    archive. executorch: a program for phones that takes one input at a time, where the package executorch is installed."""
    max_logit_difference: Positive = 1e-4
    """Largest absolute difference from the torch network's logits that a format in fp32 may show; where a sample has larger
    logits than 10, times a tenth of its largest. Of forecasts in standard deviations of the target."""
    max_quality_drop: Fraction = 0.01
    """By how much int8 may be worse than fp32 in the primary metric of the test split; for an error such as MSE, the share of
    itself by which it may grow."""
    verify_samples: Count = 64
    """Test samples on which a format is compared with the torch network."""
    quality_samples: Count = 1000
    """Test samples, spread over the split, on which int8 and fp32 are compared by the primary metric."""
    calibration_samples: Count = 128
    """Training samples, spread over the split, whose activations give the ranges of int8."""
    latency_runs: Count = 50
    """Timed calls of each batch size and format, from which the percentiles are taken."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if "onnx" not in self.formats:
            raise ValueError(
                f"formats: [{', '.join(self.formats)}] lacks onnx, which is served, registered and quantised; add it"
            )
        if twice := sorted({name for name in self.formats if self.formats.count(name) > 1}):
            raise ValueError(f"formats: names {twice[0]} twice; name it once")
