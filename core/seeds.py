"""Keyed randomness: a number is drawn from (seed, stream, and whatever tells one use from another), so that
neither order nor workers nor resuming change a bit."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils import deterministic as deterministic_settings


def derive_seed(seed: int, stream: str, *keys: int | str) -> int:
    """A 63-bit seed that depends on all of its arguments and on nothing else."""
    text = "\x1f".join(map(str, (seed, stream, *keys)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, stream: str, *keys: int | str) -> torch.Generator:
    """A CPU generator for one use: the same arguments give the same numbers, whoever asks and in whatever
    order."""
    return torch.Generator().manual_seed(derive_seed(seed, stream, *keys))


def seed_torch(device: torch.device, seed: int) -> None:
    """Seed torch's global generator of the CPU, and of `device`: for dropout and `reset_parameters`, which
    take no other.

    `torch.manual_seed` would seed every kind of device, and where CUDA is built in and not initialised,
    queue a call with a formatted stack each time: 3 ms, never freed.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@contextmanager
def deterministic() -> Iterator[None]:
    """Same seed, same bits: deterministic kernels inside, and torch's global state as it was again after.

    Memory that nobody has written is not filled, as torch's deterministic mode does for code that reads it: that costs
    8 % of a step of a small transformer (benchmarks/LOG.md).
    """
    # cuBLAS is deterministic only with it: https://docs.nvidia.com/cuda/cublas, "Results reproducibility".
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    filled = deterministic_settings.fill_uninitialized_memory  # type: ignore[attr-defined]
    with torch.random.fork_rng():
        torch.use_deterministic_algorithms(True)
        deterministic_settings.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            deterministic_settings.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
