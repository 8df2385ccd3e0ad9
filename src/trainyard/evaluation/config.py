"""Block `evaluate` of a recipe: how a trained model is scored and shown."""

from __future__ import annotations

from dataclasses import dataclass

from trainyard.params import Count, Index


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """How the test split is scored. Nothing here changes the model."""

    batch_size: Count = 256
    """Samples in one forward pass."""
    bootstrap_samples: Count = 1000
    """Resamples of the test split from which the 95 % intervals are taken."""
    baseline: bool = True
    """Train a classical model on the same split and score it beside the network."""
    shown_samples: Count = 12
    """Test samples in the figure of predictions."""
    season: Count = 24
    """Steps after which a series is expected to repeat, for the seasonal naive forecast: 24 for hours of a day."""
    seed: Index = 0
    """Of the bootstrap and of the baseline."""
