"""What the tests of the nlp plugin share: the default data, the base, and the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch

from core.contract import JSON, Base, Row
from plugins.nlp.data import Reference
from plugins.nlp.models import Builtin
from plugins.nlp.options import BuiltinOptions, LanguageModellingOptions, ReferenceOptions
from plugins.nlp.tasks import LanguageModelling


@pytest.fixture
def rng() -> torch.Generator:
    """The same numbers in each test."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def splits() -> Mapping[str, Sequence[Row]]:
    """The default draw."""
    return Reference(ReferenceOptions()).rows()


@pytest.fixture(scope="session")
def base() -> Base:
    """The base that comes with the plugin, as the core hands it on."""
    loaded = Builtin(BuiltinOptions()).load()
    loaded.model.requires_grad_(False).eval()
    return loaded


@pytest.fixture
def task() -> LanguageModelling:
    return LanguageModelling(LanguageModellingOptions())


@pytest.fixture
def state(task: LanguageModelling, base: Base) -> JSON:
    """The base's tokenizer."""
    return task.fit([], base.preprocessing["task"])
