"""Options of the core's own components. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from core.components import Options

LabelWeights = Annotated[
    dict[str, Annotated[float, Field(gt=0)]],
    BeforeValidator(
        lambda given: {str(k): v for k, v in given.items()} if isinstance(given, dict) else given
    ),
]
"""By label; a recipe may write the label `3` without quotes."""
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


class CrossEntropy(Options):
    """Cross-entropy of logits."""

    weights: Literal["balanced"] | LabelWeights | None = Field(
        None,
        description="weight by label, 1 for those left out; `balanced`: all labels of `train` weigh the same in sum",
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes")


class Focal(Options):
    """The focal loss of logits."""

    gamma: float = Field(
        2.0, ge=0, description="how much less counts what is right already; 0 is cross-entropy"
    )
    weights: Literal["balanced"] | LabelWeights | None = Field(
        None,
        description="weight by label, 1 for those left out; `balanced`: all labels of `train` weigh the same in sum",
    )


class Binary(Options):
    """Binary cross-entropy of logits."""

    pos_weight: Annotated[float, Field(gt=0)] | Literal["balanced"] | LabelWeights | None = Field(
        None,
        description="what ones weigh: all alike, by label, or `balanced`: as much as the zeros of that label in sum",
    )


class Margin(Options):
    """The multi-class hinge loss of scores."""

    margin: float = Field(1.0, gt=0, description="how far above the others the right class is to be")


class Triplet(Options):
    """The triplet loss of embeddings."""

    margin: float = Field(1.0, gt=0, description="how much farther than relatives strangers are to be")
    mining: Literal["all", "hard"] = Field(
        "all", description="all triplets of a batch, or each example's hardest one"
    )


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
