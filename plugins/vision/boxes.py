"""Boxes, and where an image lies in the picture that it was made of.

A row for detection has a mapping as its `inputs`: `image`, a file (`Stored`) and then its pixels; and, once it is
decoded, `matrix` and `size`. `matrix`, ((a, b, c), (d, e, f)), takes a point of the picture to the image: x' = a·x +
b·y + c, y' = d·x + e·y + f; `size` is the picture's (width, height). A transform that moves pixels says so in
`matrix` (`with_image`), and leaves the row's target alone: boxes stay in the pixels of the picture as it was
given, and are taken to the image where the model's example is made. So no transform has to know of boxes, what is
cached does not depend on them, and a prediction finds its way back to the picture.

A point (x, y) lies x pixels right of the left edge and y below the upper one; the first pixel reaches from 0 to 1.
A box is (left, upper, right, lower).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from core.contract import JSON, Row

Matrix = Sequence[Sequence[float]]
"""((a, b, c), (d, e, f))."""

SAME: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def scaled(across: float, down: float) -> Matrix:
    """Coordinates times these factors."""
    return ((across, 0.0, 0.0), (0.0, down, 0.0))


def shifted(right: float, down: float) -> Matrix:
    """So many pixels further right and down."""
    return ((1.0, 0.0, right), (0.0, 1.0, down))


def after(first: Matrix, then: Matrix) -> Matrix:
    """What `then` does to what `first` has done."""
    (p, q, r), (s, t, u) = first
    return [[a * p + b * s, a * q + b * t, a * r + b * u + c] for a, b, c in then]


def inverse(matrix: Matrix) -> Matrix:
    """The way back."""
    (a, b, c), (d, e, f) = matrix
    area = a * e - b * d
    return [[e / area, -b / area, (b * f - c * e) / area], [-d / area, a / area, (c * d - a * f) / area]]


def moved(boxes: Tensor, matrix: Matrix) -> Tensor:
    """Boxes (count, 4) through `matrix`: of those that are turned or sheared, the upright boxes around them."""
    left, upper, right, lower = boxes.double().unbind(1)
    corners = torch.stack(
        [torch.stack([x, y], 1) for x in (left, right) for y in (upper, lower)], 1
    )  # (count, 4, 2)
    placed = torch.tensor(matrix, dtype=torch.float64)
    there = corners @ placed[:, :2].T + placed[:, 2]
    return torch.cat([there.amin(1), there.amax(1)], 1).to(boxes.dtype)


def clipped(boxes: Tensor, width: float, height: float) -> Tensor:
    """The parts of boxes (count, 4) that lie in an image of that size."""
    limits = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limits)


def prediction(
    boxes: Tensor,
    labels: Sequence[str],
    scores: Sequence[float],
    matrix: Matrix,
    size: Sequence[float],
) -> dict[str, JSON]:
    """What was found in an image, (count, 4), best first, in pixels of its picture: `{"boxes": [[left, upper, right,
    lower], ...], "labels": [...], "scores": [...]}`. `matrix` and `size` are as of the image's row."""
    placed = clipped(moved(boxes, inverse(matrix)), *size)
    return {
        "boxes": [[round(side, 2) for side in box] for box in placed.tolist()],
        "labels": list(labels),
        "scores": [round(score, 6) for score in scores],
    }


def areas(boxes: Tensor) -> Tensor:
    """(count,) in square pixels."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def is_placed(inputs: Any) -> bool:
    """Whether a row's inputs say where their image lies in a picture."""
    return isinstance(inputs, Mapping) and "image" in inputs


def with_image(row: Row, image: Tensor, matrix: Matrix | None = None) -> Row:
    """The row with another image; `matrix` takes a point of the one before to it, None where no pixel has moved."""
    inputs = row.inputs
    if isinstance(inputs, Tensor) or not is_placed(inputs):  # the first is asked in a tenth of the time
        return row.with_inputs(image)
    placed = inputs["matrix"] if matrix is None else after(inputs["matrix"], matrix)
    return row.with_inputs({**inputs, "image": image, "matrix": placed})
