"""Which word a recording is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from core.classification import Classification
from core.contract import JSON, TRAIN, Base, Contender, Row, Split
from taoke_speech.data import recording


class Keyword(Classification):
    def encode(self, row: Row, state: Mapping[str, JSON]) -> tuple[Tensor, int]:
        return row.inputs, self.label(row, state)

    def collate(self, examples: Sequence[tuple[Tensor, int]], rng: torch.Generator) -> dict[str, Tensor]:
        energies, labels = zip(*examples, strict=True)
        return {"energies": torch.stack(energies), "labels": torch.tensor(labels)}

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        logits: Tensor = model(batch["energies"])
        return logits

    def parse(self, inputs: Sequence[str], state: Mapping[str, JSON]) -> list[Row]:
        """Paths of recordings. Raises `DataError`."""
        return [Row(recording(Path(path))) for path in inputs]

    def trivial(self, base: Base, splits: Mapping[str, Split]) -> list[Contender]:
        return [*super().trivial(base, splits), NearestNeighbour(splits[TRAIN].rows)]


class NearestNeighbour:
    """The word of the recording in `train` whose energies are nearest."""

    name = "nearest_neighbour"

    def __init__(self, rows: Sequence[Row]) -> None:
        self._known = np.stack([np.asarray(row.inputs).ravel() for row in rows])
        self._words = [row.target for row in rows]

    def predict(self, rows: Sequence[Row]) -> list[dict[str, JSON]]:
        return [
            {"label": self._words[int(((self._known - np.asarray(row.inputs).ravel()) ** 2).sum(1).argmin())]}
            for row in rows
        ]
