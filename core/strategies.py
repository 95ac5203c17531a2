"""Strategies every domain shares: which parameters move, and when."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from core import options
from core.contract import Group, Phase, Structure
from core.errors import EditError


class Full:
    """Every parameter moves, from the first epoch to the last."""

    def phases(self, model: nn.Module) -> Sequence[Phase]:
        return [Phase((Group(tuple(name for name, _ in model.named_parameters())),))]


class Head:
    """Only the head moves: the modules and parameters that `structure.head` names."""

    def phases(self, model: nn.Module) -> Sequence[Phase]:
        return [Phase((Group(head_parameters(model)),))]


class HeadThenFull:
    """LP-FT (https://arxiv.org/abs/2202.10054): the head alone first, so that a poor head does not distort
    the features, then every parameter."""

    def __init__(self, options: options.HeadThenFull) -> None:
        self._head_epochs = options.head_epochs

    def phases(self, model: nn.Module) -> Sequence[Phase]:
        return [Phase((Group(head_parameters(model)),), self._head_epochs), *Full().phases(model)]


def head_parameters(model: nn.Module) -> tuple[str, ...]:
    """The names of the head's parameters. Raises `EditError` where the model's structure does not say which
    they are."""
    structure = getattr(model, "structure", Structure())
    names = tuple(
        name
        for name, _ in model.named_parameters()
        if any(name == part or name.startswith(f"{part}.") for part in structure.head)
    )
    if not names:
        raise EditError(
            f"{type(model).__name__} does not say which of its parameters are the head",
            "choose the strategy `full`, or give the model a `structure` with `head`",
        )
    return names
