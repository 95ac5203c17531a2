"""Transforms of images: rows whose inputs are float32 tensors (channels, height, width)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypedDict

import torch
from torch import Tensor
from torch.nn import functional

from core.contract import Row
from core.errors import DataError
from plugins.vision import options


class Scale:
    """Values from one fixed range to another, linearly; nothing is learned from the data."""

    random = False

    def __init__(self, options: options.Scale) -> None:
        (low, high), (self._low, to_high) = options.of, options.to
        self._start, self._factor = low, (to_high - self._low) / (high - low)

    def fit(self, rows: Sequence[Row]) -> None:
        return None

    def apply(self, row: Row, state: None, rng: torch.Generator) -> Row:
        return replace(row, inputs=(row.inputs - self._start) * self._factor + self._low)


class Statistics(TypedDict):
    """One number a channel: what to subtract, and what to divide by then."""

    subtract: list[float]
    divide: list[float]


class Normalise:
    """Each channel's smallest value in `train` becomes 0, its largest 1."""

    random = False

    def fit(self, rows: Sequence[Row]) -> Statistics:
        """Raises `DataError` where a channel has one value only."""
        channels = _channels(rows)
        low, high = channels.amin(1), channels.amax(1)
        return _statistics(low, high - low, "normalise")

    def apply(self, row: Row, state: Statistics, rng: torch.Generator) -> Row:
        return _applied(row, state)


class Standardise:
    """Each channel gets the mean 0 and the standard deviation 1 over `train`."""

    random = False

    def fit(self, rows: Sequence[Row]) -> Statistics:
        """Raises `DataError` where a channel has one value only."""
        channels = _channels(rows)
        return _statistics(channels.mean(1), channels.std(1, correction=0), "standardise")

    def apply(self, row: Row, state: Statistics, rng: torch.Generator) -> Row:
        return _applied(row, state)


def _channels(rows: Sequence[Row]) -> Tensor:
    """(channels, pixels of all rows), in double, so that the sums do not depend on their order."""
    return torch.cat([row.inputs.flatten(1) for row in rows], 1).double()


def _statistics(subtract: Tensor, divide: Tensor, transform: str) -> Statistics:
    if not bool((divide > 0).all()):
        raise DataError(
            f"{transform}: a channel has the same value in every pixel of train", "leave the transform out"
        )
    return {"subtract": subtract.tolist(), "divide": divide.tolist()}


def _applied(row: Row, state: Statistics) -> Row:
    subtract, divide = _column(tuple(state["subtract"])), _column(tuple(state["divide"]))
    return replace(row, inputs=(row.inputs - subtract) / divide)


@lru_cache(maxsize=16)
def _column(numbers: tuple[float, ...]) -> Tensor:
    """(channels, 1, 1). Cached, since making the tensors would take longer than the arithmetic does."""
    return torch.tensor(numbers)[:, None, None]


class Affine:
    """Random rotation and zoom around the centre, then a shift; bilinear, and zero where the image ends: its
    place is before transforms that move zero away from the ground's colour."""

    random = True

    def __init__(self, options: options.Affine) -> None:
        self._angle, self._zoom, self._shift = math.radians(options.degrees), options.scale, options.shift

    def fit(self, rows: Sequence[Row]) -> None:
        return None

    def apply(self, row: Row, state: None, rng: torch.Generator) -> Row:
        turn, zoom, right, down = (2 * torch.rand(4, generator=rng) - 1).tolist()
        _, height, width = row.inputs.shape
        angle, zoom = self._angle * turn, 1 + self._zoom * zoom
        cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
        # From output to input, in coordinates in which each side goes from -1 to 1.
        matrix = torch.tensor(
            [
                [
                    [cos, -sin * height / width, 2 * self._shift * right / width],
                    [sin * width / height, cos, 2 * self._shift * down / height],
                ]
            ]
        )
        grid = functional.affine_grid(matrix, [1, 1, height, width], align_corners=False)
        return replace(row, inputs=functional.grid_sample(row.inputs[None], grid, align_corners=False)[0])


class Noise:
    """Gaussian noise on each pixel, then clamped."""

    random = True

    def __init__(self, options: options.Noise) -> None:
        self._sigma, self._clamp = options.sigma, options.clamp

    def fit(self, rows: Sequence[Row]) -> None:
        return None

    def apply(self, row: Row, state: None, rng: torch.Generator) -> Row:
        noisy = row.inputs + self._sigma * torch.randn(row.inputs.shape, generator=rng)
        return replace(row, inputs=noisy if self._clamp is None else noisy.clamp(*self._clamp))
