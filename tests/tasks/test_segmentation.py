from __future__ import annotations

import pytest
import torch

from trainyard.tasks.segmentation import scores


def test_scores_of_a_confusion_matrix_by_hand() -> None:
    # Truth in rows; the third class occurs nowhere and counts nowhere.
    found = scores(torch.tensor([[3, 1, 0], [2, 4, 0], [0, 0, 0]]))
    assert float(found["mean_iou"]) == pytest.approx((3 / 6 + 4 / 7) / 2)
    assert float(found["dice"]) == pytest.approx((6 / 9 + 8 / 11) / 2)
    assert float(found["pixel_accuracy"]) == pytest.approx(7 / 10)
