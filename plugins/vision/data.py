"""scikit-learn's digits (1,797 images of 8x8 pixels, values 0 to 16): what the base knows, and a noisy world.

Source of the images: https://archive.ics.uci.edu/dataset/80 (Alpaydin and Kaynak, 1998), whose test part
scikit-learn carries. They stay in its order: the two halves come from different stretches of the collection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from core.contract import REPORT, RETAIN, SELECT, TRAIN, Row
from core.errors import DataError
from plugins.vision import options

KNOWN = 8
"""The base knows the digits below this one."""
WHITE = 16.0
HALF = 898
"""Images of the first half, the base's; the other 899 are the new world."""
KEY = 0x7461
"""All randomness in the data comes from this number, by numpy's RandomState, whose streams are frozen
(https://numpy.org/neps/nep-0019-rng-policy.html): the same data everywhere, whatever the version."""


def base_split() -> tuple[list[Row], list[Row]]:
    """(what the base was trained on, `retain`): the first half's clean images of the digits 0 to 7, a fifth
    of them kept out."""
    images, labels = _digits()
    known = np.flatnonzero(labels[:HALF] < KNOWN)
    shuffled = np.random.RandomState(KEY).permutation(known)
    kept_out = len(shuffled) // 5
    return _rows(images, labels, shuffled[kept_out:]), _rows(images, labels, shuffled[:kept_out])


class Digits:
    """The dataset `digits`: all ten digits of the second half, with Gaussian noise; `retain` is clean.

    A row's inputs are a float32 tensor (1, 8, 8) of values from 0 to 16, its target the digit as a string.
    """

    def __init__(self, options: options.Digits) -> None:
        self._options = options

    def rows(self) -> Mapping[str, Sequence[Row]]:
        """Raises `DataError` where a class has too few images for the options."""
        options = self._options
        random = np.random.RandomState([KEY, options.draw])
        images, labels = _digits()
        noise = random.normal(0.0, 1.0, images[HALF:].shape) * options.noise * WHITE
        images[HALF:] = (images[HALF:] + noise).clip(0.0, WHITE)
        chosen: dict[str, list[int]] = {TRAIN: [], SELECT: [], REPORT: []}
        taken = options.train_per_class + options.select_per_class
        for digit in range(10):
            order = random.permutation(HALF + np.flatnonzero(labels[HALF:] == digit)).tolist()
            if len(order) <= taken:
                raise DataError(
                    f"digits: {options.train_per_class} to train on and {options.select_per_class} to select"
                    f" with leave none of the {len(order)} images of the digit {digit} to report on",
                    f"let train_per_class and select_per_class add up to less than {len(order)}",
                )
            chosen[TRAIN] += order[: options.train_per_class]
            chosen[SELECT] += order[options.train_per_class : taken]
            chosen[REPORT] += order[taken:]
        return {name: _rows(images, labels, picks) for name, picks in chosen.items()} | {
            RETAIN: base_split()[1]
        }


def _digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images (1797, 8, 8) and labels (1797,), as copies."""
    loaded = load_digits()
    return loaded.images.astype(np.float32), loaded.target.astype(np.int64)


def _rows(
    images: NDArray[np.float32], labels: NDArray[np.int64], picks: Sequence[int] | NDArray[np.int64]
) -> list[Row]:
    return [Row(torch.from_numpy(images[i].copy())[None], str(labels[i])) for i in picks]
