"""The model, its closed form, and the base that comes with the plugin."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from core.bases import digest, read_tensors
from core.contract import Base
from core.edits.grow import Grow
from core.options import Grow as GrowOptions
from plugins.recommendation import train_base
from plugins.recommendation.data import base_split, whole
from plugins.recommendation.ease import ease
from plugins.recommendation.models import BASES, ItemItem
from plugins.recommendation.ranking import histories


@pytest.fixture
def model(rng: torch.Generator) -> ItemItem:
    """Six items, every weight random, those that do not count included."""
    made = ItemItem(6)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    return made


def test_no_item_speaks_for_itself(model: ItemItem) -> None:
    """An item's score is the same whether the user has it or not; the others' scores are not."""
    without = model(torch.zeros(1, 6))[0]
    for item in range(6):
        changed = model(torch.eye(6)[item : item + 1])[0] != without
        assert changed.tolist() == [other != item for other in range(6)]


def test_what_does_not_count_gets_no_gradient(model: ItemItem) -> None:
    """The diagonal stays where it is, exactly, whatever the updater makes of small gradients."""
    model(torch.ones(3, 6)).square().sum().backward()
    assert model.weight.grad is not None
    assert model.weight.grad.diagonal().tolist() == [0.0] * 6


def test_growing_items_keeps_the_old_scores_to_the_bit(model: ItemItem, rng: torch.Generator) -> None:
    """Whatever of the new ones the user has; and the new ones score zero."""
    has = torch.randint(2, (20, 9), generator=rng).float()
    before = model(has[:, :6])
    grown = Grow(GrowOptions(axis="items", to=9, init="zero")).apply(model)
    after = grown(has)
    assert torch.equal(after[:, :6], before)
    assert not after[:, 6:].any()


def test_ease_is_where_the_gradient_vanishes(rng: torch.Generator) -> None:
    """The closed form minimises the task's loss plus the penalty, over weights off the diagonal and biases."""
    has = torch.randint(2, (30, 8), generator=rng).double()
    model = ItemItem(8).double()
    for parameter, value in zip((model.weight, model.bias), ease(has.numpy(), 3.0), strict=True):
        parameter.data = torch.from_numpy(value)
    ((model(has) - has).square().sum() + 3.0 * model.weight.square().sum()).backward()
    assert model.weight.grad is not None
    assert model.bias.grad is not None
    assert float(model.weight.grad.abs().max()) < 1e-9
    assert float(model.bias.grad.abs().max()) < 1e-9
    assert model.weight.diagonal().tolist() == [0.0] * 8


def test_the_base_scores_as_its_card_says(base: Base) -> None:
    """On the files kept out of it, each module left out in turn."""
    card = json.loads((BASES / "library-imports.json").read_text(encoding="utf-8"))
    items = base.preprocessing["task"]["items"]
    weight, bias = (base.model.get_parameter(name).double().numpy() for name in ("weight", "bias"))
    ranker = train_base.Ranker("base", items, lambda has: has @ weight + bias)
    (score,) = card["score"].values()
    assert train_base.ndcg(ranker, base_split()[1]) == pytest.approx(score, abs=1e-4)


def test_the_script_makes_the_base_that_comes_with_the_plugin(tmp_path: Path, base: Base) -> None:
    """Up to what another machine's linear algebra rounds."""
    train_base.main(tmp_path)
    made = read_tensors(tmp_path / "library-imports.safetensors", "base")
    for name, tensor in base.model.state_dict().items():
        torch.testing.assert_close(made[name], tensor, rtol=1e-4, atol=1e-6)
    one, other = (
        json.loads((folder / "library-imports.json").read_text(encoding="utf-8"))
        for folder in (tmp_path, BASES)
    )
    for key in ("architecture", "preprocessing", "data", "fit"):
        assert one[key] == other[key]


def test_fitting_twice_gives_the_same_bits() -> None:
    """Nothing is drawn."""
    users = base_split()[0]
    items = train_base.common_items(users)
    one, other = (digest(train_base.fit(users, items, 10.0)[0]) for _ in range(2))
    assert one == other


def test_the_base_knows_what_enough_of_its_users_have(base: Base) -> None:
    """Three files at least; its bias and weights are EASE's on these users."""
    items = base.preprocessing["task"]["items"]
    counts = histories([whole(user) for user in base_split()[0]], items).sum(0)
    assert counts.min() == 3
    assert "test" not in items
    assert np.isfinite(base.model.get_parameter("weight").numpy()).all()
