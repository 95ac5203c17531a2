"""Texts of different length in one tensor: one after the other as they travel, in rows as a model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

NARROWEST = 64
"""Tokens of a row of packed texts, at least: attention's cost grows with the row, and shorter ones waste more of it."""


class Ragged(NamedTuple):
    """Texts end to end: tokens (total,) int64, and how many each text has, (texts,) int64."""

    tokens: Tensor
    lengths: Tensor


class Packed(NamedTuple):
    """Several texts a row: tokens, the text each is of (-1 where there is none), its position in its text, all (rows,
    width) int64; and where each token of the ragged texts stands in the flattened rows, (total,) int64."""

    tokens: Tensor
    text: Tensor
    position: Tensor
    place: Tensor


def ragged(texts: Sequence[Sequence[int]]) -> Ragged:
    tokens = [token for text in texts for token in text]
    return Ragged(torch.tensor(tokens, dtype=torch.int64), torch.tensor([len(text) for text in texts]))


def padded(texts: Ragged) -> tuple[Tensor, Tensor]:
    """One text a row, (texts, longest) int64, and a mask of that shape, True where there is a token. The mask picks the
    tokens, or what was made of them, in their order."""
    longest = int(texts.lengths.max())
    mask = torch.arange(longest, device=texts.lengths.device) < texts.lengths[:, None]
    tokens = torch.zeros(mask.shape, dtype=torch.int64, device=mask.device)
    tokens[mask] = texts.tokens
    return tokens, mask


def packed(texts: Ragged) -> Packed:
    """Several texts a row, so that little is padding: each into the first row that has room, the longest first
    (first-fit decreasing)."""
    lengths, device = texts.lengths.tolist(), texts.tokens.device
    width = max(NARROWEST, *lengths)
    filled: list[int] = []
    starts = [0] * len(lengths)
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = next((row for row, used in enumerate(filled) if used + lengths[i] <= width), len(filled))
        if row == len(filled):
            filled.append(0)
        starts[i] = row * width + filled[row]
        filled[row] += lengths[i]
    of_text = torch.repeat_interleave(torch.arange(len(lengths), device=device), texts.lengths)
    inside = torch.arange(len(of_text), device=device) - (texts.lengths.cumsum(0) - texts.lengths)[of_text]
    place = torch.tensor(starts, device=device)[of_text] + inside
    size = len(filled) * width
    tokens = torch.zeros(size, dtype=torch.int64, device=device)
    text, position = torch.full_like(tokens, -1), torch.zeros_like(tokens)
    tokens[place], text[place], position[place] = texts.tokens, of_text, inside
    shape = (len(filled), width)
    return Packed(tokens.view(shape), text.view(shape), position.view(shape), place)
