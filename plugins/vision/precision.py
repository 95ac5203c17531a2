"""COCO's mean average precision (https://cocodataset.org/#detection-eval) as torchmetrics has it, and of any weighting
of the pictures.

What is found is matched with what is there by pycocotools, as torchmetrics does it, once, picture by picture. Average
precision sorts the boxes of all pictures by their scores, so it is no sum over pictures; but a picture that counts w
times only adds w times its own hits, its own boxes found and its own boxes there to the running counts. So resamples
of the pictures need no matching again.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.contract import JSON, Prediction
from core.errors import ComponentError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST = 100
"""Boxes of a class found in a picture that count, by score."""


@dataclass(frozen=True)
class Ranked:
    """What was found of one class, by falling score.

    Args:
        pictures: (found,) the picture of each.
        hits: by threshold, (hits,) the places in `pictures` of those that match a box that is there.
        there: (pictures,) boxes that are there.
    """

    pictures: Ints
    hits: Sequence[Ints]
    there: Ints

    def precision(self, weights: Floats, recalls: Floats) -> float:
        """Average precision: the mean, over thresholds and `recalls`, of the highest precision at that recall or more;
        nan where nothing is there. `weights` (pictures,) say how often each picture counts."""
        all_there = float(weights @ self.there)
        if all_there == 0:
            return math.nan
        weighed = weights[self.pictures]
        found = np.cumsum(weighed)
        total = 0.0
        for hits in self.hits:
            # Between two hits recall stays and precision falls: the hits' own places are all that is needed.
            right = np.cumsum(weighed[hits])
            precision = right / (found[hits] + np.spacing(1))
            best = np.maximum.accumulate(precision[::-1])[::-1]
            reached = np.searchsorted(right / all_there, recalls, "left")
            total += float(np.append(best, 0.0)[reached].sum())
        return total / (len(self.hits) * len(recalls))


class MeanPrecision:
    """`map`: the mean over classes and over thresholds of intersection over union from .50 to .95 of the average
    precision; or at one threshold alone. `breakdown` has it by class. Classes of which nothing is there do not
    count."""

    unit = "mAP"
    higher_is_better = True

    def __init__(self, name: str, overlap: float | None = None) -> None:
        self.name = name
        self._overlap = overlap

    def corpus(self, rows: Sequence[Prediction]) -> Callable[[Floats], float]:
        """As `core.contract.CorpusMetric`; of weights that leave no box there, nan."""
        ranked, recalls = self._ranked(rows)

        def score(weights: Floats) -> float:
            found = [one.precision(weights, recalls) for one in ranked.values()]
            counted = [value for value in found if not math.isnan(value)]
            return sum(counted) / len(counted) if counted else math.nan

        return score

    def breakdown(self, rows: Sequence[Prediction]) -> dict[str, float]:
        """Average precision by class."""
        ranked, recalls = self._ranked(rows)
        found = {name: one.precision(np.ones(len(rows)), recalls) for name, one in ranked.items()}
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def _ranked(self, rows: Sequence[Prediction]) -> tuple[dict[str, Ranked], Floats]:
        """By class, of all classes that are there or were found; and the recalls at which precision is looked up."""
        names = sorted({name for row in rows for part in (row["target"], row) for name in part["labels"]})
        evaluation = _evaluation(rows, names)
        params = evaluation.params
        if self._overlap is not None:
            params.iouThrs = np.array([self._overlap])
        with redirect_stdout(io.StringIO()):  # it prints what it does
            evaluation.evaluate()
        each: list[dict[str, Any] | None] = evaluation.evalImgs  # by class, area and picture; one area here
        by_class = {
            name: _ranking(each[i * len(rows) : (i + 1) * len(rows)], len(params.iouThrs))
            for i, name in enumerate(names)
        }
        return by_class, np.asarray(params.recThrs)


def _ranking(each: Sequence[Mapping[str, Any] | None], thresholds: int) -> Ranked:
    seen = [(i, one) for i, one in enumerate(each) if one is not None]
    there = np.zeros(len(each), np.int64)
    for i, one in seen:
        there[i] = len(one["gtIds"])
    scores = np.concatenate([np.zeros(0), *(np.array(one["dtScores"], float) for _, one in seen)])
    matched = np.concatenate([np.zeros((thresholds, 0)), *(one["dtMatches"] for _, one in seen)], axis=1)
    pictures = np.repeat([i for i, _ in seen], [len(one["dtScores"]) for _, one in seen]).astype(np.int64)
    order = np.argsort(-scores, kind="mergesort")  # as pycocotools breaks ties
    return Ranked(pictures[order], [np.flatnonzero(one != 0) for one in matched[:, order]], there)


def _evaluation(rows: Sequence[Prediction], names: Sequence[str]) -> Any:
    """pycocotools' evaluation of boxes of any size, not yet run."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
        from torchmetrics.detection import MeanAveragePrecision
    except ImportError as error:
        raise ComponentError(
            "scoring boxes needs torchmetrics and pycocotools, which are not installed",
            "pip install 'taoke[vision]'",
        ) from error
    number = {name: i for i, name in enumerate(names)}
    head = {
        "images": [{"id": i} for i in range(len(rows))],
        "categories": [{"id": i} for i in number.values()],
    }
    with redirect_stdout(io.StringIO()):
        sets = []
        for part in ([row["target"] for row in rows], rows):
            made = COCO()
            made.dataset = {**head, "annotations": _annotations(part, number)}
            made.createIndex()
            sets.append(made)
        evaluation = COCOeval(*sets, iouType="bbox")
    params, theirs = evaluation.params, MeanAveragePrecision(iou_type="bbox")
    params.areaRng, params.areaRngLbl, params.maxDets = [[0, 1e10]], ["all"], [MOST]
    # Rounded to float32, unlike pycocotools' own: a recall that is a threshold to the bit would else be counted apart.
    params.iouThrs, params.recThrs = np.array(theirs.iou_thresholds), np.array(theirs.rec_thresholds)
    return evaluation


def _annotations(boxes_of: Sequence[Mapping[str, JSON]], number: Mapping[str, int]) -> list[dict[str, JSON]]:
    """Numbered from 1, since pycocotools takes 0 for no match; boxes as (left, upper, width, height), in float32 as
    torchmetrics makes them."""
    made: list[dict[str, JSON]] = []
    for image, one in enumerate(boxes_of):
        scores = one.get("scores", [1.0] * len(one["labels"]))
        boxes = np.array(one["boxes"], np.float32).reshape(-1, 4)
        boxes[:, 2:] -= boxes[:, :2]
        for box, name, score in zip(boxes.tolist(), one["labels"], scores, strict=True):
            made.append(
                {
                    "id": len(made) + 1,
                    "image_id": image,
                    "category_id": number[name],
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "score": score,
                }
            )
    return made
