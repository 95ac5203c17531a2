"""The base's architecture, and the bases that come with the plugin."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from core.bases import load_base
from core.contract import Base, Structure
from plugins.vision import options

BASES = Path(__file__).parent / "bases"


class SmallCNN(nn.Module):
    """Three convolutions with group normalisation, one hidden layer, and a linear head.

    Group normalisation (https://arxiv.org/abs/1803.08494) keeps no running statistics: the model's state is
    its parameters alone, so that pulling them towards the base pulls the whole model.

    Args:
        classes: outputs, one a class.
        width: channels of the first two convolutions; the third has twice as many.
        hidden: features before the head.
        dropout: share of those features dropped in training.
        side: height and width of the images, a multiple of 4.
    """

    structure = Structure(axes={"classes": (("head.weight", 0), ("head.bias", 0))}, head=("head",))

    def __init__(self, classes: int, width: int, hidden: int, dropout: float, side: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(1, width),
            *_convolution(width, width),
            nn.MaxPool2d(2),
            *_convolution(width, 2 * width),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * (side // 4) ** 2, hidden),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, classes)

    def features(self, images: Tensor) -> Tensor:
        """(batch, hidden) from images (batch, 1, side, side)."""
        features: Tensor = self.body(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) from images (batch, 1, side, side)."""
        logits: Tensor = self.head(self.dropout(self.features(images)))
        return logits


def _convolution(channels: int, to: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, to, 3, padding=1), nn.GroupNorm(8, to), nn.ReLU()]


class Builtin:
    """The base source `builtin`: a base from the plugin's folder."""

    def __init__(self, options: options.Builtin) -> None:
        self._name = options.name

    def load(self) -> Base:
        return load_base(BASES, self._name, lambda architecture: SmallCNN(**architecture))
