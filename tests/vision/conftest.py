"""What the tests of the vision plugin share: the default data, the base, and the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch

from core.contract import Base, Row
from plugins.vision import options
from plugins.vision.data import Digits
from plugins.vision.models import Builtin
from plugins.vision.tasks import Classify
from plugins.vision.transforms import Scale, Standardise


@pytest.fixture
def rng() -> torch.Generator:
    """The same numbers in each test."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def splits() -> Mapping[str, Sequence[Row]]:
    """The default draw, raw."""
    return Digits(options.Digits()).rows()


@pytest.fixture
def base() -> Base:
    """The base that comes with the plugin, as the core hands it on."""
    loaded = Builtin(options.Builtin()).load()
    loaded.model.requires_grad_(False).eval()
    return loaded


@pytest.fixture
def ready(base: Base, splits: Mapping[str, Sequence[Row]], rng: torch.Generator) -> dict[str, list[Row]]:
    """The default draw as the base wants it: scaled, and standardised by the base's own statistics."""
    scale, standardise = Scale(options.Scale(of=(0.0, 16.0), to=(0.0, 1.0))), Standardise()
    statistics = base.preprocessing["vision.standardise"]
    return {
        name: [standardise.apply(scale.apply(row, None, rng), statistics, rng) for row in rows]
        for name, rows in splits.items()
    }


@pytest.fixture
def task() -> Classify:
    return Classify(options.Classify(size=(8, 8), values=(0.0, 16.0)))
