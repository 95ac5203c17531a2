"""Transforms of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import torch

from core.contract import JSON, Row
from plugins.nlp.data import windows
from plugins.nlp.options import CropOptions


class Crop:
    """Of a text longer than `bytes`, a piece of whole lines that begins at a random one."""

    random = True

    def __init__(self, options: CropOptions) -> None:
        self._bytes = options.bytes

    def fit(self, rows: Sequence[Row]) -> JSON:
        return None

    def apply(self, row: Row, state: JSON, rng: torch.Generator) -> Row:
        lines = row.inputs["text"].splitlines(keepends=True)
        left = list(accumulate(len(line.encode()) for line in reversed(lines)))[
            ::-1
        ]  # bytes from a line to the end
        starts = sum(size > self._bytes for size in left) + 1  # the last one reaches the end
        start = int(torch.randint(starts, (), generator=rng))
        piece = next(windows("".join(lines[start:]), self._bytes))
        return replace(row, inputs={**row.inputs, "text": piece})
