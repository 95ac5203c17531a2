"""The kernels for NVIDIA GPUs, where they were built."""

from __future__ import annotations


def available() -> str:
    """For `doctor`."""
    return "not built"
