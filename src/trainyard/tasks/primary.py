"""The one number by which runs of a kind are compared, stopped early and chosen."""

from trainyard.data.raw import Kind

PRIMARY: dict[Kind, str] = {
    "image_classification": "accuracy",
    "text_classification": "macro_f1",
    "segmentation": "mean_iou",
}
"""Metric name by kind of data; higher is better for all of them."""
