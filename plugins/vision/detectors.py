"""What the task `detect` asks of a model: any module that is a `Detector`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

Anchors = Sequence[Sequence[tuple[float, float]]]
"""(width, height) of the anchors, in pixels of the model's input, by level, from the finest."""


class Truth(NamedTuple):
    """What is in an image: boxes (count, 4), float32, in its pixels, and their classes (count,), int64, from 0."""

    boxes: Tensor
    labels: Tensor


class Found(NamedTuple):
    """Candidates in an image: boxes (count, 4) in its pixels, their classes (count,), from 0, and scores (count,), from
    0 to 1. They may overlap: who asks suppresses."""

    boxes: Tensor
    labels: Tensor
    scores: Tensor


class Losses(NamedTuple):
    """A scalar summed over a batch, and what to divide it by."""

    total: Tensor
    weight: Tensor | float


class Detector(nn.Module):
    """Finds boxes of `classes` classes in images (batch, channels, height, width)."""

    classes: int
    anchors: Anchors | None
    """What it compares boxes with, where they can be changed; None where they are its own affair."""
    has_new_boxes = False
    """Whether an edit has changed either; what a recipe's own edit has said is not said again by the task."""

    def forward(self, images: Tensor, truths: Sequence[Truth] | None = None) -> Losses | list[Found]:
        """With truths, one an image, `Losses`; without, what is found in each."""
        raise NotImplementedError

    def renewed(self, classes: int, anchors: Anchors | None) -> Detector:
        """A detector of other classes, and with other anchors, with all else as it is here. The same arguments give
        the same one, to the bit."""
        raise NotImplementedError

    def by_level(self, sizes: Sequence[tuple[float, float]]) -> Anchors | None:
        """Sizes as anchors, each at the level that suits it; None where anchors are the detector's own affair."""
        return None
