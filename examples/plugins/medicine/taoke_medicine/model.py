"""The base: two dense layers that read ten means, made by `python -m taoke_medicine.train_base`."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from core.bases import load_base
from core.contract import Base, Structure

FOLDER = Path(__file__).with_name("bases")
NAME = "means"


class Network(nn.Module):
    """(batch, classes) logits from (batch, features), standardised. Both ends may grow."""

    structure = Structure(
        {"features": (("body.weight", 1),), "classes": (("head.weight", 0), ("head.bias", 0))}, head=("head",)
    )

    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Linear(features, hidden)
        self.head = nn.Linear(hidden, classes)

    def forward(self, numbers: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(numbers).tanh())
        return logits


class Means:
    def load(self) -> Base:
        return load_base(FOLDER, NAME, lambda architecture: Network(**architecture))
