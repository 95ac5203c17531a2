"""Scoring predictions: a corpus' score is the sum of its rows' numerators over the sum of their denominators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.contract import Metric, Prediction, Task
from core.errors import ContractError, DataError, RecipeError, nearest


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
    """The task's metric of that name. Raises `RecipeError` where it has none, `ContractError` where it has two."""
    metrics = list(task.metrics())
    names = [metric.name for metric in metrics]
    for other in names:
        if names.count(other) > 1:
            raise ContractError(
                f"the task has {names.count(other)} metrics called {other!r}", "rename all but one"
            )
    if name not in names:
        raise RecipeError(f"evaluate.primary: the task has no metric {name!r}", nearest(name, names))
    return metrics[names.index(name)]
