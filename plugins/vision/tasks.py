"""Image classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import torch
from torch import Tensor, nn

from core.classification import Classification
from core.contract import Base, Contender, Row, Split
from core.errors import DataError
from plugins.vision import contenders, images, options
from plugins.vision.geometry import image_of
from plugins.vision.pictures import as_float, given

Example = tuple[Tensor, int]


class State(TypedDict):
    """The labels, in the order of the model's outputs. `head` is "new" where the base's outputs mean none of them."""

    labels: list[str]
    head: NotRequired[str]


class Batch(TypedDict):
    """Images (batch, channels, height, width), float32, and label indices (batch,), int64."""

    images: Tensor
    labels: Tensor


class Classify(Classification):
    """The task `classify`: images (channels, height, width) in, one of the labels out."""

    def __init__(self, options: options.Classify) -> None:
        super().__init__(options.base_labels)
        self._options = options

    def encode(self, row: Row, state: State) -> Example:
        return as_float(image_of(row, "vision.classify")), self.label(row, state)

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
        """(batch, classes) float32 logits. A model in training mode computes in the options' precision."""
        images, half = batch["images"], self._options.precision == "bfloat16"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=half and model.training):
            logits: Tensor = model(images)
        return logits.float()

    def parse(self, inputs: Sequence[str], state: State) -> list[Row]:
        """Image files: as they are, for the recipe's `decode`; or, where the task's option `size` is given, read by
        `images.read`, which says which. Raises `DataError`."""
        size, values = self._options.size, self._options.values
        if size is not None:
            return [Row(torch.from_numpy(images.read(Path(path), size, values))[None]) for path in inputs]
        return [Row(file) for file in given(inputs)]

    def trivial(self, base: Base, splits: Mapping[str, Split]) -> list[Contender]:
        return contenders.trivial(base, splits, lambda model, images: model(images))
