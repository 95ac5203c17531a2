"""Options of the core's own components. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from core.components import Options

LabelWeights = Annotated[
    dict[str, Annotated[float, Field(gt=0)]],
    BeforeValidator(
        lambda given: {str(k): v for k, v in given.items()} if isinstance(given, dict) else given
    ),
]
"""By label; a recipe may write the label `3` without quotes."""
Label = Annotated[str, BeforeValidator(lambda given: str(given) if isinstance(given, int) else given)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class Layout(Options):
    """What a model says of itself in its attribute `structure`."""

    axes: dict[str, list[tuple[str, int]]] = Field(
        {},
        description="by axis, the parameters along it, each with its dimension: `classes: [[fc.weight, 0]]`",
    )
    head: list[str] = Field([], description="the modules or parameters that make the output")


class File(Options):
    """Weights in a file, and what makes their architecture."""

    path: str = Field(description="a safetensors file, or one that torch.save made of tensors")
    architecture: str = Field(
        description="what makes the model: `module:callable` or `path/to/file.py:callable`"
    )
    arguments: dict[str, Any] | None = Field(
        None, description="keywords for it; without them the card's, where the weights have one"
    )
    key: str | None = Field(
        None, description="the file's entry with the state dict, where it has several that may be it"
    )
    prefix: str | None = Field(
        None, description="what to strip from the names in the file; `module.` before all is stripped unasked"
    )
    rename: dict[str, str] = Field(
        {}, description="tensors or modules of the file, by the architecture's name for them"
    )
    head: str | None = Field(None, description="the layer whose outputs are the classes")
    structure: Layout | None = Field(
        None, description="axes and head, where the model does not say and the head is no single layer"
    )
    labels: list[Label] | None = Field(None, description="the classes' labels, in the order of the outputs")
    licence: str | None = Field(None, description="an SPDX name; without it the card's")
    origin: str | None = Field(None, description="where the weights come from; without it the card's")
    preprocessing: dict[str, Any] | None = Field(
        None, description="what the base brings for transforms and the task; without it the card's"
    )

    @model_validator(mode="after")
    def _one_head(self) -> File:
        if self.head is not None and self.structure is not None:
            raise ValueError("give `head` or `structure`, not both")
        return self


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


class Full(Options):
    """Every parameter."""

    freeze: list[str] = Field(
        [], description="patterns of names of parameters that stay as the base has them: `*word_embeddings*`"
    )


class HeadThenFull(Options):
    """Linear probing, then fine-tuning."""

    head_epochs: int = Field(gt=0, description="epochs in which the head alone moves")
    body: float = Field(
        1.0, gt=0, le=1, description="the rate of all else afterwards, as a part of fine_tune.lr"
    )
    statistics: bool = Field(True, description="let layers with running statistics learn, and take them anew")


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
