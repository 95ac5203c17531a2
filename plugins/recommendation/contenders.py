"""The cheapest sane alternatives, fitted on the `train` rows and, where there is something to choose, chosen on
`select`. Each knows the base's items and those of `train`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch

from core.contract import JSON, SELECT, TRAIN, Base, Contender, Row, Split
from plugins.recommendation.ease import Array, ease
from plugins.recommendation.ranking import NDCG, catalogue, histories, recommend

PENALTIES = (3.0, 10.0, 30.0, 100.0)
"""Of EASE, in users."""
SHARES = (0.3, 1.0, 3.0, 10.0)
"""What popularity is multiplied with before it is added to the base's scores."""


class Ranker:
    """Ranks by scores (rows, items) that it computes from histories (rows, items)."""

    def __init__(self, name: str, items: Sequence[str], scores: Callable[[Array], Array]) -> None:
        self.name = name
        self._items, self._scores = items, scores
        self._place = {item: i for i, item in enumerate(items)}

    def predict(self, rows: Sequence[Row]) -> list[dict[str, JSON]]:
        """As `Recommend.predict`."""
        has = histories(rows, self._items)
        return recommend(self._scores(has), has, [self._place.get(row.target) for row in rows], self._items)

    def ndcg(self, rows: Sequence[Row]) -> float:
        return float(np.mean([NDCG.score(prediction)[0] for prediction in self.predict(rows)]))


def trivial(base: Base, splits: Mapping[str, Split]) -> list[Contender]:
    """The items with most users; those that share most users with the history (cosine; ItemKNN,
    https://doi.org/10.1145/371920.372071); EASE; and the base's scores with popularity added."""
    train, select = splits[TRAIN].rows, splits[SELECT].rows
    known: list[str] = splits[TRAIN].state["items"]
    items = catalogue(train, known)
    has = histories(train, items)
    popularity = has.mean(0)

    def base_scores(has: Array) -> Array:
        """Zero for the items that the base does not know."""
        scores = np.zeros_like(has)
        with torch.no_grad():
            scores[:, : len(known)] = base.model(torch.from_numpy(has[:, : len(known)]).float()).numpy()
        return scores

    def with_ease(penalty: float) -> Ranker:
        weight, bias = ease(has, penalty)
        return Ranker("ease", items, lambda has: has @ weight + bias)

    def with_popularity(share: float) -> Ranker:
        return Ranker("base_popularity", items, lambda has: base_scores(has) + share * popularity)

    cosine = _cosine(has)
    return [
        Ranker("popularity", items, lambda has: np.broadcast_to(popularity, has.shape)),
        Ranker("item_knn", items, lambda has: has @ cosine),
        _best(map(with_ease, PENALTIES), select),
        _best(map(with_popularity, SHARES), select),
    ]


def _cosine(has: Array) -> Array:
    """(items, items), zero for an item without users."""
    unit = has / np.maximum(np.sqrt(has.sum(0)), 1.0)
    similar: Array = unit.T @ unit
    return similar


def _best(rankers: Iterable[Ranker], select: Sequence[Row]) -> Ranker:
    """The one that is best on `select`; of equal ones the first."""
    return max(rankers, key=lambda ranker: ranker.ndcg(select))
