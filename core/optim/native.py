"""The kernels for the CPU: which were built, and the update step by them (`csrc/bindings.cpp`)."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from core.optim.memory import Memory, is_dense, is_shared
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
    if is_shared(parameters):
        return "the kernels move parameters that have their memory for themselves, and two share theirs"
    return None


class Native(Memory):
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
        self._kept = [state.get(name) for state in states for name in self.names]  # as long as the plan
        for number, (parameter, group) in enumerate(zip(parameters, groups, strict=True)):
            narrow = parameter.dtype == torch.bfloat16
            self._plan.add(self.row(number), parameter.numel(), narrow, self.store(number), group, number)

    def squares(self, gradients: list[Tensor | None], *, needed: bool) -> float:
        """Take this step's gradients, and the sum of their squares, in double; 0 where it is not needed."""
        self.take(gradients)
        self._plan.gradients(self.tensors)
        return float(self._plan.squares(_isa_named(os.environ.get("TAOKE_ISA")))) if needed else 0.0

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
        gradients are still to be cleared."""
        self._plan.update(
            _isa_named(os.environ.get("TAOKE_ISA")), table, rows, scale, zero and not self.shared
        )
        torch.autograd.graph.increment_version(moving)
        return zero and self.not_cleared()
