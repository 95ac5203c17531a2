"""The cheapest sane alternatives to fine-tuning a detector, each fitted on `train` and chosen on `select`.

Rows are read one after the other; of each is kept what is found in it, and no image. Of a large split, `MOST` rows
spread evenly over it are fitted on; all rows of a split are predicted.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional

from core.contract import JSON, SELECT, TRAIN, Base, Contender, Prediction, Row, Split
from core.data.rows import spread
from core.errors import DataWarning
from core.inference import predict
from plugins.vision.boxes import moved, prediction
from plugins.vision.geometry import image_of
from plugins.vision.pictures import as_float
from plugins.vision.precision import MeanPrecision

if TYPE_CHECKING:
    from plugins.vision.detect import Detect, State

Floats = NDArray[np.float64]

MOST = 1000
"""Rows of `train` that are fitted on; of `select` half as many choose."""
PENALTIES = (0.01, 1.0, 100.0)
"""Inverse strengths of the L2 penalty that `select` chooses from."""
LONG_SIDE = 160
"""Pixels of the side of an image in which blobs are looked for: larger ones are shrunk first."""
SCALES = 8
"""Sizes of blobs that are looked for, from the smallest to the largest of `train`'s boxes."""
OVERLAPS = (0.2, 0.35, 0.5)
"""How much two boxes of a class may overlap, of which `select` chooses."""
LEAST, TOLD = 0.02, 100
"""Boxes with lower scores are not told, and no more than so many of a picture: as the task has it by default."""


def trivial(task: Detect, base: Base, splits: Mapping[str, Split]) -> list[Contender]:
    """The base's own boxes, with the class that is likeliest for a box of such size and colours (`guessed_class`); and
    blobs of the right sizes, with classes and sides by trees that see their colours (`blobs`)."""
    train, select = spread(splits[TRAIN].rows, MOST), spread(splits[SELECT].rows, MOST // 2)
    if len(train) < len(splits[TRAIN].rows):
        warnings.warn(
            f"guessed_class and blobs are fitted on {MOST:,} of {len(splits[TRAIN].rows):,} rows of train, evenly"
            " spread",
            DataWarning,
            stacklevel=2,
        )
    return [guessed_class(task, base, splits[SELECT].state, train, select), blobs(train, select)]


class Fitted(Protocol):
    """Boxes of a row, in its image, with classes and scores."""

    def __call__(self, row: Row) -> tuple[Floats, Sequence[str], Floats]: ...


@dataclass
class Rival:
    """A contender made of what it finds in an image."""

    name: str
    find: Fitted

    def predict(self, rows: Sequence[Row]) -> list[Mapping[str, JSON]]:
        return [self._of(row) for row in rows]

    def _of(self, row: Row) -> Mapping[str, JSON]:
        """As `Detect.predict`."""
        return _told(row, *self.find(row))


def _told(row: Row, boxes: Floats, labels: Sequence[str], scores: Floats) -> Mapping[str, JSON]:
    order = np.argsort(-scores, kind="stable")[:TOLD]
    found, names = torch.from_numpy(boxes[order]).reshape(-1, 4), [labels[i] for i in order]
    return prediction(found, names, scores[order].tolist(), row.inputs["matrix"], row.inputs["size"])


def _best(candidates: Iterable[Callable[[], Rival]], select: Sequence[Row]) -> Rival:
    """The one with the highest mAP at an overlap of .50 on `select`; of equal ones the first."""
    made = [candidate() for candidate in candidates]
    metric, targets = MeanPrecision("map50", 0.5), [row.target for row in select]

    def score(rival: Rival) -> float:
        rows: list[Prediction] = [
            {**answer, "target": target}
            for answer, target in zip(rival.predict(select), targets, strict=True)
        ]
        return metric.corpus(rows)(np.ones(len(rows)))

    scores = [score(rival) for rival in made]
    return made[int(np.nanargmax(scores))] if not np.isnan(scores).all() else made[0]


def truth(row: Row) -> tuple[Floats, list[str]]:
    """The row's boxes in its image, and their classes."""
    boxes = torch.tensor(row.target["boxes"], dtype=torch.float64).reshape(-1, 4)
    return moved(boxes, row.inputs["matrix"]).numpy(), row.target["labels"]


# The base's boxes


def guessed_class(
    task: Detect, base: Base, state: State, train: Sequence[Row], select: Sequence[Row]
) -> Rival:
    """What the frozen base finds, whatever it takes it for. The class is guessed by logistic regression, fitted on the
    true boxes of `train`; the score is the base's times the class's probability."""
    seen, names = [], []
    for row in train:
        boxes, labels = truth(row)
        seen.append(looks(image_of(row, "a contender"), boxes))
        names += labels
    if not names:
        return Rival("guessed_class", nothing)
    inputs = np.concatenate(seen)
    found: dict[str, tuple[Floats, Floats]] = {}

    def base_finds(row: Row) -> tuple[Floats, Floats]:
        if row.id not in found or not row.id:
            found[row.id] = _found_by(task, base.model, state, row)
        return found[row.id]

    def candidate(penalty: float) -> Rival:
        if len(set(names)) > 1:
            guess = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=2000)).fit(
                inputs, names
            )

        def find(row: Row) -> tuple[Floats, Sequence[str], Floats]:
            boxes, scores = base_finds(row)
            if not len(boxes):
                return boxes, [], scores
            if len(set(names)) == 1:
                return boxes, names[:1] * len(boxes), scores
            shares = guess.predict_proba(looks(image_of(row, "a contender"), boxes))
            labels = [str(guess.classes_[i]) for i in shares.argmax(1)]
            return boxes, labels, scores * shares.max(1)

        return Rival("guessed_class", find)

    return _best([partial(candidate, penalty) for penalty in PENALTIES], select)


def nothing(row: Row) -> tuple[Floats, Sequence[str], Floats]:
    """What is found where no box was there to learn from."""
    return np.zeros((0, 4)), [], np.zeros(0)


def _found_by(task: Detect, model: nn.Module, state: State, row: Row) -> tuple[Floats, Floats]:
    """(boxes in the row's image, scores)."""
    split = Split("one", [row], [task.encode(row, state)], state)
    (answer,) = predict(task, model, split, torch.device("cpu"), 1)
    boxes = torch.tensor(answer["boxes"], dtype=torch.float64).reshape(-1, 4)
    return moved(boxes, row.inputs["matrix"]).numpy(), np.array(answer["scores"], np.float64)


def looks(image: Tensor, boxes: Floats) -> Floats:
    """(boxes, 2 + 2 · channels): the logarithms of the sides, and each channel's mean and deviation in the box."""
    pixels = as_float(image).double().numpy()
    height, width = pixels.shape[1:]
    corners = np.stack([boxes[:, 0], boxes[:, 1]]).clip(0), np.stack([boxes[:, 2], boxes[:, 3]])
    left, upper = np.floor(corners[0]).astype(int)
    left, upper = left.clip(max=width - 1), upper.clip(max=height - 1)
    right = np.maximum(np.ceil(corners[1][0]).astype(int).clip(max=width), left + 1)
    lower = np.maximum(np.ceil(corners[1][1]).astype(int).clip(max=height), upper + 1)

    def means(values: Floats) -> Floats:
        total = np.pad(values.cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
        summed = (
            total[:, lower, right] - total[:, upper, right] - total[:, lower, left] + total[:, upper, left]
        )
        return np.asarray(summed / ((right - left) * (lower - upper)))

    mean = means(pixels)
    deviation = np.sqrt((means(pixels**2) - mean**2).clip(min=0))
    sides = np.log(np.stack([boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]]).clip(min=1))
    return np.concatenate([sides, mean, deviation]).T


# Blobs


@dataclass(frozen=True)
class Blobs:
    """Extrema of the Laplacian of Gaussians over place and scale (Lindeberg 1998, https://doi.org/10.1023/A:1008045108935)
    in one image: centres (blobs, 2) as (x, y), scales (blobs,), and what is seen there (blobs, numbers)."""

    centres: Floats
    scales: Floats
    seen: Floats


def blobs(train: Sequence[Row], select: Sequence[Row]) -> Rival:
    """Blobs of the sizes of `train`'s boxes, dark or bright. Trees, fitted on `train`, say from strength, scale and
    mean colours, in the blob and around it, of which class each is, or of none, and how large its box is; `select`
    chooses how much boxes may overlap."""
    sizes = np.concatenate([boxes[:, 2:] - boxes[:, :2] for boxes, _ in map(truth, train)])
    if not len(sizes):
        return Rival("blobs", nothing)
    sides = np.sqrt(sizes.clip(min=1).prod(1))
    # The Laplacian answers most to a disk of radius r at the scale r / sqrt(2).
    least, most = np.quantile(sides, [0.01, 0.99]) / 2 / math.sqrt(2)
    scales = np.geomspace(least, max(most, least * 1.01), SCALES)
    seen, names, seen_of_boxes, log_sides = [], [], [], []
    for row in train:
        boxes, labels = truth(row)
        found = find_blobs(image_of(row, "a contender"), scales)
        which = nearest_box(found, boxes)
        seen.append(found.seen)
        names += [labels[i] if i >= 0 else "" for i in which.tolist()]
        matched = which >= 0
        seen_of_boxes.append(found.seen[matched])
        own = boxes[which[matched]]
        log_sides.append(
            np.log((own[:, 2:] - own[:, :2]).clip(min=1)) - np.log(found.scales[matched])[:, None]
        )
    if not any(names):
        return Rival("blobs", nothing)
    trees = {"n_estimators": 100, "min_samples_leaf": 3, "random_state": 0}
    kind = ExtraTreesClassifier(**trees).fit(np.concatenate(seen), names)
    large = ExtraTreesRegressor(**trees).fit(np.concatenate(seen_of_boxes), np.concatenate(log_sides))
    classes = [str(name) for name in kind.classes_ if name]
    columns = [i for i, name in enumerate(kind.classes_) if name]
    known: dict[str, tuple[Floats, Floats]] = {}

    def looked(row: Row) -> tuple[Floats, Floats]:
        """Boxes, and the share of each class (boxes, classes)."""
        if row.id not in known or not row.id:
            found = find_blobs(image_of(row, "a contender"), scales)
            if not len(found.scales):
                return np.zeros((0, 4)), np.zeros((0, len(classes)))
            half = np.exp(large.predict(found.seen)) * found.scales[:, None] / 2
            boxes = np.concatenate([found.centres - half, found.centres + half], 1)
            known[row.id] = boxes, kind.predict_proba(found.seen)[:, columns]
        return known[row.id]

    def candidate(overlap: float) -> Rival:
        def find(row: Row) -> tuple[Floats, Sequence[str], Floats]:
            from torchvision.ops import batched_nms

            boxes, shares = looked(row)
            place, of = np.nonzero(shares >= LEAST)
            scores = shares[place, of]
            kept = batched_nms(
                torch.from_numpy(boxes[place]), torch.from_numpy(scores), torch.from_numpy(of), overlap
            ).numpy()
            return boxes[place][kept], [classes[i] for i in of[kept]], scores[kept]

        return Rival("blobs", find)

    return _best([partial(candidate, overlap) for overlap in OVERLAPS], select)


def find_blobs(image: Tensor, scales: Floats) -> Blobs:
    """Blobs in an image (channels, height, width), at `scales` in its pixels."""
    height, width = image.shape[-2:]
    shrink = min(1.0, LONG_SIDE / max(height, width))
    pixels = as_float(image)
    if shrink < 1:
        size = [max(1, round(height * shrink)), max(1, round(width * shrink))]
        pixels = functional.interpolate(pixels[None], size, mode="area")[0]
    values = pixels.float().numpy()
    grey = values.mean(0)
    spread_of_grey = grey.std() or 1.0
    shrunk = [max(scale * shrink, 0.5) for scale in scales]  # nothing smaller than a pixel is seen
    answers = np.stack(
        [scale**2 * ndimage.gaussian_laplace(grey, scale) / spread_of_grey for scale in shrunk]
    )
    strength = np.abs(answers)
    peaks = strength == ndimage.maximum_filter(strength, size=3, mode="nearest")
    level, y, x = np.nonzero(peaks & (strength > 0.1))
    coloured = np.stack(
        [
            [
                ndimage.uniform_filter(channel, max(1, round(side * scale)))
                for side in (1.5, 4)
                for channel in values
            ]
            for scale in shrunk
        ]
    )
    seen = np.concatenate(
        [np.log(scales[level])[:, None], answers[level, y, x][:, None], coloured[level, :, y, x]], 1
    )
    return Blobs(np.stack([x + 0.5, y + 0.5], 1) / shrink, scales[level], seen.astype(np.float64))


def nearest_box(found: Blobs, boxes: Floats) -> NDArray[np.int64]:
    """For each blob the box that the square around it overlaps most, with an intersection over union of .4 at least; -1
    for none."""
    if not len(boxes) or not len(found.scales):
        return np.full(len(found.scales), -1)
    from torchvision.ops import box_iou

    half = found.scales[:, None] * math.sqrt(2)
    squares = np.concatenate([found.centres - half, found.centres + half], 1)
    shared: NDArray[Any] = box_iou(torch.from_numpy(squares), torch.from_numpy(boxes)).numpy()
    return np.where(shared.max(1) >= 0.4, shared.argmax(1), -1)
