"""Decoding: every form of picture that people have, and every kind of broken one."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from core.contract import Row
from core.data.stored import Stored
from core.errors import DataError
from plugins.vision import options, pictures
from plugins.vision.geometry import Decode

Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")

PIXELS = np.random.RandomState(0).randint(0, 256, (6, 9, 3)).astype(np.uint8)


def saved(image: object, form: str = "PNG", **more: object) -> bytes:
    file = BytesIO()
    image.save(file, form, **more)  # type: ignore[attr-defined]
    return file.getvalue()


def decoded(data: bytes, channels: int = 3, ground: pictures.Ground = "white") -> Tensor:
    return pictures.decode(data, "a picture", channels, ground)


def test_a_picture_becomes_bytes_channels_first() -> None:
    """The pixels as they stand, uint8 (3, height, width)."""
    image = decoded(saved(Image.fromarray(PIXELS)))
    assert image.dtype == torch.uint8
    assert torch.equal(image, torch.from_numpy(PIXELS).permute(2, 0, 1))


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_other_formats_are_read(form: str) -> None:
    """A grey picture, which no format changes much."""
    grey = np.full((6, 9, 3), 100, np.uint8)
    image = decoded(saved(Image.fromarray(grey), form))
    assert image.shape == (3, 6, 9)
    assert (image.float() - 100).abs().max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_that_a_camera_noted_is_honoured(orientation: int) -> None:
    """All eight: the picture stands as it was taken."""
    exif = Image.Exif()
    exif[274] = orientation
    raw = Image.fromarray(PIXELS)
    data = saved(raw, "JPEG", exif=exif, quality=95)
    wanted = ImageOps.exif_transpose(Image.open(BytesIO(data)))
    assert torch.equal(decoded(data), torch.from_numpy(np.array(wanted)).permute(2, 0, 1))
    assert decoded(data).shape == ((3, 6, 9) if orientation < 5 else (3, 9, 6))


def test_sixteen_bits_are_scaled_to_eight() -> None:
    """White stays white, and a middle grey a middle one."""
    deep = np.array([[0, 257 * 100, 65535]], np.uint16)
    assert decoded(saved(Image.fromarray(deep)), 1).tolist() == [[[0, 100, 255]]]
    assert decoded(saved(Image.fromarray(deep), "TIFF"))[:, 0, 1].tolist() == [100, 100, 100]


def test_floats_stand_for_zero_to_one() -> None:
    """Others have no known white, and are refused."""
    assert decoded(saved(Image.fromarray(np.array([[0.0, 0.2, 1.0]], np.float32)), "TIFF"), 1).tolist() == [
        [[0, 51, 255]]
    ]
    with pytest.raises(DataError, match=r"a picture: .*values go from 0 to 7 \(mode F\), expected 0 .* to 1"):
        decoded(saved(Image.fromarray(np.array([[0.0, 7.0]], np.float32)), "TIFF"))


@pytest.mark.parametrize(("ground", "value"), [("white", 255), ("black", 0)])
def test_what_is_transparent_shows_the_ground(ground: pictures.Ground, value: int) -> None:
    """Whatever colour lies hidden there: in RGBA, grey with alpha, and a palette with a transparent entry."""
    rgba = np.full((2, 2, 4), 90, np.uint8)
    rgba[0, :, 3], rgba[1, :, 3] = 0, 255
    hidden = Image.fromarray(rgba)
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([10, 20, 30, 90, 90, 90])
    palette.putpixel((0, 1), 1)
    for data in (saved(hidden), saved(hidden.convert("LA")), saved(palette, transparency=0)):
        image = decoded(data, 3, ground)
        assert image[:, 0, 0].tolist() == [value] * 3
        assert image[:, 1, 0].tolist() == [90] * 3


def test_palette_and_cmyk_become_colours_and_colours_grey() -> None:
    """One form for the model, whatever came."""
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    assert decoded(saved(red.convert("P")))[:, 0, 0].tolist() == [255, 0, 0]
    assert (
        decoded(saved(red.convert("CMYK"), "JPEG"))[:, 0, 0].int() - torch.tensor([255, 0, 0])
    ).abs().max() < 8
    assert decoded(saved(red), 1).shape == (1, 4, 4)
    assert decoded(saved(Image.new("1", (4, 4), 1)))[:, 0, 0].tolist() == [255] * 3


def test_of_several_frames_the_first_is_taken() -> None:
    """An animation is one example."""
    first, second = (Image.new("L", (3, 3), value) for value in (0, 255))
    data = saved(first, "GIF", save_all=True, append_images=[second])
    assert decoded(data, 1).max() == 0


JPEG = saved(Image.fromarray(np.kron(PIXELS, np.ones((9, 9, 1), np.uint8))), "JPEG")
PNG = saved(Image.fromarray(np.kron(PIXELS, np.ones((9, 9, 1), np.uint8))))
BROKEN = {
    "empty": (b"", "the file is empty"),
    "text": (b"hello, I am a text", "no picture that can be read: .*not of a known image format"),
    "truncated jpeg": (JPEG[: len(JPEG) // 2], "no picture that can be read: .*truncated"),
    "truncated png": (PNG[: len(PNG) // 2], "no picture that can be read"),
    "a jpeg's head alone": (JPEG[:20], "no picture that can be read"),
    "damaged png": (PNG[:60] + bytes(40) + PNG[100:], "no picture that can be read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_picture_is_refused(name: str, tmp_path: Path, rng: torch.Generator) -> None:
    """Never half an image; the message names the file and says what to do."""
    data, message = BROKEN[name]
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        Decode(options.Decode()).apply(Row(Stored(tmp_path / "a.jpg")), None, rng)
    assert str(tmp_path / "a.jpg") in caught.value.message
    assert caught.value.hint


def test_decode_wants_a_file(rng: torch.Generator) -> None:
    """Where the dataset gives images already, it has no place."""
    with pytest.raises(DataError, match="decode: expected a file, got a Tensor") as caught:
        Decode(options.Decode()).apply(Row(torch.zeros(3, 2, 2)), None, rng)
    assert "leave `decode` out" in caught.value.hint


def test_a_byte_stands_for_its_part_of_255() -> None:
    """And floats for themselves."""
    assert pictures.as_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx(
        [0.0, 0.2, 1.0]
    )
    given = torch.tensor([0.5, 7.0])
    assert pictures.as_float(given) is given
