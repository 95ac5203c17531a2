"""Boxes move with the picture: where a transform takes the pixels, `matrix` takes the box around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from core.contract import Row
from core.data.cache import pack, unpack
from core.data.stored import Stored
from core.errors import DataError
from plugins.vision import options
from plugins.vision.boxes import SAME, after, inverse, moved, scaled, shifted, with_image
from plugins.vision.colour import ColorJitter, RandAugment, TrivialAugment
from plugins.vision.geometry import CenterCrop, Decode, Erase, Flip, RandomCrop, RandomResizedCrop, Resize
from plugins.vision.transforms import Affine, Noise, Scale

from .spots import voc

pytest.importorskip("torchvision")

BOX = torch.tensor([[30.0, 20.0, 50.0, 32.0]])
"""Of the only white part of the picture."""


def placed() -> Row:
    """A black picture, 96 x 72, with one white box."""
    image = torch.zeros(3, 72, 96, dtype=torch.uint8)
    image[:, 20:32, 30:50] = 255
    return Row({"image": image, "matrix": SAME, "size": [96, 72]}, {"boxes": BOX.tolist(), "labels": ["box"]})


def around_white(image: Tensor) -> Tensor:
    """(1, 4) the box around what is brighter than half of the brightest."""
    bright = image.float().mean(0)
    y, x = torch.nonzero(bright > bright.max() / 2, as_tuple=True)
    return torch.tensor([[x.min(), y.min(), x.max() + 1, y.max() + 1]]).float()


MOVING: list[tuple[str, Any, float]] = [
    ("another shape", Resize(options.Resize(size=(144, 100))), 1.0),
    ("short side", Resize(options.Resize(size=36)), 1.0),
    ("middle", CenterCrop(options.CenterCrop(size=(60, 70))), 0.0),
    ("wider than it was", CenterCrop(options.CenterCrop(size=(80, 120))), 0.0),
    ("window", RandomCrop(options.RandomCrop(size=(72, 96), padding=9)), 0.0),
    ("window, edge", RandomCrop(options.RandomCrop(size=(72, 96), padding=9, fill="edge")), 0.0),
    ("left to right", Flip(options.Flip(probability=1.0)), 0.0),
    ("upside down", Flip(options.Flip(direction="vertical", probability=1.0)), 0.0),
    ("zoomed window", RandomResizedCrop(options.RandomResizedCrop(size=(90, 120), scale=(0.8, 1.0))), 1.5),
    ("shifted", Affine(options.Affine(shift=9)), 1.0),
    ("zoomed", Affine(options.Affine(scale=0.3)), 1.5),
]


@pytest.mark.parametrize(("transform", "within"), [pytest.param(t, w, id=n) for n, t, w in MOVING])
@pytest.mark.parametrize("seed", range(5))
def test_a_box_stays_around_what_it_was_around(transform: Any, within: float, seed: int) -> None:
    """To the pixel where pixels are only moved; to a pixel or so where they are mixed. The target is left alone."""
    row = placed()
    made = transform.apply(row, None, torch.Generator().manual_seed(seed))
    image = made.inputs["image"]
    height, width = image.shape[-2:]
    limits = torch.tensor([width, height, width, height]).float()
    expected = torch.minimum(moved(BOX, made.inputs["matrix"]).clamp(min=0), limits)
    assert (expected - around_white(image)).abs().max() <= within
    assert made.target == row.target
    assert row.inputs["matrix"] == SAME


def test_the_box_of_something_turned_is_the_upright_one_around_it() -> None:
    """It may be larger than what it is around, and never smaller."""
    turn = Affine(options.Affine(degrees=30))
    for seed in range(5):
        made = turn.apply(placed(), None, torch.Generator().manual_seed(seed))
        box, white = moved(BOX, made.inputs["matrix"])[0], around_white(made.inputs["image"])[0]
        assert (box[:2] <= white[:2] + 1).all()
        assert (box[2:] >= white[2:] - 1).all()
        assert (white[:2] - box[:2]).max() < 3


def test_transforms_in_a_row_add_up() -> None:
    """Resized, mirrored and cut: the way there and back is one matrix."""
    rng = torch.Generator().manual_seed(0)
    row = placed()
    for transform in (
        Resize(options.Resize(size=(144, 192))),
        Flip(options.Flip(probability=1.0)),
        RandomCrop(options.RandomCrop(size=(120, 160))),
    ):
        row = transform.apply(row, None, rng)
    there = moved(BOX, row.inputs["matrix"])
    assert (there - around_white(row.inputs["image"])).abs().max() <= 1
    assert torch.allclose(moved(there, inverse(row.inputs["matrix"])), BOX, atol=1e-4)


@pytest.mark.parametrize(
    "transform",
    [
        ColorJitter(options.ColorJitter(brightness=0.3, contrast=0.3)),
        Noise(options.Noise(sigma=0.1)),
        Scale(options.Scale(of=(0.0, 1.0))),
        Erase(options.Erase(probability=1.0, scale=(0.9, 1.0), ratio=(1.3, 1.4))),
    ],
    ids=lambda t: type(t).__name__,
)
def test_what_changes_colours_alone_moves_no_box(transform: Any) -> None:
    """The image is another, its place the same."""
    row = placed()
    made = transform.apply(row, None, torch.Generator().manual_seed(1))
    assert made.inputs["matrix"] == SAME
    assert made.inputs["size"] == [96, 72]
    assert not torch.equal(made.inputs["image"].float(), row.inputs["image"].float())


@pytest.mark.parametrize("transform", [RandAugment(options.RandAugment()), TrivialAugment()])
def test_chains_that_do_not_say_what_they_move_are_refused(transform: Any) -> None:
    """Boxes would stay behind silently."""
    with pytest.raises(DataError, match=r"boxes would stay behind[\s\S]*affine"):
        transform.apply(placed(), None, torch.Generator().manual_seed(0))


def test_a_plain_image_stays_a_plain_image() -> None:
    """What carries no place gets none: classification is as it was."""
    row = Row(torch.zeros(3, 8, 8))
    assert with_image(row, torch.ones(3, 4, 4), scaled(0.5, 0.5)).inputs.shape == (3, 4, 4)


def test_a_decoded_file_lies_in_its_picture_as_it_is_and_can_be_cached(tmp_path: Path) -> None:
    """`matrix` and `size` come back from the cache as they were."""
    file = voc(tmp_path, 1) / "JPEGImages" / "spot0.png"
    made = Decode(options.Decode()).apply(Row({"image": Stored(file)}), None, torch.Generator())
    assert made.inputs["image"].shape == (3, 72, 96)
    assert (made.inputs["matrix"], made.inputs["size"]) == ([list(line) for line in SAME], [96, 72])
    kept = unpack(pack(made.inputs))
    assert torch.equal(kept.pop("image"), made.inputs["image"])
    assert kept == {"matrix": [list(line) for line in SAME], "size": [96, 72]}


def test_first_and_then_are_not_the_same_the_other_way_round() -> None:
    """Shifting and then doubling shifts by twice as much."""
    assert after(shifted(1, 2), scaled(2, 2)) == [[2.0, 0.0, 2.0], [0.0, 2.0, 4.0]]
    assert after(scaled(2, 2), shifted(1, 2)) == [[2.0, 0.0, 1.0], [0.0, 2.0, 2.0]]


def test_the_way_back_undoes_the_way_there() -> None:
    """Of any matrix: turned, sheared, scaled and shifted."""
    there = ((0.8, -0.6, 5.0), (0.5, 1.2, -7.0))
    for both in (after(there, inverse(there)), after(inverse(there), there)):
        assert [number for line in both for number in line] == pytest.approx([1, 0, 0, 0, 1, 0], abs=1e-12)
