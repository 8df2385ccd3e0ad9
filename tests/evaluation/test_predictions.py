import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainyard.data.packed import Split
from trainyard.evaluation.predictions import label_predictions, predict


class MeanInk(nn.Module):
    """Logits (N, 3) from the mean grey of an image, with dropout that evaluation must switch off."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        grey = images.float().mean(dim=(1, 2, 3))
        levels = torch.tensor([30.0, 220.0, 120.0])
        return self.dropout(-(grey[:, None] - levels).abs() / 20 + 10)


class PixelGrey(nn.Module):
    """Logits (N, 3, H, W) from the grey of a pixel."""

    def forward(self, images: Tensor) -> Tensor:
        levels = torch.tensor([128.0, 218.0, 38.0]).view(1, 3, 1, 1)
        return -(images.float() - levels).abs() / 20


def test_labels_are_predicted_without_dropout_and_for_every_sample(image_split: Split) -> None:
    network = MeanInk().train()
    found = predict(network, image_split, batch_size=7)
    np.testing.assert_array_equal(found.classes, image_split.arrays["labels"])
    np.testing.assert_array_equal(found.confusion, np.diag([14, 13, 13]))
    images = torch.from_numpy(image_split.arrays["images"])
    expected = cross_entropy(network(images), torch.from_numpy(image_split.arrays["labels"]), reduction="none")
    np.testing.assert_allclose(found.counts.losses, expected.numpy(), rtol=1e-4)
    assert not network.training


def test_masks_are_predicted_and_counted_image_by_image(mask_split: Split) -> None:
    found = predict(PixelGrey(), mask_split, batch_size=5)
    masks = mask_split.arrays["masks"]
    assert found.classes.dtype == np.uint8
    assert found.classes.shape == masks.shape
    assert np.mean(found.classes == masks) > 0.99
    assert found.confusion.sum() == masks.size
    np.testing.assert_array_equal(found.counts.truth[:, 0], (masks == 0).sum(axis=(1, 2)))
    np.testing.assert_array_equal(found.counts.overlap.sum(axis=0), found.confusion.diagonal())


def test_loss_of_masks_is_the_mean_over_pixels(mask_split: Split) -> None:
    images, masks = (torch.from_numpy(mask_split.arrays[name]) for name in ("images", "masks"))
    expected = cross_entropy(PixelGrey()(images), masks.long(), reduction="none").mean(dim=(1, 2))
    found = predict(PixelGrey(), mask_split, batch_size=5)
    np.testing.assert_allclose(found.counts.losses, expected.numpy(), rtol=1e-4)


def test_batch_size_does_not_change_predictions(mask_split: Split) -> None:
    one, all_of_them = (predict(PixelGrey(), mask_split, batch_size=size) for size in (1, 100))
    np.testing.assert_array_equal(one.classes, all_of_them.classes)
    np.testing.assert_allclose(one.confidence, all_of_them.confidence, rtol=1e-6)


def test_class_given_no_probability_has_a_finite_loss() -> None:
    found = label_predictions(np.array([[1.0, 0.0]], dtype=np.float32), np.array([1]))
    assert found.counts.losses is not None
    assert found.counts.losses[0] == pytest.approx(87.3, abs=0.1)
