"""Where parameters, their state and their gradients lie. The kernels get addresses, so everything is checked here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from core.optim.codes import BLOCK
from core.optim.reference import MOMENTS, Rule

_STORES = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2, torch.uint8: 2}


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements lie one after the other in memory, in whatever order."""
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted(
        (stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size != 1
    ):
        if stride != expected:
            return False
        expected *= size
    return True


def same_layout(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape have their elements in the same order in memory, without gaps."""
    if one.is_contiguous() and other.is_contiguous():
        return True
    return is_dense(one) and all(
        size == 1 or a == b for size, a, b in zip(one.shape, one.stride(), other.stride(), strict=True)
    )


def is_shared(tensors: Sequence[Tensor]) -> bool:
    """Whether two of them begin at the same place."""
    where = [tensor.data_ptr() for tensor in tensors if tensor.numel()]
    return len(set(where)) < len(where)


def address(tensor: Tensor | None) -> int:
    """0 for none."""
    return 0 if tensor is None else tensor.data_ptr()


def state_names(rule: Rule) -> tuple[str, ...]:
    """The tensors of a parameter's state in the kernels' order; a name that no state has, where a rule has no such."""
    mean, square = (*MOMENTS[rule], "", "")[:2]
    return ("remainder", mean, square, f"{mean}_scale", f"{square}_scale", "anchor_to", "ema")


def places(states: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[int]:
    """Where all tensors of the states are."""
    return [address(state.get(name)) for state in states for name in names]


def check_state(rule: Rule, parameter: Tensor, state: Mapping[str, Any]) -> None:
    """Raises `ValueError` for a state that the kernels would misread."""
    for name in state_names(rule):
        tensor = state.get(name)
        if tensor is None:
            continue
        wanted: tuple[torch.dtype, ...] = (torch.float32,)
        if name == "remainder":
            wanted = (torch.int16,)
        elif name == "anchor_to":
            wanted = (parameter.dtype,)
        elif name in MOMENTS[rule] and f"{name}_scale" in state:
            wanted = (torch.uint8 if name == "exp_avg_sq" else torch.int8,)
        elif name in MOMENTS[rule]:
            wanted = (torch.float32, torch.bfloat16)
        is_scale = name.endswith("_scale")
        fits = (
            tensor.numel() == -(-parameter.numel() // BLOCK) if is_scale else tensor.shape == parameter.shape
        )
        if tensor.dtype not in wanted or tensor.device != parameter.device or not fits:
            raise ValueError(
                f"state {name!r} is {tensor.dtype}, {tuple(tensor.shape)}, on {tensor.device}; {wanted[0]} for"
                f" {tuple(parameter.shape)} on {parameter.device} is wanted: build the optimizer after the model was"
                " converted"
            )
        if not is_scale and not same_layout(tensor, parameter):
            raise ValueError(
                f"state {name!r} lies otherwise in memory than its parameter: build the optimizer after the model was"
                " converted"
            )


class Memory:
    """The addresses of these parameters and their state, and of each step's gradients; `complete` says whether every
    parameter had a gradient in the last step."""

    def __init__(
        self,
        built: ModuleType,
        rule: Rule,
        parameters: Sequence[Tensor],
        states: Sequence[dict[str, Any]],
    ) -> None:
        for parameter, state in zip(parameters, states, strict=True):
            check_state(rule, parameter, state)
        self.parameters = list(parameters)
        self.states = list(states)
        self.names = state_names(rule)
        self.complete = False
        self.tensors = built.Tensors(Tensor.__dlpack_c_exchange_api__, Tensor.grad, self.parameters)
        self._copies: list[Tensor] = []
        self._places = places(self.states, self.names)

    def row(self, number: int) -> list[int]:
        """The addresses of a parameter and its state, in the kernels' order."""
        many = len(self.names)
        return [self.parameters[number].data_ptr(), *self._places[number * many : (number + 1) * many]]

    def store(self, number: int) -> int:
        """How its moments are kept (TaokeStore)."""
        mean = self.states[number].get(self.names[1])
        return 0 if mean is None else _STORES[mean.dtype]

    def fits(self, *, with_state: bool) -> bool:
        """Whether the parameters are still where they were, and as large, and, where asked for, their state too."""
        return self.tensors.hold(self.parameters) and (
            not with_state or places(self.states, self.names) == self._places
        )

    def gradients(self) -> list[Tensor | None]:
        """The parameters' gradients."""
        found: list[Tensor | None] = self.tensors.gradients_of(self.parameters)
        return found

    def take(self, gradients: list[Tensor | None]) -> None:
        """Find this step's gradients; those that lie otherwise in memory than their parameters are copied. Raises
        `RuntimeError` for what is sparse."""
        self._copies = []
        taken = self.tensors.take(gradients)
        if not taken:
            laid_out = [
                gradient if gradient is None else _laid_out(gradient, parameter)
                for gradient, parameter in zip(gradients, self.parameters, strict=True)
            ]
            self._copies = [copy for copy in laid_out if copy is not None]
            taken = self.tensors.take(laid_out)
        self.complete = taken == 2

    @property
    def shared(self) -> bool:
        """Whether one gradient is several parameters': the kernels must not clear it then."""
        return bool(self.tensors.shared())

    def not_cleared(self) -> bool:
        """Whether the gradients have to be cleared after the kernels: where copies were used, which are given up now,
        or one is several parameters'."""
        copied, self._copies = bool(self._copies), []
        return copied or self.shared


@torch.no_grad()
def _laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    if (
        type(gradient) is Tensor
        and gradient.dtype == parameter.dtype
        and same_layout(gradient, parameter)
        and gradient.shape == parameter.shape
    ):
        return gradient
    return torch.empty_like(parameter, requires_grad=False).copy_(gradient)
