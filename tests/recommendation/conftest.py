"""What the tests of the recommendation plugin share: the default data, the base, the task, and what it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch

from core.contract import Base, Row, Split
from plugins.recommendation import options
from plugins.recommendation.data import Imports
from plugins.recommendation.models import Builtin
from plugins.recommendation.tasks import Recommend, State


@pytest.fixture
def rng() -> torch.Generator:
    """The same numbers in each test."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def splits() -> Mapping[str, Sequence[Row]]:
    """The default draw."""
    return Imports(options.Imports()).rows()


@pytest.fixture
def base() -> Base:
    """The base that comes with the plugin, as the core hands it on."""
    loaded = Builtin(options.Builtin()).load()
    loaded.model.requires_grad_(False).eval()
    return loaded


@pytest.fixture
def task() -> Recommend:
    return Recommend(options.Recommend(inputs="python"))


@pytest.fixture
def base_state(task: Recommend, base: Base) -> State:
    """What the base knows."""
    return task.fit([], base.preprocessing["task"])


@pytest.fixture
def for_base(task: Recommend, base_state: State, splits: Mapping[str, Sequence[Row]]) -> dict[str, Split]:
    """`train` and `select`, encoded for the base: what trivial contenders are fitted on."""
    return {
        name: Split(name, splits[name], [task.encode(row, base_state) for row in splits[name]], base_state)
        for name in ("train", "select")
    }
