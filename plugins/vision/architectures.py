"""Small published architectures, for weights from elsewhere.

    base: {source: file, path: resnet20.th, architecture: "plugins.vision.architectures:resnet20"}

Each names its tensors as the published weights do, and says in `structure` where its classes and its head are.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.contract import Structure


def _structure(head: str) -> Structure:
    return Structure({"classes": ((f"{head}.weight", 0), (f"{head}.bias", 0))}, head=(head,))


class CifarResNet(nn.Module):
    """The residual network for images of 32 x 32 of https://arxiv.org/abs/1512.03385, section 4.2: 6n + 2 layers.

    Shortcuts have no parameters (option A): where the image becomes smaller and the channels more, every second
    pixel is taken, and half of the missing channels of zeros are put before and half behind. Tensors are named
    as in https://github.com/akamaster/pytorch_resnet_cifar10.

    Args:
        blocks: n, the blocks of each of the three stages.
        classes: outputs.
        channels_last: keep the channels of a pixel side by side in memory: the same numbers, but for rounding, a
            fifth faster on a CPU.
    """

    structure = _structure("linear")

    def __init__(self, blocks: int = 3, classes: int = 10, channels_last: bool = True) -> None:
        super().__init__()
        self.channels_last = channels_last
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(blocks, 16, 16)
        self.layer2 = _stage(blocks, 16, 32)
        self.layer3 = _stage(blocks, 32, 64)
        self.linear = nn.Linear(64, classes)
        for module in self.modules():  # He initialisation, https://arxiv.org/abs/1502.01852
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) from images (batch, 3, 32, 32)."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        x = functional.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


class _Block(nn.Module):
    def __init__(self, channels: int, to: int) -> None:
        super().__init__()
        self.stride, self.before = to // channels, (to - channels) // 2
        self.conv1 = nn.Conv2d(channels, to, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(to)
        self.conv2 = nn.Conv2d(to, to, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(to)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = functional.pad(
                x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.before)
            )
        return functional.relu(y + x)


def _stage(blocks: int, channels: int, to: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(channels if i == 0 else to, to) for i in range(blocks)))


def resnet20(classes: int = 10, channels_last: bool = True) -> CifarResNet:
    """20 layers, 0.27 million parameters."""
    return CifarResNet(3, classes, channels_last)


class LeNet5(nn.Module):
    """LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf) as it is
    built today: ReLU, the largest of each 2 x 2 pixels, and a linear output. Tensors are named as in
    https://github.com/csinva/gan-vae-pretrained-pytorch.
    """

    structure = _structure("fc.f7")

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.convnet = nn.Sequential(
            OrderedDict(
                c1=nn.Conv2d(1, 6, 5),
                relu1=nn.ReLU(),
                s2=nn.MaxPool2d(2),
                c3=nn.Conv2d(6, 16, 5),
                relu3=nn.ReLU(),
                s4=nn.MaxPool2d(2),
                c5=nn.Conv2d(16, 120, 5),
                relu5=nn.ReLU(),
            )
        )
        self.fc = nn.Sequential(
            OrderedDict(f6=nn.Linear(120, 84), relu6=nn.ReLU(), f7=nn.Linear(84, classes))
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) from images (batch, 1, 32, 32)."""
        logits: Tensor = self.fc(torch.flatten(self.convnet(images), 1))
        return logits


class ConvNet(nn.Module):
    """One 3 x 3 convolution of 32 channels, the largest of each 2 x 2 pixels, a dense layer of 128, and one of
    10: the network that introductions print. `dense1` and `dense2` are its dense layers."""

    structure = _structure("dense2")

    def __init__(self, classes: int = 10, channels: int = 32, hidden: int = 128, side: int = 28) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, channels, 3)
        self.dense1 = nn.Linear(channels * ((side - 2) // 2) ** 2, hidden)
        self.dense2 = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) from images (batch, 1, side, side)."""
        x = functional.max_pool2d(functional.relu(self.conv(images)), 2).flatten(1)
        logits: Tensor = self.dense2(functional.relu(self.dense1(x)))
        return logits


class Perceptron(nn.Module):
    """784-128-10: one hidden layer. `dense1` and `dense2` are its dense layers."""

    structure = _structure("dense2")

    def __init__(self, classes: int = 10, inputs: int = 784, hidden: int = 128) -> None:
        super().__init__()
        self.dense1 = nn.Linear(inputs, hidden)
        self.dense2 = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) from images of `inputs` numbers each."""
        logits: Tensor = self.dense2(functional.relu(self.dense1(images.flatten(1))))
        return logits
