"""Transforms, fixed, fitted and random."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from core.contract import Row, Transform
from core.errors import DataError
from plugins.vision import options
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
