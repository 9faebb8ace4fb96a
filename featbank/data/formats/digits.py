"""Digits-LT: scikit-learn's real 8x8 digits, made long-tailed. Needs no download."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featbank.data.formats.arrays import ArrayImages
from featbank.data.longtail import longtail_counts, random_ranks
from featbank.data.params import Params, number, shots_from, whole_number
from featbank.data.types import ImageData, ImageSplit
from heads.metrics.shots import Shots

__all__ = ["open_digits_lt"]

# The rarest digit has 174 images. 50 + 24 held out of every class leave 100 for the largest
# training class: 500 test images, and with imbalance 20 the counts 100, 71 | 51, 36, 26 |
# 18, 13, 9, 6, 5 are two many-shot, three medium-shot and five few-shot classes.
TEST_PER_CLASS, VAL_PER_CLASS, TRAIN_MAX = 50, 24, 100
IMBALANCE = 20.0
SHOTS = Shots(many_above=60, few_below=20)
_WHITE = 16  # the data set's brightest pixel


def open_digits_lt(params: Params) -> ImageData:
    """Return Digits-LT: balanced test and val are held out first, then train gets its long tail.

    `seed` chooses all three at random, class by class; for one seed, val and test are the same
    for every `imbalance`, and a smaller train split is part of a larger one. Ids are row numbers
    of ``sklearn.datasets.load_digits``.
    """
    from sklearn.datasets import (
        load_digits,
    )  # takes a second to import, which other data sets do not need

    digits = load_digits()
    labels = digits.target.astype(np.int64)
    images = np.rint(digits.images * (255 / _WHITE)).astype(np.uint8)
    n_classes = len(digits.target_names)
    imbalance = number(params, "imbalance", IMBALANCE)
    seed = whole_number(params, "seed", 0)
    counts = longtail_counts(TRAIN_MAX, imbalance, n_classes)
    ranks = random_ranks(labels, seed)
    held_out = TEST_PER_CLASS + VAL_PER_CLASS
    rows = {
        "train": (ranks >= held_out) & (ranks < held_out + counts[labels]),
        "val": (ranks >= TEST_PER_CLASS) & (ranks < held_out),
        "test": ranks < TEST_PER_CLASS,
    }
    return ImageData(
        name="digits-lt",
        class_names=[str(c) for c in digits.target_names],
        splits={name: _split(np.flatnonzero(mask), labels, images) for name, mask in rows.items()},
        shots=shots_from(params, SHOTS),
        native_size=images.shape[1],
        photographs=False,
        settings={"imbalance": imbalance, "seed": seed},
    )


def _split(
    rows: NDArray[np.intp], labels: NDArray[np.int64], images: NDArray[np.uint8]
) -> ImageSplit:
    return ImageSplit([str(row) for row in rows], labels[rows], ArrayImages(images[rows]))
