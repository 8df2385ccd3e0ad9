"""The one number by which runs of a kind are compared, stopped early and chosen."""

from trainyard.data.raw import Kind

PRIMARY: dict[Kind, str] = {
    "image_classification": "accuracy",
    "text_classification": "macro_f1",
    "segmentation": "mean_iou",
    "forecasting": "mse",
}
"""Metric name by kind of data."""
LOWER_IS_BETTER = frozenset({"mse", "mae", "loss", "pixel_error", "rand_error"})
"""Metrics that are errors; of all others a higher value is better."""


def merit(metric: str, value: float) -> float:
    """Return a number that is higher the better a metric's value is."""
    return -value if metric in LOWER_IS_BETTER else value
