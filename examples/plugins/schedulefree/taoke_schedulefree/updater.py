"""Schedule-free AdamW (Defazio et al., https://arxiv.org/abs/2405.15682), from the package of its authors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from schedulefree import AdamWScheduleFree

from taoke_schedulefree import options


class ScheduleFree(AdamWScheduleFree):  # type: ignore[misc]
    """Between steps the parameters hold the point at which gradients are taken; within `averaged()` they hold the
    average, which is what is to be used."""

    @contextmanager
    def averaged(self) -> Iterator[None]:
        self.eval()
        try:
            yield
        finally:
            self.train()


class AdamW:
    """The updater. What it averages is in the place of a schedule: the recipe's is `constant`."""

    def __init__(self, options: options.AdamW) -> None:
        self._options = options

    def build(self, groups: Sequence[Mapping[str, Any]]) -> ScheduleFree:
        given = self._options
        updater = ScheduleFree(
            [{"params": group["params"], "lr": group["lr"]} for group in groups],
            betas=(given.beta1, given.beta2),
            weight_decay=given.weight_decay,
            warmup_steps=given.warmup_steps,
        )
        updater.train()
        return updater
