"""Who links to whom, from user vectors and walks along the links of others: the structure that a base gets."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.contract import Structure
from core.errors import EditError
from plugins.recommendation import options
from plugins.recommendation.factors import UserVectors, taken


class Social(nn.Module):
    """Scores of links from people to people:

        score(u, v) = t · (x_u·S)·(x_v·T) + ln(1 + n · Σ_k e^(w_k) · p_k(v | u))

    The first part compares directions x of user vectors, mapped by S on the side of who links and by T on the side
    of who is linked to. In the second, n is the number of people and each p_k a way to get from u to v: at random along
    links, forwards or backwards, by each sequence of up to `steps` directions, or to somebody as often as people link
    there. So the softmax of the second part is a mixture of random walks with learned weights; rooted PageRank
    (Liben-Nowell and Kleinberg 2007, https://doi.org/10.1002/asi.20591) is one whose weights fall with the length.

    No walk uses links from u beside those in the history, nor comes back to u: a link that is to be found leaves no
    trace in its own score.

    Args:
        tastes: the base.
        steps: links that a walk follows at most.
    """

    structure = Structure(
        axes={"people": (("tastes.vectors", 0),)}, head=("source", "target", "taste", "weights")
    )

    def __init__(self, tastes: UserVectors, steps: int) -> None:
        super().__init__()
        dimensions = tastes.vectors.shape[1]
        self.tastes, self.steps = tastes, steps
        self.source = nn.Parameter(torch.empty(dimensions, dimensions))
        self.target = nn.Parameter(torch.empty(dimensions, dimensions))
        self.taste = nn.Parameter(torch.empty(()))
        self.weights = nn.Parameter(torch.empty(2 ** (steps + 1) - 2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As the edit leaves it: tastes count as in the base, and all walks alike."""
        nn.init.eye_(self.source)
        nn.init.eye_(self.target)
        nn.init.ones_(self.taste)
        nn.init.zeros_(self.weights)

    def forward(self, people: Tensor, linked: Tensor, links: Tensor) -> Tensor:
        """Scores (batch, people) of the links from some people, (batch,) int64, -1 for one whom nobody knows, to all.

        Args:
            linked: (batch, people) of ones where the person is known to link, and zeros.
            links: (2, links) int64, everybody's links, from and to.
        """
        directions = self.tastes.directions()
        tastes = (taken(directions, people) @ self.source) @ (directions @ self.target).T
        with torch.no_grad():
            ways = walks(people, linked, links, self.steps)
        mixture = torch.einsum("k,knb->bn", self.weights.exp(), ways)
        return self.taste * tastes + torch.log1p(linked.shape[1] * mixture)


def walks(people: Tensor, linked: Tensor, links: Tensor, steps: int) -> Tensor:
    """(ways, people, batch) how probable it is to get to each person: a link backwards, walks of two links and more,
    and last by popularity. Arguments as of `Social`."""
    count, batch = linked.shape[1], torch.arange(len(people), device=people.device)
    source, target = links
    known = people >= 0
    ones = torch.ones(len(source), dtype=linked.dtype, device=linked.device)
    away = torch.zeros(count, dtype=linked.dtype, device=linked.device).index_add_(0, source, ones)
    towards = torch.zeros_like(away).index_add_(0, target, ones)
    forwards = _sparse(target, source, 1 / away[source], count)
    backwards = _sparse(source, target, 1 / towards[target], count)
    one_hot = torch.zeros_like(linked)
    one_hot[batch[known], people[known]] = 1.0
    one_hot = one_hot.T.contiguous()
    elsewhere = 1 - one_hot
    first = linked.T / linked.sum(1).clamp(min=1)
    back = backwards @ one_hot
    found, last = [back], [first * elsewhere, back]
    for _ in range(1, steps):
        last = [(step @ place) * elsewhere for place in last for step in (forwards, backwards)]
        found += last
    own = _sparse(target, source, ones, count) @ one_hot
    popularity = (towards[:, None] - own).clamp(min=0)
    found.append(popularity / popularity.sum(0).clamp(min=1))
    return torch.stack(found)


def _sparse(row: Tensor, column: Tensor, values: Tensor, size: int) -> Tensor:
    return torch.sparse_coo_tensor(torch.stack([row, column]), values, (size, size)).coalesce()


class Walks:
    """The edit `walks`: `Social` around user vectors."""

    preserves = False

    def __init__(self, options: options.Walks) -> None:
        self._steps = options.steps

    def validate(self, model: nn.Module) -> None:
        if not isinstance(model, UserVectors):
            raise EditError(
                f"walks: {type(model).__name__} has no user vectors",
                "the base source `factors` has; the edit stands first in `modify`",
            )

    def apply(self, model: nn.Module) -> nn.Module:
        assert isinstance(model, UserVectors)  # noqa: S101 (validate has seen it)
        return Social(model, self._steps)

    def describe(self) -> str:
        return f"tastes by two maps, and walks of up to {self._steps} links"
