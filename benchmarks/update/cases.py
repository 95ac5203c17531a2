"""What is timed: which tensors, and what the step does to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

LR, DECAY, ANCHOR, AVERAGE, MAX_NORM = 1e-3, 1e-2, 0.1, 0.99, 1.0

Step = Callable[[], None]


class Built(NamedTuple):
    """What a contender's `build` gives; `averages` are asked for where they are compared, and not timed."""

    step: Step
    averages: Callable[[], list[Tensor]]


@dataclass(frozen=True)
class Case:
    """`traffic` is the least number of bytes a parameter that have to move; `clip` and `more` (pull, average, gradients
    cleared) say what the step does besides AdamW's update. With `batch`, forward and backward of a model for as many
    examples belong to what is timed. Without `rivals`, ours is timed by itself, after it has been compared."""

    name: str
    shapes: tuple[int, ...]
    traffic: float
    clip: bool = True
    more: bool = True
    state: str = "float32"
    device: str = "cpu"
    batch: int = 0
    rivals: bool = True

    @property
    def size(self) -> int:
        return sum(self.shapes)

    @property
    def small(self) -> bool:
        """Whether it fits into the processor's caches."""
        return self.size < 10**7

    def smaller(self) -> Case:
        """The same with few elements, to check results with."""
        shapes = tuple(min(size, 300_001) for size in self.shapes[:40])
        return replace(self, shapes=shapes)

    def parameters(self) -> list[nn.Parameter]:
        """Parameters with gradients, always the same."""
        rng = torch.Generator().manual_seed(0)
        made = [nn.Parameter(torch.randn(size, generator=rng).to(self.device)) for size in self.shapes]
        for parameter, gradient in zip(made, self.gradients(1), strict=True):
            parameter.grad = gradient
        return made

    def gradients(self, seed: int) -> list[Tensor]:
        rng = torch.Generator().manual_seed(seed)
        return [0.01 * torch.randn(size, generator=rng).to(self.device) for size in self.shapes]

    def starts(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Where the pull goes to."""
        return [parameter.detach() + 0.1 for parameter in parameters]


def seconds(step: Step, device: str) -> float:
    """What a step takes; on a GPU that has nothing else to do, from its first moment to its last."""
    if device == "cpu":
        began = time.perf_counter()
        step()
        return time.perf_counter() - began
    torch.cuda.synchronize(device)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    first.record()
    step()
    last.record()
    torch.cuda.synchronize(device)
    return float(first.elapsed_time(last)) / 1e3


def cases(millions: int, device: str) -> list[Case]:
    large = (millions * 1_000_000,)
    adapters = tuple([2048, 2048, 1024, 2916] * 112)
    made = [  # the smallest first: after the others, memory is in pieces, and hundreds of tensors lie far apart
        Case("448 tensors of 8 elements, nearly all Python", (8,) * 448, 48, rivals=False),
        Case("448 tensors, 57 k in all", (128,) * 448, 48),
        Case("448 tensors, 0.9 M in all", adapters, 48),
        Case(f"{millions} M, everything on", large, 48),
        Case(f"{millions} M, clip and AdamW", large, 32, more=False),
        Case(f"{millions} M, AdamW alone", large, 28, clip=False, more=False),
        Case(f"{millions} M, everything on, int8 state", large, 36.1, state="int8"),
    ]
    return [replace(case, device=device) for case in made]
