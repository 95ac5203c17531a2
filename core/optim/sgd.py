"""Gradient descent with momentum, in the same update step as AdamW.

g' = g · clip + wd · p             m ← μ·m + (1 − dampening)·g'      (the first time m ← g')
p ← p − lr · (m, or with Nesterov g' + μ·m, or without momentum g') − lr·λ·(p_old − θ0')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from core.optim.reference import Hyper, Rule
from core.optim.step import Backend, StateDtype, Stepping


class SGD(Stepping):
    """Takes the place of `torch.optim.SGD(params, lr, momentum, dampening, weight_decay, nesterov)`: the same order,
    defaults and update. The other options are those of `AdamW`. Whether there is momentum is one answer for all
    groups; how much is each group's.

    Raises:
        ValueError: an option is out of its range, or `anchor_to` does not fit the parameters.
    """

    name = "SGD"
    torchs: ClassVar[Mapping[str, Any]] = {
        "maximize": False,
        "foreach": None,
        "differentiable": False,
        "fused": None,
    }

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
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
            ("momentum", momentum, momentum >= 0, "0 or more"),
            ("weight_decay", weight_decay, weight_decay >= 0, "0 or more"),
            (
                "nesterov",
                nesterov,
                not nesterov or (momentum > 0 and dampening == 0),
                "False without momentum or with dampening",
            ),
        )
        self._momentum = momentum > 0
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
            },
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

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_momentum": self._momentum}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        momentum = param_group.get("momentum", self.defaults["momentum"])
        if momentum and not self._momentum:
            raise ValueError("SGD: a group has momentum, and the optimizer's is 0")
        super().add_param_group(param_group)

    def _rule(self) -> Rule:
        return Rule.MOMENTUM if self._momentum else Rule.PLAIN

    def _hyper(self, group: Mapping[str, Any], step: int) -> Hyper:
        if group["momentum"] and not self._momentum:
            raise ValueError(
                "SGD: a group's momentum was raised from 0 after construction (a schedule with `cycle_momentum` does"
                " that), so there is none to keep: construct it with a momentum"
            )
        return Hyper(
            float(group["lr"]),
            float(group["momentum"]),
            1.0 if step == 1 or not group["momentum"] else 1.0 - group["dampening"],
            0.0,
            0.0,
            float(group["weight_decay"]),
            group["anchor"],
            1.0 if group["ema_decay"] is None else group["ema_decay"],
            float(group["nesterov"]),
        )
