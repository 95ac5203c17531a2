"""The chain with torch's AdamW, compiled as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.update.cases import DECAY, LR, Built, Case
from benchmarks.update.chain import around


def build(case: Case, parameters: Sequence[nn.Parameter], starts: Sequence[Tensor]) -> Built:
    rate = torch.tensor(LR, device=case.device)  # a number would be compiled in
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=DECAY, capturable=case.device != "cpu")
    chain = around(optimizer, case, parameters, starts)
    return Built(torch.compile(chain.step), chain.averages)
