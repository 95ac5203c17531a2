"""Who links to whom, from user vectors and walks along the links of others: the structure that a base gets."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.contract import Structure
from core.errors import EditError
from plugins.recommendation import options
from plugins.recommendation.factors import UserVectors


class Social(nn.Module):
    """Scores of links from people to people:

        score(u, v) = t · cos(x_u, x_v) + a · ln(1 + in_v) + b · ln(1 + out_v) + ln(1 + n · Σ_k e^(w_k) · p_k(v | u))

    The first part is the base's score, of user vectors x; the next ones favour those to whom many link, or who link to
    many. In the last one, n is the number of people and each p_k a way to get from u to v: at random along links,
    forwards or backwards, by each sequence of up to `steps` directions, or to somebody as often as people link there.
    So its softmax is a mixture of random walks with learned weights; rooted PageRank (Liben-Nowell and Kleinberg 2007,
    https://doi.org/10.1002/asi.20591) is one whose weights fall with the length.

    All is counted in the graph without u, to whom only the history's links belong: so a link that is to be found leaves
    no trace in its own score, and what is seen in training is as it will be later.

    Args:
        tastes: the base.
        steps: links that a walk follows at most.
    """

    structure = Structure(axes={"people": (("tastes.vectors", 0),)}, head=("taste", "degrees", "weights"))

    def __init__(self, tastes: UserVectors, steps: int) -> None:
        super().__init__()
        self.tastes, self.steps = tastes, steps
        self.taste = nn.Parameter(torch.empty(()))
        self.degrees = nn.Parameter(torch.empty(2))
        self.weights = nn.Parameter(torch.empty(2 ** (steps + 1) - 2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As the edit leaves it: tastes count as in the base, degrees do not, and all walks alike."""
        nn.init.ones_(self.taste)
        nn.init.zeros_(self.degrees)
        nn.init.zeros_(self.weights)

    def forward(self, people: Tensor, linked: Tensor, links: Tensor) -> Tensor:
        """Scores (batch, people) of the links from some people, (batch,) int64, -1 for one whom nobody knows, to all.

        Args:
            linked: (batch, people) of ones where the person is known to link, and zeros.
            links: (2, links) int64, everybody's links, from and to.
        """
        with torch.no_grad():
            degrees, ways = walks(people, linked, links, self.steps)
        mixture = torch.einsum("k,knb->bn", self.weights.exp(), ways)
        many = torch.einsum("k,knb->bn", self.degrees, degrees.log1p())
        tastes: Tensor = self.taste * self.tastes(people)
        return tastes + many + torch.log1p(linked.shape[1] * mixture)


def walks(people: Tensor, linked: Tensor, links: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """(2, people, batch) how many link to each person, and to how many each links; and (ways, people, batch) how
    probable it is to get there: a link backwards, walks of two links and more, and last by popularity. Arguments as of
    `Social`; in each row the one whose it is does not count."""
    count, batch = linked.shape[1], torch.arange(len(people), device=people.device)
    source, target = links
    known = people >= 0
    one_hot = torch.zeros_like(linked)
    one_hot[batch[known], people[known]] = 1.0
    one_hot = one_hot.T.contiguous()
    forwards, backwards = _sparse(target, source, count), _sparse(source, target, count)
    linking = backwards @ one_hot
    away = torch.bincount(source, minlength=count)[:, None] - linking
    towards = torch.bincount(target, minlength=count)[:, None] - forwards @ one_hot
    elsewhere = 1 - one_hot
    back = linking / linking.sum(0).clamp(min=1)
    found, last = [back], [linked.T / linked.sum(1).clamp(min=1) * elsewhere, back]
    for _ in range(1, steps):
        last = [
            (step @ (place / degree.clamp(min=1))) * elsewhere
            for place in last
            for step, degree in ((forwards, away), (backwards, towards))
        ]
        found += last
    found.append(towards / towards.sum(0).clamp(min=1) * elsewhere)
    return torch.stack([towards, away]), torch.stack(found)


def _sparse(row: Tensor, column: Tensor, size: int) -> Tensor:
    """(size, size) of ones."""
    ones = torch.ones(len(row), device=row.device)
    return torch.sparse_coo_tensor(torch.stack([row, column]), ones, (size, size), check_invariants=False)


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
        return f"walks of up to {self._steps} links and degrees, beside tastes"
