"""Growing a named axis: more classes, more items, more tokens, with every old entry kept."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.contract import Structure
from core.edits import axis_size
from core.errors import EditError
from core.options import Grow as GrowOptions
from core.seeds import generator


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
            grown = nn.Parameter(self._grown(old.detach(), dimension, name), requires_grad=old.requires_grad)
            setattr(owner, attribute, grown)
            if isinstance(owner, nn.Linear):
                owner.out_features, owner.in_features = owner.weight.shape
            elif isinstance(owner, nn.Embedding):
                owner.num_embeddings, owner.embedding_dim = owner.weight.shape
        return model

    def _grown(self, old: Tensor, dimension: int, name: str) -> Tensor:
        shape = list(old.shape)
        shape[dimension] = self._to - old.shape[dimension]
        centre = old.mean(dimension, keepdim=True)
        fresh = torch.zeros(shape, dtype=old.dtype) if self._init == "zero" else centre.expand(shape)
        if self._init == "normal":
            rng = generator(
                0, "grow", self._axis, name, self._to
            )  # of the edit alone, so that replaying draws the same
            spread = old.std(dimension, correction=0, keepdim=True)
            fresh = fresh + spread * torch.randn(shape, generator=rng, dtype=old.dtype)
        return torch.cat([old, fresh], dimension)

    def describe(self) -> str:
        return f"grow {self._axis} to {self._to} ({self._init})"
