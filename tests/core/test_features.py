"""What the head sees: for models of every make that name their head, and said where it cannot be told."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from core.contract import Structure
from core.errors import EditError
from core.features import features

INPUTS = torch.arange(6.0).reshape(2, 3)


class Two(nn.Module):
    """A body, a head, and what `structure` is told of them."""

    def __init__(self, *head: str) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 3)
        self.body = nn.Linear(3, 4)
        self.head = nn.Linear(4, 2)
        self.structure = Structure(head=head)

    def forward(self, inputs: Tensor) -> Tensor:
        if not inputs.is_floating_point():
            inputs = self.embed(inputs)
        return self.head(input=self.body(inputs).relu())


def test_features_are_what_the_head_is_given():
    """To the bit, without a graph, and the model is left without a hook."""
    model = Two("head")
    seen = features(model, lambda: model(INPUTS))
    assert torch.equal(seen, model.body(INPUTS).relu())
    assert not seen.requires_grad
    assert not model.head._forward_pre_hooks


def test_head_of_several_modules_sees_the_first_floating_tensor():
    """An embedding that is tied to the output is given indices: they are no features."""
    model = Two("head", "embed", "body")
    seen = features(model, lambda: model(torch.tensor([[1], [2]])))
    assert torch.equal(seen, model.embed(torch.tensor([[1], [2]])))


def test_features_of_a_batch_run_in_parts_are_joined_in_order():
    """Of the one module that is looked at, and not of what it hands on to the next."""
    model = Two("body", "head")
    parts = [INPUTS[:1], INPUTS[1:], INPUTS]
    seen = features(model, lambda: [model(part) for part in parts])
    assert torch.equal(seen, torch.cat(parts))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_head_without_a_class_sees_features_too():
    """An encoder has an empty head, and can be probed all the same."""
    model = Two("head")
    model.head = nn.Linear(4, 0)
    assert features(model, lambda: model(INPUTS)).shape == (2, 4)


@pytest.mark.parametrize("head", [(), ("nothing",), ("head.weight",)])
def test_model_that_names_no_module_as_its_head_is_refused(head):
    """None at all, one that is not there, and a parameter, which sees nothing."""
    model = Two(*head)
    with pytest.raises(EditError, match="Two does not say which of its modules are the head"):
        features(model, lambda: model(INPUTS))
    with pytest.raises(EditError, match="Linear does not say"):
        features(nn.Linear(1, 1), lambda: None)


def test_head_that_is_never_called_is_refused_by_name():
    """And the hooks are taken away when the model fails."""
    model = Two("embed")
    with pytest.raises(EditError, match=r"Two ran without calling its head \(embed\)"):
        features(model, lambda: model(INPUTS))
    with pytest.raises(RuntimeError):
        features(model, lambda: model(torch.ones(1, 7)))
    assert not model.embed._forward_pre_hooks
