"""From scores to recommendations, the same for every contender, and the metrics that score them."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from core.contract import JSON, Row

Scores = NDArray[np.floating[Any]]
TOP = 10
"""Recommendations in a prediction, and the cut-off of the metrics that have one."""
POOL = 100
"""Candidates that a list is chosen from, where it is not simply the first ones."""
Rerank = Callable[[NDArray[np.int64], Scores], Sequence[int]]
"""From candidates (indices of items) and their scores, best first, to the places in them of those that come first."""


def catalogue(
    rows: Sequence[Row], known: Sequence[str] = (), *, users: int = 1, most: int | None = None
) -> list[str]:
    """The items: the known ones keep their places, those that only the rows have follow, sorted. An item that is not
    known needs so many `users`; where there would be more items than `most`, those with most users are added."""
    count = Counter(item for row in rows for item in row.inputs["history"])
    for item in known:
        count.pop(item, None)
    new = sorted(item for item, having in count.items() if having >= users)
    if most is not None and len(known) + len(new) > most:
        new = sorted(sorted(new, key=lambda item: -count[item])[: max(0, most - len(known))])
    return [*known, *new]


def histories(rows: Sequence[Row], items: Sequence[str]) -> NDArray[np.float64]:
    """(rows, items) of ones and zeros; what `items` does not list is left out."""
    dense: NDArray[np.float64] = sparse_histories(rows, items).toarray()
    return dense


def sparse_histories(rows: Sequence[Row], items: Sequence[str]) -> csr_matrix:
    """As `histories`, in as much memory as the rows have items: any number of rows. A pass over them."""
    place = {item: i for i, item in enumerate(items)}
    columns, ends = array("i"), array("q", [0])
    for row in rows:
        columns.extend({place[item] for item in row.inputs["history"] if item in place})
        ends.append(len(columns))
    ones = np.ones(len(columns))
    made = csr_matrix((ones, np.array(columns, np.int32), np.array(ends)), shape=(len(ends) - 1, len(items)))
    made.sort_indices()
    return made


def recommend(
    scores: Scores,
    histories: NDArray[Any],
    targets: Sequence[int | Sequence[int | None] | None],
    items: Sequence[str],
    rerank: Rerank | None = None,
) -> list[dict[str, JSON]]:
    """Rank, for each row, all items that are not in its history.

    Args:
        scores: (rows, items), the higher the better.
        histories: (rows, items), not zero for what the user has.
        targets: for each row the index of its target in `items`, None where there is none; or, where several items
            are to be found, a list of them, with None for those that `items` lacks.
        rerank: who of the `POOL` best comes first; of the others the order stays.

    Returns:
        For each row `recommended`, the first `TOP` items with their scores, best first, and, where there is a
        target, its `rank`, from 1; for several the list `ranks`. Equal scores are ranked by a hash of the items'
        names: neither the order of the catalogue nor the contender has a say. A score that is no number recommends
        nothing: such a target has no rank, or None.
    """
    shuffled = np.array(_tie_order(tuple(items)), dtype=np.int64)
    place = np.empty_like(shuffled)
    place[shuffled] = np.arange(len(shuffled))
    ranked = np.where(histories[:, shuffled] != 0, -np.inf, scores[:, shuffled])
    ranked[np.isnan(ranked)] = -np.inf
    first = min(TOP if rerank is None else POOL, len(shuffled))
    predictions = []
    for row, target in zip(ranked, targets, strict=True):
        least = np.partition(row, len(row) - first)[len(row) - first] if first else 0.0
        best = np.flatnonzero(row >= least)
        best = best[np.argsort(-row[best], kind="stable")][:first]
        best = best[row[best] > -np.inf]
        if rerank is not None:
            best = best[rerank(shuffled[best], row[best])]

        def rank(one: int, row: Scores = row, best: NDArray[Any] = best) -> int | None:
            return _rank(row, place[one]) if rerank is None else _rank_behind(row, place[one], best)

        prediction: dict[str, JSON] = {
            "recommended": {items[shuffled[i]]: round(float(row[i]), 4) for i in best.tolist()}
        }
        if isinstance(target, Sequence):
            prediction["ranks"] = [None if one is None else rank(one) for one in target]
        elif target is not None and (found := rank(target)) is not None:
            prediction["rank"] = found
        predictions.append(prediction)
    return predictions


def _rank(row: Scores, at: int) -> int | None:
    """From 1, among scores in the order in which equal ones are ranked; None where there is nothing to rank by."""
    score = row[at]
    if score == -np.inf:
        return None
    return int(np.count_nonzero(row > score) + np.count_nonzero(row[:at] == score)) + 1


def _rank_behind(row: Scores, at: int, best: NDArray[Any]) -> int | None:
    """As `_rank`, where those of `best` come first, in their order."""
    rank = _rank(row, at)
    chosen = np.flatnonzero(best == at)
    if rank is None or len(chosen):
        return int(chosen[0]) + 1 if len(chosen) else None
    behind = (row[best] < row[at]) | ((row[best] == row[at]) & (best > at))
    return rank + int(np.count_nonzero(behind))


def places(target: Any, place: Mapping[str, int]) -> int | list[int | None] | None:
    """A row's target, or targets, as `recommend` takes them."""
    if isinstance(target, list):
        return [place.get(item) for item in target]
    return None if target is None else place.get(target)


@lru_cache(maxsize=16)
def _tie_order(items: tuple[str, ...]) -> tuple[int, ...]:
    """Indices of the items in the order of their names' hashes."""
    return tuple(sorted(range(len(items)), key=lambda i: hashlib.blake2b(items[i].encode()).digest()))


class RankMetric:
    """A metric of the ranks of the items that were held out. One that the contender does not know has none (None),
    and gains nothing; so does a row without a target."""

    higher_is_better = True

    def __init__(self, name: str, unit: str, gain: Callable[[Sequence[int | None]], float]) -> None:
        self.name, self.unit = name, unit
        self._gain = gain

    def score(self, row: Mapping[str, JSON]) -> tuple[float, float]:
        ranks = row["ranks"] if "ranks" in row else [row.get("rank")]
        return (self._gain(ranks) if ranks else 0.0), 1.0


def _ndcg(ranks: Sequence[int | None]) -> float:
    gained = sum(1 / math.log2(1 + rank) for rank in ranks if rank is not None and rank <= TOP)
    return gained / sum(1 / math.log2(1 + place) for place in range(1, min(len(ranks), TOP) + 1))


def _recall(ranks: Sequence[int | None]) -> float:
    return sum(rank is not None and rank <= TOP for rank in ranks) / len(ranks)


def _mrr(ranks: Sequence[int | None]) -> float:
    return max((1 / rank for rank in ranks if rank is not None), default=0.0)


NDCG = RankMetric(f"ndcg@{TOP}", "gain", _ndcg)
"""Normalised discounted cumulative gain (https://dl.acm.org/doi/10.1145/582415.582418): the ideal is that the first
places hold held-out items alone; with one relevant item the ideal gain is 1."""
RECALL = RankMetric(f"recall@{TOP}", "share", _recall)
"""The share of the held-out items that is among the first; with one relevant item also called the hit rate."""
MRR = RankMetric("mrr", "reciprocal rank", _mrr)
"""The mean reciprocal rank, of the first held-out item over the whole ranking."""
