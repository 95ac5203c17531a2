"""The kernels for the CPU: which were built, and the update step by them (`csrc/bindings.cpp`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from core.optim import kernels
from core.optim.reference import Hyper, Rule

NOT_BUILT = "the kernels were not built: install with a C++ compiler on the path"


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


def available() -> str:
    """What was built, and what of it runs, in words."""
    built = module()
    if built is None:
        return f"reference only: {NOT_BUILT}"
    try:
        runs = built.isa()
    except ValueError as error:
        runs = f"nothing: {error}"
    threads = built.openmp()
    team = threads.rsplit("/", 1)[-1] if threads else "no OpenMP runtime in the process: one thread"
    return f"{runs} (of {', '.join(built.usable())}), {team}"


def unfit(parameters: Sequence[Tensor]) -> str | None:
    """Why the kernels cannot move these; None where they can."""
    if module() is None:
        return NOT_BUILT
    if any(parameter.device.type != "cpu" for parameter in parameters):
        return f"the kernels move tensors on the CPU and on NVIDIA GPUs, not on {parameters[0].device}"
    return kernels.unfit(parameters)


class Cpu(kernels.Kernels):
    """The update step of these parameters by the kernels for the CPU."""

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
        super().__init__(built, rule, parameters, states)
        self._plan = built.Plan(int(rule))
        for number, (parameter, group) in enumerate(zip(parameters, groups, strict=True)):
            narrow = parameter.dtype == torch.bfloat16
            self._plan.add(self.row(number), parameter.numel(), narrow, self.store(number), group, number)

    def squares(self, gradients: Sequence[Tensor | None], *, needed: bool) -> float:
        """Take this step's gradients, and the sum of their squares, in double; 0 where it is not needed."""
        self.take(gradients)
        self._plan.set_gradients(self.tensors)
        return float(self._plan.squares()) if needed else 0.0

    def update(
        self,
        table: list[tuple[Hyper, int]],
        rows: list[int] | None,
        scale: float,
        gradients: Sequence[Tensor | None],
        *,
        zero: bool,
    ) -> bool:
        """The step itself, with the gradients that `squares` was given. Whether they are still to be cleared."""
        self._plan.update(table, rows, scale, zero and not self.shared)
        self.bump(gradients, zero=zero)
        return self.done() and zero
