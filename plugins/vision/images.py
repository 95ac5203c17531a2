"""Images from the files that a user points at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError

Array = NDArray[np.float32]


def read(path: Path, size: tuple[int, int], values: tuple[float, float]) -> Array:
    """The image in a file, as (height, width) of `size` with `values` from black to white.

    `.npy` holds the array, `.csv` and `.txt` its numbers row by row; a picture (`.png`, `.jpg`, `.jpeg`) is
    laid on black, made grey and resized, and its black and white become those of `values`. Raises `DataError`
    with path, what was expected, and what to do.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: expected a file that ends in {', '.join(_READERS)}", "convert the file")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file", "check the path")
    return reader(path, size, values)


def _array(path: Path, size: tuple[int, int], values: tuple[float, float]) -> Array:
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path}: expected a NumPy array of numbers: {error}", "write it with numpy.save"
        ) from error
    if not isinstance(loaded, np.ndarray) or loaded.dtype.kind not in "buif":
        raise DataError(f"{path}: expected one NumPy array of real numbers", "write it with numpy.save")
    return _checked(path, loaded, size, values)


def _numbers(path: Path, size: tuple[int, int], values: tuple[float, float]) -> Array:
    height, width = size
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        rows = [
            [float(number) for number in line.replace(",", " ").split()] for line in lines if line.strip()
        ]
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: expected {height} lines of {width} numbers: {error}",
            "separate the numbers by commas or spaces",
        ) from error
    lengths = sorted({len(row) for row in rows})
    if len(rows) != height or lengths != [width]:
        came = f"{len(rows)} lines of {' or '.join(map(str, lengths)) or 'no'} numbers"
        raise DataError(
            f"{path}: expected {height} lines of {width} numbers, got {came}", "give one image a file"
        )
    return _checked(path, np.array(rows), size, values)


def _picture(path: Path, size: tuple[int, int], values: tuple[float, float]) -> Array:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            f"{path}: reading pictures needs Pillow, which is not installed", "pip install 'taoke[vision]'"
        ) from error
    height, width = size
    low, high = values
    try:
        with Image.open(path) as picture:
            if picture.mode[0] in "IF":
                raise ValueError(f"it has more than 8 bits a channel (mode {picture.mode})")
            layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "black")
        grey = Image.alpha_composite(ground, layer).convert("L")
        # The mean of the pixels that fall together: so the digits were made from larger bitmaps.
        small = grey.resize((width, height), Image.Resampling.BOX)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: expected a picture: {error}", "give an ordinary PNG or JPEG file, of 8 bits a channel"
        ) from error
    return (np.asarray(small, dtype=np.float32) / 255 * (high - low) + low).astype(np.float32)


def _checked(
    path: Path, image: NDArray[np.generic], size: tuple[int, int], values: tuple[float, float]
) -> Array:
    if image.shape != size:
        raise DataError(
            f"{path}: expected an image of shape {size}, got {image.shape}", "give one image a file, resized"
        )
    checked = image.astype(np.float32)
    low, high = values
    if not bool(((checked >= low) & (checked <= high)).all()):  # false for nan, too
        raise DataError(
            f"{path}: expected values from {low:g} (black) to {high:g} (white),"
            f" got {checked.min():g} to {checked.max():g}",
            "rescale the values",
        )
    return checked


_READERS: Mapping[str, Callable[[Path, tuple[int, int], tuple[float, float]], Array]] = {
    ".npy": _array,
    ".csv": _numbers,
    ".txt": _numbers,
    ".png": _picture,
    ".jpg": _picture,
    ".jpeg": _picture,
}
