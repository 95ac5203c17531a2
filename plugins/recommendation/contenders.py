"""The cheapest sane alternatives, fitted on the `train` rows and, where there is something to choose, chosen on
`select`. Each knows the base's items and those of `train`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import numpy as np
import torch

from core.contract import JSON, Base, Contender, Row, Split
from plugins.recommendation.ease import Array, best_penalty, moments, solve
from plugins.recommendation.options import PENALTIES
from plugins.recommendation.ranking import NDCG, histories, places, recommend, sparse_histories

Scorer: TypeAlias = Callable[[Array], Array]
"""Scores (rows, items) from histories (rows, items)."""

BATCH = 256
"""Rows that are ranked together: what is in memory is so many times the catalogue."""
SHARES = (0.3, 1.0, 3.0, 10.0)
"""What other scores are multiplied with before they are added to the base's."""


class Ranker:
    """Ranks the items of `items` by what `scores` makes of a history."""

    def __init__(self, name: str, items: Sequence[str], scores: Scorer) -> None:
        self.name, self.scores = name, scores
        self._items = items
        self._place = {item: i for i, item in enumerate(items)}

    def predict(self, rows: Sequence[Row]) -> list[dict[str, JSON]]:
        """As `Recommend.predict`."""
        predictions = []
        for begin in range(0, len(rows), BATCH):
            batch = list(rows[begin : begin + BATCH])
            has = histories(batch, self._items)
            targets = [places(row.target, self._place) for row in batch]
            predictions += recommend(self.scores(has), has, targets, self._items)
        return predictions

    def ndcg(self, rows: Sequence[Row]) -> float:
        return float(np.mean([NDCG.score(prediction)[0] for prediction in self.predict(rows)]))


def trivial(base: Base, train: Split, select: Sequence[Row], items: Sequence[str]) -> list[Contender]:
    """The items with most users; those that share most users with the history (cosine; ItemKNN,
    https://doi.org/10.1145/371920.372071); EASE; and the base's scores with popularity or EASE's scores added.

    `items` is the catalogue, those that the base knows (of `train.state`) first.
    """
    known: list[str] = train.state["items"]
    has = sparse_histories(train.rows, items)
    gram, means = moments(has)
    popularity = means
    together: Array = (has.T @ has).toarray()
    cosine = _cosine(together)
    del together

    def by_popularity(has: Array) -> Array:
        return np.broadcast_to(popularity, has.shape)

    def by_base(has: Array) -> Array:
        """Zero for the items that the base does not know."""
        scores = np.zeros_like(has)
        with torch.no_grad():
            scores[:, : len(known)] = base.model(torch.from_numpy(has[:, : len(known)]).float()).numpy()
        return scores

    def fitted(penalty: float) -> Ranker:
        weight, bias = solve(gram, means, penalty)
        return Ranker("ease", items, lambda has: has @ weight + bias)

    def with_base(name: str, scores: Scorer, share: float) -> Ranker:
        return Ranker(name, items, lambda has: by_base(has) + share * scores(has))

    penalty = best_penalty(PENALTIES, lambda penalty: fitted(penalty).ndcg(select), "the contender ease")
    best_ease = fitted(penalty)
    return [
        Ranker("popularity", items, by_popularity),
        Ranker("item_knn", items, lambda has: has @ cosine),
        best_ease,
        _best((with_base("base_popularity", by_popularity, share) for share in SHARES), select),
        _best((with_base("base_ease", best_ease.scores, share) for share in SHARES), select),
    ]


def _cosine(together: Array) -> Array:
    """(items, items) from counts of users that two items share; zero for an item without users."""
    norm = np.maximum(np.sqrt(np.diag(together)), 1.0)
    return together / norm / norm[:, None]


def _best(rankers: Iterable[Ranker], select: Sequence[Row]) -> Ranker:
    """The one that is best on `select`; of equal ones the first."""
    return max(rankers, key=lambda ranker: ranker.ndcg(select))
