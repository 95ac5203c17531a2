"""core.optim.AdamW with moments in float32, where the case has them in fewer bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from benchmarks.update import ours
from benchmarks.update.cases import Built, Case


def build(case: Case, parameters: Sequence[nn.Parameter], starts: Sequence[Tensor]) -> Built:
    return ours.build(replace(case, state="float32"), parameters, starts)
