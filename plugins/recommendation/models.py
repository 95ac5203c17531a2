"""The base's architecture, and the bases that come with the plugin."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from core.bases import load_base
from core.contract import Base, Structure
from plugins.recommendation import options

BASES = Path(__file__).parent / "bases"


class ItemItem(nn.Module):
    """A linear item-item model: a bias for each item, and a weight from each item to each other one.

    The diagonal of `weight` counts as zero: no item speaks for itself. So the score of an item depends on the
    others alone, and a user's whole history can serve as input and as target.

    Args:
        items: how many.
    """

    structure = Structure(axes={"items": (("weight", 0), ("weight", 1), ("bias", 0))}, head=("bias",))

    def __init__(self, items: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(items, items))
        self.bias = nn.Parameter(torch.empty(items))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Zeros: the model is linear, so that it needs no noise to start from."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, histories: Tensor) -> Tensor:
        """Scores (users, items) from histories (users, items), float32 of ones and zeros."""
        weight = self.weight.clone().fill_diagonal_(0.0)
        return histories @ weight + self.bias


class Builtin:
    """The base source `builtin`: a base from the plugin's folder."""

    def __init__(self, options: options.Builtin) -> None:
        self._name = options.name

    def load(self) -> Base:
        return load_base(BASES, self._name, lambda architecture: ItemItem(**architecture))
