"""People and the links between them, and from scores to recommendations of people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from core.contract import JSON
from plugins.recommendation.diversity import cosines, varied
from plugins.recommendation.ranking import TOP, Rerank, Scores, recommend


class Graph:
    """Who links to whom.

    Args:
        people: names; who is spoken of by an index has that place.
        links: indices of from whom, and to whom, each link goes.
    """

    def __init__(self, people: Sequence[str], links: Sequence[Sequence[int]]) -> None:
        self.people = people
        self.place = {name: i for i, name in enumerate(people)}
        self.links = torch.tensor(links, dtype=torch.int64).reshape(2, -1)
        source, target = self.links.numpy()
        ones = np.ones(len(source))
        self.matrix = csr_matrix((ones, (source, target)), shape=(len(people), len(people)))

    def places(self, names: Iterable[str]) -> list[int]:
        """The indices of those who are known, sorted."""
        return sorted({self.place[name] for name in names if name in self.place})

    def linked_by(self, name: str) -> list[str]:
        """To whom somebody links, sorted; nobody where the name is unknown."""
        at = self.place.get(name)
        return [] if at is None else sorted(self.people[i] for i in self.matrix[at].indices.tolist())

    def recommend(
        self,
        scores: Scores,
        people: Sequence[int],
        linked: NDArray[np.floating],
        targets: Sequence[int | Sequence[int | None] | None],
        diversity: float,
    ) -> list[dict[str, JSON]]:
        """As `ranking.recommend`, of all people but oneself and those to whom one links. Each row also has `history`,
        to whom the person links: the measures of variety are worked out from these.

        Args:
            scores: (rows, people).
            people: (rows,) whose row it is; -1: nobody who is known.
            linked: (rows, people), not zero for those to whom the person links.
            targets: as `ranking.recommend` takes them.
            diversity: of `diversity.varied`; two are similar as far as the same people link to them.
        """
        excluded = linked != 0
        known = np.flatnonzero(np.asarray(people) >= 0)
        excluded[known, np.asarray(people)[known]] = True
        found = recommend(
            scores, excluded, targets, self.people, self._varied(diversity) if diversity else None
        )
        for row, has in zip(found, linked != 0, strict=True):
            row["history"] = [self.people[i] for i in np.flatnonzero(has).tolist()]
        return found

    def _varied(self, diversity: float) -> Rerank:
        def rerank(candidates: NDArray[np.int64], scores: Scores) -> Sequence[int]:
            similar = cosines(self.matrix[:, candidates]).toarray()
            return varied(scores.astype(np.float64), similar, diversity, TOP)

        return rerank
