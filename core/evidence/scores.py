"""Scoring predictions, by metrics of rows (a sum over a sum) and of the corpus (`core.contract`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from core.contract import CorpusMetric, Metric, Prediction, RowMetric, Task
from core.errors import ContractError, DataError, RecipeError, nearest

if TYPE_CHECKING:
    from typing_extensions import TypeIs

Weighted: TypeAlias = Callable[[NDArray[np.float64]], float]
"""What `CorpusMetric.corpus` gives."""


def is_of_corpus(metric: Metric) -> TypeIs[CorpusMetric]:
    return hasattr(metric, "corpus")


def weighted(metric: CorpusMetric, predictions: Sequence[Prediction]) -> tuple[float, Weighted]:
    """The score, and what gives that of resamples. Raises `DataError` where there is nothing to score."""
    corpus = metric.corpus(predictions)
    value = float(corpus(np.ones(len(predictions))))
    if math.isnan(value):
        raise DataError(
            f"{metric.name}: {len(predictions)} predictions hold nothing to score",
            "check the split and the metric",
        )
    return value, corpus


def breakdown(metric: Metric, predictions: Sequence[Prediction]) -> dict[str, float]:
    """The score's parts, by class for example, where the metric has such."""
    parts: Callable[[Sequence[Prediction]], Mapping[str, float]] | None = getattr(metric, "breakdown", None)
    return {} if parts is None else {name: float(value) for name, value in parts(predictions).items()}


def parts(metric: RowMetric, predictions: Sequence[Prediction]) -> NDArray[np.float64]:
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
    if is_of_corpus(metric):
        return weighted(metric, predictions)[0]
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
