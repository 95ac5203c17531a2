"""The cheapest sane predictors of links, fitted on the links of `train` and, where there is something to choose, chosen
on `select` (Liben-Nowell and Kleinberg 2007, https://doi.org/10.1002/asi.20591). Of equal scores the one to whom more
people link comes first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags

from core.contract import JSON, Contender, Row
from plugins.recommendation.graph import Graph
from plugins.recommendation.ranking import NDCG, places

Array = NDArray[np.float64]
Scorer: TypeAlias = Callable[[Array, Array], Array]
"""Scores (rows, people) from to whom the rows' people link and who links to them, both (rows, people)."""

BATCH = 256
"""Rows that are ranked together."""
RETURNS = (0.15, 0.3, 0.5)
"""How probable it is that a walk of PageRank goes back to where it began, at each step."""
WALK = 30
"""Steps of PageRank: what is left then is less than 1 % of the walk."""


class LinkRanker:
    """Ranks people by what `scores` makes of the links from and to somebody."""

    def __init__(self, name: str, graph: Graph, scores: Scorer, diversity: float) -> None:
        self.name, self._graph, self._scores, self._diversity = name, graph, scores, diversity

    def predict(self, rows: Sequence[Row]) -> list[dict[str, JSON]]:
        """As `LinkPrediction.predict`."""
        graph = self._graph
        predictions = []
        for begin in range(0, len(rows), BATCH):
            batch = list(rows[begin : begin + BATCH])
            people = [graph.place.get(row.inputs["user"], -1) for row in batch]
            linked = np.zeros((len(batch), len(graph.people)))
            for i, row in enumerate(batch):
                linked[i, graph.places(row.inputs["history"])] = 1.0
            linking = graph.matrix.T[people].toarray()
            linking[np.asarray(people) < 0] = 0.0
            targets = [places(row.target, graph.place) for row in batch]
            scores = self._scores(linked, linking)
            predictions += graph.recommend(scores, people, linked, targets, self._diversity)
        return predictions

    def ndcg(self, rows: Sequence[Row]) -> float:
        return float(np.mean([NDCG.score(prediction)[0] for prediction in self.predict(rows)]))


def trivial(graph: Graph, select: Sequence[Row], diversity: float) -> list[Contender]:
    """Those to whom most people link; those who link to oneself; common neighbours and Adamic-Adar, of links in their
    direction or of any; and rooted PageRank, of either kind, with the best chance to return."""
    links = graph.matrix
    either = links.maximum(links.T).tocsr()
    popularity = np.asarray(links.sum(0)).ravel()
    least = popularity / (1e3 * max(popularity.max(initial=0.0), 1.0))

    def ranker(name: str, scores: Scorer) -> LinkRanker:
        return LinkRanker(name, graph, lambda linked, linking: scores(linked, linking) + least, diversity)

    def neighbours(name: str, weights: Array) -> Iterable[LinkRanker]:
        """Weighted counts of those who stand between."""
        ahead, around = (csr_matrix(diags(weights) @ step) for step in (links, either))
        yield ranker(name, lambda linked, linking: linked @ ahead)
        yield ranker(name, lambda linked, linking: np.maximum(linked, linking) @ around)

    def pagerank(back: float) -> Iterable[LinkRanker]:
        for step, any_direction in ((links, False), (either, True)):
            walk = csr_matrix(diags(1 / np.maximum(np.asarray(step.sum(1)).ravel(), 1.0)) @ step)

            def scores(
                linked: Array, linking: Array, walk: csr_matrix = walk, any_direction: bool = any_direction
            ) -> Array:
                place: Array = np.maximum(linked, linking) if any_direction else linked
                place = place / np.maximum(place.sum(1, keepdims=True), 1.0)
                total: Array = 1e-3 * np.broadcast_to(least, place.shape)
                for _ in range(WALK):
                    total = total + back * place
                    place = (1 - back) * (place @ walk)
                return total

            yield LinkRanker("pagerank", graph, scores, diversity)

    degree = np.maximum(np.asarray(either.sum(1)).ravel(), 2.0)  # who stands between two has two neighbours
    return [
        ranker("popularity", lambda linked, linking: np.zeros_like(linked)),
        ranker("reciprocity", lambda linked, linking: linking),
        _best(neighbours("common_neighbours", np.ones(len(degree))), select),
        _best(neighbours("adamic_adar", 1 / np.log(degree)), select),
        _best((one for back in RETURNS for one in pagerank(back)), select),
    ]


def _best(rankers: Iterable[LinkRanker], select: Sequence[Row]) -> LinkRanker:
    """The one that is best on `select`; of equal ones the first."""
    return max(rankers, key=lambda ranker: ranker.ndcg(select))
