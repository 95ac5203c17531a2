"""The update step as a registered operator of torch's, `taoke::step`, which graphs of `torch.compile` hold.

What a traced function does to Python's objects happens after all operators of its graph. So whatever it may change
before the step, or read after it, is an argument: the tensors, all of which the operator may write, and the numbers of
the groups as one tensor, since a number would be a part of the graph, and each new rate make another graph. How many
steps were taken, and what the last came to, stay with the optimizer, which leaves the graph where somebody reads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from core.optim.kernels import state_names

if TYPE_CHECKING:
    from core.optim.step import Stepping

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIMIZERS: WeakValueDictionary[int, Stepping] = WeakValueDictionary()
_NUMBERS = count()
_OPTIONS = ("max_grad_norm", "check", "zero_grads")
_MAY_BE_NONE = ("max_grad_norm", "ema_decay")


def beside(function: Function) -> Function:
    """Runs as it is, between two graphs."""
    reason = (
        "core.optim leaves the graph here: for what a step came to, state, a closure, hooks, GradScaler, a first step"
        " after the model was converted, and tensors that are not torch's own dense ones: compile it without fullgraph"
    )
    return cast(Function, torch.compiler.disable(function, reason=reason))  # type: ignore[no-untyped-call]


def enrolled(optimizer: Stepping) -> int:
    """The number by which the operator finds an optimizer, as long as somebody else holds it."""
    number = next(_NUMBERS)
    _OPTIMIZERS[number] = optimizer
    return number


def add_step(optimizer: Stepping) -> bool:
    """Put a step into the graph that is being traced; False, and nothing is put, where the operator cannot take it."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moving = [i for i, parameter in enumerate(parameters) if parameter.grad is not None]
    given = [parameters[i] for i in moving]
    gradients = [parameter.grad for parameter in given]
    if not given or not all(
        type(one) in (Tensor, torch.nn.Parameter) and one.layout == torch.strided
        for one in (*given, *gradients)
    ):
        return False
    if not all(_has_state(optimizer, parameter) for parameter in given):
        return False
    state = [mine[name] for mine, name in _places(optimizer, given)]
    with torch.no_grad():
        step(given, gradients, state, _packed(optimizer), moving, optimizer._number)
    return True


@torch.library.custom_op(
    "taoke::step",
    mutates_args=("parameters", "gradients", "state"),
    tags=(torch.Tag.cudagraph_unsafe,),  # the host decides
)
def step(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    state: Sequence[Tensor],
    settings: Tensor,
    moving: Sequence[int],
    optimizer: int,
) -> None:
    """One step of the optimizer of this number.

    Args:
        parameters: those that have gradients; the optimizer's own, or copies that are to be changed in their place.
        gradients: one each.
        state: what the optimizer keeps of these, in the order of `_places`, or copies likewise.
        settings: the numbers it steps with, float64, as `_packed` has them.
        moving: the parameters' places among all of the optimizer's.
    """
    stepping = _OPTIMIZERS[optimizer]
    stepping._take_turn()
    try:
        stepping._find_out()
        with torch.no_grad():
            _step(stepping, parameters, gradients, state, settings.tolist(), moving)
    finally:
        stepping._stepping.release()


@step.register_fake
def _(*_: Any) -> None:
    return None


def _step(
    optimizer: Stepping,
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    state: Sequence[Tensor],
    settings: Sequence[float],
    moving: Sequence[int],
) -> None:
    own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    places = _places(optimizer, [own[i] for i in moving])
    pairs = [
        *zip([own[i] for i in moving], parameters, strict=True),
        *((mine[name], given) for (mine, name), given in zip(places, state, strict=True)),
    ]
    copied = [(mine, given) for mine, given in pairs if mine.data_ptr() != given.data_ptr()]
    kept = [mine.clone() for mine, _ in copied]
    all_gradients: list[Tensor | None] = [None] * len(own)
    for i, gradient in zip(moving, gradients, strict=True):
        all_gradients[i] = gradient
    own_settings = {name: getattr(optimizer, name) for name in (*_OPTIONS, "param_groups")}
    for mine, given in copied:
        mine.copy_(given)
    try:
        optimizer.__dict__.update(_unpacked(optimizer, settings))
        optimizer._step_by(all_gradients)
    finally:
        optimizer.__dict__.update(own_settings)
        for (mine, given), value in zip(copied, kept, strict=True):
            given.copy_(mine)
            mine.copy_(value)


def _has_state(optimizer: Stepping, parameter: Tensor) -> bool:
    """Whether there is state, and it is that of a parameter of this type: else a step makes it so, and graphs take the
    next."""
    state = optimizer._state.get(parameter, {})
    exact = parameter.dtype == torch.bfloat16 and optimizer.master
    return "step" in state and exact == ("remainder" in state)


def _places(optimizer: Stepping, parameters: Sequence[Tensor]) -> list[tuple[Mapping[str, Tensor], str]]:
    """Where each tensor of these parameters' state is: in which mapping, by what name."""
    states = [optimizer._state.get(parameter, {}) for parameter in parameters]
    names = state_names(optimizer._rule())
    return [(state, name) for state in states for name in names if name in state]


def _rates(optimizer: Stepping, group: Mapping[str, Any]) -> list[str]:
    """The names of a group's numbers."""
    return [name for name in optimizer.defaults if name in group and name != "anchor_to"]


def _packed(optimizer: Stepping) -> Tensor:
    """Every number that a step depends on; NaN is none."""
    values = [getattr(optimizer, name) for name in _OPTIONS]
    for group in optimizer.param_groups:
        for name in _rates(optimizer, group):
            value = group[name]
            values += list(value) if isinstance(value, (tuple, list)) else [value]
    return torch.stack([_scalar(value) for value in values])


def _scalar(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", torch.float64).reshape(())
    # torch makes a product with a number one with an argument of the graph; with torch.tensor(value) it does not.
    return torch.ones((), dtype=torch.float64) * (math.nan if value is None else value)


def _unpacked(optimizer: Stepping, settings: Sequence[float]) -> dict[str, Any]:
    """The optimizer's options and groups with these numbers, the inverse of `_packed`."""
    left = iter(settings)

    def following(name: str, like: Any) -> Any:
        if isinstance(like, (tuple, list)):
            return tuple(next(left) for _ in like)
        value = next(left)
        return None if name in _MAY_BE_NONE and math.isnan(value) else value

    options = {name: following(name, getattr(optimizer, name)) for name in _OPTIONS}
    groups = [
        {**group, **{name: following(name, group[name]) for name in _rates(optimizer, group)}}
        for group in optimizer.param_groups
    ]
    return {**options, "param_groups": groups}
