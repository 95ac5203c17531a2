"""Strategies every domain shares: which parameters move, and when."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from torch import nn

from core import options
from core.contract import Group, Phase, Structure
from core.errors import EditError


class Full:
    """Every parameter moves, from the first epoch to the last, but those that the recipe freezes."""

    def __init__(self, options: options.Full) -> None:
        self._freeze = options.freeze

    def phases(self, model: nn.Module) -> Sequence[Phase]:
        """Raises `EditError` where the model has nothing of what is to be frozen."""
        names = [name for name, _ in model.named_parameters()]
        for pattern in self._freeze:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
                raise EditError(
                    f"fine_tune.strategy: no parameter of {type(model).__name__} is called {pattern!r}",
                    f"they are called as {', '.join(names[:3])}; `*` stands for any part of a name",
                )
        moving = tuple(n for n in names if not any(fnmatch.fnmatchcase(n, p) for p in self._freeze))
        if not moving:
            raise EditError(
                f"fine_tune.strategy: {', '.join(self._freeze)} freeze every parameter of {type(model).__name__}",
                "leave some to move",
            )
        return [Phase((Group(moving),))]


class Head:
    """Only the head moves: the modules and parameters that `structure.head` names."""

    def phases(self, model: nn.Module) -> Sequence[Phase]:
        return [Phase((Group(head_parameters(model)),))]


class HeadThenFull:
    """LP-FT (https://arxiv.org/abs/2202.10054): the head alone first, so that a poor head does not distort
    the features, then every parameter, the body's at a rate of its own.

    Layers that keep running statistics (batch normalisation) learn and take them anew, or, without `statistics`,
    stay as the base has them: those of a few small batches are worse than the base's.
    """

    def __init__(self, options: options.HeadThenFull) -> None:
        self._head_epochs, self._body, self._statistics = (
            options.head_epochs,
            options.body,
            options.statistics,
        )

    def phases(self, model: nn.Module) -> Sequence[Phase]:
        head = head_parameters(model)
        fixed = {*head, *(() if self._statistics else _with_statistics(model))}
        body = tuple(name for name, _ in model.named_parameters() if name not in fixed)
        everything = (Group(head), Group(body, self._body)) if body else (Group(head),)
        return [Phase((Group(head),), self._head_epochs), Phase(everything)]


def _with_statistics(model: nn.Module) -> set[str]:
    """The parameters of layers that have buffers of their own."""
    return {
        f"{name}.{kind}" if name else kind
        for name, module in model.named_modules()
        if next(module.buffers(recurse=False), None) is not None
        for kind, _ in module.named_parameters(recurse=False)
    }


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
