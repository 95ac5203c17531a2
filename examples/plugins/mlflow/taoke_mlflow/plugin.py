"""The entry module of the plugin mlflow: it watches a run and tells MLflow. Imports neither torch nor MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from core.context import Context, StashKey
from core.hookspecs import hookimpl

if TYPE_CHECKING:
    from core.contract import Prediction, StepResult, Task
    from taoke_mlflow.tracking import Tracking

taoke_api = 1

EVERY = 20
"""Steps between two losses that are told: reading one waits for the device."""
TRACKING: StashKey[Tracking] = StashKey()


@hookimpl
def taoke_after_step(context: Context, result: StepResult) -> None:
    if context.step % EVERY == 0 or context.step == context.steps:
        _tracking(context).loss(context.contender, context.step, float(result.loss), context.lr)


@hookimpl
def taoke_illustrate(
    context: Context, task: Task, predictions: Mapping[str, Sequence[Prediction]]
) -> dict[str, str]:
    """Tells every contender's scores, and where MLflow keeps them."""
    tracking = _tracking(context)
    tracking.scores(task, predictions)
    return {"mlflow": tracking.place}


@hookimpl
def taoke_teardown(context: Context) -> None:
    if TRACKING in context.stash:
        context.stash[TRACKING].end(context.ended)


def _tracking(context: Context) -> Tracking:
    """Begun when there is something to tell."""
    if TRACKING not in context.stash:
        from taoke_mlflow.tracking import Tracking

        context.stash[TRACKING] = Tracking(context)
    return context.stash[TRACKING]
