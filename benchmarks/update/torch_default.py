"""The chain with torch's AdamW as it is by default."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.update.cases import DECAY, LR, Built, Case
from benchmarks.update.chain import around


def build(case: Case, parameters: Sequence[nn.Parameter], starts: Sequence[Tensor]) -> Built:
    return around(torch.optim.AdamW(parameters, LR, weight_decay=DECAY), case, parameters, starts)
