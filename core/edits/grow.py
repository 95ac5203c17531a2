"""Growing a named axis: more classes, more items, more tokens, with every old entry kept."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.edits import axis_size
from core.edits.entries import fresh_entries, replace_entries
from core.errors import EditError
from core.options import Grow as GrowOptions
from core.seeds import generator


class Grow:
    """More entries along `axis`, behind the old ones. The old entries keep their values, so the old outputs
    keep theirs. An axis may be empty, as that of an encoder without a head is: the mean of nothing is zero, and
    `normal` then draws as a new layer would (`fresh_entries`)."""

    preserves = True

    def __init__(self, options: GrowOptions) -> None:
        self._axis, self._to, self._init = options.axis, options.to, options.init

    def validate(self, model: nn.Module) -> None:
        size = axis_size(model, self._axis)
        if self._to < size:
            raise EditError(
                f"grow: axis {self._axis!r} has {size} entries already, and is to have {self._to}",
                f"give `to` as {size} or more; shrinking loses what the base learned",
            )

    def apply(self, model: nn.Module) -> nn.Module:
        replace_entries(model, self._axis, self._grown)
        return model

    def _grown(self, old: Tensor, dimension: int, name: str) -> Tensor:
        shape = list(old.shape)
        shape[dimension] = self._to - old.shape[dimension]
        keys = ("grow", self._axis, name, self._to)  # of the edit alone, so that replaying draws the same
        if self._init == "zero":
            new = torch.zeros(shape, dtype=old.dtype)
        elif old.shape[dimension] == 0:
            new = (
                fresh_entries(old, dimension, self._to, *keys)
                if self._init == "normal"
                else old.new_zeros(shape)
            )
        else:
            new = old.mean(dimension, keepdim=True).expand(shape)
            if self._init == "normal":
                spread = old.std(dimension, correction=0, keepdim=True)
                new = new + spread * torch.randn(shape, generator=generator(0, *keys), dtype=old.dtype)
        return torch.cat([old, new], dimension)

    def describe(self) -> str:
        return f"grow {self._axis} to {self._to} ({self._init})"
