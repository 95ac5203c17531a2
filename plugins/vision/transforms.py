"""Transforms of values: they make float32 tensors (channels, height, width), of floats or of bytes.

Bytes stand for 0..1 (`plugins.vision.pictures`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TypedDict

import torch
from torch import Tensor
from torch.nn import functional

from core.contract import Row
from core.errors import DataError
from plugins.vision import options
from plugins.vision.boxes import after, inverse, scaled, shifted, with_image
from plugins.vision.geometry import image_of
from plugins.vision.pictures import as_float


class Scale:
    """Values from one fixed range to another, linearly; nothing is learned from the data."""

    random = False

    def __init__(self, options: options.Scale) -> None:
        (low, high), (self._low, to_high) = options.of, options.to
        self._start, self._factor = low, (to_high - self._low) / (high - low)

    def fit(self, rows: Sequence[Row]) -> None:
        return None

    def apply(self, row: Row, state: None, rng: torch.Generator) -> Row:
        image = as_float(image_of(row, "scale"))
        return with_image(row, (image - self._start) * self._factor + self._low)


class Statistics(TypedDict):
    """One number a channel: what to subtract, and what to divide by then."""

    subtract: list[float]
    divide: list[float]


class Normalise:
    """Each channel's smallest value in `train` becomes 0, its largest 1."""

    random = False

    def fit(self, rows: Sequence[Row]) -> Statistics:
        """Raises `DataError` where a channel has one value only."""
        parts = [(part.amin(1), part.amax(1)) for part in _channels(rows, "normalise")]
        low = torch.stack([low for low, _ in parts]).amin(0)
        high = torch.stack([high for _, high in parts]).amax(0)
        return _statistics(low, high - low, "normalise")

    def apply(self, row: Row, state: Statistics, rng: torch.Generator) -> Row:
        return _applied(row, state, "normalise")


class Standardise:
    """Each channel gets the mean 0 and the standard deviation 1 over `train`."""

    random = False

    def fit(self, rows: Sequence[Row]) -> Statistics:
        """Raises `DataError` where a channel has one value only."""
        pixels, mean, deviation = 0, torch.zeros(()), torch.zeros(())
        for part in _channels(rows, "standardise"):
            count, centre, spread = part.shape[1], part.mean(1), part.std(1, correction=0)
            if pixels:  # Chan, Golub and LeVeque (1979), http://i.stanford.edu/pub/cstr/reports/cs/tr/79/773/
                share, apart = count / (pixels + count), centre - mean
                variance = deviation**2 * (1 - share) + spread**2 * share + apart**2 * share * (1 - share)
                mean, deviation = mean + apart * share, variance.sqrt()
            else:
                mean, deviation = centre, spread
            pixels += count
        return _statistics(mean, deviation, "standardise")

    def apply(self, row: Row, state: Statistics, rng: torch.Generator) -> Row:
        return _applied(row, state, "standardise")


PIXELS = 2**22
"""How many pixels' values are held at a time, in double, while statistics are taken."""


def _channels(rows: Sequence[Row], transform: str) -> Iterator[Tensor]:
    """(channels, pixels), in double, of a few rows after the other."""
    held: list[Tensor] = []
    pixels = 0
    for row in rows:
        image = as_float(image_of(row, transform)).flatten(1)
        if held and image.shape[0] != held[0].shape[0]:
            raise DataError(
                f"{transform}: one image has {held[0].shape[0]} channels, another {image.shape[0]}",
                "give `decode` the option `channels`",
            )
        held.append(image)
        pixels += image.shape[1]
        if pixels >= PIXELS:
            yield torch.cat(held, 1).double()
            held, pixels = [], 0
    if held:
        yield torch.cat(held, 1).double()


def _statistics(subtract: Tensor, divide: Tensor, transform: str) -> Statistics:
    if not bool((divide > 0).all()):
        raise DataError(
            f"{transform}: a channel has the same value in every pixel of train", "leave the transform out"
        )
    return {"subtract": subtract.tolist(), "divide": divide.tolist()}


def _applied(row: Row, state: Statistics, transform: str) -> Row:
    image = image_of(row, transform)
    of_bytes = image.dtype == torch.uint8
    subtract, divide = _columns(tuple(state["subtract"]), tuple(state["divide"]), of_bytes)
    if len(subtract) not in (1, image.shape[0]):
        raise DataError(
            f"{transform}: its statistics are of {len(subtract)} channels, the image has {image.shape[0]}",
            f"give `decode` the option `channels: {len(subtract)}`",
        )
    return with_image(row, (image - subtract).div_(divide))


@lru_cache(maxsize=16)
def _columns(subtract: tuple[float, ...], divide: tuple[float, ...], of_bytes: bool) -> tuple[Tensor, Tensor]:
    """Each (channels, 1, 1), times 255 for bytes. Cached, since making the tensors would take longer than the
    arithmetic does."""
    factor = 255 if of_bytes else 1
    columns = (torch.tensor([factor * number for number in numbers]) for numbers in (subtract, divide))
    of_subtract, of_divide = (column[:, None, None] for column in columns)
    return of_subtract, of_divide


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
        image = as_float(image_of(row, "affine"))
        _, height, width = image.shape
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
        turned = functional.grid_sample(image[None], grid, align_corners=False)[0]
        to_pixels = after(scaled(width / 2, height / 2), shifted(width / 2, height / 2))
        moved = after(inverse(to_pixels), after(inverse(matrix[0].tolist()), to_pixels))
        return with_image(row, turned, moved)


class Noise:
    """Gaussian noise on each pixel, then clamped."""

    random = True

    def __init__(self, options: options.Noise) -> None:
        self._sigma, self._clamp = options.sigma, options.clamp

    def fit(self, rows: Sequence[Row]) -> None:
        return None

    def apply(self, row: Row, state: None, rng: torch.Generator) -> Row:
        image = as_float(image_of(row, "noise"))
        noisy = image + self._sigma * torch.randn(image.shape, generator=rng)
        return with_image(row, noisy if self._clamp is None else noisy.clamp(*self._clamp))
