"""Options of the core's own components. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from core.components import Options

Decay = Annotated[float, Field(ge=0, lt=1)]


class Grow(Options):
    """More entries along an axis that the model's `structure` names."""

    axis: str = Field(description="the axis' name, as in the model's structure")
    to: int = Field(gt=0, description="entries afterwards, the old ones first")
    init: Literal["zero", "mean", "normal"] = Field(
        "mean",
        description="the new entries: zeros, the mean of the old ones, or drawn around it with their deviation,"
        " always the same for the same axis and size",
    )


class NewHead(Options):
    """Fresh entries in the place of all that an axis has."""

    axis: str = Field(description="the axis' name, as in the model's structure")
    to: int = Field(gt=0, description="entries afterwards, none of them the base's")


class HeadThenFull(Options):
    """Linear probing, then fine-tuning."""

    head_epochs: int = Field(gt=0, description="epochs in which the head alone moves")


class AdamW(Options):
    """The update step of `core.optim.AdamW`."""

    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="decay of the running mean and mean square")
    eps: float = Field(1e-8, gt=0, description="added to the denominator")
    weight_decay: float = Field(0.0, ge=0, description="decoupled pull towards zero")
    anchor: float = Field(0.0, ge=0, description="decoupled pull towards the weights at the start")
    max_grad_norm: float | None = Field(None, gt=0, description="gradients are scaled down to this norm")
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="keep a running average of the weights, and end with it"
    )
