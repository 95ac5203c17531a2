"""What the recommendation plugin brings. Imports neither torch nor numpy: components are made when they are used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from core.contract import Choice, Component
from core.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import nn

    from core.context import Context
    from core.contract import JSON, Split

taoke_api = 1


@hookimpl
def taoke_register() -> Iterable[Component]:
    return [
        Component(
            "task",
            "recommendation.recommend",
            "rank the items a user does not have yet",
            "plugins.recommendation.tasks:Recommend",
            "plugins.recommendation.options:Recommend",
        ),
        Component(
            "dataset",
            "recommendation.imports",
            "which modules the test files of Python's library import",
            "plugins.recommendation.data:Imports",
            "plugins.recommendation.options:Imports",
        ),
        Component(
            "base",
            "recommendation.builtin",
            "a base that comes with the plugin",
            "plugins.recommendation.models:Builtin",
            "plugins.recommendation.options:Builtin",
        ),
        Component(
            "dataset",
            "recommendation.interactions",
            "a log of users and items: CSV, JSON lines or Parquet",
            "plugins.recommendation.interactions:Interactions",
            "plugins.recommendation.options:Interactions",
        ),
        Component(
            "base",
            "recommendation.learned",
            "an item-item base, learned from interactions",
            "plugins.recommendation.learned:Learned",
            "plugins.recommendation.options:Learned",
        ),
        Component(
            "task",
            "recommendation.link_prediction",
            "rank the people to whom somebody does not link yet",
            "plugins.recommendation.link_prediction:LinkPrediction",
            "plugins.recommendation.options:LinkPrediction",
        ),
        Component(
            "dataset",
            "recommendation.links",
            "a graph of people, a link a line, with or without a header",
            "plugins.recommendation.links:Links",
            "plugins.recommendation.options:Links",
        ),
        Component(
            "base",
            "recommendation.factors",
            "user vectors, learned from ratings",
            "plugins.recommendation.factors:Factors",
            "plugins.recommendation.options:Factors",
        ),
        Component(
            "edit",
            "recommendation.walks",
            "walks along links and degrees, beside user vectors",
            "plugins.recommendation.social:Walks",
            "plugins.recommendation.options:Walks",
        ),
        Component(
            "loss",
            "recommendation.bpr",
            "an item that a user has before one that the user lacks",
            "plugins.recommendation.losses:Bpr",
            "plugins.recommendation.options:Bpr",
        ),
        Component(
            "loss",
            "recommendation.sampled_softmax",
            "softmax over an item and a sample of the others",
            "plugins.recommendation.losses:SampledSoftmax",
            "plugins.recommendation.options:SampledSoftmax",
        ),
        Component(
            "transform",
            "recommendation.drop",
            "a stop-list of columns",
            "plugins.recommendation.transforms:Drop",
            "plugins.recommendation.options:Drop",
        ),
        Component(
            "transform",
            "recommendation.common",
            "histories without items that too few users have",
            "plugins.recommendation.transforms:Common",
            "plugins.recommendation.options:Common",
        ),
        Component(
            "transform",
            "recommendation.time_bins",
            "times as numbers of bins; what is long ago is forgotten",
            "plugins.recommendation.transforms:TimeBins",
            "plugins.recommendation.options:TimeBins",
        ),
    ]


@hookimpl
def taoke_complete(recipe: Mapping[str, Any]) -> Iterable[Choice]:
    from plugins.recommendation.complete import complete  # brings numpy and pyarrow

    return complete(recipe)


@hookimpl
def taoke_illustrate(
    context: Context, model: nn.Module, splits: Mapping[str, Split]
) -> Mapping[str, JSON] | None:
    if context.recipe.task.name != "recommendation.link_prediction":
        return None
    from plugins.recommendation.tradeoff import tradeoff

    return {"diversity": tradeoff(context, model, splits)}
