"""The chain with torch's AdamW, compiled as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.update.cases import DECAY, LR, Case, Step
from benchmarks.update.chain import around


def build(case: Case, parameters: Sequence[nn.Parameter], starts: Sequence[Tensor]) -> Step:
    rate = torch.tensor(LR)  # a number would be compiled in
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=DECAY, capturable=False)
    compiled: Step = torch.compile(around(optimizer, case, parameters, starts))
    return compiled
