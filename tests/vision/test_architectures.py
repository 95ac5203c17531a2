"""The published architectures: their form, and their published weights on real data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from core import base_file
from core import options as core_options
from core.contract import REPORT, Row
from core.edits import axis_size
from core.strategies import head_parameters
from plugins.vision import architectures, options
from plugins.vision.geometry import Resize
from plugins.vision.idx import read_split

FORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "resnet20": (architectures.resnet20, (3, 32, 32), 269_722),
    "LeNet5": (architectures.LeNet5, (1, 32, 32), 61_706),
    "ConvNet": (architectures.ConvNet, (1, 28, 28), 693_962),
    "Perceptron": (architectures.Perceptron, (1, 28, 28), 101_770),
}


@pytest.mark.parametrize("name", FORMS)
def test_an_architecture_has_the_published_size_and_says_what_its_head_is(name: str) -> None:
    """Ten outputs, along which classes can grow."""
    make, shape, parameters = FORMS[name]
    model = make().eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model(torch.zeros(2, *shape)).shape == (2, 10)
    assert axis_size(model, "classes") == 10
    assert len(head_parameters(model)) == 2


def test_the_order_of_channels_in_memory_changes_rounding_alone() -> None:
    """Channels last is faster, and the same function."""
    torch.manual_seed(0)
    last = architectures.resnet20().eval()
    first = architectures.resnet20(channels_last=False).eval()
    first.load_state_dict(last.state_dict())
    images = torch.rand(4, 3, 32, 32)
    assert torch.allclose(first(images), last(images), atol=1e-4)


def published(path: Path, architecture: str) -> nn.Module:
    reference = f"plugins.vision.architectures:{architecture}"
    given = core_options.File.model_validate({"path": str(path), "architecture": reference})
    return base_file.File(given).load().model.eval()


def test_the_published_lenet_scores_what_was_measured(real_data: Callable[[str], Path]) -> None:
    """98.40 % on the 3,000 test digits, resized to 32 x 32."""
    file = next(real_data("weights-mnist-lenet").glob("*.pth"))
    images, labels = read_split(real_data("mnist"), REPORT)
    resize = Resize(options.Resize(size=(32, 32)))  # type: ignore[call-arg]
    larger = torch.stack([resize.apply(Row(image), None, torch.Generator()).inputs for image in images])
    with torch.no_grad():
        right = published(file, "LeNet5")(larger).argmax(1) == labels
    assert int(right.sum()) == 2952


def test_the_published_resnet_fits(real_data: Callable[[str], Path]) -> None:
    """Every tensor of a checkpoint that was saved on a GPU, from `nn.DataParallel`."""
    file = next(real_data("weights-cifar10-resnet").glob("*.th"))
    assert isinstance(published(file, "resnet20"), architectures.CifarResNet)
