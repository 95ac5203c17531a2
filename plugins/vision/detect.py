"""Detection: which classes are on an image, and where."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NotRequired, TypedDict, cast

import torch
from torch import Tensor, nn

from core.contract import JSON, Base, Contender, Metric, Row, Split
from core.errors import DataError, DataWarning, EditError
from plugins.vision import anchors, detect_contenders, options
from plugins.vision.boxes import Matrix, areas, clipped, is_placed, moved, prediction
from plugins.vision.detectors import Detector, Found, Losses, Truth
from plugins.vision.geometry import image_of
from plugins.vision.pictures import as_float, given
from plugins.vision.precision import MeanPrecision


class State(TypedDict):
    """The classes, in the order of the model's outputs. `anchors`, [width, height] in pixels of the model's input, are
    there where the data's classes are not the base's."""

    labels: list[str]
    anchors: NotRequired[list[list[float]]]


class Example(NamedTuple):
    """An image (channels, height, width), what is on it, and where it lies in its picture of (width, height)."""

    image: Tensor
    truth: Truth
    matrix: Matrix
    size: tuple[int, int]


class Batch(TypedDict):
    """Images (batch, channels, height, width), float32; for each its boxes (count, 4) and labels (count,), its matrix
    (2, 3) and its picture's (width, height), float64."""

    images: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    matrices: list[Tensor]
    sizes: list[Tensor]


class Detect:
    """The task `detect`: images in, boxes with classes and scores out, in pixels of the pictures as they were given."""

    def __init__(self, options: options.Detect) -> None:
        self._options = options

    def fit(self, rows: Sequence[Row], brought: Mapping[str, JSON]) -> State:
        """The classes that the boxes show, sorted, and anchors for their sizes, each class counting the same; where the
        base knows just these classes, what it brought. Raises `DataError` where no box is there."""
        known: list[str] = list(brought.get("labels", []))
        names: list[str] = []
        sizes: list[Tensor] = []
        for row in rows:
            boxes, labels = _boxes(row)
            placed = moved(boxes, _inputs(row)["matrix"])
            sizes.append((placed[:, 2:] - placed[:, :2]).double())
            names += labels
        if not names and not len(rows):
            return {"labels": known}
        if not names:
            raise DataError("no picture of train has a box", "annotate some")
        if set(names) <= set(known):
            return {"labels": known}
        fitted = anchors.fitted(torch.cat(sizes).numpy(), anchors.balanced(names), self._options.anchors)
        return {"labels": sorted(set(names)), "anchors": fitted.round(2).tolist()}

    def edits(self, model: nn.Module, state: State) -> list[Mapping[str, JSON]]:
        """New classes, and for models whose anchors can be changed those of the data, each at the level that fits its
        size best; an option that is of no use for others is told (`DataWarning`)."""
        detector = _detector(model)
        if "anchors" not in state:
            return []
        if detector.has_new_boxes and detector.classes == len(state["labels"]):
            return []
        levels = detector.by_level([(width, height) for width, height in state["anchors"]])
        if levels is None and self._options.anchors != options.Detect.model_fields["anchors"].default:
            warnings.warn(
                "the base's anchors are its own, so that task.anchors changes nothing",
                DataWarning,
                stacklevel=2,
            )
        edit: dict[str, JSON] = {"edit": "vision.new_boxes", "classes": len(state["labels"])}
        return [
            edit if levels is None else {**edit, "anchors": [[list(size) for size in one] for one in levels]}
        ]

    def encode(self, row: Row, state: State) -> Example:
        """The row's image, and its boxes where they lie in it, cut at its edges. Boxes of which little is left
        (`visible`) or no more than a pixel across, and those of classes that the state does not list, are left out.
        Raises `DataError` where the inputs say no place."""
        image, inputs = image_of(row, "vision.detect"), _inputs(row)
        height, width = image.shape[-2:]
        boxes, names = _boxes(row)
        whole = moved(boxes, inputs["matrix"])
        inside = clipped(whole, width, height)
        index = {name: i for i, name in enumerate(state["labels"])}
        labels = torch.tensor([index.get(name, -1) for name in names], dtype=torch.long)
        sides = inside[:, 2:] - inside[:, :2]
        kept = (areas(inside) >= self._options.visible * areas(whole)) & (sides > 1).all(1) & (labels >= 0)
        truth = Truth(inside[kept].float(), labels[kept])
        return Example(as_float(image), truth, inputs["matrix"], (inputs["size"][0], inputs["size"][1]))

    def collate(self, examples: Sequence[Example], rng: torch.Generator) -> Batch:
        """Raises `DataError` where the images are not of one size."""
        images = [example.image for example in examples]
        sizes = sorted({tuple(image.shape) for image in images})
        if len(sizes) > 1:
            raise DataError(
                f"the images are not of one size (channels, height, width): {sizes[0]}, {sizes[1]}",
                "add `{transform: resize, size: [HEIGHT, WIDTH]}` to the recipe's `preprocess`",
            )
        return {
            "images": torch.stack(images),
            "boxes": [example.truth.boxes for example in examples],
            "labels": [example.truth.labels for example in examples],
            "matrices": [torch.tensor(example.matrix, dtype=torch.float64) for example in examples],
            "sizes": [torch.tensor(example.size, dtype=torch.float64) for example in examples],
        }

    def forward(self, model: nn.Module, batch: Batch) -> Losses | list[Found]:
        """A model in training mode gives losses, one in eval mode what it finds."""
        truths = [Truth(*each) for each in zip(batch["boxes"], batch["labels"], strict=True)]
        outputs: Losses | list[Found] = model(batch["images"], truths if model.training else None)
        return outputs

    def loss(self, outputs: Losses, batch: Batch) -> tuple[Tensor, float | Tensor]:
        """The detector's own."""
        return outputs.total, outputs.weight

    def predict(self, model: nn.Module, batch: Batch, state: State) -> list[Mapping[str, JSON]]:
        """As `boxes.prediction`, by falling score. A class that no label is known for is "class I"."""
        height, width = batch["images"].shape[-2:]
        predictions: list[Mapping[str, JSON]] = []
        found = cast("list[Found]", self.forward(model, batch))
        for one, matrix, size in zip(found, batch["matrices"], batch["sizes"], strict=True):
            kept, labels = self._kept(one, width, height), state["labels"]
            names = [labels[i] if i < len(labels) else f"class {i}" for i in kept.labels.tolist()]
            predictions.append(
                prediction(kept.boxes.cpu(), names, kept.scores.tolist(), matrix.tolist(), size.tolist())
            )
        return predictions

    def _kept(self, found: Found, width: int, height: int) -> Found:
        """Without low scores, boxes outside the image, and boxes that overlap better ones of their class."""
        from torchvision.ops import batched_nms

        options = self._options
        boxes = clipped(found.boxes, width, height)
        sides = boxes[:, 2:] - boxes[:, :2]
        good = (found.scores >= options.score) & (sides > 0).all(1)
        boxes, labels, scores = boxes[good], found.labels[good], found.scores[good]
        kept = batched_nms(boxes, scores, labels, options.overlap)[: options.most]
        return Found(boxes[kept], labels[kept], scores[kept])

    def parse(self, inputs: Sequence[str], state: State) -> list[Row]:
        """Pictures' files, for the recipe's `decode`. Raises `DataError`."""
        return [Row({"image": file}) for file in given(inputs)]

    def metrics(self) -> list[Metric]:
        return [MeanPrecision("map50", 0.5), MeanPrecision("map")]

    def trivial(self, base: Base, splits: Mapping[str, Split]) -> list[Contender]:
        return detect_contenders.trivial(self, base, splits)


def _detector(model: nn.Module) -> Detector:
    if not isinstance(model, Detector):
        raise EditError(
            f"vision.detect: {type(model).__name__} is no detector",
            "name a base that is one: plugins.vision.ssd:SlimDetector, or any of the source vision.torchvision",
        )
    return model


def _inputs(row: Row) -> Mapping[str, Any]:
    inputs: Any = row.inputs
    if is_placed(inputs) and "matrix" in inputs:
        return cast("Mapping[str, Any]", inputs)
    raise DataError(
        "vision.detect: a row does not say where its image lies in its picture",
        "use the dataset `boxes`, and put `decode` first in the recipe's `preprocess`",
    )


def _boxes(row: Row) -> tuple[Tensor, list[str]]:
    """(boxes, 4) in double, and their classes; none of a row without a target."""
    target = row.target or {"boxes": [], "labels": []}
    return torch.tensor(target["boxes"], dtype=torch.float64).reshape(-1, 4), list(target["labels"])
