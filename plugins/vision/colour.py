"""Random transforms of colours, and torchvision's chains of many: they draw from the generator they are given
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from core.contract import Row
from core.errors import DataError
from core.seeds import seed_torch
from plugins.vision import options
from plugins.vision.boxes import is_placed, with_image
from plugins.vision.geometry import image_of

CPU = torch.device("cpu")


class _Random:
    random = True

    def fit(self, rows: Sequence[Row]) -> None:
        return None


class ColorJitter(_Random):
    """Brightness, contrast, saturation and hue, each by a random amount, in a random order; floats must lie in
    0..1."""

    def __init__(self, options: options.ColorJitter) -> None:
        from torchvision.transforms.v2 import functional as v2

        def around(amount: float) -> tuple[float, float]:
            return max(0.0, 1 - amount), 1 + amount

        steps: list[tuple[Callable[..., Tensor], tuple[float, float]]] = [
            (v2.adjust_brightness, around(options.brightness)),
            (v2.adjust_contrast, around(options.contrast)),
            (v2.adjust_saturation, around(options.saturation)),
            (v2.adjust_hue, (-options.hue, options.hue)),
        ]
        amounts = (options.brightness, options.contrast, options.saturation, options.hue)
        self._steps = [step for step, amount in zip(steps, amounts, strict=True) if amount]

    def apply(self, row: Row, state: None, rng: torch.Generator) -> Row:
        image = image_of(row, "color_jitter")
        draws = torch.rand(len(self._steps), generator=rng).tolist()
        for i in torch.randperm(len(self._steps), generator=rng).tolist():
            adjust, (low, high) = self._steps[i]
            image = adjust(image, low + draws[i] * (high - low))
        return with_image(row, image)


class RandAugment(_Random):
    """So many random operations of one strength, in a row (https://arxiv.org/abs/1909.13719), by torchvision."""

    def __init__(self, options: options.RandAugment) -> None:
        from torchvision.transforms import v2

        self._transform = v2.RandAugment(num_ops=options.operations, magnitude=options.magnitude)

    def apply(self, row: Row, state: None, rng: torch.Generator) -> Row:
        return row.with_inputs(_with(self._transform, _unplaced(row, "rand_augment"), rng))


class TrivialAugment(_Random):
    """One random operation of random strength: nothing to tune (https://arxiv.org/abs/2103.10158), by
    torchvision."""

    def __init__(self) -> None:
        from torchvision.transforms import v2

        self._transform = v2.TrivialAugmentWide()

    def apply(self, row: Row, state: None, rng: torch.Generator) -> Row:
        return row.with_inputs(_with(self._transform, _unplaced(row, "trivial_augment"), rng))


def _unplaced(row: Row, transform: str) -> Tensor:
    """The row's image. Raises `DataError` where boxes would have to move with it: torchvision's chains do not say where
    to."""
    if is_placed(row.inputs):
        raise DataError(
            f"{transform}: it turns and shifts pictures without saying how, so their boxes would stay behind",
            "use `flip`, `random_resized_crop`, `affine` and `color_jitter`, which take boxes along",
        )
    return image_of(row, transform)


def _with(transform: Any, image: Tensor, rng: torch.Generator) -> Tensor:
    """torchvision draws from torch's global generator: it is seeded from `rng`, and put back afterwards."""
    with _seeded(int(torch.randint(2**62, (), generator=rng).item())):
        result: Tensor = transform(image)
        return result


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    before = torch.random.get_rng_state()
    try:
        seed_torch(CPU, seed)
        yield
    finally:
        torch.random.set_rng_state(before)
