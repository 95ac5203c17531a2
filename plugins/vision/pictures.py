"""Pictures: from a file's bytes, in any of the forms that Pillow reads, to a tensor of bytes.

Images travel through the transforms as uint8 tensors (channels, height, width), a quarter of the size of floats.
By convention a byte stands for the number byte / 255; `as_float` is where it becomes one.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.data.stored import Stored, readable
from core.errors import ComponentError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Ground = Literal["black", "white"]


def given(paths: Sequence[str]) -> list[Stored]:
    """The pictures' files that a user names. Raises `DataError` where one is no file."""
    for path in paths:
        with readable(Path(path)):
            is_file, is_folder = Path(path).is_file(), Path(path).is_dir()
        if not (path and is_file):
            what = "names no file" if not path else "is a folder" if is_folder else "there is no such file"
            raise DataError(f"{path or repr(path)}: {what}", "give the paths of pictures")
    return [Stored(Path(path)) for path in paths]


def as_float(image: Tensor) -> Tensor:
    """The image in float32: bytes become 0..1, floats stay as they are."""
    return image.float().div_(255) if image.dtype == torch.uint8 else image


def pillow() -> ModuleType:
    """Pillow's module `Image`. Raises `ComponentError` that says how to install it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ComponentError(
            "reading pictures needs Pillow, which is not installed", "pip install 'taoke[vision]'"
        ) from error
    return Image


def decode(data: bytes, where: object, channels: int = 3, ground: Ground = "white") -> Tensor:
    """The picture in a file's bytes as a uint8 tensor (channels, height, width): turned as its EXIF orientation
    says, of several frames the first, what is transparent laid on `ground`, more than 8 bits a channel scaled
    to 8.

    Args:
        data: the file's content.
        where: what an error calls it, as a rule its path.
        channels: 3 for red, green and blue, 1 for grey.
        ground: what lies behind transparent parts.

    Raises:
        DataError: no picture, damaged, truncated, or of numbers without a known black and white.
    """
    image = pillow()
    if not data:
        raise DataError(f"{where}: the file is empty", "restore the file, or remove it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's, about metadata and large pictures
            with image.open(BytesIO(data)) as picture:
                picture.load()
                plain = _plain(_upright(picture), channels, ground)
    except MemoryError:
        raise
    except Exception as error:  # on damaged files decoders raise nearly everything
        what = str(error) if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {error}"
        if "cannot identify" in what:
            what = "the content is not of a known image format"
        raise DataError(
            f"{where}: no picture that can be read: {what}",
            "give a whole PNG, JPEG, WebP, GIF, BMP or TIFF file",
        ) from error
    pixels = torch.from_numpy(np.array(plain))
    return pixels[None] if channels == 1 else pixels.permute(2, 0, 1).contiguous()


def _upright(picture: Image) -> Image:
    """The picture as its EXIF orientation wants it seen. Looking for one takes as long as decoding a small
    picture, so only where metadata came along."""
    from PIL import ImageOps

    carriers = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
    if carriers & set(picture.info) or picture.format in ("TIFF", "MPO"):
        return ImageOps.exif_transpose(picture)
    return picture


def _plain(picture: Image, channels: int, ground: Ground) -> Image:
    image = pillow()
    wanted = "RGB" if channels == 3 else "L"
    if picture.mode[0] in "IF":
        picture = image.fromarray(_eight_bits(np.asarray(picture), picture.mode))
    elif picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = image.alpha_composite(image.new("RGBA", layer.size, ground), layer)
    return picture if picture.mode == wanted else picture.convert(wanted)


def _eight_bits(values: NDArray[np.generic], mode: str) -> NDArray[np.uint8]:
    """From 16-bit integers (0 to 65,535), or floats (0 to 1), to bytes. Raises `ValueError` for others."""
    numbers = values.astype(np.float64)
    white = 1.0 if mode == "F" else 65535.0
    if not bool(((numbers >= 0) & (numbers <= white)).all()):  # false for nan, too
        raise ValueError(
            f"its values go from {numbers.min():g} to {numbers.max():g} (mode {mode}),"
            f" expected 0 (black) to {white:g} (white)"
        )
    return np.asarray((numbers * (255 / white)).round(), dtype=np.uint8)
