"""The update step: optimizers for any PyTorch loop, with kernels of their own where they were built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.optim.adamw import Adam, AdamW
from core.optim.sgd import SGD
from core.options import AdamW as AdamWOptions

__all__ = ["SGD", "Adam", "AdamW", "AdamWUpdater"]


class AdamWUpdater:
    """The updater `adamw`: builds `AdamW` for the groups of one phase."""

    def __init__(self, options: AdamWOptions) -> None:
        self._options = options

    def build(self, groups: Sequence[Mapping[str, Any]]) -> AdamW:
        options = self._options
        return AdamW(
            [{"anchor": options.anchor if "anchor_to" in group else 0.0, **group} for group in groups],
            betas=options.betas,
            eps=options.eps,
            weight_decay=options.weight_decay,
            max_grad_norm=options.max_grad_norm,
            ema_decay=options.ema_decay,
        )
