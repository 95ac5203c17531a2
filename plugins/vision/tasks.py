"""Image classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.contract import JSON, Base, Contender, Metric, Row, Split
from core.data.stored import Stored
from core.edits import axis_size
from core.errors import DataError
from core.metrics import Accuracy
from plugins.vision import contenders, images, options
from plugins.vision.geometry import image_of
from plugins.vision.pictures import as_float

Example = tuple[Tensor, int]
UNKNOWN = -1
"""The index of a label that the state does not list; such an example is predicted, never trained on."""


class State(TypedDict):
    """The labels, in the order of the model's outputs. `head` is "new" where the base's outputs mean none of them."""

    labels: list[str]
    head: NotRequired[str]


class Batch(TypedDict):
    """Images (batch, channels, height, width), float32, and label indices (batch,), int64."""

    images: Tensor
    labels: Tensor


class Classify:
    """The task `classify`: images (channels, height, width) in, one of the labels out."""

    def __init__(self, options: options.Classify) -> None:
        self._options = options

    def fit(self, rows: Sequence[Row], brought: Mapping[str, JSON]) -> State:
        """The base's labels keep their places, and new ones follow, sorted. Where it does not say what its outputs
        mean, or they are dropped (`base_labels`), those of the rows are the labels, sorted, of a new head."""
        known: list[str] = list(brought.get("labels", []))
        found = {row.target for row in rows}
        few = 2 * len(found & set(known)) < len(found)
        drops = few if self._options.base_labels is None else self._options.base_labels == "drop"
        if found and (drops or not known):
            return {"labels": sorted(found), "head": "new"}
        return {"labels": known + sorted(found - set(known))}

    def edits(self, model: nn.Module, state: State) -> list[Mapping[str, JSON]]:
        """Classes for the labels that are new, drawn at random: of equal start, they would learn apart more slowly."""
        wanted, there = len(state["labels"]), axis_size(model, "classes")
        if "head" in state and there:
            return [{"edit": "new_head", "axis": "classes", "to": wanted}]
        if there >= wanted:
            return []
        return [{"edit": "grow", "axis": "classes", "to": wanted, "init": "normal"}]

    def encode(self, row: Row, state: State) -> Example:
        labels = state["labels"]
        image = as_float(image_of(row, "vision.classify"))
        return image, labels.index(row.target) if row.target in labels else UNKNOWN

    def collate(self, examples: Sequence[Example], rng: torch.Generator) -> Batch:
        """Raises `DataError` where the images are not of one size."""
        pictures, labels = zip(*examples, strict=True)
        if any(picture.shape != pictures[0].shape for picture in pictures):
            sizes = sorted({tuple(picture.shape) for picture in pictures})
            raise DataError(
                f"the images are not of one size (channels, height, width): {sizes[0]}, {sizes[1]}"
                + (f" and {len(sizes) - 2} more in one batch" if len(sizes) > 2 else ""),
                "add `{transform: resize, size: [HEIGHT, WIDTH]}` to the recipe's `preprocess`",
            )
        return {"images": torch.stack(pictures), "labels": torch.tensor(labels)}

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        logits: Tensor = model(batch["images"])
        return logits

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, float]:
        """Cross-entropy, in nats."""
        return functional.cross_entropy(outputs, batch["labels"], reduction="sum"), float(len(outputs))

    def predict(self, model: nn.Module, batch: Batch, state: State) -> list[Mapping[str, JSON]]:
        """`{"label": ..., "probability": ...}`: the likeliest label and the model's probability for it. An output that
        no label is known for is "output I"; a model without any says None."""
        outputs = self.forward(model, batch)
        if not outputs.shape[1]:
            return [{"label": None, "probability": 0.0}] * len(outputs)
        labels = state["labels"]
        probability, index = outputs.softmax(1).max(1)
        return [
            {"label": labels[i] if i < len(labels) else f"output {i}", "probability": round(p, 6)}
            for i, p in zip(index.tolist(), probability.tolist(), strict=True)
        ]

    def parse(self, inputs: Sequence[str], state: State) -> list[Row]:
        """Image files: as they are, for the recipe's `decode`; or, where the task's option `size` is given, read by
        `images.read`, which says which. Raises `DataError`."""
        size, values = self._options.size, self._options.values
        if size is not None:
            return [Row(torch.from_numpy(images.read(Path(path), size, values))[None]) for path in inputs]
        for path in inputs:
            if not Path(path).is_file():
                what = "is a folder" if Path(path).is_dir() else "there is no such file"
                raise DataError(f"{path}: {what}", "give the paths of pictures")
        return [Row(Stored(Path(path))) for path in inputs]

    def metrics(self) -> list[Metric]:
        return [Accuracy()]

    def trivial(self, base: Base, splits: Mapping[str, Split]) -> list[Contender]:
        return contenders.trivial(base, splits, lambda model, images: model(images))
