"""What a model's head sees: the features that a linear probe is fitted on, for any model that names its head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from core.contract import Structure
from core.errors import EditError


@torch.no_grad()
def features(model: nn.Module, call: Callable[[], object]) -> Tensor:
    """The input of the model's head while `call` runs the model on a batch: of the modules that
    `structure.head` names, the first one that is given a floating tensor. Its shape is the model's
    business: (batch, width) where the head is a layer after pooling. Where that module is called several times,
    on parts of the batch, what it was given is joined along dimension 0 in the calls' order.

        seen = features(model, lambda: task.forward(model, batch))

    Raises `EditError` where the model does not say which of its modules are the head, or runs without calling
    them.
    """
    structure: Structure = getattr(model, "structure", Structure())
    modules = dict(model.named_modules())
    heads = [modules[name] for name in structure.head if name in modules]
    what = type(model).__name__
    if not heads:
        raise EditError(
            f"{what} does not say which of its modules are the head, so nothing tells its features",
            "give the model a `structure` whose `head` names modules",
        )
    seen: list[tuple[nn.Module, Tensor]] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        features = next((value for value in given if value.is_floating_point()), None)
        if features is not None and (not seen or seen[0][0] is module):
            seen.append((module, features))

    hooks = [head.register_forward_pre_hook(note, with_kwargs=True) for head in heads]
    try:
        call()
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        names = ", ".join(name for name in structure.head if name in modules)
        raise EditError(
            f"{what} ran without calling its head ({names}) on a tensor, so nothing tells its features",
            "name in `structure.head` a module that the model calls",
        )
    return torch.cat([tensor for _, tensor in seen])
