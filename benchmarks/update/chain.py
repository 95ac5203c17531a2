"""The cheapest chain of torch calls that computes the step's numbers, around an optimizer of torch's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.update.cases import ANCHOR, AVERAGE, DECAY, LR, MAX_NORM, Built, Case


def around(
    optimizer: torch.optim.Optimizer, case: Case, parameters: Sequence[nn.Parameter], starts: Sequence[Tensor]
) -> Built:
    averages = [parameter.detach().clone() for parameter in parameters] if case.more else []
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    values = [parameter.detach() for parameter in parameters]
    pull = LR * ANCHOR / (1 - LR * DECAY)  # before the decay, so that both pull from the old weights

    def step() -> None:
        if case.clip:
            nn.utils.clip_grad_norm_(parameters, MAX_NORM, foreach=True)
        if case.more:
            torch._foreach_lerp_(values, list(starts), pull)
        optimizer.step()
        if case.more:
            torch._foreach_lerp_(averages, values, 1 - AVERAGE)
            torch._foreach_zero_(gradients)

    return Built(step, lambda: averages)
