"""The kernels for NVIDIA GPUs, where they were built: the update step in two launches, three with a norm, on torch's
current stream. The host waits for nothing; the norm, the clip factor and the step counts stay on the device until
they are read.
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

from core.optim import cpu, kernels
from core.optim.kernels import address
from core.optim.reference import Hyper, Rule

NOT_BUILT = "the kernels for GPUs were not built: install with nvcc on the path"
_TENSOR = struct.Struct("<9Qqiii4xQQ")  # TaokeTensor of csrc/plan.h
_CHUNK = struct.Struct("<3q")
_VERSION = 2


@cache
def library() -> ctypes.CDLL | None:
    """The kernels; None where they were not built."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_cuda{suffix}")
        if path.is_file():
            loaded = ctypes.CDLL(str(path))
            tensor, chunk, *_, version = _sizes(loaded)
            if (tensor, chunk, version) != (_TENSOR.size, _CHUNK.size, _VERSION):
                raise RuntimeError(f"{path.name} is of another version: install again")
            return loaded
    return None


def _sizes(loaded: ctypes.CDLL) -> list[int]:
    """Bytes of a tensor's row, a chunk's, a tensor's coefficients, and of what a step came to; a chunk's elements; the
    interface's version."""
    sizes = (ctypes.c_int64 * 6)()
    loaded.taoke_cuda_sizes(sizes)
    return list(sizes)


def available() -> str:
    """What was built, in words."""
    if library() is None:
        return f"reference only: {NOT_BUILT}"
    built = "built for sm_80 and sm_90"
    return built if torch.cuda.is_available() else f"{built}; no GPU here"


def unfit(parameters: Sequence[Tensor]) -> str | None:
    """Why the kernels cannot move these; None where they can."""
    if cpu.module() is None:
        return cpu.NOT_BUILT
    if library() is None:
        return NOT_BUILT
    if torch.cuda.get_device_capability(parameters[0].device) < (8, 0):
        return "the kernels are for GPUs of compute capability 8.0 and later"
    return kernels.unfit(parameters)


def _on(device: torch.device, data: bytes) -> Tensor:
    """Bytes to the device without waiting; torch keeps the pinned memory until the copy is done. Raises `RuntimeError`
    inside a graph's capture, which would copy from memory that is gone when it is replayed."""
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "a graph that holds an update step is captured after a step with the same gradients, in place, and rates"
        )
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).pin_memory().to(device, non_blocking=True)


class Cuda(kernels.Kernels):
    """The update step of these parameters, all on one GPU. The states' step counts are the device's until `settle`."""

    def __init__(
        self,
        rule: Rule,
        parameters: Sequence[Tensor],
        states: Sequence[dict[str, Any]],
        groups: Sequence[int],
    ) -> None:
        loaded, built = library(), cpu.module()
        if loaded is None or built is None:
            raise ValueError(NOT_BUILT)
        super().__init__(built, rule, parameters, states)
        self._library, self._rule, self._groups = loaded, rule, list(groups)
        self._device = parameters[0].device
        _, _, coefficients, outcome, chunk, _ = _sizes(loaded)
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
        self._outcome_size = outcome // 8
        self._mixed = any(p.dtype != torch.float32 or self.store(i) for i, p in enumerate(parameters))
        self._left_out = torch.zeros(1, dtype=torch.float64, device=self._device)
        self._empty = [i for i, parameter in enumerate(parameters) if not parameter.numel()]
        self._counts = [state["step"] for state in states]  # what the states were last told
        self._gradients: list[int] = []
        self._table: Tensor | None = None
        self._hypers: list[Hyper] = []
        self._hyper_table = torch.empty(0)

    def fits(self, groups: list[list[Tensor]], *, with_state: bool) -> bool:
        """As for all kernels; with the state, also whether its step counts are those that `settle` left."""
        return super().fits(groups, with_state=with_state) and (
            not with_state or [state["step"] for state in self.states] == self._counts
        )

    @torch.inference_mode(False)
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
    ) -> tuple[Tensor, bool]:
        """One step. [norm, clip factor, 1 where it was left out] as a tensor of the device, (3,), float64, whose norm
        is 0 where none was needed; and whether the gradients are still to be cleared."""
        self.take(gradients)
        addresses = self.tensors.addresses()
        for i in self._empty:  # they have no address, and count their steps
            addresses[i] = int(gradients[i] is not None)
        if self._table is None or addresses != self._gradients:
            self._write_table(addresses)
        if hypers != self._hypers:
            self._hypers = hypers
            self._hyper_table = _on(self._device, b"".join(struct.pack("<9d", *hyper) for hyper in hypers))
        # GradScaler keeps its own on the device of the first loss, which need not be this one.
        scale, found = (
            None if tensor is None else tensor.to(self._device, torch.float32, non_blocking=True)
            for tensor in (grad_scale, found_inf)
        )
        outcome = torch.empty(self._outcome_size, dtype=torch.float64, device=self._device)
        pointer = ctypes.c_void_p
        error = self._library.taoke_cuda_step(
            int(self._rule),
            int(self._mixed),
            pointer(address(self._table)),
            ctypes.c_int64(len(self.parameters)),
            pointer(self._chunks.data_ptr()),
            ctypes.c_int64(self._count),
            pointer(self._hyper_table.data_ptr()),
            pointer(self._coefficients.data_ptr()),
            pointer(self._partial.data_ptr()),
            pointer(outcome.data_ptr()),
            pointer(self._left_out.data_ptr()),
            pointer(address(scale)),
            pointer(address(found)),
            ctypes.c_double(max_norm or 0.0),
            int(check or max_norm is not None),
            int(zero and not self.shared),
            self._device.index,
            pointer(torch.cuda.current_stream(self._device).cuda_stream),
        )
        if error:
            raise RuntimeError(f"the update step failed with CUDA's error {error}")
        self.bump(gradients, zero=zero)
        return outcome, self.done() and zero

    def _write_table(self, addresses: list[int]) -> None:
        """The table of tensors with these gradients; the step counts are those of the device's old one."""
        rows = []
        for i, (parameter, state) in enumerate(zip(self.parameters, self.states, strict=True)):
            where, *others = self.row(i)
            narrow = int(parameter.dtype == torch.bfloat16)
            sizes = (parameter.numel(), narrow, self.store(i), self._groups[i], i, state["step"])
            rows.append(_TENSOR.pack(where, addresses[i], *others, *sizes))
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
        """The step counts into the states, but for those that somebody has changed meanwhile. Waits for the device."""
        if self._table is None:
            return
        counts = self._steps(self._table).tolist()
        for state, told, count in zip(self.states, self._counts, counts, strict=True):
            if state["step"] == told:
                state["step"] = count
        self._counts = counts
