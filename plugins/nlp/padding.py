"""Texts of different length in one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor


class Part(TypedDict):
    """Some texts of a batch, padded to the longest of them: tokens (n, time) int64, and 1 where there is one."""

    ids: Tensor
    mask: Tensor


def padded(texts: Sequence[Sequence[int]]) -> Part:
    longest = max(map(len, texts))  # what stands behind the end is masked, whatever it is
    return {
        "ids": torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in texts]),
        "mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in texts]),
    }
