"""Mean average precision: the library's value, and that of weighted pictures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from core.evidence.paired import Resamples
from plugins.vision.precision import MeanPrecision

torchmetrics = pytest.importorskip("torchmetrics.detection")
pytest.importorskip("pycocotools")

Rows = list[dict[str, Any]]
METRICS = [MeanPrecision("map50", 0.5), MeanPrecision("map")]
WITHIN = 1e-9


def made_up(count: int, seed: int) -> Rows:
    """Prediction rows: three classes that are there, one that is only found, pictures with nothing on them, boxes found
    twice, shaken or missed."""
    random = np.random.RandomState(seed)
    rows = []
    for _ in range(count):
        there = random.randint(0, 15)
        corner, side = random.rand(there, 2) * 400, random.rand(there, 2) * 80 + 10
        boxes = np.concatenate([corner, corner + side], 1).round(1)
        names = random.choice(["a", "b", "c"], there, p=[0.8, 0.15, 0.05])
        of = random.randint(0, there, random.randint(0, 2 * there)) if there else np.zeros(0, int)
        found = boxes[of] + random.randn(len(of), 4) * 2
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        wrong = random.rand(len(of)) < 0.2
        labels = np.where(wrong, random.choice(["a", "b", "c", "d"], len(of)), names[of])
        target = {"boxes": boxes.tolist(), "labels": names.tolist()}
        scores = random.rand(len(of)).round(6)
        rows.append(
            {
                "target": target,
                "boxes": found.round(2).tolist(),
                "labels": labels.tolist(),
                "scores": scores.tolist(),
            }
        )
    return rows


def by_library(rows: Rows) -> dict[str, float]:
    """torchmetrics' values, in double: the mean of the precisions that it rounds to float32 at the end."""
    names = sorted({name for row in rows for part in (row, row["target"]) for name in part["labels"]})

    def of(part: dict[str, Any]) -> dict[str, torch.Tensor]:
        made = {
            "boxes": torch.tensor(part["boxes"]).reshape(-1, 4).float(),
            "labels": torch.tensor([names.index(name) for name in part["labels"]], dtype=torch.long),
        }
        scores = {"scores": torch.tensor(part["scores"], dtype=torch.float64)} if "scores" in part else {}
        return made | scores

    metric = torchmetrics.MeanAveragePrecision(extended_summary=True)
    metric.update([of(row) for row in rows], [of(row["target"]) for row in rows])
    result = metric.compute()
    precision = result["precision"].double()[:, :, :, 0, -1]  # thresholds, recalls, classes
    precision = precision.where(precision >= 0, torch.nan)
    values = {"map50": precision[0].nanmean().item(), "map": precision.nanmean().item()}
    assert values["map"] == pytest.approx(result["map"].item(), abs=1e-6)
    return values


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.name)
@pytest.mark.parametrize("seed", range(4))
def test_with_weights_of_one_it_is_the_librarys_value(metric: MeanPrecision, seed: int) -> None:
    """To 1e-9; the value is neither 0 nor 1."""
    rows = made_up(40, seed)
    value = metric.corpus(rows)(np.ones(40))
    assert value == pytest.approx(by_library(rows)[metric.name], abs=WITHIN)
    assert 0.05 < value < 0.95


def test_a_recall_that_is_a_threshold_counts_as_it_does_for_the_library() -> None:
    """7 of 20 found: .35 is reached, though in double the threshold is a bit above."""
    box = {"boxes": [[0.0, 0.0, 9.0, 9.0]], "labels": ["a"]}
    rows: Rows = [{"target": box, **box, "scores": [0.9 - i / 100]} for i in range(7)]
    rows += [{"target": box, "boxes": [], "labels": [], "scores": []} for _ in range(13)]
    value = METRICS[0].corpus(rows)(np.ones(20))
    assert value == pytest.approx(36 / 101, abs=WITHIN)
    assert value == pytest.approx(by_library(rows)["map50"], abs=WITHIN)


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.name)
def test_a_picture_that_counts_twice_is_a_corpus_that_has_it_twice(metric: MeanPrecision) -> None:
    """So are resamples: one that counts three times, others not at all. To 1e-9."""
    rows = made_up(30, 5)
    corpus = metric.corpus(rows)
    random = np.random.RandomState(0)
    twice = np.ones(30)
    twice[7] = 2
    for weights in (twice, *(random.multinomial(30, np.ones(30) / 30).astype(float) for _ in range(5))):
        repeated = [row for row, times in zip(rows, weights, strict=True) for _ in range(int(times))]
        assert corpus(weights) == pytest.approx(by_library(repeated)[metric.name], abs=WITHIN)


def test_parts_are_by_class_and_their_mean_is_the_score() -> None:
    """A class that is only found has no part."""
    rows, metric = made_up(30, 6), METRICS[0]
    parts = metric.breakdown(rows)
    assert set(parts) == {"a", "b", "c"}
    assert sum(parts.values()) / 3 == pytest.approx(metric.corpus(rows)(np.ones(30)), abs=WITHIN)


def test_nothing_there_scores_nan_and_nothing_found_zero() -> None:
    """Pictures of nothing are valid, and what is found on them counts against the rest."""
    nothing = {"target": {"boxes": [], "labels": []}, "boxes": [], "labels": [], "scores": []}
    box = {"boxes": [[0.0, 0.0, 9.0, 9.0]], "labels": ["a"]}
    missed = {**nothing, "target": box}
    found = {**nothing, "target": box, **box, "scores": [0.5]}
    false = {**nothing, **box, "scores": [0.9]}
    metric = METRICS[0]
    assert math.isnan(metric.corpus([nothing, false])(np.ones(2)))
    assert metric.corpus([missed, nothing])(np.ones(2)) == 0
    assert metric.corpus([found])(np.ones(1)) == pytest.approx(1)
    assert metric.corpus([found, false])(np.ones(2)) == pytest.approx(0.5)
    assert math.isnan(metric.corpus([found, false])(np.array([0.0, 1.0])))


def test_resamples_of_the_core_come_out_around_the_value() -> None:
    """As the evidence stage asks for them."""
    rows, metric = made_up(30, 7), METRICS[0]
    corpus = metric.corpus(rows)
    (drawn,) = Resamples([None] * 30, 200, 0).corpus_scores([corpus])
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    assert low < corpus(np.ones(30)) < high
