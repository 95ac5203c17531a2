"""Growing a named axis: more classes, more items, more tokens, with every old entry kept."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.contract import Structure
from core.edits import axis_size
from core.errors import EditError
from core.options import Grow as GrowOptions


class Grow:
    """More entries along `axis`, behind the old ones. The old entries keep their values, so the old outputs
    keep theirs."""

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
        structure: Structure = model.structure  # type: ignore[assignment]
        for name, dimension in structure.axes[self._axis]:
            owner_name, _, attribute = name.rpartition(".")
            owner = model.get_submodule(owner_name)
            old = model.get_parameter(name)
            grown = nn.Parameter(self._grown(old.detach(), dimension), requires_grad=old.requires_grad)
            setattr(owner, attribute, grown)
            if isinstance(owner, nn.Linear):
                owner.out_features, owner.in_features = owner.weight.shape
            elif isinstance(owner, nn.Embedding):
                owner.num_embeddings, owner.embedding_dim = owner.weight.shape
        return model

    def _grown(self, old: Tensor, dimension: int) -> Tensor:
        more = self._to - old.shape[dimension]
        fresh = (
            old.mean(dimension, keepdim=True)
            if self._init == "mean"
            else torch.zeros_like(old.narrow(dimension, 0, 1))
        )
        shape = list(old.shape)
        shape[dimension] = more
        return torch.cat([old, fresh.expand(shape)], dimension)

    def describe(self) -> str:
        return f"grow {self._axis} to {self._to} ({self._init})"
