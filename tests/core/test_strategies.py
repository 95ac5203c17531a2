"""Strategies: who moves when, how fast, and what stays as the base has it."""

from __future__ import annotations

import pytest
from torch import nn

from core import options
from core.contract import Structure
from core.errors import EditError
from core.strategies import Full, HeadThenFull
from core.training import unfreeze


class Net(nn.Sequential):
    """A convolution, its normalisation, and a head."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
        self.structure = Structure(head=("3",))


def strategy(**given: object) -> HeadThenFull:
    return HeadThenFull(options.HeadThenFull.model_validate({"head_epochs": 2, **given}))


def test_the_head_moves_first_and_the_body_after_it_at_its_own_rate():
    """Two phases; in the second all else moves at a tenth of the head's rate."""
    first, second = strategy(body=0.1).phases(Net())
    assert (first.epochs, second.epochs) == (2, None)
    assert [group.parameters for group in first.groups] == [("3.weight", "3.bias")]
    head, body = second.groups
    assert (head.lr, body.lr) == (1.0, 0.1)
    assert head.parameters == ("3.weight", "3.bias")
    assert body.parameters == ("0.weight", "0.bias", "1.weight", "1.bias")


def test_running_statistics_stay_as_the_base_has_them_where_the_recipe_says_so():
    """The layers that keep them are in eval mode while the others learn."""
    model = Net()
    unfreeze(model, strategy(statistics=False).phases(model)[1])
    assert (model[0].training, model[1].training) == (True, False)
    assert not model[1].weight.requires_grad
    unfreeze(model, strategy().phases(model)[1])
    assert model[1].training


def test_a_model_that_is_all_head_has_no_body_to_move():
    """One group in each phase."""
    model = nn.Linear(2, 2)
    model.structure = Structure(head=("weight", "bias"))
    assert [len(phase.groups) for phase in strategy().phases(model)] == [1, 1]


def test_a_model_without_a_known_head_is_refused():
    """As by the strategy `head`."""
    with pytest.raises(EditError, match="does not say which of its parameters are the head"):
        strategy().phases(nn.Linear(2, 2))


def test_what_is_frozen_by_name_does_not_move():
    """Of `full`, all else does."""
    (phase,) = Full(options.Full(freeze=["1.*", "*.bias"])).phases(Net())
    assert [group.parameters for group in phase.groups] == [("0.weight", "3.weight")]


def test_a_name_to_freeze_that_no_parameter_has_is_refused():
    """A misspelt one would train what was to stay."""
    with pytest.raises(EditError, match=r"no parameter of Net is called 'embedding\*'") as caught:
        Full(options.Full(freeze=["embedding*"])).phases(Net())
    assert "0.weight, 0.bias, 1.weight" in caught.value.hint


def test_freezing_everything_is_refused():
    """There would be nothing to train."""
    with pytest.raises(EditError, match="freeze every parameter of Net"):
        Full(options.Full(freeze=["*"])).phases(Net())
