"""Numbers in fewer bits, in plain torch: bfloat16 rounded by chance, bfloat16 with the bits it lacks, and codes of
8 bits by block. The same bits as the kernels' (`csrc/update_math.h`, where the formulas are explained).

Tensors here are flat. What chance decides depends on the tensor's place in the optimizer, the step and the element, and
on nothing else.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 256
"""Elements that share a scale."""

MEAN_TOP, SQUARE_TOP = 7, 15
"""The largest exponent of a code, of a mean and of a mean square."""

_WORD = 0xFFFFFFFF


def root(x: Tensor) -> Tensor:
    """The square root, correctly rounded: torch's own is not for every float32."""
    return x.to(torch.float64).sqrt().to(x.dtype)


def flat(tensor: Tensor) -> Tensor:
    """A view of a dense tensor in the order of its memory."""
    return tensor.as_strided((tensor.numel(),), (1,))


def _mixed(x: Tensor) -> Tensor:
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & _WORD
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & _WORD
    return x ^ (x >> 16)


def _one(key: int, i: int) -> int:
    x = (i * 0x9E3779B9 + key) & _WORD
    x ^= x >> 16
    x = (x * 0x7FEB352D) & _WORD
    x ^= x >> 15
    x = (x * 0x846CA68B) & _WORD
    return x ^ (x >> 16)


def random(count: int, number: int, step: int, use: int, device: torch.device | None = None) -> Tensor:
    """(count,) words of 32 random bits for the elements of tensor `number` in a step, as int64."""
    key = _one(number & _WORD, use + 1)
    key = _one(key ^ (number >> 32), step & _WORD)
    key ^= step >> 32
    index = torch.arange(count, device=device)
    keys = torch.full_like(index, _one(key, 0))
    for high in range(1, (count - 1 >> 32) + 1):
        keys[high << 32 :] = _one(key, high)
    return _mixed(((index & _WORD) * 0x9E3779B9 + keys) & _WORD)


def _bits(x: Tensor) -> Tensor:
    return x.view(torch.int32).to(torch.int64) & _WORD


def _half(bits: Tensor) -> Tensor:
    return (bits & 0xFFFF).to(torch.uint16).view(torch.bfloat16)


def to_bfloat16(x: Tensor, chance: Tensor) -> Tensor:
    """float32 to bfloat16, up or down by `chance` (16 bits), so that the mean is exact."""
    bits = _bits(x)
    up, down = (bits + chance) >> 16, bits >> 16
    quiet = ((bits & 0x7FFFFFFF) > 0x7F800000).to(torch.int64) * 0x40
    return _half(torch.where((up & 0x7F80) == 0x7F80, down | quiet, up))


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """float32 as the bfloat16 next to it and an int16 with the rest."""
    bits, nan = _bits(x), x.isnan()
    near = torch.where(nan, (bits >> 16) | 0x40, (bits + 0x8000) >> 16)
    return _half(near), torch.where(nan, 0, bits & 0xFFFF).to(torch.uint16).view(torch.int16)


def join(near: Tensor, remainder: Tensor) -> Tensor:
    """What `split` took apart. A zero that was written since has no remainder."""
    remainder = torch.where((near == 0) & (remainder < 0), 0, remainder.to(torch.int64))
    bits = (_bits(near.to(torch.float32)) + remainder) & _WORD
    return bits.to(torch.uint32).view(torch.float32)


def _by_element(scale: Tensor, count: int) -> Tensor:
    return scale.repeat_interleave(BLOCK)[:count]


def _inverse(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, 0.0, 1.0 / scale)


def _scales(x: Tensor, top: int) -> Tensor:
    """The powers of two below which the blocks' values lie."""
    padded = torch.nn.functional.pad(x.abs(), (0, -len(x) % BLOCK))
    bits = (_bits(padded.view(-1, BLOCK).amax(1)) + 0x7FFFF + (1 << 23 - top)) & 0x7F800000
    return bits.to(torch.int32).view(torch.float32)


def _decoded(code: Tensor, top: int) -> Tensor:
    return ((code << 19) + ((127 - top) << 23)).to(torch.int32).view(torch.float32) - 2.0**-top


def _encoded(x: Tensor, top: int, chance: Tensor) -> Tensor:
    return ((_bits(x + 2.0**-top) + (chance << 3)) >> 19) - ((127 - top) << 4)


def decode_mean(codes: Tensor, scale: Tensor) -> Tensor:
    """int8 to float32."""
    code = codes.to(torch.int64)
    size = _decoded(code.abs(), MEAN_TOP) * _by_element(scale, len(codes))
    return torch.where(code < 0, -size, size)


def decode_square(codes: Tensor, scale: Tensor) -> Tensor:
    """uint8 to float32."""
    return _decoded(codes.to(torch.int64), SQUARE_TOP) * _by_element(scale, len(codes))


def encode_mean(mean: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
    """float32 to int8 and the blocks' scales; `chance` is 16 random bits an element."""
    scale = _scales(mean, MEAN_TOP)
    code = _encoded(mean.abs() * _by_element(_inverse(scale), len(mean)), MEAN_TOP, chance)
    return torch.where(mean < 0, -code, code).to(torch.int8), scale


def encode_square(square: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
    """float32, not negative, to uint8 and the blocks' scales; what is positive becomes no 0."""
    scale = _scales(square, SQUARE_TOP)
    code = _encoded(square * _by_element(_inverse(scale), len(square)), SQUARE_TOP, chance)
    return torch.where((code == 0) & (square > 0), 1, code).to(torch.uint8), scale
