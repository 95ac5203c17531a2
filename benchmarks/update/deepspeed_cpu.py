"""The chain with DeepSpeed's CPU Adam, where it is installed. It compiles itself at first use."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from torch import Tensor, nn

from benchmarks.update.cases import DECAY, LR, Built, Case
from benchmarks.update.chain import around


def build(case: Case, parameters: Sequence[nn.Parameter], starts: Sequence[Tensor]) -> Built:
    adam = import_module("deepspeed.ops.adam").DeepSpeedCPUAdam
    return around(adam(parameters, LR, weight_decay=DECAY, adamw_mode=True), case, parameters, starts)
