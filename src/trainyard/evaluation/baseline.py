"""Classical models trained on the same split: what a network must beat to be worth its cost.

images   multinomial logistic regression on the pixels
masks    a random forest on local features of each pixel, as in ilastik (Berg 2019, 10.1038/s41592-019-0582-9)
texts    logistic regression on TF-IDF of words and word pairs

Each looks at no more than a fixed number of samples, and says so: it ends in seconds on large data too.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainyard.data.packed import Split
from trainyard.evaluation.predictions import Predictions, label_predictions, mask_predictions
from trainyard.lean import without

Features = NDArray[np.float32]

THREADS = 2
"""Of the numerical libraries, so that a baseline takes no more of a shared machine than it must."""
IMAGE_VALUES = 5_000_000
"""Pixels, over all channels and images, that logistic regression is trained on at most."""
IMAGE_WORK = 4_000_000_000
"""Those pixels times classes times iterations, which bounds the time of training."""
ITERATIONS = 200
"""Of the L-BFGS solver, at most."""
MASK_PIXELS = 40_000
"""Pixels, as many of each class as there are, that the forest is trained on at most."""
MASK_TREE_PIXELS = 24_000_000
"""Test pixels times trees, which bounds the time of prediction."""
MASK_TREES = 20
TRAINING_IMAGE_PIXELS = 4_000_000
"""Pixels of training images that are looked at, but 20 images at least ..."""
MOST_TRAINING_PIXELS = 80_000_000
"""... where these are no more pixels than this."""
MASK_SIGMAS = (1.0, 2.0, 4.0, 8.0)
"""Pixels: the scales of the local features."""
FEATURE_REACH = 32
"""Pixels around one that its features depend on: four of the largest scale, where SciPy cuts a Gaussian."""
STRIP_PIXELS = 500_000
"""Pixels whose features are held at once."""
TEXTS = 50_000
"""Texts that logistic regression is trained on at most."""
TEXT_FEATURES = 200_000
"""Words and word pairs, the most frequent ones."""
TEXT_INVERSE_PENALTY = 10.0
"""scikit-learn's C. TF-IDF rows have length 1, for which its default of 1 shrinks too much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A trained baseline's predictions of the test split."""

    predictions: Predictions
    description: str
    """What the model is, and how much of the training split it saw."""
    seconds: float
    """Of training and prediction."""


def run_baseline(train: Split, test: Split, num_classes: int, seed: int) -> Baseline:
    """Train the baseline for this kind of data and let it predict the test split."""
    # Tables of pandas are none of the things that it learns from here.
    with without("pandas"):
        from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    began = time.monotonic()
    run = {"image_classification": _images, "segmentation": _masks, "text_classification": _texts}[train.kind]
    with threadpool_limits(THREADS), warnings.catch_warnings():
        # The number of iterations is bounded on purpose.
        warnings.simplefilter("ignore", ConvergenceWarning)
        predictions, description = run(train, test, num_classes, seed)
    return Baseline(predictions=predictions, description=description, seconds=time.monotonic() - began)


def _images(train: Split, test: Split, num_classes: int, seed: int) -> tuple[Predictions, str]:
    from sklearn.linear_model import LogisticRegression

    images, labels = train.arrays["images"], train.arrays["labels"]
    rows, share = _some(len(train), IMAGE_VALUES // int(np.prod(images.shape[1:])), seed, "images")
    features = _flat(images[rows])
    iterations = int(np.clip(IMAGE_WORK // (features.size * num_classes), 20, ITERATIONS))
    model = LogisticRegression(max_iter=iterations).fit(features, labels[rows])
    found = model.predict_proba(_flat(test.arrays["images"]))
    probabilities = _all_classes(found, model.classes_, num_classes)
    return label_predictions(probabilities, test.arrays["labels"]), f"logistic regression on pixels{share}"


def _texts(train: Split, test: Split, num_classes: int, seed: int) -> tuple[Predictions, str]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    rows, share = _some(len(train), TEXTS, seed, "texts")
    # Single letters and signs count as words, too; scikit-learn's own pattern drops them.
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=TEXT_FEATURES, token_pattern=r"\w+|[^\w\s]")
    features = words.fit_transform([train.text(row) for row in rows])
    model = LogisticRegression(C=TEXT_INVERSE_PENALTY, max_iter=ITERATIONS)
    model.fit(features, train.arrays["labels"][rows])
    found = model.predict_proba(words.transform([test.text(row) for row in range(len(test))]))
    description = f"logistic regression on TF-IDF of words and word pairs{share}"
    probabilities = _all_classes(found, model.classes_, num_classes)
    return label_predictions(probabilities, test.arrays["labels"]), description


def _masks(train: Split, test: Split, num_classes: int, seed: int) -> tuple[Predictions, str]:
    from sklearn.ensemble import RandomForestClassifier

    features, classes = _training_pixels(train, num_classes, seed)
    trees = int(np.clip(MASK_TREE_PIXELS // test.arrays["masks"].size, 4, MASK_TREES))
    forest = RandomForestClassifier(trees, min_samples_leaf=4, n_jobs=THREADS, random_state=seed)
    forest.fit(features, classes)
    # The order in which threads add up the trees would show in the last digit.
    forest.n_jobs = 1
    # It learned from as many pixels of each class, so it sees rare ones everywhere. The square root of the
    # frequencies takes back half of that: on made-up scenes a better mean IoU than with none or all of it.
    frequency = np.bincount(np.asarray(train.arrays["masks"]).ravel(), minlength=num_classes)
    frequency = np.sqrt(frequency).astype(np.float32)

    def batches() -> Iterator[Features]:
        for image in test.arrays["images"]:
            strips = [
                _all_classes(forest.predict_proba(strip), forest.classes_, num_classes) for strip in feature_strips(image)
            ]
            weighted = np.concatenate(strips) * frequency
            weighted /= weighted.sum(axis=1, keepdims=True)
            yield weighted.T.reshape(1, num_classes, *image.shape[1:])

    description = f"random forest of {trees} trees on the surroundings of {len(classes):,} pixels"
    return mask_predictions(batches(), test.arrays["masks"]), description


def feature_strips(image: NDArray[np.uint8]) -> Iterator[Features]:
    """Yield the rows of `local_features` of an image (C, H, W), some at a time: all take 68 bytes a pixel and channel."""
    height, width = image.shape[1:]
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        first = max(0, top - FEATURE_REACH)
        found = local_features(image[:, first : bottom + FEATURE_REACH])
        yield found[(top - first) * width : (bottom - first) * width]


def local_features(image: NDArray[np.uint8]) -> Features:
    """Return what a pixel and its neighbourhood look like (H * W, C * 17), of an image (C, H, W).

    For each channel the intensity, and at four scales its Gaussian mean, gradient magnitude, Laplacian and
    standard deviation.
    """
    from scipy import ndimage

    found = []
    for channel in image.astype(np.float32) / 255:
        found.append(channel)
        for sigma in MASK_SIGMAS:
            smooth = ndimage.gaussian_filter(channel, sigma)
            variance = ndimage.gaussian_filter(channel**2, sigma) - smooth**2
            gradient = ndimage.gaussian_gradient_magnitude(channel, sigma)
            laplacian = ndimage.gaussian_laplace(channel, sigma)
            found += [smooth, gradient, laplacian, np.sqrt(np.maximum(variance, 0))]
    return np.stack([feature.ravel() for feature in found], axis=1).astype(np.float32)


def _training_pixels(train: Split, num_classes: int, seed: int) -> tuple[Features, NDArray[np.uint8]]:
    """Return features and classes of random pixels, about as many of each class as there are."""
    images, masks = train.arrays["images"], train.arrays["masks"]
    rng = np.random.Generator(np.random.Philox(key=[seed, len(train)]))
    height, width = masks.shape[1:]
    # More images than these add little but time: neighbouring pixels tell much the same.
    count = max(20, TRAINING_IMAGE_PIXELS // (height * width))
    rows = np.sort(rng.permutation(len(train))[: min(count, max(1, MOST_TRAINING_PIXELS // (height * width)))])
    classes = np.asarray(masks[rows]).reshape(len(rows), -1)
    quota = MASK_PIXELS // num_classes
    chosen = np.concatenate([rng.permutation(np.flatnonzero(classes == number))[:quota] for number in range(num_classes)])
    chosen.sort()
    image_of, pixel_of = np.divmod(chosen, height * width)
    features = [_features_at(images[rows[image]], pixel_of[image_of == image]) for image in np.unique(image_of)]
    return np.concatenate(features), classes.ravel()[chosen]


def _features_at(image: NDArray[np.uint8], pixels: NDArray[np.int64]) -> Features:
    """Return the features of pixels in ascending order."""
    found, start = [], 0
    for strip in feature_strips(image):
        inside = pixels[(start <= pixels) & (pixels < start + len(strip))]
        found.append(strip[inside - start])
        start += len(strip)
    return np.concatenate(found)


def _some(samples: int, most: int, seed: int, noun: str) -> tuple[NDArray[np.int64], str]:
    """Return at most `most` random rows in ascending order, and what to say of that."""
    if samples <= most:
        return np.arange(samples), ""
    rng = np.random.Generator(np.random.Philox(key=[seed, samples]))
    return np.sort(rng.permutation(samples)[:most]), f", trained on {most:,} of {samples:,} {noun}"


def _flat(images: NDArray[np.uint8]) -> Features:
    rows: Features = np.asarray(images).reshape(len(images), -1).astype(np.float32)
    return rows / np.float32(255)


def _all_classes(found: NDArray[Any], present: NDArray[Any], num_classes: int) -> Features:
    """Return probabilities (N, K) from those of the classes that were present in training (N, P)."""
    probabilities: Features = np.zeros((len(found), num_classes), dtype=np.float32)
    probabilities[:, np.asarray(present, dtype=np.int64)] = found
    return probabilities
