"""Scoring prediction rows: a corpus' score is the sum of its rows' numerators over the sum of their
denominators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from core.contract import JSON, Metric
from core.errors import DataError


def parts(metric: Metric, predictions: Sequence[Mapping[str, JSON]]) -> NDArray[np.float64]:
    """(rows, 2): numerator and denominator of every prediction row."""
    return np.array([metric.score(row) for row in predictions], dtype=np.float64).reshape(len(predictions), 2)


def score(metric: Metric, predictions: Sequence[Mapping[str, JSON]]) -> float:
    """The corpus' score. Raises `DataError` where the denominators add up to zero."""
    numerator, denominator = parts(metric, predictions).sum(axis=0)
    if denominator == 0:
        raise DataError(
            f"{metric.name}: {len(predictions)} prediction rows weigh nothing",
            "check the split and the metric",
        )
    return float(numerator / denominator)
