"""The update step as a registered operator of torch's, `taoke::step`, which graphs of `torch.compile` hold.

What a traced function does to Python's objects happens after all operators of its graph. So whatever it may change
before the step, or read after it, is an argument: the tensors, all of which the operator may write, and the numbers of
the groups as one tensor, since a number would be a part of the graph, and each new rate make another graph. How many
steps were taken, and what the last came to, stay with the optimizer, and reading them is a graph break.
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


def graph_break(what: str) -> Callable[[Function], Function]:
    """The function runs outside of graphs, at a graph break; with `fullgraph=True` that is an error, about `what`."""
    reason = (
        f"core.optim: {what} cannot be in a graph of torch.compile: do it outside of the compiled function, or compile"
        " that without fullgraph=True"
    )

    def decorate(function: Function) -> Function:
        return cast(Function, torch.compiler.disable(function, reason=reason))  # type: ignore[no-untyped-call]

    return decorate


def register(optimizer: Stepping) -> int:
    """The number by which the operator finds an optimizer, as long as somebody else holds it."""
    number = next(_NUMBERS)
    _OPTIMIZERS[number] = optimizer
    return number


def add_step(optimizer: Stepping) -> bool:
    """Put a step into the graph that is being traced; False, and nothing is put, where the operator cannot take it."""
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moving = [i for i, parameter in enumerate(parameters) if parameter.grad is not None]
    given = [parameters[i] for i in moving]
    gradients = [parameter.grad for parameter in given]
    plain = all(
        type(one) in (Tensor, torch.nn.Parameter) and one.layout == torch.strided
        for one in (*given, *gradients)
    )
    if not given or not plain or not all(_state_fits(optimizer, parameter) for parameter in given):
        return False
    state = [mine[name] for mine, name in _places(optimizer, given)]
    # Not `no_grad` around it: where the operator raises, the graph would leave that on.
    bare, slopes = [parameter.detach() for parameter in given], [gradient.detach() for gradient in gradients]
    step(bare, slopes, state, _packed(optimizer), moving, sizes, optimizer._operator_number)
    return True


@torch.library.custom_op(
    "taoke::step",
    mutates_args=("parameters", "gradients", "state"),
    tags=(torch.Tag.cudagraph_unsafe,),  # the host reads settings and counts, which a CUDA graph would freeze
)
def step(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    state: Sequence[Tensor],
    settings: Tensor,
    moving: Sequence[int],
    sizes: Sequence[int],
    number: int,
) -> None:
    """One step of an optimizer.

    Args:
        parameters: those that have gradients, of any shape and of the types that the optimizer takes: its own, or
            copies that are to be changed in their place.
        gradients: one each, of the same shape.
        state: what the optimizer keeps of these, in the order of `_places`, or copies likewise.
        settings: float64 of shape (n,), on the CPU, as `_packed` orders them.
        moving: the parameters' places among all of the optimizer's.
        sizes: how many parameters each of its groups has.
        number: what `register` gave.

    Raises:
        RuntimeError: there is no optimizer of this number, its groups have other sizes, or another thread steps it.
        ValueError: as for `Stepping.step`.
    """
    optimizer = _OPTIMIZERS.get(number)
    if optimizer is None:
        raise RuntimeError(
            f"taoke::step: no optimizer has the number {number} in this process: it was deleted, or the graph is of"
            " another process: compile the function again with the optimizer that is there"
        )
    if list(sizes) != [len(group["params"]) for group in optimizer.param_groups]:
        raise RuntimeError(
            f"{optimizer.name}: a compiled function changed which parameters there are before step_in_graph(): use"
            " step() there"
        )
    with optimizer._turn(), torch.no_grad():
        optimizer._kernels_now()
        _step_given(optimizer, parameters, gradients, state, settings.tolist(), moving)


@step.register_fake
def _(*_: Any) -> None:
    return None


def _step_given(
    optimizer: Stepping,
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    state: Sequence[Tensor],
    settings: Sequence[float],
    moving: Sequence[int],
) -> None:
    own = [optimizer._parameters[i] for i in moving]
    places = _places(optimizer, own)
    pairs = [
        *zip(own, parameters, strict=True),
        *((mine[name], given) for (mine, name), given in zip(places, state, strict=True)),
    ]
    # Some backends pass copies, and write them back at the end of the graph: until then, our own are not to change. A
    # copy of one may lie where another of our own does, so all are read before any is written.
    copied = [(mine, given) for mine, given in pairs if mine.data_ptr() != given.data_ptr()]
    kept = [mine.clone() for mine, _ in copied]
    came = [given.clone() for _, given in copied]
    all_gradients: list[Tensor | None] = [None] * len(optimizer._parameters)
    for i, gradient in zip(moving, gradients, strict=True):
        all_gradients[i] = gradient
    own_settings = {name: getattr(optimizer, name) for name in (*_OPTIONS, "param_groups")}
    try:
        for (mine, _), value in zip(copied, came, strict=True):
            mine.copy_(value)
        optimizer.__dict__.update(_unpacked(optimizer, settings))
        optimizer._step_by(all_gradients)
        # What torch's schedulers look for; their own mark is made by `step`, which is passed by.
        optimizer._opt_called = True  # type: ignore[attr-defined]
    finally:
        optimizer.__dict__.update(own_settings)
        made = [mine.clone() for mine, _ in copied]
        for (mine, _), value in zip(copied, kept, strict=True):
            mine.copy_(value)
        for (_, given), value in zip(copied, made, strict=True):
            given.copy_(value)


def _state_fits(optimizer: Stepping, parameter: Tensor) -> bool:
    """Whether there is state, with a remainder exactly where the parameter's type asks for one; if not, a step outside
    of graphs makes it so."""
    state = optimizer._state.get(parameter, {})
    wants_remainder = parameter.dtype == torch.bfloat16 and optimizer.master
    return "step" in state and wants_remainder == ("remainder" in state)


def _places(optimizer: Stepping, parameters: Sequence[Tensor]) -> list[tuple[Mapping[str, Tensor], str]]:
    """Where each tensor of these parameters' state is: in which mapping, by what name."""
    states = [optimizer._state.get(parameter, {}) for parameter in parameters]
    names = state_names(optimizer._rule())
    return [(state, name) for state in states for name in names if name in state]


def _rates(optimizer: Stepping, group: Mapping[str, Any]) -> list[str]:
    """The names of a group's numbers."""
    return [name for name in optimizer.defaults if name in group and name != "anchor_to"]


def _packed(optimizer: Stepping) -> Tensor:
    """Every number that a step depends on, float64 of shape (n,), on the CPU: the options, then each group's. NaN is
    None. A rate that is a tensor on a GPU is waited for."""
    values = [getattr(optimizer, name) for name in _OPTIONS]
    for group in optimizer.param_groups:
        for name in _rates(optimizer, group):
            value = group[name]
            values += list(value) if isinstance(value, (tuple, list)) else [value]
    return torch.stack([_scalar(value) for value in values])


def _scalar(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", torch.float64).reshape(())
    # In a product torch makes the number an input of the graph; in torch.tensor(value) it would be a constant.
    return torch.ones((), dtype=torch.float64, device="cpu") * (math.nan if value is None else value)


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
