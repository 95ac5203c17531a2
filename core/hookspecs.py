"""The hooks. A plugin implements those it needs with `@hookimpl`, may take fewer arguments, and gives none a
default.

`collect` hooks call every active plugin in the order in which the recipe lists them. `firstresult` hooks
stop at the first answer that is not None; the core's own answer (`core.defaults`) comes last, two plugins
answering one hook is an error unless the recipe's `answers` says which, and a plugin that only wants to
wrap the answer uses `@hookimpl(wrapper=True)`. A hook is never called per parameter or per example.
"""

# The bodies are documentation: pluggy reads the signatures alone.
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import torch
    from torch import nn

    from core.context import Context
    from core.contract import JSON, Base, Choice, Component, Phase, Prediction, Row, Split, StepResult, Task
    from core.prepared import Prepared

PROJECT = "taoke"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def taoke_register() -> Iterable[Component]:
    """The plugin's components. Imports no torch. Collect; two components of one kind and name are an error."""


@hookspec
def taoke_complete(recipe: Mapping[str, Any]) -> Iterable[Choice]:
    """What to put where `recipe` (its content, not yet checked, overrides applied) says `auto`, each with its
    reason. Collect; choices for keys that are settled are not used. Called only where a recipe says `auto`; may
    read the data, and import what that takes."""


@hookspec(firstresult=True)
def taoke_preprocess(
    context: Context, base: Base, task: Task, splits: Mapping[str, Sequence[Row]]
) -> Prepared | None:
    """Raw splits to model-ready ones. The core's answer applies the recipe's transforms in order, fitted on
    `train`, then asks the task."""


@hookspec(firstresult=True)
def taoke_select_parameters(context: Context, model: nn.Module) -> Sequence[Phase] | None:
    """Which parameters move, when, and how fast. The core's answer asks the recipe's strategy. What no group
    names stays bitwise unchanged."""


@hookspec(firstresult=True)
def taoke_build_updater(
    context: Context, groups: Sequence[Mapping[str, Any]]
) -> torch.optim.Optimizer | None:
    """The optimizer of one phase; the groups are those of `Updater.build`. The core's answer asks the
    recipe's updater."""


@hookspec(firstresult=True)
def taoke_fine_tune(
    context: Context, task: Task, model: nn.Module, splits: Mapping[str, Split]
) -> nn.Module | None:
    """The whole stage: `model` holds θ0' and is returned holding θ1. `splits` has `train` and `select`
    alone. The core's answer is its loop. `context.contender` says who is trained: `adapted` or `scratch`."""


@hookspec(firstresult=True)
def taoke_step(
    context: Context, task: Task, model: nn.Module, updater: torch.optim.Optimizer, batch: Any
) -> StepResult | None:
    """One step of the core's loop. The core's answer: forward, loss, backward, update."""


@hookspec
def taoke_after_step(context: Context, result: StepResult) -> None:
    """After each step, to observe: progress, tracking. Collect. An observer that fails is reported once and
    switched off, unless the run is strict."""


@hookspec(firstresult=True)
def taoke_evaluate(
    context: Context, task: Task, model: nn.Module, split: Split
) -> Sequence[Prediction] | None:
    """Predictions, one row an example, in the split's order. The core's answer: collate, forward, predict,
    without gradients."""


@hookspec
def taoke_illustrate(
    context: Context,
    task: Task,
    model: nn.Module,
    splits: Mapping[str, Split],
    predictions: Mapping[str, Sequence[Prediction]],
) -> Mapping[str, JSON]:
    """What a person would look at beside the scores: pictures, samples, curves. Called once every contender has
    predicted `report`: `predictions` has their rows by contender, with ids and targets; `model` is the adapted one.
    What it returns is kept in the run's record under names of its own, and files go into a folder below
    `context.folder`. Collect; two plugins with one name are an error."""


@hookspec
def taoke_teardown(context: Context) -> None:
    """Always called at the end of a run, whatever happened, in reverse order, each plugin on its own: none
    can keep the others from their turn or hide the error that ended the run."""
