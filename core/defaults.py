"""The core's own components and its own answers to the hooks, registered like a plugin's and called after
all others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from core.contract import API, Component
from core.hookspecs import hookimpl

if TYPE_CHECKING:
    import torch
    from torch import nn

    from core.context import Context
    from core.contract import Base, Phase, Prediction, Row, Split, StepResult, Strategy, Task, Updater
    from core.prepared import Prepared

taoke_api = API


@hookimpl(trylast=True)
def taoke_register() -> Iterable[Component]:
    return [
        Component(
            "base",
            "core.file",
            "weights in a safetensors or torch file, for an architecture that you name",
            "core.base_file:File",
            "core.options:File",
        ),
        Component(
            "edit",
            "core.grow",
            "more entries along a named axis",
            "core.edits.grow:Grow",
            "core.options:Grow",
        ),
        Component(
            "edit",
            "core.new_head",
            "fresh entries in the place of all that a named axis has",
            "core.edits.new_head:NewHead",
            "core.options:NewHead",
        ),
        Component(
            "loss",
            "core.cross_entropy",
            "-log p of the right class, weighted and smoothed where asked for",
            "core.losses:CrossEntropy",
            "core.options:CrossEntropy",
        ),
        Component(
            "loss",
            "core.focal",
            "cross-entropy in which what is right already counts for little",
            "core.losses:Focal",
            "core.options:Focal",
        ),
        Component(
            "loss",
            "core.binary",
            "binary cross-entropy of each logit, one or one a class",
            "core.losses:Binary",
            "core.options:Binary",
        ),
        Component(
            "loss", "core.margin", "the multi-class hinge", "core.losses:Margin", "core.options:Margin"
        ),
        Component(
            "loss",
            "core.triplet",
            "embeddings of a class nearer to each other than to others, by triplets of a batch",
            "core.losses:Triplet",
            "core.options:Triplet",
        ),
        Component("loss", "core.mse", "the mean squared error of numbers", "core.losses:mean_squared"),
        Component("loss", "core.mae", "the mean absolute error of numbers", "core.losses:mean_absolute"),
        Component(
            "strategy",
            "core.full",
            "every parameter moves, but those that are frozen by name",
            "core.strategies:Full",
            "core.options:Full",
        ),
        Component("strategy", "core.head", "only the head moves", "core.strategies:Head"),
        Component(
            "strategy",
            "core.lp_ft",
            "the head alone, then every parameter, the body's at a rate of its own",
            "core.strategies:HeadThenFull",
            "core.options:HeadThenFull",
        ),
        Component(
            "updater",
            "core.adamw",
            "AdamW with a pull towards the start, clipping and averaging",
            "core.optim:AdamWUpdater",
            "core.options:AdamW",
        ),
    ]


@hookimpl(trylast=True)
def taoke_preprocess(
    context: Context, base: Base, task: Task, splits: Mapping[str, Sequence[Row]]
) -> Prepared:
    from core.prepared import prepare

    return prepare(context, base, task, splits)


@hookimpl(trylast=True)
def taoke_select_parameters(context: Context, model: nn.Module) -> Sequence[Phase]:
    strategy: Strategy = context.make(context.recipe.fine_tune.strategy)
    return strategy.phases(model)


@hookimpl(trylast=True)
def taoke_build_updater(context: Context, groups: Sequence[Mapping[str, Any]]) -> torch.optim.Optimizer:
    updater: Updater = context.make(context.recipe.fine_tune.updater)
    return updater.build(groups)


@hookimpl(trylast=True)
def taoke_fine_tune(context: Context, task: Task, model: nn.Module, splits: Mapping[str, Split]) -> nn.Module:
    trained: nn.Module = _training().train(context, task, model, splits)
    return trained


@hookimpl(trylast=True)
def taoke_step(
    context: Context, task: Task, model: nn.Module, updater: torch.optim.Optimizer, batch: Any
) -> StepResult:
    result: StepResult = _training().step(context, task, model, updater, batch)
    return result


@hookimpl(trylast=True)
def taoke_after_step(context: Context, result: StepResult) -> None:
    _training().observe(context, result)


@hookimpl(trylast=True)
def taoke_evaluate(context: Context, task: Task, model: nn.Module, split: Split) -> Sequence[Prediction]:
    from core.inference import predict

    size = context.recipe.evaluate.batch_size
    return predict(task, model, split, context.device, size, context.workers)


@hookimpl(tryfirst=True)  # in reverse order: the record is closed after every plugin had its turn
def taoke_teardown(context: Context) -> None:
    context.progress.close()
    context.events.close()


@cache
def _training() -> ModuleType:
    """Imported when first asked for, since it brings torch, and once, since it is asked for at every step."""
    from core import training

    return training
