"""AdamW and Adam with what adapting a model needs besides: gradient clipping, a pull towards the start, a running
average, and gradients cleared on the way.

    g' = g · clip                      clip = min(1, max_norm / (‖g‖ + 1e-6))
    m ← lerp(m, g', 1−β1)              v ← β2·v + (1−β2)·g'²
    p ← p·(1 − lr·wd) − lr·λ·(p_old − θ0') − (lr / bc1) · m / (√v / √bc2 + eps)
    ema ← ema + (1−d)·(p_new − ema)    g ← 0

with bc_i = 1 − βi^t; all three terms of p use the old p. Sources: Adam, https://arxiv.org/abs/1412.6980; AdamW,
https://arxiv.org/abs/1711.05101; L2-SP, the pull λ towards the start θ0',
https://arxiv.org/abs/1802.01483, here decoupled from the adaptive rate as AdamW decouples its decay. A
step in which any gradient is not finite changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from core.optim.reference import Hyper, Rule
from core.optim.step import Backend, StateDtype, Stepping


class AdamW(Stepping):
    """Takes the place of `torch.optim.AdamW(params, lr, betas, eps, weight_decay)`: the same order, defaults
    and update. What else torch's takes (`amsgrad`, `maximize`, ...) is not taken.

    Args:
        params: parameters, or groups of them; a group may override every option up to `weight_decay`, `anchor`,
            `ema_decay` and `anchor_to`.
        max_grad_norm: the norm over all groups' gradients to scale down to.
        anchor: λ of the pull towards `anchor_to`, in units of `weight_decay`.
        ema_decay: d of the running average that `averaged` puts in place; None keeps none.
        state_dtype: what the moments are kept in; `int8` is codes by block of 256.
        zero_grads: leave gradients at zero after the step, also after one that is skipped.
        backend: `native` is the kernels, `reference` plain torch, `auto` the kernels where they were built and take the
            parameters.
        anchor_to: one tensor a parameter, θ0'; the values at construction where it is not given.
        master: keep the bits that bfloat16 parameters lack, so that they move as float32 ones; otherwise they are
            rounded by chance. None keeps them where `state_dtype` is float32.
        check: False saves the pass over the gradients where nothing is clipped, and lets those that are not finite
            through, as torch's does; where something is clipped the norm is there anyway, and the step is left out.

    Raises:
        ValueError: an option is out of its range, or `anchor_to` does not fit the parameters.
    """

    name = "AdamW"
    torchs: ClassVar[Mapping[str, Any]] = {
        "amsgrad": False,
        "maximize": False,
        "foreach": None,
        "capturable": False,
        "differentiable": False,
        "fused": None,
        "decoupled_weight_decay": True,
    }

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
        state_dtype: StateDtype = "float32",
        zero_grads: bool = False,
        backend: Backend = "auto",
        anchor_to: Sequence[Tensor] | None = None,
        master: bool | None = None,
        check: bool = True,
    ) -> None:
        self._require(
            ("lr", lr, lr >= 0, "0 or more"),
            ("betas", betas, all(0 <= beta < 1 for beta in betas), "two numbers from 0 to below 1"),
            ("eps", eps, eps > 0, "above 0"),
            ("weight_decay", weight_decay, weight_decay >= 0, "0 or more"),
        )
        super().__init__(
            params,
            {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay},
            max_grad_norm=max_grad_norm,
            anchor=anchor,
            ema_decay=ema_decay,
            state_dtype=state_dtype,
            zero_grads=zero_grads,
            backend=backend,
            master=master,
            check=check,
            anchor_to=anchor_to,
        )

    def _rule(self) -> Rule:
        return Rule.ADAM

    def _hyper(self, group: Mapping[str, Any], step: int) -> Hyper:
        decay = float(group["weight_decay"])
        coupled = not self.torchs["decoupled_weight_decay"]
        beta1, beta2 = group["betas"]
        return Hyper(
            float(group["lr"]),
            float(beta1),
            float(beta2),
            group["eps"],
            0.0 if coupled else decay,
            decay if coupled else 0.0,
            group["anchor"],
            1.0 if group["ema_decay"] is None else group["ema_decay"],
            0.0,
        )


class Adam(AdamW):
    """Takes the place of `torch.optim.Adam`: the decay is part of the gradient. Arguments as for `AdamW`, the decay
    at 0."""

    name = "Adam"
    torchs: ClassVar[Mapping[str, Any]] = {**AdamW.torchs, "decoupled_weight_decay": False}

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, **options)
