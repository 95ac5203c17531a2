"""What the kernels for the CPU and for GPUs have in common: which parameters they take, and where these, their state
and their gradients lie. They get addresses and check nothing: parameters and state are checked when they are looked
up, and before each step whether everything is where and what it was (`csrc/tensors.h`).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
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


def _holds(own: torch.dtype, given: torch.dtype | None) -> bool:
    """Whether each number of the given type is one of the own; also where any type may come (None)."""
    return given is None or torch.promote_types(own, given) == own


def same_layout(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape have their elements in the same order in memory, without gaps."""
    if one.is_contiguous() and other.is_contiguous():
        return True
    return is_dense(one) and all(
        size == 1 or a == b for size, a, b in zip(one.shape, one.stride(), other.stride(), strict=True)
    )


def unfit(parameters: Sequence[Tensor]) -> str | None:
    """Why no kernels can move these; None where those of their device may."""
    if len({parameter.device for parameter in parameters}) > 1:
        return "the parameters are on several devices"
    for parameter in parameters:
        if type(parameter) not in (Tensor, torch.nn.Parameter):
            return f"the kernels know torch's own tensors, not {type(parameter).__name__}"
        if parameter.dtype not in (torch.float32, torch.bfloat16):
            return f"the kernels move float32 and bfloat16, not {parameter.dtype}"
        if parameter.is_leaf and not _holds(parameter.dtype, parameter.grad_dtype):
            return f"the kernels take gradients in {parameter.dtype}, their parameter's type, and these are finer"
        if parameter.is_neg():
            return "the kernels move numbers as they lie in memory, and torch holds these negated"
        if not is_dense(parameter):
            return "the kernels move parameters whose elements lie one after the other, not every so many"
    places = sorted((p.data_ptr(), p.numel() * p.element_size()) for p in parameters if p.numel())
    if any(one + size > other for (one, size), (other, _) in pairwise(places)):
        return "the kernels move parameters that have their memory for themselves, and two share theirs"
    return None


@cache
def warn_once(reason: str) -> None:
    """Loudly, at the first use, at the line that takes the step."""
    level, frame = 1, sys._getframe()
    own = (str(Path(__file__).parent), str(Path(torch.__file__).parent))
    while frame.f_back is not None and frame.f_code.co_filename.startswith(own):
        level, frame = level + 1, frame.f_back
    text = f"core.optim: {reason}; the update step runs in plain torch, which is slower"
    warnings.warn(text, RuntimeWarning, stacklevel=level)


def refuse_sparse(gradients: Sequence[Tensor | None]) -> None:
    """Raises `RuntimeError` where one is."""
    for gradient in gradients:
        if gradient is not None and gradient.layout != torch.strided:
            raise RuntimeError(
                f"gradients must be dense, and one is {gradient.layout}: make its layer with sparse=False, or give its"
                " parameter to torch.optim.SparseAdam"
            )


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
    advice = "build the optimizer after the model was converted"
    moments = MOMENTS[rule]
    kinds = {None if state.get(name) is None else _STORES.get(state[name].dtype) for name in moments}
    if None in kinds or len(kinds) > 1:
        found = ", ".join(f"{name}: {getattr(state.get(name), 'dtype', 'missing')}" for name in moments)
        raise ValueError(f"the moments are {found}; all of one kind (`state_dtype`) are wanted: {advice}")
    coded = kinds == {_STORES[torch.int8]}
    for name in state_names(rule):
        tensor = state.get(name)
        is_scale = name.endswith("_scale")
        if tensor is None and not (is_scale and coded and name.removesuffix("_scale") in moments):
            continue
        wanted: tuple[torch.dtype, ...] = (torch.float32,)
        if name == "remainder":
            wanted = (torch.int16,) if parameter.dtype == torch.bfloat16 else ()
        elif name == "anchor_to":
            wanted = (parameter.dtype,)
        elif name in moments and coded:
            wanted = (torch.uint8 if name == "exp_avg_sq" else torch.int8,)
        elif name in moments:
            wanted = (torch.float32, torch.bfloat16)
        shape = (-(-parameter.numel() // BLOCK),) if is_scale else tuple(parameter.shape)
        if tensor is None or not (
            tensor.dtype in wanted and tensor.device == parameter.device and tuple(tensor.shape) == shape
        ):
            is_now = "missing"
            if tensor is not None:
                is_now = f"{tensor.dtype}, {tuple(tensor.shape)}, on {tensor.device}"
            kind = f"{wanted[0]}, {shape}, on {parameter.device}" if wanted else "none"
            raise ValueError(f"state {name!r} is {is_now}; {kind} is wanted: {advice}")
        if not is_scale and not same_layout(tensor, parameter):
            raise ValueError(f"state {name!r} lies otherwise in memory than its parameter: {advice}")


class Kernels:
    """The parameters of one optimizer as kernels see them, with their state and each step's gradients; `complete` says
    whether every parameter had a gradient in the last step, `shared` whether one was several parameters'."""

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
        self.tensors = built.Tensors(Tensor, self.parameters)
        # Held, so that no other tensor can come to lie at an address that `fits` knows.
        self._state_tensors = [state.get(name) for state in states for name in self.names]
        self._places = places(self.states, self.names)
        # They share the version counters, and are of torch's own type, which it knows in a third of the time.
        self._versions = [parameter.detach() for parameter in parameters]
        self._copies: list[Tensor] = []

    def row(self, number: int) -> list[int]:
        """The addresses of a parameter and its state, in the kernels' order."""
        many = len(self.names)
        return [self.parameters[number].data_ptr(), *self._places[number * many : (number + 1) * many]]

    def store(self, number: int) -> int:
        """How its moments are kept (TaokeStore)."""
        mean = self.states[number].get(self.names[1])
        return 0 if mean is None else _STORES[mean.dtype]

    def fits(self, groups: list[list[Tensor]], *, with_state: bool) -> bool:
        """Whether the groups' parameters are still these, where they were, and as large; where asked for, their state
        too."""
        return self.tensors.hold(self.parameters, groups) and (
            not with_state or places(self.states, self.names) == self._places
        )

    def gradients(self) -> list[Tensor | None]:
        """The parameters' gradients."""
        found: list[Tensor | None] = self.tensors.gradients_of(self.parameters)
        return found

    def take(self, gradients: Sequence[Tensor | None]) -> None:
        """Find this step's gradients; those that lie otherwise in memory than their parameters are copied. Raises
        `RuntimeError` for what is sparse, or finer than its parameter."""
        self._copies = []
        if self.tensors.take(gradients):
            return
        refuse_sparse(gradients)
        laid_out = [
            None if gradient is None else _laid_out(gradient, parameter)
            for gradient, parameter in zip(gradients, self.parameters, strict=True)
        ]
        self._copies = [
            copy
            for copy, given in zip(laid_out, gradients, strict=True)
            if copy is not None and copy is not given
        ]
        if not self.tensors.take(laid_out):
            raise RuntimeError("a gradient cannot be laid out as its parameter is: use backend='reference'")

    @property
    def complete(self) -> bool:
        return bool(self.tensors.complete())

    @property
    def shared(self) -> bool:
        return bool(self.tensors.shared())

    def bump(self, gradients: Sequence[Tensor | None], *, zero: bool) -> None:
        """Tell autograd what has been written, so that a graph that holds an old value says so when it is needed."""
        written = self._versions
        if not self.complete:
            pairs = zip(self._versions, gradients, strict=True)
            written = [version for version, gradient in pairs if gradient is not None]
            gradients = [gradient for gradient in gradients if gradient is not None]
        torch.autograd.graph.increment_version(written)
        if zero:
            torch.autograd.graph.increment_version(gradients)  # type: ignore[arg-type]

    def done(self) -> bool:
        """Gives the copies up. Whether the gradients, if they are to be cleared, still have to be: where copies were
        used, or one is several parameters'."""
        copied, self._copies = bool(self._copies), []
        return copied or self.shared


@torch.no_grad()
def _laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    if type(gradient) is Tensor and gradient.numel() and not gradient.data_ptr():
        raise RuntimeError(
            "a gradient's memory was given up: it cannot be read"
        )  # torch reads it, and crashes
    if (
        type(gradient) is Tensor
        and gradient.dtype == parameter.dtype
        and gradient.shape == parameter.shape
        and gradient.device == parameter.device
        and same_layout(gradient, parameter)
        and not gradient.is_neg()
    ):
        return gradient
    if not _holds(parameter.dtype, gradient.dtype):
        raise RuntimeError(
            f"a gradient is {gradient.dtype}, finer than its parameter, {parameter.dtype}, and the kernels would"
            " round it: build the optimizer with backend='reference'"
        )
    return torch.empty_like(parameter, requires_grad=False).copy_(gradient)
