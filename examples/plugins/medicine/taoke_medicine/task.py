"""Malignant or benign, from as many measurements as the data have: what the base does not read yet grows, with weights
of zero, so that training begins at what the base knew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from core.classification import Classification
from core.contract import JSON, TRAIN, Base, Contender, Row, Split
from core.edits import axis_size
from core.errors import DataError


class Diagnose(Classification):
    def fit(self, rows: Sequence[Row], brought: Mapping[str, JSON]) -> dict[str, JSON]:
        """Where each measurement lies: the base's as it was trained with, the others' as `train` has them."""
        mean, scale = list(brought["mean"]), list(brought["scale"])
        if rows:
            numbers = np.array([row.inputs for row in rows])[:, len(mean) :]
            mean += numbers.mean(0).tolist()
            scale += numbers.std(0).tolist()
        return {**super().fit(rows, brought), "mean": mean, "scale": scale}

    def edits(self, model: nn.Module, state: Mapping[str, JSON]) -> list[Mapping[str, JSON]]:
        wanted = len(state["mean"])
        wider = {"edit": "grow", "axis": "features", "to": wanted, "init": "zero"}
        return [*([wider] if axis_size(model, "features") < wanted else []), *super().edits(model, state)]

    def encode(self, row: Row, state: Mapping[str, JSON]) -> tuple[Tensor, int]:
        mean, scale = torch.tensor(state["mean"]), torch.tensor(state["scale"])
        return (torch.tensor(row.inputs)[: len(mean)] - mean) / scale, self.label(row, state)

    def collate(self, examples: Sequence[tuple[Tensor, int]], rng: torch.Generator) -> dict[str, Tensor]:
        numbers, labels = zip(*examples, strict=True)
        return {"numbers": torch.stack(numbers), "labels": torch.tensor(labels)}

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        logits: Tensor = model(batch["numbers"])
        return logits

    def parse(self, inputs: Sequence[str], state: Mapping[str, JSON]) -> list[Row]:
        return [Row(_numbers(text, len(state["mean"]))) for text in inputs]

    def trivial(self, base: Base, splits: Mapping[str, Split]) -> list[Contender]:
        from taoke_medicine.rivals import GradientBoosting, LogisticRegression

        rivals = [
            rival(splits[TRAIN].rows, splits["select"].rows)
            for rival in (LogisticRegression, GradientBoosting)
        ]
        return [*super().trivial(base, splits), *rivals]


def _numbers(text: str, count: int) -> list[float]:
    """What a user types. Raises `DataError`."""
    hint = f"write {count} numbers, with commas between them"
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise DataError(f"{text!r}: {error}", hint) from error
    if len(found) != count:
        raise DataError(f"{text!r} has {len(found)} numbers", hint)
    return found
