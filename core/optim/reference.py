"""The update step in plain torch, one parameter at a time: what the kernels are tested against, and what runs where
they do not. Its operations and their order are those of `csrc/update_math.h`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import torch
from torch import Tensor

from core.optim import codes


class Rule(IntEnum):
    """How a gradient becomes a change, numbered as in `csrc/update_math.h`."""

    ADAM = 0
    MOMENTUM = 1
    PLAIN = 2


class Hyper(NamedTuple):
    """What a group says of one step, in the order of `TaokeHyper`. For SGD, beta1 is the momentum, beta2 the part of
    the gradient that enters it. `average` is d, 1 where there is none."""

    lr: float
    beta1: float
    beta2: float
    eps: float
    decay: float
    coupled: float
    anchor: float
    average: float
    nesterov: float


MOMENTS = {Rule.ADAM: ("exp_avg", "exp_avg_sq"), Rule.MOMENTUM: ("momentum_buffer",), Rule.PLAIN: ()}
"""The names of a rule's state: the mean and the mean square."""


@torch.no_grad()
def squares(gradients: Sequence[Tensor]) -> float:
    """The sum of all squares, in double: not finite exactly where a gradient is not."""
    if not gradients:
        return 0.0
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float64) for gradient in gradients]
    return float(torch.stack([norm.to(norms[0].device) for norm in norms]).square().sum())


@torch.no_grad()
def update(
    rule: Rule,
    parameter: Tensor,
    gradient: Tensor,
    state: dict[str, Any],
    h: Hyper,
    scale: float,
    number: int,
) -> None:
    """One step of one parameter. `state["step"]` is already this step's; `number` is the parameter's place in the
    optimizer."""
    old = exact(parameter, state)
    g = torch.empty_like(old).copy_(gradient) * scale
    if h.coupled:
        g = g + h.coupled * old
    if rule is Rule.ADAM:
        mean, square = read(state, "exp_avg", old), read(state, "exp_avg_sq", old)
        mean = mean + (1 - h.beta1) * (g - mean)
        square = h.beta2 * square + ((1 - h.beta2) * g) * g
        bias1, bias2 = 1 - h.beta1 ** state["step"], 1 - h.beta2 ** state["step"]
        change = (h.lr / bias1 * mean) / (codes.root(square) * (1 / math.sqrt(bias2)) + h.eps)
        write(state, "exp_avg", mean, number)
        write(state, "exp_avg_sq", square, number)
    elif rule is Rule.MOMENTUM:
        mean = h.beta1 * read(state, "momentum_buffer", old) + h.beta2 * g
        change = h.lr * (g + h.beta1 * mean if h.nesterov else mean)
        write(state, "momentum_buffer", mean, number)
    else:
        change = h.lr * g
    if h.decay:
        change = change + (h.lr * h.decay) * old
    if h.anchor:
        change = change + (old - state["anchor_to"].to(old.dtype)) * (h.lr * h.anchor)
    new = old - change
    if "ema" in state:
        state["ema"].add_((1 - h.average) * (new - state["ema"]))
    put(parameter, state, new, number)


def exact(parameter: Tensor, state: dict[str, Any]) -> Tensor:
    """The parameter in the precision that steps are taken in."""
    if "remainder" in state and parameter.dtype == torch.bfloat16:
        joined = codes.join(codes.flat(parameter), codes.flat(state["remainder"]))
        return joined.as_strided(parameter.shape, parameter.stride())
    return parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32))


def put(parameter: Tensor, state: dict[str, Any], value: Tensor, number: int) -> None:
    """The new value, with its remainder, or rounded by chance where it is bfloat16 without one."""
    if parameter.dtype != torch.bfloat16:
        parameter.copy_(value)
    elif "remainder" in state:
        near, remainder = codes.split(codes.flat(value))
        codes.flat(parameter).copy_(near)
        codes.flat(state["remainder"]).copy_(remainder)
    else:
        chance = codes.random(value.numel(), number, state["step"], 0, value.device) & 0xFFFF
        codes.flat(parameter).copy_(codes.to_bfloat16(codes.flat(value), chance))


def read(state: dict[str, Any], name: str, like: Tensor) -> Tensor:
    """A moment in full precision."""
    kept: Tensor = state[name]
    if kept.dtype == torch.int8:
        wide = codes.decode_mean(codes.flat(kept), state[f"{name}_scale"])
    elif kept.dtype == torch.uint8:
        wide = codes.decode_square(codes.flat(kept), state[f"{name}_scale"])
    else:
        return kept.to(like.dtype)
    return wide.as_strided(kept.shape, kept.stride())


def write(state: dict[str, Any], name: str, value: Tensor, number: int) -> None:
    """A moment into the precision it is kept in."""
    kept: Tensor = state[name]
    if kept.dtype not in (torch.int8, torch.uint8, torch.bfloat16):
        kept.copy_(value)
        return
    words = codes.random(value.numel(), number, state["step"], 1, value.device)
    chance = words & 0xFFFF if name == "exp_avg_sq" else words >> 16
    wide = codes.flat(value)
    if kept.dtype == torch.bfloat16:
        codes.flat(kept).copy_(codes.to_bfloat16(wide, chance))
        return
    encode = codes.encode_square if kept.dtype == torch.uint8 else codes.encode_mean
    narrow, scale = encode(wide, chance)
    codes.flat(kept).copy_(narrow)
    state[f"{name}_scale"].copy_(scale)
