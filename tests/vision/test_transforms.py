"""Transforms, fixed, fitted and random."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from core.contract import Row, Transform
from core.data.stored import Stored
from core.errors import DataError
from plugins.vision import colour, geometry, options
from plugins.vision.transforms import Affine, Noise, Normalise, Scale, Standardise

UNIT = (0.0, 1.0)
EVERY: dict[str, Callable[[], Transform]] = {
    "scale": lambda: Scale(options.Scale(of=(0.0, 4.0), to=UNIT)),
    "normalise": Normalise,
    "standardise": Standardise,
    "affine": lambda: Affine(options.Affine(degrees=10, scale=0.1, shift=1)),
    "noise": lambda: Noise(options.Noise(sigma=0.1, clamp=UNIT)),
}


def images(*shape: int) -> list[Row]:
    rng = torch.Generator().manual_seed(1)
    return [Row(4 * torch.rand(shape, generator=rng), str(i)) for i in range(5)]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 10)])
def test_a_transform_makes_a_new_row_of_the_same_form(
    name: str, shape: tuple[int, ...], rng: torch.Generator
) -> None:
    """The row it is given stays as it was; shape, dtype and target survive."""
    transform, rows = EVERY[name](), images(*shape)
    before = rows[0].inputs.clone()
    made = transform.apply(rows[0], transform.fit(rows), rng)
    assert torch.equal(rows[0].inputs, before)
    assert made.inputs.shape == shape
    assert made.inputs.dtype == torch.float32
    assert made.target == rows[0].target
    assert not torch.equal(made.inputs, before)


@pytest.mark.parametrize("name", EVERY)
def test_randomness_comes_from_the_generator_alone(name: str) -> None:
    """The same generator, the same row; another one, another row, where the transform is random."""
    transform, row = EVERY[name](), images(1, 8, 8)[0]
    state = transform.fit([row])

    def made(seed: int) -> Tensor:
        torch.manual_seed(torch.seed())
        result: Tensor = transform.apply(row, state, torch.Generator().manual_seed(seed)).inputs
        return result

    assert torch.equal(made(7), made(7))
    assert torch.equal(made(7), made(8)) is not transform.random


def test_scale_maps_one_range_to_the_other(rng: torch.Generator) -> None:
    """Ends to ends, middle to middle."""
    row = Row(torch.tensor([[[0.0, 8.0, 16.0]]]))
    scale = Scale(options.Scale(of=(0.0, 16.0), to=(-1.0, 1.0)))
    assert scale.apply(row, None, rng).inputs.flatten().tolist() == [-1.0, 0.0, 1.0]


def test_standardise_gives_each_channel_mean_zero_and_deviation_one(rng: torch.Generator) -> None:
    """Over all pixels of all training rows, whatever each channel's own scale."""
    rows = [Row(row.inputs * torch.tensor([1.0, 10.0, 100.0])[:, None, None]) for row in images(3, 6, 6)]
    standardise = Standardise()
    state = standardise.fit(rows)
    made = torch.stack([standardise.apply(row, state, rng).inputs for row in rows])
    assert made.mean((0, 2, 3)).tolist() == pytest.approx([0.0] * 3, abs=1e-5)
    assert made.std((0, 2, 3), correction=0).tolist() == pytest.approx([1.0] * 3, abs=1e-5)


def test_normalise_takes_its_range_from_train_alone(rng: torch.Generator) -> None:
    """Training rows fill 0 to 1; another row may leave it."""
    normalise = Normalise()
    state = normalise.fit([Row(torch.tensor([[[2.0, 4.0]]])), Row(torch.tensor([[[3.0, 6.0]]]))])
    assert normalise.apply(Row(torch.tensor([[[2.0, 6.0, 8.0]]])), state, rng).inputs.tolist() == [
        [[0.0, 1.0, 1.5]]
    ]


@pytest.mark.parametrize("name", ["normalise", "standardise"])
def test_a_channel_without_any_variation_is_refused(name: str) -> None:
    """Dividing by zero would make every later number nan."""
    with pytest.raises(DataError, match=f"{name}: a channel has the same value"):
        EVERY[name]().fit([Row(torch.ones(1, 2, 2))])


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What an affine draws, each from -1 to 1: turn, zoom, right, down."""

    def set_to(*numbers: float) -> None:
        monkeypatch.setattr(torch, "rand", lambda *_, **__: (torch.tensor(numbers) + 1) / 2)

    return set_to


def test_affine_of_nothing_is_the_image_itself(rng: torch.Generator) -> None:
    """With all amounts zero, whatever is drawn."""
    row = images(1, 6, 10)[0]
    assert torch.allclose(Affine(options.Affine()).apply(row, None, rng).inputs, row.inputs, atol=1e-5)


def test_affine_turns_by_the_angle_it_draws(drawn: Callable[..., None], rng: torch.Generator) -> None:
    """A quarter turn of a square is exact."""
    row = images(1, 8, 8)[0]
    drawn(1, 0, 0, 0)
    turned = Affine(options.Affine(degrees=90)).apply(row, None, rng).inputs
    assert torch.allclose(turned, torch.rot90(row.inputs, 1, (1, 2)), atol=1e-5)


def test_affine_turns_a_rectangle_without_shearing_it(
    drawn: Callable[..., None], rng: torch.Generator
) -> None:
    """A half as long bar lies across after a quarter turn: pixels keep their distances."""
    row = Row(torch.zeros(1, 5, 9))
    row.inputs[0, 2, 3:6] = 1
    drawn(1, 0, 0, 0)
    turned = Affine(options.Affine(degrees=90)).apply(row, None, rng).inputs
    wanted = torch.zeros(1, 5, 9)
    wanted[0, 1:4, 4] = 1
    assert torch.allclose(turned, wanted, atol=1e-5)


def test_affine_shifts_by_pixels(drawn: Callable[..., None], rng: torch.Generator) -> None:
    """Two to the left and one up; what comes in is zero."""
    row = images(1, 6, 10)[0]
    drawn(0, 0, 1, 0.5)
    shifted = Affine(options.Affine(shift=2)).apply(row, None, rng).inputs
    wanted = torch.zeros(1, 6, 10)
    wanted[:, :-1, :-2] = row.inputs[:, 1:, 2:]
    assert torch.allclose(shifted, wanted, atol=1e-4)


def test_affine_zooms_in_by_the_factor_it_draws(drawn: Callable[..., None], rng: torch.Generator) -> None:
    """A square of two pixels a side, drawn 1.5 times as large, covers three: its sum grows by 1.5 squared."""
    row = Row(torch.zeros(1, 8, 8))
    row.inputs[0, 3:5, 3:5] = 1
    drawn(0, 1, 0, 0)
    zoomed = Affine(options.Affine(scale=0.5)).apply(row, None, rng).inputs
    assert float(zoomed.sum()) == pytest.approx(4 * 1.5**2, rel=0.05)


def test_noise_has_the_given_width_and_keeps_the_range(rng: torch.Generator) -> None:
    """Unclamped it deviates by sigma; clamped nothing leaves the range."""
    row = Row(torch.full((1, 100, 100), 0.5))
    free = Noise(options.Noise(sigma=0.3, clamp=None)).apply(row, None, rng).inputs
    kept = Noise(options.Noise(sigma=0.3, clamp=UNIT)).apply(row, None, rng).inputs
    assert float(free.std()) == pytest.approx(0.3, rel=0.05)
    assert float(free.max()) > 1
    assert float(kept.min()) == 0.0
    assert float(kept.max()) == 1.0


@pytest.mark.parametrize(
    "make", [lambda: options.Scale(of=(1, 1)), lambda: options.Noise(sigma=1, clamp=(2, 1))]
)
def test_a_range_must_rise(make: Callable[[], object]) -> None:
    """The message says what came."""
    with pytest.raises(ValidationError, match="low below high, got"):
        make()


def of(factory: type, **given: object) -> Transform:
    """A transform with its options, which has the name of its class."""
    made: Transform = factory(getattr(options, factory.__name__).model_validate(given))
    return made


PICTURE = Row(
    torch.randint(0, 256, (3, 20, 30), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
)
RANDOM: dict[str, Callable[[], Transform]] = {
    "random_crop": lambda: of(geometry.RandomCrop, size=16, padding=2),
    "random_crop, mirrored": lambda: of(geometry.RandomCrop, size=16, padding=2, fill="reflect"),
    "random_resized_crop": lambda: of(geometry.RandomResizedCrop, size=[16, 24]),
    "flip": lambda: of(geometry.Flip),
    "flip, vertical": lambda: of(geometry.Flip, direction="vertical"),
    "erase": lambda: of(geometry.Erase, probability=0.7),
    "color_jitter": lambda: of(colour.ColorJitter, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
    "rand_augment": lambda: of(colour.RandAugment),
    "trivial_augment": colour.TrivialAugment,
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_an_augmentation_draws_from_the_generator_it_is_given_and_nothing_else(name: str, kind: str) -> None:
    """The same generator, the same bits, whatever torch's own holds, which it leaves as it was; another one, sooner or
    later another image. The row stays as it was, and bytes stay bytes."""
    transform = RANDOM[name]()
    row = PICTURE if kind == "bytes" else Row(PICTURE.inputs.float() / 255)
    before, made = row.inputs.clone(), []
    for seed in range(8):
        torch.manual_seed(seed)
        state = torch.random.get_rng_state()
        one = transform.apply(row, None, seeded(seed)).inputs
        assert torch.equal(torch.random.get_rng_state(), state)
        torch.manual_seed(99)
        assert torch.equal(one, transform.apply(row, None, seeded(seed)).inputs)
        made.append(one)
    assert transform.random
    assert torch.equal(row.inputs, before)
    assert {one.dtype for one in made} == {row.inputs.dtype}
    assert {tuple(one.shape) for one in made} <= {(3, 16, 16), (3, 16, 24), (3, 20, 30)}
    assert any(not torch.equal(made[0], other) for other in made[1:])


def test_resize_takes_a_size_or_the_short_side(rng: torch.Generator) -> None:
    """20 x 30 to a short side of 10 keeps its shape; a pair does not."""
    assert of(geometry.Resize, size=10).apply(PICTURE, None, rng).inputs.shape == (3, 10, 15)
    assert of(geometry.Resize, size=[7, 5]).apply(PICTURE, None, rng).inputs.shape == (3, 7, 5)
    assert of(geometry.Resize, size=20).apply(PICTURE, None, rng) is PICTURE
    tall = Row(PICTURE.inputs.transpose(1, 2))
    assert of(geometry.Resize, size=10).apply(tall, None, rng).inputs.shape == (3, 15, 10)


def test_resize_averages_what_it_makes_small(rng: torch.Generator) -> None:
    """A chessboard becomes grey: with antialiasing no pixel is lost."""
    board = Row((torch.arange(32)[:, None] + torch.arange(32)).remainder(2).mul(255).byte()[None])
    small = of(geometry.Resize, size=8).apply(board, None, rng).inputs
    assert small.dtype == torch.uint8
    assert (small.int() - 127).abs().max() <= 2


def test_center_crop_takes_the_middle_and_fills_with_black(rng: torch.Generator) -> None:
    """Of 20 x 30, the rows 5 to 14; where 40 are wanted, ten black ones on each side."""
    middle = of(geometry.CenterCrop, size=10).apply(PICTURE, None, rng).inputs
    assert torch.equal(middle, PICTURE.inputs[:, 5:15, 10:20])
    wide = of(geometry.CenterCrop, size=[40, 30]).apply(PICTURE, None, rng).inputs
    assert torch.equal(wide[:, 10:30], PICTURE.inputs)
    assert int(wide[:, :10].max()) == int(wide[:, 30:].max()) == 0


def test_a_random_crop_is_a_window_of_the_widened_image() -> None:
    """Every place is reached, and what is cut is what stands there."""
    crop = of(geometry.RandomCrop, size=8, padding=1)
    image = torch.arange(1, 65, dtype=torch.uint8).reshape(1, 8, 8)
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
    windows = {(y, x): padded[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)}
    found = set()
    for seed in range(60):
        cut = crop.apply(Row(image), None, seeded(seed)).inputs
        found |= {place for place, window in windows.items() if torch.equal(window, cut)}
    assert found == set(windows)


def test_flip_mirrors_about_half_of_the_images() -> None:
    """And those exactly."""
    made = [of(geometry.Flip).apply(PICTURE, None, seeded(seed)).inputs for seed in range(200)]
    flipped = sum(torch.equal(one, PICTURE.inputs.flip(-1)) for one in made)
    assert 75 < flipped < 125
    assert all(torch.equal(one, PICTURE.inputs) or torch.equal(one, PICTURE.inputs.flip(-1)) for one in made)


def test_erase_blackens_a_part_of_the_wanted_size() -> None:
    """Between 2 % and a third of the area."""
    white = Row(torch.full((1, 50, 50), 255, dtype=torch.uint8))
    parts = [
        float((of(geometry.Erase, probability=1).apply(white, None, seeded(seed)).inputs == 0).float().mean())
        for seed in range(50)
    ]
    assert 0.015 < min(parts) < 0.1
    assert 0.25 < max(parts) < 0.36


def test_standardise_takes_bytes_for_zero_to_one(rng: torch.Generator) -> None:
    """The same statistics, and the same numbers, whether the image comes as bytes or as floats."""
    floats = Row(PICTURE.inputs.float() / 255)
    standardise = Standardise()
    of_bytes, of_floats = standardise.fit([PICTURE]), standardise.fit([floats])
    assert of_bytes["subtract"] == pytest.approx(of_floats["subtract"])
    made = [standardise.apply(row, of_floats, rng).inputs for row in (PICTURE, floats)]
    assert made[0].dtype == torch.float32
    assert torch.allclose(made[0], made[1], atol=1e-5)


def test_statistics_of_many_rows_are_those_of_all_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are taken a few rows at a time, of any size, and never held together."""
    rows = [Row(torch.rand(3, 4 + i, 6, generator=seeded(i)) * (i + 1)) for i in range(9)]
    pixels = torch.cat([row.inputs.flatten(1) for row in rows], 1).double()
    monkeypatch.setattr("plugins.vision.transforms.PIXELS", 100)
    state, span = Standardise().fit(rows), Normalise().fit(rows)
    assert state["subtract"] == pytest.approx(pixels.mean(1).tolist(), rel=1e-12)
    assert state["divide"] == pytest.approx(pixels.std(1, correction=0).tolist(), rel=1e-12)
    assert span["subtract"] == pixels.amin(1).tolist()


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (lambda: of(geometry.Resize, size=4), "resize: expected an image, got a Stored"),
        (lambda: of(geometry.Flip, probability=1), "flip: expected an image"),
        (lambda: Standardise(), "standardise: expected an image"),
    ],
)
def test_what_was_not_decoded_is_refused(
    transform: Callable[[], Transform], message: str, tmp_path: Path, rng: torch.Generator
) -> None:
    """With what is missing in the recipe."""
    with pytest.raises(DataError, match=message) as caught:
        transform().apply(Row(Stored(tmp_path / "a.png")), {"subtract": [0], "divide": [1]}, rng)
    assert "put `decode` before it" in caught.value.hint


def test_statistics_of_another_number_of_channels_are_refused(rng: torch.Generator) -> None:
    """A grey picture for a base that was trained on colours."""
    with pytest.raises(DataError, match="statistics are of 3 channels, the image has 1") as caught:
        Standardise().apply(Row(torch.zeros(1, 4, 4)), {"subtract": [0.5] * 3, "divide": [1.0] * 3}, rng)
    assert "`channels: 3`" in caught.value.hint


@pytest.mark.parametrize(
    "make",
    [
        lambda: options.RandomResizedCrop(size=8, scale=(0.5, 1.5)),
        lambda: options.RandomResizedCrop(size=8, scale=(0.0, 1.0)),
        lambda: options.Erase(ratio=(3.0, 0.3)),
        lambda: options.Flip(probability=1.5),
        lambda: options.Resize(size=0),
    ],
)
def test_options_out_of_range_are_refused(make: Callable[[], object]) -> None:
    """Before any image is touched."""
    with pytest.raises(ValidationError):
        make()


def test_the_cheap_transforms_are_cheap() -> None:
    """Mirrored, shifted and standardised, an image of 3 x 32 x 32 takes some 30 us; the bound leaves room for a busy
    machine."""
    row, state = Row(PICTURE.inputs[:, :20, :20]), {"subtract": [0.5] * 3, "divide": [0.25] * 3}
    steps = [of(geometry.Flip), of(geometry.RandomCrop, size=20, padding=2), Standardise()]
    rng, best = seeded(0), float("inf")
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(100):
            made = row
            for step in steps:
                made = step.apply(made, state, rng)
        best = min(best, (time.perf_counter() - began) / 100)
    assert best < 150e-6
