"""Losses of rankings. Both take the scores of all items, (batch, items), and the task's batch: `positives`, what is to
rank high, and `histories`, what is no candidate otherwise. What they draw depends on the number that the batch brings,
and so on nothing but seed, epoch and batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from plugins.recommendation import options

if TYPE_CHECKING:
    from plugins.recommendation.tasks import Ranking


class Bpr:
    """Bayesian personalised ranking (https://arxiv.org/abs/1205.2618): -ln σ(s_i - s_j), for each item i that a user
    has and as many items j as the options say that the user lacks. The weight counts such pairs."""

    def __init__(self, options: options.Bpr) -> None:
        self._negatives = options.negatives

    def __call__(self, outputs: Tensor, batch: Ranking) -> tuple[Tensor, float]:
        rows, items = _having(batch)
        if not len(rows):
            return outputs.sum() * 0.0, 1.0
        each = self._negatives
        first = torch.searchsorted(rows, rows)  # where the row of each pair begins
        slots = (torch.arange(len(rows), device=rows.device) - first)[:, None] * each
        slots = slots + torch.arange(each, device=rows.device)
        drawn = _drawn(_lacking(batch), int(slots.max()) + 1, batch["seed"], replacement=True)
        margin = outputs[rows, items, None] - outputs[rows[:, None], drawn[rows[:, None], slots]]
        return functional.softplus(-margin).sum(), float(margin.numel())


class SampledSoftmax:
    """-ln of the share that an item has of e^score among itself and the items that the user lacks, of which a sample
    stands for all: its e^score counts (items lacked / items drawn) times (https://arxiv.org/abs/1412.2007). Where the
    user lacks no more than are drawn, that is the softmax itself. The weight counts the items that users have."""

    def __init__(self, options: options.SampledSoftmax) -> None:
        self._negatives, self._temperature = options.negatives, options.temperature

    def __call__(self, outputs: Tensor, batch: Ranking) -> tuple[Tensor, float]:
        rows, items = _having(batch)
        if not len(rows):
            return outputs.sum() * 0.0, 1.0
        scores = outputs / self._temperature
        lacks = _lacking(batch)
        lacked = lacks.sum(1).clamp(min=1)
        count = min(self._negatives, int(lacked.max()))
        # Without replacement: of a user who lacks fewer, what is drawn beyond them is left out.
        drawn = _drawn(lacks, count, batch["seed"], replacement=False)
        of_user = scores.gather(1, drawn).masked_fill(~lacks.gather(1, drawn), -torch.inf)
        correction = (lacked / lacked.clamp(max=count)).log()
        others = of_user.logsumexp(1) + correction
        chosen = scores[rows, items]
        return (torch.logaddexp(chosen, others[rows]) - chosen).sum(), float(len(rows))


def _having(batch: Ranking) -> tuple[Tensor, Tensor]:
    """(row, item) of what users have who lack anything."""
    some_lacking = _lacking(batch).any(1, keepdim=True)
    rows, items = ((batch["positives"] != 0) & some_lacking).nonzero(as_tuple=True)
    return rows, items


def _lacking(batch: Ranking) -> Tensor:
    """(batch, items) of what users lack."""
    return (batch["histories"] == 0) & (batch["positives"] == 0)


def _drawn(lacks: Tensor, count: int, seed: Tensor, *, replacement: bool) -> Tensor:
    """(rows, count) indices of what users lack, or of anything where they lack too little; drawn on the CPU by `seed`,
    whatever the device."""
    rng = torch.Generator().manual_seed(int(seed))
    weights = lacks.cpu().float().clamp(min=1e-30)
    return torch.multinomial(weights, count, replacement=replacement, generator=rng).to(lacks.device)
