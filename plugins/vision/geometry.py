"""Transforms that decide which pixels an image has: decoding, resizing, cropping, flipping, erasing.

They work on tensors (channels, height, width) of bytes or floats. The random ones draw their few numbers from
the generator that they are given, and from nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from core.contract import Row
from core.data.stored import Stored
from core.errors import DataError
from plugins.vision import options, pictures
from plugins.vision.boxes import SAME, after, is_placed, scaled, shifted, with_image

Size = tuple[int, int]
SMALL = 48 * 48
"""Pixels."""


class _Unfitted:
    """Learns nothing."""

    random = False

    def fit(self, rows: Sequence[Row]) -> None:
        return None


class Decode(_Unfitted):
    """A file (`Stored`) becomes an image, uint8 (channels, height, width)."""

    def __init__(self, options: options.Decode) -> None:
        self._channels, self._ground = options.channels, options.ground
        self.slow = f"Pillow {pictures.pillow().__version__}"

    def apply(self, row: Row, state: None, rng: torch.Generator) -> Row:
        """Raises `DataError` where the file is no picture, or the row holds no file."""
        placed = is_placed(row.inputs)
        file = row.inputs["image"] if placed else row.inputs
        if not isinstance(file, Stored):
            raise DataError(
                f"decode: expected a file, got a {type(file).__name__}",
                "leave `decode` out: the dataset gives images already",
            )
        image = pictures.decode(file.read(), file.path, self._channels, self._ground)
        if not placed:
            return row.with_inputs(image)
        size = [image.shape[-1], image.shape[-2]]
        return row.with_inputs({"image": image, "matrix": [list(line) for line in SAME], "size": size})


class Resize(_Unfitted):
    """To a fixed size, or the short side to a fixed length; smaller images are made with antialiasing."""

    def __init__(self, options: options.Resize) -> None:
        from torchvision import __version__
        from torchvision.transforms import InterpolationMode

        self._size = options.size
        self._mode = InterpolationMode(options.interpolation)
        self._antialias = options.interpolation != "nearest"
        # What is small takes no longer to make than to read back from a cache.
        height, width = _pair(options.size)
        self.slow: bool | str = height * width > SMALL and f"torchvision {__version__}"

    def apply(self, row: Row, state: None, rng: torch.Generator) -> Row:
        image = image_of(row, "resize")
        height, width = image.shape[-2:]
        size = self._size if isinstance(self._size, tuple) else _short_side(height, width, self._size)
        if (height, width) == size:
            return row
        return with_image(row, self._resized(image, size), scaled(size[1] / width, size[0] / height))

    def _resized(self, image: Tensor, size: Size) -> Tensor:
        from torchvision.transforms.v2 import functional as v2

        resized: Tensor = v2.resize(image, list(size), self._mode, antialias=self._antialias)
        return resized


def _short_side(height: int, width: int, side: int) -> Size:
    """As torchvision: the long side is cut to whole pixels."""
    return (int(side * height / width), side) if width <= height else (side, int(side * width / height))


class CenterCrop(_Unfitted):
    """The middle of the image; black where the image is smaller."""

    def __init__(self, options: options.CenterCrop) -> None:
        self._size = _pair(options.size)

    def apply(self, row: Row, state: None, rng: torch.Generator) -> Row:
        image = image_of(row, "center_crop")
        (height, width), (to_height, to_width) = image.shape[-2:], self._size
        top, left = (height - to_height) // 2, (width - to_width) // 2
        return with_image(row, window(image, top, left, self._size), shifted(-left, -top))


class RandomCrop(_Unfitted):
    """A window at a random place of the image, widened on each side by `padding` pixels."""

    random = True

    def __init__(self, options: options.RandomCrop) -> None:
        self._size, self._padding, self._mode = _pair(options.size), options.padding, options.fill

    def apply(self, row: Row, state: None, rng: torch.Generator) -> Row:
        image, padding = image_of(row, "random_crop"), self._padding
        height, width = image.shape[-2] + 2 * padding, image.shape[-1] + 2 * padding
        to_height, to_width = self._size
        down, right = torch.rand(2, generator=rng).tolist()
        top = math.floor(down * (height - to_height + 1)) if height > to_height else (height - to_height) // 2
        left = math.floor(right * (width - to_width + 1)) if width > to_width else (width - to_width) // 2
        moved = shifted(padding - left, padding - top)
        if self._mode == "black":
            return with_image(row, window(image, top - padding, left - padding, self._size), moved)
        if padding >= min(image.shape[-2:]) and self._mode == "reflect":
            raise DataError(
                f"random_crop: {padding} pixels cannot be mirrored at the edge of {tuple(image.shape)}",
                "give less padding, or `fill: edge`",
            )
        mode = "reflect" if self._mode == "reflect" else "replicate"
        padded = functional.pad(image.float()[None], [padding] * 4, mode)[0].to(image.dtype)
        return with_image(row, window(padded, top, left, self._size), moved)


class RandomResizedCrop(_Unfitted):
    """A window of random size and shape, resized: what most models of photographs were trained with
    (https://arxiv.org/abs/1409.4842)."""

    random = True

    def __init__(self, options: options.RandomResizedCrop) -> None:
        from torchvision.transforms import InterpolationMode

        self._size, self._scale, self._ratio = _pair(options.size), options.scale, options.ratio
        self._mode = InterpolationMode(options.interpolation)

    def apply(self, row: Row, state: None, rng: torch.Generator) -> Row:
        from torchvision.transforms.v2 import functional as v2

        image = image_of(row, "random_resized_crop")
        top, left, height, width = self._window(image.shape[-2], image.shape[-1], rng)
        cut = image[:, top : top + height, left : left + width]
        resized = v2.resize(cut, list(self._size), self._mode, antialias=True)
        larger = scaled(self._size[1] / width, self._size[0] / height)
        return with_image(row, resized, after(shifted(-left, -top), larger))

    def _window(self, height: int, width: int, rng: torch.Generator) -> tuple[int, int, int, int]:
        """Ten tries, then the largest window in the middle whose shape is allowed, as torchvision has it."""
        low, high = (math.log(ratio) for ratio in self._ratio)
        for part, shape, down, right in torch.rand(10, 4, generator=rng).tolist():
            area = height * width * (self._scale[0] + part * (self._scale[1] - self._scale[0]))
            ratio = math.exp(low + shape * (high - low))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return math.floor(down * (height - h + 1)), math.floor(right * (width - w + 1)), h, w
        own = width / height
        w = round(height * self._ratio[1]) if own > self._ratio[1] else width
        h = round(width / self._ratio[0]) if own < self._ratio[0] else height
        w, h = max(1, min(w, width)), max(1, min(h, height))
        return (height - h) // 2, (width - w) // 2, h, w


class Flip(_Unfitted):
    """Mirrored with some probability."""

    random = True

    def __init__(self, options: options.Flip) -> None:
        self._dimension = -1 if options.direction == "horizontal" else -2
        self._probability = options.probability

    def apply(self, row: Row, state: None, rng: torch.Generator) -> Row:
        if torch.rand((), generator=rng).item() >= self._probability:
            return row
        image = image_of(row, "flip")
        height, width = image.shape[-2:]
        mirrored = (
            ((-1.0, 0.0, width), (0.0, 1.0, 0.0))
            if self._dimension == -1
            else ((1.0, 0.0, 0.0), (0.0, -1.0, height))
        )
        return with_image(row, image.flip(self._dimension), mirrored)


class Erase(_Unfitted):
    """A rectangle at a random place becomes black, with some probability (https://arxiv.org/abs/1708.04896)."""

    random = True

    def __init__(self, options: options.Erase) -> None:
        self._probability, self._scale, self._ratio = options.probability, options.scale, options.ratio

    def apply(self, row: Row, state: None, rng: torch.Generator) -> Row:
        image = image_of(row, "erase")
        happens, part, shape, down, right = torch.rand(5, generator=rng).tolist()
        if happens >= self._probability:
            return row
        height, width = image.shape[-2:]
        area = height * width * (self._scale[0] + part * (self._scale[1] - self._scale[0]))
        low, high = (math.log(ratio) for ratio in self._ratio)
        ratio = math.exp(low + shape * (high - low))
        h = min(height, max(1, round(math.sqrt(area * ratio))))
        w = min(width, max(1, round(math.sqrt(area / ratio))))
        top, left = math.floor(down * (height - h + 1)), math.floor(right * (width - w + 1))
        erased = image.clone()
        erased[:, top : top + h, left : left + w] = 0
        return with_image(row, erased)


def window(image: Tensor, top: int, left: int, size: Size) -> Tensor:
    """The pixels (channels, *size) from (top, left) on, either of which may lie outside: black there."""
    height, width = image.shape[-2:]
    bottom, right = top + size[0], left + size[1]
    if bottom <= 0 or right <= 0 or top >= height or left >= width:
        return image.new_zeros((image.shape[0], *size))
    # What is padded by less than nothing is cut.
    return functional.pad(image, (-left, right - width, -top, bottom - height))


def image_of(row: Row, transform: str) -> Tensor:
    """The row's image. Raises `DataError` where it is still a file."""
    image: Any = row.inputs
    if not isinstance(image, Tensor) and is_placed(image):
        image = image["image"]
    if isinstance(image, Tensor):
        return image
    raise DataError(
        f"{transform}: expected an image, got a {type(image).__name__}",
        "put `decode` before it in the recipe's `preprocess`",
    )


def _pair(size: int | Size) -> Size:
    return (size, size) if isinstance(size, int) else size
