"""What the recommendation plugin brings. Imports neither torch nor numpy: components are made when they are used."""

from __future__ import annotations

from collections.abc import Iterable

from core.contract import Component
from core.hookspecs import hookimpl

taoke_api = 1


@hookimpl
def taoke_register() -> Iterable[Component]:
    return [
        Component(
            "task",
            "recommendation.recommend",
            "rank the items a user does not have yet",
            "plugins.recommendation.tasks:Recommend",
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
    ]
