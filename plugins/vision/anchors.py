"""Anchors: the sizes that boxes are compared with, fitted to those of `train`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def fitted(sizes: Floats, weights: Floats, count: int) -> Floats:
    """(at most `count`, 2) sizes, ascending in area, to which `sizes` (boxes, 2) are near: k-means with 1 less
    intersection over union as the distance (https://arxiv.org/abs/1612.08242, section 2), each box counting `weights`
    (boxes,).

    It begins with sizes at even steps of the weight, ordered by area, and so draws nothing at random.
    """
    order = np.argsort(sizes.prod(1), kind="stable")
    passed = np.cumsum(weights[order]) / weights.sum()
    middles = (np.arange(count) + 0.5) / count
    centres = np.unique(sizes[order[np.searchsorted(passed, middles).clip(max=len(sizes) - 1)]], axis=0)
    for _ in range(100):
        nearest = overlap(sizes, centres).argmax(1)
        moved = np.array(
            [
                np.average(sizes[nearest == i], axis=0, weights=weights[nearest == i])
                if (nearest == i).any()
                else centre
                for i, centre in enumerate(centres)
            ]
        )
        if np.allclose(moved, centres):
            break
        centres = moved
    return centres[np.argsort(centres.prod(1), kind="stable")]


def overlap(sizes: Floats, others: Floats) -> Floats:
    """(sizes, others) intersection over union of boxes with one centre."""
    shared = np.minimum(sizes[:, None], others[None]).prod(2)
    return np.asarray(shared / (sizes.prod(1)[:, None] + others.prod(1)[None] - shared))


def balanced(labels: list[str]) -> Floats:
    """Weights with which each label counts the same in sum."""
    names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 1.0 / (len(names) * counts[codes].astype(np.float64))
