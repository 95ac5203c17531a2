"""The entries along a named axis, and putting others in their place: what the edits on an axis share."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from core.contract import Structure
from core.seeds import generator


def replace_entries(model: nn.Module, axis: str, change: Callable[[Tensor, int, str], Tensor]) -> None:
    """Put `change(old, dimension, name)` in the place of every parameter along `axis`. The modules are told
    their new sizes; a parameter that stands in several places (tied weights) still does."""
    structure: Structure = model.structure  # type: ignore[assignment]
    for name, dimension in structure.axes[axis]:
        old = model.get_parameter(name)
        new = nn.Parameter(change(old.detach(), dimension, name), requires_grad=old.requires_grad)
        places = [place for place, held in model.named_parameters(remove_duplicate=False) if held is old]
        for place in places:
            owner_name, _, attribute = place.rpartition(".")
            owner = model.get_submodule(owner_name)
            setattr(owner, attribute, new)
            _resize(owner)


def fresh_entries(old: Tensor, dimension: int, count: int, stream: str, *keys: str | int) -> Tensor:
    """`count` entries along `dimension` of a parameter like `old`, as if its layer were new: weights drawn
    evenly from ±1/√(inputs of one entry), as torch's own layers are, and biases zero. Keyed by `stream` and
    `keys` alone, so that replaying an edit draws the same."""
    shape = list(old.shape)
    shape[dimension] = count
    if old.dim() < 2:
        return torch.zeros(shape, dtype=old.dtype)
    bound = 1 / math.sqrt(max(1, math.prod(shape[1:])))
    return (torch.rand(shape, generator=generator(0, stream, *keys), dtype=old.dtype) * 2 - 1) * bound


def _resize(owner: nn.Module) -> None:
    if isinstance(owner, nn.Linear):
        owner.out_features, owner.in_features = owner.weight.shape
    elif isinstance(owner, nn.Embedding):
        owner.num_embeddings, owner.embedding_dim = owner.weight.shape
    elif isinstance(owner, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        owner.out_channels, owner.in_channels = owner.weight.shape[0], owner.weight.shape[1] * owner.groups
