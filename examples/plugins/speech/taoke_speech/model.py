"""A small keyword model: convolutions over time and pitch, then the mean over time."""

from __future__ import annotations

from torch import Tensor, nn

from core.contract import Structure


class KeywordNet(nn.Module):
    """(batch, classes) logits from (batch, bands, frames)."""

    structure = Structure({"classes": (("head.weight", 0), ("head.bias", 0))}, head=("head",))

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, channels in enumerate((width, 2 * width, 2 * width)):
            before = 1 if i == 0 else (width if i == 1 else 2 * width)
            layers += [
                nn.Conv2d(before, channels, 3, padding=1),
                nn.GroupNorm(8, channels),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.body = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, energies: Tensor) -> Tensor:
        found = self.body(energies[:, None]).mean((2, 3))
        logits: Tensor = self.head(self.dropout(found))
        return logits
