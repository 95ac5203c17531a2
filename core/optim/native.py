"""The kernels, as far as they were built: which there are, and the update step by them.

Everything is checked here; the kernels get addresses (`csrc/bindings.cpp`).
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from core.optim.codes import BLOCK
from core.optim.reference import MOMENTS, Hyper, Rule

NOT_BUILT = "the kernels were not built: install with a C++ compiler on the path"
STORES = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2, torch.uint8: 2}


@cache
def module() -> ModuleType | None:
    """The extension; None where it was not built."""
    try:
        return import_module("core.optim._native")
    except ImportError:
        return None


def isa() -> str:
    """The instruction set that the kernels use: the best this machine has, or what TAOKE_ISA names. Raises
    `ValueError` where that cannot run here."""
    built = module()
    if built is None:
        raise ValueError(NOT_BUILT)
    return str(built.isa())


@cache
def _isa_named(name: str | None) -> str:
    return isa()


def available() -> dict[str, str]:
    """What was built, and what of it runs: for `doctor`."""
    built = module()
    if built is None:
        cpu = f"reference only: {NOT_BUILT}"
    else:
        try:
            runs = built.isa()
        except ValueError as error:
            runs = f"nothing: {error}"
        threads = built.openmp()
        team = threads.rsplit("/", 1)[-1] if threads else "no OpenMP runtime in the process: one thread"
        cpu = f"{runs} (of {', '.join(built.usable())}), {team}"
    return {"cpu": cpu, "cuda": _cuda()}


def _cuda() -> str:
    from core.optim import cuda

    return cuda.available()


@cache
def warn_once(reason: str) -> None:
    """Loudly, at the first use, at the line that takes the step."""
    level, frame = 1, sys._getframe()
    own = (str(Path(__file__).parent), str(Path(torch.__file__).parent))
    while frame.f_back is not None and frame.f_code.co_filename.startswith(own):
        level, frame = level + 1, frame.f_back
    text = f"core.optim: {reason}; the update step runs in plain torch, which is slower"
    warnings.warn(text, RuntimeWarning, stacklevel=level)


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


def unfit(parameters: Sequence[Tensor]) -> str | None:
    """Why the kernels cannot move these; None where they can."""
    if module() is None:
        return NOT_BUILT
    for parameter in parameters:
        if type(parameter) not in (Tensor, torch.nn.Parameter):
            return f"the kernels know torch's own tensors, not {type(parameter).__name__}"
        if parameter.device.type != "cpu" or parameter.layout != torch.strided:
            return f"the kernels move dense tensors on the CPU, not on {parameter.device}"
        if parameter.dtype not in (torch.float32, torch.bfloat16):
            return f"the kernels move float32 and bfloat16, not {parameter.dtype}"
        if not is_dense(parameter):
            return "the kernels move parameters whose elements lie one after the other, not every so many"
    where = [parameter.data_ptr() for parameter in parameters if parameter.numel()]
    if len(set(where)) < len(where):
        return "the kernels move parameters that have their memory for themselves, and two share theirs"
    return None


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


class Native:
    """The update step of these parameters by the kernels. Keeps their addresses, and the state's; `fits` says whether
    they still hold, `complete` whether every parameter had a gradient in the last step."""

    def __init__(
        self,
        rule: Rule,
        parameters: Sequence[Tensor],
        states: Sequence[dict[str, Any]],
        groups: Sequence[int],
    ) -> None:
        built = module()
        if built is None:
            raise ValueError(NOT_BUILT)
        self._parameters = list(parameters)
        self._states = list(states)
        self._plan = built.Plan(int(rule))
        self._names = state_names(rule)
        self.complete = False
        self._shared = False
        self._copies: list[Tensor | None] = []
        self._addresses = [parameter.data_ptr() for parameter in parameters]
        self._sizes = [parameter.numel() for parameter in parameters]
        self._dtypes = [parameter.dtype for parameter in parameters]
        self._all_contiguous = all(parameter.is_contiguous() for parameter in parameters)
        self._others: list[Tensor] = []
        for number, (parameter, state, group) in enumerate(zip(parameters, states, groups, strict=True)):
            check_state(rule, parameter, state)
            self._add(number, parameter, state, group)
        self._places = places(self._states, self._names)

    def _add(self, number: int, parameter: Tensor, state: dict[str, Any], group: int) -> None:
        tensors = [state.get(name) for name in self._names]
        self._others += [tensor for tensor in tensors if tensor is not None]  # they live as long as the plan
        mean = state.get(self._names[1])
        store = 0 if mean is None else STORES[mean.dtype]
        where = [parameter.data_ptr(), *map(address, tensors)]
        narrow = parameter.dtype == torch.bfloat16
        self._plan.add(where, parameter.numel(), narrow, store, group, number)

    def fits(self, *, with_state: bool) -> bool:
        """Whether the parameters are still where they were, and as large, and, where asked for, their state too."""
        return (
            list(map(Tensor.data_ptr, self._parameters)) == self._addresses
            and list(map(Tensor.numel, self._parameters)) == self._sizes
            and (not with_state or places(self._states, self._names) == self._places)
        )

    def squares(self, gradients: list[Tensor | None], *, needed: bool) -> float:
        """Take this step's gradients, and the sum of their squares, in double; 0 where it is not needed."""
        addresses = self._addresses_of(gradients)
        self.complete = addresses is not None
        if addresses is None:
            laid_out = self._laid_out(gradients)
            addresses = [0 if gradient is None else gradient.data_ptr() for gradient in laid_out]
            self._copies = [
                copy for copy, given in zip(laid_out, gradients, strict=True) if copy is not given
            ]
        self._shared = len(set(addresses)) < len(addresses) - addresses.count(0)
        self._plan.gradients(addresses)
        return float(self._plan.squares(_isa_named(os.environ.get("TAOKE_ISA")))) if needed else 0.0

    def _addresses_of(self, gradients: list[Any]) -> list[int] | None:
        """Where all of them are; None where one is missing, or lies otherwise in memory than its parameter."""
        if not self._all_contiguous:
            return None
        try:
            if [gradient.dtype for gradient in gradients] != self._dtypes:
                return None
            if not all(map(Tensor.is_contiguous, gradients)):
                return None
            return list(map(Tensor.data_ptr, gradients))  # half the time of a loop
        except (AttributeError, RuntimeError, TypeError):  # None, and sparse tensors, have none of these
            return None

    def _laid_out(self, gradients: list[Tensor | None]) -> list[Tensor | None]:
        """The gradients, those copied that lie otherwise in memory than their parameters."""
        laid_out: list[Tensor | None] = []
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            if gradient is not None and (
                gradient.dtype != parameter.dtype or not same_layout(gradient, parameter)
            ):
                gradient = torch.empty_like(parameter).copy_(gradient)
            laid_out.append(gradient)
        return laid_out

    def update(
        self,
        table: list[tuple[Hyper, int]],
        rows: list[int] | None,
        scale: float,
        moving: Sequence[Tensor],
        *,
        zero: bool,
    ) -> bool:
        """The step itself, with the gradients that `squares` was given; `moving` are their parameters. Whether the
        gradients are still to be cleared: where copies were used, or one is several parameters'."""
        clear = zero and not self._shared
        self._plan.update(_isa_named(os.environ.get("TAOKE_ISA")), table, rows, scale, clear)
        torch.autograd.graph.increment_version(moving)
        copied, self._copies = bool(self._copies), []
        return zero and (copied or self._shared)


def same_layout(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape have their elements in the same order in memory, without gaps."""
    if one.is_contiguous() and other.is_contiguous():
        return True
    return is_dense(one) and all(
        size == 1 or a == b for size, a, b in zip(one.shape, one.stride(), other.stride(), strict=True)
    )
