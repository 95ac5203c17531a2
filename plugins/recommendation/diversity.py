"""How varied recommendations are, worked out from prediction rows alone, and how a list is made more varied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from core.contract import Prediction
from plugins.recommendation.ranking import TOP

Weighted = Callable[[NDArray[np.float64]], float]


class Coverage:
    """How many different people are recommended to anybody: aggregate diversity (Adomavicius and Kwon 2012,
    https://doi.org/10.1109/TKDE.2011.15). A number and no share, since contenders do not all know the same people. A
    resample has fewer different rows than the split, and so covers less: read its intervals as those of a smaller
    split."""

    name, unit, higher_is_better = f"coverage@{TOP}", "people", True

    def corpus(self, rows: Sequence[Prediction]) -> Weighted:
        names = [name for row in rows for name in row["recommended"]]
        owner = np.repeat(np.arange(len(rows)), [len(row["recommended"]) for row in rows])
        _, person = np.unique(names, return_inverse=True)
        order = np.argsort(person, kind="stable")
        owner, begins = owner[order], np.flatnonzero(np.diff(person[order], prepend=-1))

        def score(weights: NDArray[np.float64]) -> float:
            if not len(names):
                return float("nan")
            return float(np.logical_or.reduceat(weights[owner] > 0, begins).sum())

        return score


class Novelty:
    """The mean self-information of those who are recommended: -log2((k + 1) / (n + 1)), where k of the n rows' users
    have them in their history (Zhou et al. 2010, https://doi.org/10.1073/pnas.1000488107; one is added to both, so
    that it is finite for whom nobody has)."""

    name, unit, higher_is_better = f"novelty@{TOP}", "bits", True

    def corpus(self, rows: Sequence[Prediction]) -> Weighted:
        having = Counter(name for row in rows for name in row["history"])

        def bits(row: Prediction) -> float:
            shares = [(having[name] + 1) / (len(rows) + 1) for name in row["recommended"]]
            return float(-np.log2(shares).mean())

        return _mean([bits(row) if row["recommended"] else None for row in rows])


class Distance:
    """The mean distance of two who are recommended to one user (Ziegler et al. 2005,
    https://doi.org/10.1145/1060745.1060754): 1 - the cosine of their neighbourhoods, the rows whose users have them in
    their history. One whom nobody has is at a distance of 1 from all."""

    name, unit, higher_is_better = f"distance@{TOP}", "1 - cosine", True

    def corpus(self, rows: Sequence[Prediction]) -> Weighted:
        place: dict[str, int] = {}
        of_row = [[place.setdefault(name, len(place)) for name in row["history"]] for row in rows]
        ends = np.cumsum([0, *map(len, of_row)])
        columns = np.array([person for people in of_row for person in people], np.int64)
        has = csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(rows), len(place)))
        similar = cosines(has)

        def apart(row: Prediction) -> float:
            listed = row["recommended"]
            known = [place[name] for name in listed if name in place]
            block = similar[known][:, known].toarray()
            pairs = len(listed) * (len(listed) - 1)
            return 1.0 - float(block.sum() - np.trace(block)) / pairs

        return _mean([apart(row) if len(row["recommended"]) > 1 else None for row in rows])


def _mean(values: Sequence[float | None]) -> Weighted:
    """The mean of the rows' values, without those that have none."""
    counts = np.array([value is not None for value in values], np.float64)
    found = np.array([0.0 if value is None else value for value in values])

    def score(weights: NDArray[np.float64]) -> float:
        total = float(weights @ counts)
        return float(weights @ found) / total if total else float("nan")

    return score


def cosines(has: csr_matrix) -> csr_matrix:
    """(columns, columns) cosines of the columns of (rows, columns) of ones; zero for empty ones."""
    norms = np.sqrt(np.maximum(np.asarray(has.sum(0)).ravel(), 1.0))
    scaled = csr_matrix(has.multiply(1.0 / norms))
    return csr_matrix(scaled.T @ scaled)


def varied(
    scores: NDArray[np.float64], similar: NDArray[np.float64], diversity: float, count: int
) -> list[int]:
    """The first `count` of some candidates by maximal marginal relevance (Carbonell and Goldstein 1998,
    https://doi.org/10.1145/290941.291025): each time the one with the highest (1 - δ)·relevance - δ·(similarity to the
    most similar one that is chosen already).

    Args:
        scores: (candidates,) best first; the relevance is the score, brought to 0 to 1.
        similar: (candidates, candidates) similarities from 0 to 1.
        diversity: δ, from 0 to 1; with 0 the order stays.
    """
    spread = scores[0] - scores[-1] if len(scores) else 0.0
    relevance = (scores - scores[-1]) / spread if spread > 0 else np.zeros(len(scores))
    worth = (1 - diversity) * relevance
    nearest = np.zeros(len(scores))
    left = np.ones(len(scores), bool)
    chosen: list[int] = []
    for _ in range(min(count, len(scores))):
        best = int(np.where(left, worth - diversity * nearest, -np.inf).argmax())
        chosen.append(best)
        left[best] = False
        nearest = np.maximum(nearest, similar[best])
    return chosen


COVERAGE, NOVELTY, DISTANCE = Coverage(), Novelty(), Distance()
