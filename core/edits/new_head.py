"""A new head: the entries of an axis replaced by fresh ones, for data that share no class with the base."""

from __future__ import annotations

from torch import Tensor, nn

from core.edits import axis_size
from core.edits.entries import fresh_entries, replace_entries
from core.options import NewHead as NewHeadOptions


class NewHead:
    """`to` fresh entries along `axis` in the place of all that were there. What the base computed is lost on
    purpose, so the dial and the anchor have nothing to go back to."""

    preserves = False

    def __init__(self, options: NewHeadOptions) -> None:
        self._axis, self._to = options.axis, options.to

    def validate(self, model: nn.Module) -> None:
        axis_size(model, self._axis)

    def apply(self, model: nn.Module) -> nn.Module:
        replace_entries(model, self._axis, self._fresh)
        return model

    def _fresh(self, old: Tensor, dimension: int, name: str) -> Tensor:
        return fresh_entries(old, dimension, self._to, "new_head", self._axis, name, self._to)

    def describe(self) -> str:
        return f"new head: {self._to} fresh entries along {self._axis}"
