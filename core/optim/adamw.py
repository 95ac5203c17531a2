"""AdamW with what adapting a model needs besides: gradient clipping, a pull towards the start, a running
average.

    g' = g · clip                      clip = min(1, max_norm / (‖g‖ + 1e-6))
    m ← lerp(m, g', 1−β1)              v ← β2·v + (1−β2)·g'²
    p ← p·(1 − lr·wd) − lr·λ·(p_old − θ0') − (lr / bc1) · m / (√v / √bc2 + eps)
    ema ← ema + (1−d)·(p_new − ema)

with bc_i = 1 − βi^t; all three terms of p use the old p. Sources: AdamW,
https://arxiv.org/abs/1711.05101; L2-SP, the pull λ towards the start θ0',
https://arxiv.org/abs/1802.01483, here decoupled from the adaptive rate as AdamW decouples its decay. A
step in which any gradient is not finite changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer


class AdamW(Optimizer):
    """Takes the place of `torch.optim.AdamW(params, lr, betas, eps, weight_decay)`: the same order, defaults
    and update. What else torch's takes (`amsgrad`, `maximize`, ...) is not taken.

    Args:
        params: parameters, or groups of them; a group may override every option but `max_grad_norm`.
        anchor: λ of the pull towards `anchor_to`, in units of `weight_decay`.
        anchor_to: one tensor a parameter, θ0'; the values at construction where it is not given.
        max_grad_norm: the norm over all groups' gradients to scale down to.
        ema_decay: d of the running average that `averaged` puts in place; None keeps none.

    Attributes:
        skipped_steps: how many steps were left out because a gradient was not finite.

    Raises:
        ValueError: an option is out of its range, or `anchor_to` does not fit the parameters.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        max_grad_norm: float | None = None,
        anchor: float = 0.0,
        ema_decay: float | None = None,
        anchor_to: Sequence[Tensor] | None = None,
    ) -> None:
        for name, value, good in (
            ("lr", lr, lr >= 0),
            ("betas", betas, all(0 <= beta < 1 for beta in betas)),
            ("eps", eps, eps > 0),
            ("weight_decay", weight_decay, weight_decay >= 0),
            ("anchor", anchor, anchor >= 0),
            ("max_grad_norm", max_grad_norm, max_grad_norm is None or max_grad_norm > 0),
            ("ema_decay", ema_decay, ema_decay is None or 0 < ema_decay < 1),
        ):
            if not good:
                raise ValueError(f"AdamW: {name}={value!r} is out of range")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "anchor": anchor,
            "ema_decay": ema_decay,
            "anchor_to": anchor_to,
        }
        self.max_grad_norm = max_grad_norm
        self.skipped_steps = 0
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        start = group.pop("anchor_to", None)
        if start is not None and [s.shape for s in start] != [p.shape for p in group["params"]]:
            raise ValueError(
                "AdamW: anchor_to must hold one tensor of the same shape for each parameter of its group"
            )
        for i, parameter in enumerate(group["params"]):
            state = self.state[parameter]
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
            if group["anchor"]:
                state["anchor_to"] = (parameter if start is None else start[i]).detach().clone()
            if group["ema_decay"] is not None:
                state["ema"] = parameter.detach().clone()

    def __getstate__(self) -> dict[str, Any]:
        return {
            **super().__getstate__(),
            "max_grad_norm": self.max_grad_norm,
            "skipped_steps": self.skipped_steps,
        }

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        clip = self._clip_factor()
        if clip is None:
            self.skipped_steps += 1
            return loss
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _update(
                        parameter,
                        parameter.grad if clip == 1.0 else parameter.grad * clip,
                        self.state[parameter],
                        group,
                    )
        return loss

    def _clip_factor(self) -> float | None:
        """What gradients are multiplied with; None where one of them is not finite."""
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not gradients:
            return 1.0
        norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
        if not math.isfinite(norm):
            return None
        return 1.0 if self.max_grad_norm is None else min(1.0, self.max_grad_norm / (norm + 1e-6))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The parameters hold their running averages inside, and their own values again after. Without
        `ema_decay`, nothing changes."""
        pairs = [
            (p, self.state[p]["ema"])
            for g in self.param_groups
            for p in g["params"]
            if "ema" in self.state[p]
        ]
        own = [parameter.detach().clone() for parameter, _ in pairs]
        with torch.no_grad():
            for parameter, average in pairs:
                parameter.copy_(average)
        try:
            yield
        finally:
            with torch.no_grad():
                for (parameter, _), value in zip(pairs, own, strict=True):
                    parameter.copy_(value)


def _update(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    state["step"] += 1
    beta1, beta2 = group["betas"]
    lr = group["lr"]
    mean, square = state["exp_avg"], state["exp_avg_sq"]
    mean.lerp_(gradient, 1 - beta1)
    square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    bias1 = 1 - beta1 ** state["step"]
    bias2 = 1 - beta2 ** state["step"]
    if group["anchor"] and "anchor_to" not in state:
        raise ValueError(
            "AdamW: a group's anchor was raised from 0 after construction, so there is no θ0' to pull to"
        )
    pull = (parameter - state["anchor_to"]).mul_(lr * group["anchor"]) if group["anchor"] else None
    parameter.mul_(1 - lr * group["weight_decay"])
    if pull is not None:
        parameter.sub_(pull)
    parameter.addcdiv_(mean, square.sqrt().div_(math.sqrt(bias2)).add_(group["eps"]), value=-lr / bias1)
    if group["ema_decay"] is not None:
        state["ema"].lerp_(parameter, 1 - group["ema_decay"])
