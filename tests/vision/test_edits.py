"""`dense_behind`, beside the way it is often printed, with that way's two faults shown."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from core.edits.grow import Grow
from core.errors import EditError
from core.options import Grow as GrowOptions
from core.strategies import head_parameters
from plugins.vision import options
from plugins.vision.architectures import ConvNet, Perceptron
from plugins.vision.edits import DenseBehind


@pytest.fixture
def base() -> Perceptron:
    """784-128-10, in a state as after training: sure of its answers."""
    torch.manual_seed(0)
    model = Perceptron()
    with torch.no_grad():
        model.dense2.weight.mul_(60)
    return model


@pytest.fixture
def images() -> Tensor:
    return torch.rand(32, 1, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels() -> Tensor:
    return torch.randint(10, (32,), generator=torch.Generator().manual_seed(2))


def ours(model: nn.Module, *behind: str) -> nn.Module:
    edit = DenseBehind(options.DenseBehind(behind=list(behind) or ["dense1", "dense2"], width=256))
    edit.validate(model)
    return edit.apply(deepcopy(model))


def printed(base: Perceptron) -> nn.Module:
    """As essays have it: the base's own layers, its softmax, and new layers behind that."""
    behind = nn.Sequential(nn.Linear(10, 256), nn.ReLU(), nn.Linear(256, 10))
    return nn.Sequential(nn.Flatten(), base.dense1, nn.ReLU(), base.dense2, nn.Softmax(dim=1), behind)


def one_step(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@pytest.mark.parametrize("kind", [Perceptron, ConvNet])
def test_the_edited_model_computes_what_the_base_does_to_the_bit(
    kind: type[nn.Module], images: Tensor
) -> None:
    """What is new adds zero at first."""
    model = kind()
    edited = ours(model)
    assert torch.equal(edited(images), model(images))
    names = {name for name, _ in edited.named_parameters()}
    assert {f"dense1.{part}" for part in ("layer.weight", "down.weight", "up.weight", "up.bias")} <= names
    assert edited.dense1.down.weight.shape == (256, 128)


def test_the_edit_is_the_same_each_time(base: Perceptron) -> None:
    """Whatever torch's generator holds: a shell replays it."""
    torch.manual_seed(5)
    one = ours(base).state_dict()
    torch.manual_seed(6)
    other = ours(base).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_every_new_layer_learns_within_two_steps(base: Perceptron, images: Tensor, labels: Tensor) -> None:
    """`up` moves in the first; `down`, which `up` = 0 hides at first, in the second."""
    edited = ours(base)
    before = {name: tensor.clone() for name, tensor in edited.state_dict().items()}
    one_step(edited, images, labels)
    one_step(edited, images, labels)
    still = [name for name, tensor in edited.state_dict().items() if torch.equal(tensor, before[name])]
    assert still == []


def test_layers_behind_a_softmax_forget_what_the_base_knew_and_ours_do_not(
    base: Perceptron, images: Tensor
) -> None:
    """Fault one: before any training, the printed model answers otherwise than the base; ours the same."""
    torch.manual_seed(3)
    wrong = printed(deepcopy(base))
    says = base(images).argmax(1)
    assert float((wrong(images).argmax(1) == says).float().mean()) < 0.5
    assert torch.equal(ours(base)(images).argmax(1), says)


def test_hardly_any_gradient_comes_through_a_softmax_that_is_sure(
    base: Perceptron, images: Tensor, labels: Tensor
) -> None:
    """Fault one, the other half: the printed model's first layer hears nearly nothing; ours as much as the base's
    own."""

    def heard(model: nn.Module, layer: nn.Linear) -> float:
        model.zero_grad()
        functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        assert layer.weight.grad is not None
        return float(layer.weight.grad.norm())

    torch.manual_seed(3)
    alone = heard(base, base.dense1)
    copy = deepcopy(base)
    assert heard(printed(copy), copy.dense1) < alone / 20
    edited = ours(base)
    assert heard(edited, edited.dense1.layer) == pytest.approx(alone, rel=1e-4)


def test_sharing_layers_changes_the_base_and_ours_leaves_it_alone(
    base: Perceptron, images: Tensor, labels: Tensor
) -> None:
    """Fault two: training the printed shell trains the base, which then is not what it is compared with."""
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    one_step(ours(base), images, labels)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    with torch.no_grad():
        base.dense2.weight.div_(60)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    one_step(printed(base), images, labels)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())


def test_classes_still_grow_and_the_head_is_still_known(base: Perceptron, images: Tensor) -> None:
    """The structure moves with the layers: old outputs keep their values."""
    edited = ours(base)
    assert set(head_parameters(edited)) == {
        f"dense2.{part}.{kind}" for part in ("layer", "down", "up") for kind in ("weight", "bias")
    }
    before = edited(images)
    grown = Grow(GrowOptions(axis="classes", to=12, init="normal")).apply(edited)
    assert grown(images).shape == (32, 12)
    assert torch.allclose(grown(images)[:, :10], before, atol=1e-4)  # sums of 12 are made in another order


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [("dense3", "no module 'dense3'", "dense2"), ("conv", "'conv' is a Conv2d", "Linear")],
)
def test_what_is_no_dense_layer_is_refused(name: str, message: str, hint: str) -> None:
    """With those that are."""
    with pytest.raises(EditError, match=message) as caught:
        ours(ConvNet(), name)
    assert hint in caught.value.hint
