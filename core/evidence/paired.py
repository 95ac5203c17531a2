"""Paired bootstrap intervals: every contender is scored on the same resamples of the same rows.

The percentile interval of Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13;
where rows come in groups, whole groups are drawn (chapter 8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 4_000_000
"""Counts held in memory at a time."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference with the bounds of its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


class Resamples:
    """Resamples of one split, drawn once and used for every contender and metric.

    Args:
        groups: what each row belongs to; rows of one group are drawn together. None: each row is its own group.
        count: how many resamples.
        seed: the same seed gives the same resamples.
    """

    def __init__(self, groups: Sequence[str | None], count: int, seed: int) -> None:
        names = [f"row {i}" if group is None else f"group {group}" for i, group in enumerate(groups)]
        _, self._group_of_row = np.unique(names, return_inverse=True)
        self._group_count = int(self._group_of_row.max()) + 1
        self._count, self._seed = count, seed

    def scores(self, parts: NDArray[np.float64]) -> NDArray[np.float64]:
        """(contenders, resamples) of scores from (contenders, rows, 2) of numerators and denominators. A
        resample whose denominator is zero scores nan."""
        sums = np.zeros((len(parts), self._group_count, 2))
        for i, one in enumerate(parts):
            np.add.at(sums[i], self._group_of_row, one)
        flat = sums.transpose(1, 0, 2).reshape(self._group_count, -1)
        drawn = [counts @ flat for counts in self._counts()]
        totals = np.concatenate(drawn).reshape(self._count, len(parts), 2)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(totals[:, :, 0] / totals[:, :, 1]).T

    def corpus_scores(
        self, contenders: Sequence[Callable[[NDArray[np.float64]], float]]
    ) -> NDArray[np.float64]:
        """(contenders, resamples) of scores, each a function of (rows,) weights, how often each row is drawn."""
        drawn = [
            [contender(weights) for contender in contenders]
            for counts in self._counts()
            for weights in counts[:, self._group_of_row]
        ]
        return np.array(drawn, np.float64).T

    def _counts(self) -> Iterator[NDArray[np.float64]]:
        """In blocks (size, groups): how often each group is drawn."""
        rng = np.random.default_rng(self._seed)
        block = max(1, BLOCK // self._group_count)
        for start in range(0, self._count, block):
            size = min(block, self._count - start)
            picks = rng.integers(self._group_count, size=(size, self._group_count))
            offsets = np.arange(size)[:, None] * self._group_count
            counts = np.bincount((picks + offsets).ravel(), minlength=size * self._group_count)
            yield counts.reshape(size, self._group_count).astype(np.float64)


def interval(value: float, resampled: NDArray[np.float64], confidence: float) -> Interval:
    """The percentile interval around `value`, from its resampled values."""
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(resampled, [tail, 1 - tail])
    return Interval(value, float(low), float(high))
