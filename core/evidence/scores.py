"""Scoring predictions: a corpus' score is the sum of its rows' numerators over the sum of their denominators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.contract import Metric, Prediction, Task
from core.errors import DataError, RecipeError, nearest


def parts(metric: Metric, predictions: Sequence[Prediction]) -> NDArray[np.float64]:
    """(rows, 2): numerator and denominator of every prediction. Raises `DataError` where the denominators
    add up to zero."""
    found = np.array([metric.score(row) for row in predictions], dtype=np.float64).reshape(
        len(predictions), 2
    )
    if found[:, 1].sum() == 0:
        raise DataError(
            f"{metric.name}: {len(predictions)} predictions weigh nothing", "check the split and the metric"
        )
    return found


def ratio(parts: NDArray[np.float64]) -> float:
    """The corpus' score from (rows, 2)."""
    numerator, denominator = parts.sum(axis=0)
    return float(numerator / denominator)


def score(metric: Metric, predictions: Sequence[Prediction]) -> float:
    """The corpus' score. Raises `DataError`."""
    return ratio(parts(metric, predictions))


def metric_named(task: Task, name: str) -> Metric:
    """The task's metric of that name. Raises `RecipeError`."""
    metrics = {metric.name: metric for metric in task.metrics()}
    if name not in metrics:
        raise RecipeError(f"evaluate.primary: the task has no metric {name!r}", hint=nearest(name, metrics))
    return metrics[name]
