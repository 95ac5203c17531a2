"""The cheapest sane alternatives, fitted on the `train` rows and, where there is something to choose, chosen on
`select`. Each knows the base's items and those of `train`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch

from core.contract import JSON, SELECT, TRAIN, Base, Contender, Row, Split
from plugins.recommendation.ease import Array, ease
from plugins.recommendation.ranking import NDCG, catalogue, histories, recommend

Scorer: TypeAlias = Callable[[Array], Array]
"""Scores (rows, items) from histories (rows, items)."""

PENALTIES = (3.0, 10.0, 30.0, 100.0)
"""Of EASE, in users."""
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
        has = histories(rows, self._items)
        return recommend(self.scores(has), has, [self._place.get(row.target) for row in rows], self._items)

    def ndcg(self, rows: Sequence[Row]) -> float:
        return float(np.mean([NDCG.score(prediction)[0] for prediction in self.predict(rows)]))


def trivial(base: Base, splits: Mapping[str, Split]) -> list[Contender]:
    """The items with most users; those that share most users with the history (cosine; ItemKNN,
    https://doi.org/10.1145/371920.372071); EASE; and the base's scores with popularity or EASE's scores added."""
    train, select = splits[TRAIN].rows, splits[SELECT].rows
    known: list[str] = splits[TRAIN].state["items"]
    items = catalogue(train, known)
    has = histories(train, items)
    popularity, cosine = has.mean(0), _cosine(has)

    def by_popularity(has: Array) -> Array:
        return np.broadcast_to(popularity, has.shape)

    def by_base(has: Array) -> Array:
        """Zero for the items that the base does not know."""
        scores = np.zeros_like(has)
        with torch.no_grad():
            scores[:, : len(known)] = base.model(torch.from_numpy(has[:, : len(known)]).float()).numpy()
        return scores

    def fitted(penalty: float) -> Ranker:
        weight, bias = ease(has, penalty)
        return Ranker("ease", items, lambda has: has @ weight + bias)

    def with_base(name: str, scores: Scorer, share: float) -> Ranker:
        return Ranker(name, items, lambda has: by_base(has) + share * scores(has))

    best_ease = _best(map(fitted, PENALTIES), select)
    return [
        Ranker("popularity", items, by_popularity),
        Ranker("item_knn", items, lambda has: has @ cosine),
        best_ease,
        _best((with_base("base_popularity", by_popularity, share) for share in SHARES), select),
        _best((with_base("base_ease", best_ease.scores, share) for share in SHARES), select),
    ]


def _cosine(has: Array) -> Array:
    """(items, items), zero for an item without users."""
    unit = has / np.maximum(np.sqrt(has.sum(0)), 1.0)
    similar: Array = unit.T @ unit
    return similar


def _best(rankers: Iterable[Ranker], select: Sequence[Row]) -> Ranker:
    """The one that is best on `select`; of equal ones the first."""
    return max(rankers, key=lambda ranker: ranker.ndcg(select))
