"""Image classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.contract import JSON, Base, Contender, Metric, Row, Split
from core.edits import axis_size
from plugins.vision import contenders, images, options

Example = tuple[Tensor, int]
UNKNOWN = -1
"""The index of a label that the state does not list; such an example is predicted, never trained on."""


class State(TypedDict):
    """The labels, in the order of the model's outputs."""

    labels: list[str]


class Batch(TypedDict):
    """Images (batch, channels, height, width), float32, and label indices (batch,), int64."""

    images: Tensor
    labels: Tensor


class Accuracy:
    """The share of examples whose label is right."""

    name, unit, higher_is_better = "accuracy", "share", True

    def score(self, row: Mapping[str, JSON]) -> tuple[float, float]:
        return float(row["label"] == row["target"]), 1.0


class Classify:
    """The task `classify`: images (channels, height, width) in, one of the labels out."""

    def __init__(self, options: options.Classify) -> None:
        self._options = options

    def fit(self, rows: Sequence[Row], brought: Mapping[str, JSON]) -> State:
        """The base's labels keep their places; new ones follow, sorted."""
        known: list[str] = list(brought.get("labels", []))
        return {"labels": known + sorted({row.target for row in rows} - set(known))}

    def edits(self, model: nn.Module, state: State) -> list[Mapping[str, JSON]]:
        """Classes for the labels that are new, drawn at random: of equal start, they would learn apart more slowly."""
        wanted = len(state["labels"])
        if axis_size(model, "classes") >= wanted:
            return []
        return [{"edit": "grow", "axis": "classes", "to": wanted, "init": "normal"}]

    def encode(self, row: Row, state: State) -> Example:
        labels = state["labels"]
        return row.inputs, labels.index(row.target) if row.target in labels else UNKNOWN

    def collate(self, examples: Sequence[Example], rng: torch.Generator) -> Batch:
        pictures, labels = zip(*examples, strict=True)
        return {"images": torch.stack(pictures), "labels": torch.tensor(labels)}

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        logits: Tensor = model(batch["images"])
        return logits

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, float]:
        """Cross-entropy, in nats."""
        return functional.cross_entropy(outputs, batch["labels"], reduction="sum"), float(len(outputs))

    def predict(self, outputs: Tensor, batch: Batch, state: State) -> list[Mapping[str, JSON]]:
        """`{"label": ..., "probability": ...}`: the likeliest label and the model's probability for it."""
        probability, index = outputs.softmax(1).max(1)
        return [
            {"label": state["labels"][i], "probability": round(p, 6)}
            for i, p in zip(index.tolist(), probability.tolist(), strict=True)
        ]

    def parse(self, inputs: Sequence[str], state: State) -> list[Row]:
        """Image files; `images.read` says which, and raises `DataError`."""
        size, values = self._options.size, self._options.values
        return [Row(torch.from_numpy(images.read(Path(path), size, values))[None]) for path in inputs]

    def metrics(self) -> list[Metric]:
        return [Accuracy()]

    def trivial(self, base: Base, splits: Mapping[str, Split]) -> list[Contender]:
        return contenders.trivial(base, splits)
