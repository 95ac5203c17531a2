"""core.optim.AdamW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from benchmarks.update.cases import ANCHOR, AVERAGE, DECAY, LR, MAX_NORM, Built, Case
from core.optim import AdamW


def build(case: Case, parameters: Sequence[nn.Parameter], starts: Sequence[Tensor]) -> Built:
    more: dict[str, Any] = {"anchor": ANCHOR, "ema_decay": AVERAGE, "anchor_to": starts, "zero_grads": True}
    optimizer = AdamW(
        parameters,
        LR,
        weight_decay=DECAY,
        max_grad_norm=MAX_NORM if case.clip else None,
        check=case.clip,
        backend="native",
        state_dtype="int8" if case.state == "int8" else "float32",
        **(more if case.more else {}),
    )
    return Built(optimizer.step, lambda: [optimizer.state[p]["ema"] for p in parameters] if case.more else [])
