"""From scores to recommendations, the same for every contender, and the metrics that score them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.contract import JSON, Row

Scores = NDArray[np.floating[Any]]
TOP = 10
"""Recommendations in a prediction, and the cut-off of the metrics that have one."""


def catalogue(rows: Sequence[Row], known: Sequence[str] = ()) -> list[str]:
    """The items: the known ones keep their places, those that only the rows have follow, sorted."""
    return [*known, *sorted({item for row in rows for item in row.inputs["history"]} - set(known))]


def histories(rows: Sequence[Row], items: Sequence[str]) -> NDArray[np.float64]:
    """(rows, items) of ones and zeros; what `items` does not list is left out."""
    place = {item: i for i, item in enumerate(items)}
    out = np.zeros((len(rows), len(items)))
    for i, row in enumerate(rows):
        out[i, [place[item] for item in row.inputs["history"] if item in place]] = 1.0
    return out


def recommend(
    scores: Scores, histories: NDArray[Any], targets: Sequence[int | None], items: Sequence[str]
) -> list[dict[str, JSON]]:
    """Rank, for each row, all items that are not in its history.

    Args:
        scores: (rows, items), the higher the better.
        histories: (rows, items), not zero for what the user has.
        targets: for each row the index of its target in `items`, None where there is none.

    Returns:
        For each row `recommended`, the first `TOP` items with their scores, best first, and, where there is a
        target, its `rank`, from 1. Equal scores are ranked by a hash of the items' names: neither the order
        of the catalogue nor the contender has a say.
    """
    shuffled = list(_tie_order(tuple(items)))
    place = {item: i for i, item in enumerate(shuffled)}
    ranked = np.where(histories[:, shuffled] != 0, -np.inf, scores[:, shuffled])
    orders = np.argsort(-ranked, axis=1, kind="stable")
    predictions = []
    for row, order, target in zip(ranked, orders, targets, strict=True):
        best = order[:TOP]
        prediction: dict[str, JSON] = {
            "recommended": {
                items[shuffled[i]]: round(float(row[i]), 4) for i in best.tolist() if row[i] > -np.inf
            }
        }
        if target is not None:
            prediction["rank"] = int(np.flatnonzero(order == place[target])[0]) + 1
        predictions.append(prediction)
    return predictions


@lru_cache(maxsize=16)
def _tie_order(items: tuple[str, ...]) -> tuple[int, ...]:
    """Indices of the items in the order of their names' hashes."""
    return tuple(sorted(range(len(items)), key=lambda i: hashlib.blake2b(items[i].encode()).digest()))


class RankMetric:
    """A metric of the rank of the one item that was left out; a target that the contender does not know
    scores 0."""

    higher_is_better = True

    def __init__(self, name: str, unit: str, gain: Callable[[int], float]) -> None:
        self.name, self.unit = name, unit
        self._gain = gain

    def score(self, row: Mapping[str, JSON]) -> tuple[float, float]:
        rank = row.get("rank")
        return (0.0 if rank is None else self._gain(rank)), 1.0


NDCG = RankMetric(f"ndcg@{TOP}", "gain", lambda rank: 1 / math.log2(1 + rank) if rank <= TOP else 0.0)
"""Normalised discounted cumulative gain (https://dl.acm.org/doi/10.1145/582415.582418); with one relevant item
the ideal gain is 1."""
RECALL = RankMetric(f"recall@{TOP}", "share", lambda rank: float(rank <= TOP))
"""With one relevant item also called the hit rate."""
MRR = RankMetric("mrr", "reciprocal rank", lambda rank: 1 / rank)
"""The mean reciprocal rank, over the whole ranking."""
