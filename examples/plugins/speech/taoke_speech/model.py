"""A small keyword model: convolutions over time, and what was found most strongly at any time."""

from __future__ import annotations

from torch import Tensor, nn

from core.contract import Structure
from taoke_speech.features import BANDS


class KeywordNet(nn.Module):
    """(batch, classes) logits from (batch, bands, frames)."""

    structure = Structure({"classes": (("head.weight", 0), ("head.bias", 0))}, head=("head",))

    def __init__(self, classes: int, width: int = 48) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(BANDS, width),
            nn.MaxPool1d(2),
            *_convolution(width, width),
            nn.MaxPool1d(2),
            *_convolution(width, 2 * width),
        )
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, energies: Tensor) -> Tensor:
        found = self.body(energies).amax(2)
        logits: Tensor = self.head(self.dropout(found))
        return logits


def _convolution(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv1d(before, after, 9, padding=4), nn.GroupNorm(8, after), nn.ReLU()]
