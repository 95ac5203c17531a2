"""The kernels for NVIDIA GPUs, where they were built (TAOKE_CUDA=1 at installation): the update step in three launches
on torch's current stream. The host waits for nothing; the norm, the clip factor and the step counts stay on the
device until they are read.

Compiled, not yet run: `backend="auto"` does not choose them.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.optim.native import STORES, address, check_state, places, state_names
from core.optim.reference import Hyper, Rule

NOT_BUILT = "not built: install with TAOKE_CUDA=1 and nvcc on the path"
_TENSOR = struct.Struct("<9Qqiii4xQQ")  # TaokeTensor of csrc/plan.h
_CHUNK = struct.Struct("<3q")


@cache
def library() -> ctypes.CDLL | None:
    """The kernels; None where they were not built."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_cuda{suffix}")
        if path.is_file():
            loaded = ctypes.CDLL(str(path))
            sizes = (ctypes.c_int64 * 5)()
            loaded.taoke_cuda_sizes(sizes)
            if list(sizes[:2]) != [_TENSOR.size, _CHUNK.size]:
                raise RuntimeError(f"{path.name} is of another version: install again")
            return loaded
    return None


def available() -> str:
    """For `doctor`."""
    if library() is None:
        return NOT_BUILT
    built = "built for sm_80 and sm_90, not yet run by anybody"
    return built if torch.cuda.is_available() else f"{built}; no GPU here"


def unfit(parameters: Sequence[Tensor]) -> str | None:
    """Why the kernels cannot move these; None where they can."""
    if library() is None:
        return f"its kernels were {NOT_BUILT}"
    if len({parameter.device for parameter in parameters}) > 1:
        return "the parameters are on several devices"
    for parameter in parameters:
        if type(parameter) not in (Tensor, torch.nn.Parameter):
            return f"the kernels know torch's own tensors, not {type(parameter).__name__}"
        if parameter.dtype not in (torch.float32, torch.bfloat16) or not parameter.is_contiguous():
            return f"the kernels move contiguous float32 and bfloat16, not {parameter.dtype}"
    return None


def _on(device: torch.device, data: bytes) -> Tensor:
    """Bytes to the device without waiting; torch keeps the pinned memory until the copy is done."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).pin_memory().to(device, non_blocking=True)


class Cuda:
    """The update step of these parameters, all on one GPU. The states' step counts are the device's until `settle`."""

    def __init__(
        self,
        rule: Rule,
        parameters: Sequence[Tensor],
        states: Sequence[dict[str, Any]],
        groups: Sequence[int],
    ) -> None:
        loaded = library()
        if loaded is None:
            raise ValueError(NOT_BUILT)
        self._library, self._rule = loaded, rule
        self._parameters, self._states, self._groups = list(parameters), list(states), list(groups)
        self._device = parameters[0].device
        for parameter, state in zip(parameters, states, strict=True):
            check_state(rule, parameter, state)
        sizes = (ctypes.c_int64 * 5)()
        loaded.taoke_cuda_sizes(sizes)
        _, _, coefficients, self._outcome_size, chunk = sizes
        chunks = b"".join(
            _CHUNK.pack(i, start, min(start + chunk, parameter.numel()))
            for i, parameter in enumerate(parameters)
            for start in range(0, parameter.numel(), chunk)
        )
        self._count = len(chunks) // _CHUNK.size
        self._chunks = _on(self._device, chunks or b"\0")
        self._partial = torch.empty(max(1, self._count), dtype=torch.float64, device=self._device)
        self._coefficients = torch.empty(
            len(parameters) * coefficients, dtype=torch.uint8, device=self._device
        )
        self._left_out = torch.zeros(1, dtype=torch.float64, device=self._device)
        self._places = [(parameter.data_ptr(), parameter.numel()) for parameter in parameters]
        self._names = state_names(rule)
        self._state_places = places(states, self._names)
        self._gradients: list[int] = []
        self._table: Tensor | None = None
        self._hypers: list[Hyper] = []
        self._hyper_table = torch.empty(0)

    def fits(self, *, with_state: bool) -> bool:
        """Whether the parameters are still where they were, and as large, and, where asked for, their state too."""
        return (
            [(parameter.data_ptr(), parameter.numel()) for parameter in self._parameters] == self._places
        ) and (not with_state or places(self._states, self._names) == self._state_places)

    def step(
        self,
        gradients: list[Tensor | None],
        hypers: list[Hyper],
        *,
        max_norm: float | None,
        check: bool,
        zero: bool,
        grad_scale: Tensor | None,
        found_inf: Tensor | None,
    ) -> Tensor:
        """One step; [norm, clip factor, scale, 1 where it was left out] as a tensor of the device."""
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            if gradient is not None and (gradient.dtype != parameter.dtype or not gradient.is_contiguous()):
                raise ValueError("gradients must be contiguous, and of their parameters' type")
        addresses = [address(gradient) for gradient in gradients]
        if self._table is None or addresses != self._gradients:
            self._write_table(addresses)
        if hypers != self._hypers:
            self._hypers = hypers
            self._hyper_table = _on(self._device, b"".join(struct.pack("<9d", *hyper) for hyper in hypers))
        outcome = torch.empty(self._outcome_size // 8, dtype=torch.float64, device=self._device)
        pointer = ctypes.c_void_p
        error = self._library.taoke_cuda_step(
            int(self._rule),
            pointer(address(self._table)),
            ctypes.c_int64(len(self._parameters)),
            pointer(self._chunks.data_ptr()),
            ctypes.c_int64(self._count),
            pointer(self._hyper_table.data_ptr()),
            pointer(self._coefficients.data_ptr()),
            pointer(self._partial.data_ptr()),
            pointer(outcome.data_ptr()),
            pointer(self._left_out.data_ptr()),
            pointer(address(grad_scale)),
            pointer(address(found_inf)),
            ctypes.c_double(max_norm or 0.0),
            int(check or max_norm is not None),
            int(zero),
            self._device.index,
            pointer(torch.cuda.current_stream(self._device).cuda_stream),
        )
        if error:
            raise RuntimeError(f"the update step failed with CUDA's error {error}")
        torch.autograd.graph.increment_version(
            [p for p, g in zip(self._parameters, gradients, strict=True) if g is not None]
        )
        return outcome

    def _write_table(self, addresses: list[int]) -> None:
        """The table of tensors with these gradients; the step counts are those of the device's old one."""
        rows = []
        for i, (parameter, state) in enumerate(zip(self._parameters, self._states, strict=True)):
            remainder, *others = [address(state.get(name)) for name in self._names]
            mean = state.get(self._names[1])
            store = 0 if mean is None else STORES[mean.dtype]
            narrow = int(parameter.dtype == torch.bfloat16)
            where = (parameter.data_ptr(), addresses[i], remainder, *others)
            rows.append(
                _TENSOR.pack(*where, parameter.numel(), narrow, store, self._groups[i], i, state["step"])
            )
        old, self._table = self._table, _on(self._device, b"".join(rows))
        if old is not None:
            self._steps(self._table).copy_(self._steps(old))
        self._gradients = addresses

    def _steps(self, table: Tensor) -> Tensor:
        return table.view(torch.int64).view(-1, _TENSOR.size // 8)[:, -1]

    def left_out(self) -> int:
        """How many steps were left out so far. Waits for the device."""
        return int(self._left_out.item())

    def forget_left_out(self) -> None:
        """Count them from 0 again."""
        self._left_out.zero_()

    def settle(self) -> None:
        """The step counts into the states. Waits for the device."""
        if self._table is not None:
            for state, step in zip(self._states, self._steps(self._table).tolist(), strict=True):
                state["step"] = step
