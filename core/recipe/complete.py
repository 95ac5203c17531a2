"""`auto`: what a recipe leaves open, chosen by the plugins from the data and the base, each choice with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import yaml

from core.contract import Choice
from core.errors import RecipeError
from core.manager import Plugins

AUTO = "auto"


def open_keys(content: Mapping[str, Any]) -> list[str]:
    """The dotted keys whose value is `auto`, in the recipe's order."""
    return list(_open(content, ""))


def _open(value: Any, key: str) -> Iterator[str]:
    if value == AUTO:
        yield key
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _open(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _open(inner, f"{key}.{i}")


def complete(
    content: Mapping[str, Any], plugins: Plugins, where: str
) -> tuple[dict[str, Any], Sequence[Choice]]:
    """The recipe with every `auto` replaced by what a plugin chose, and these choices; of two for one key the
    first plugin's. Raises `RecipeError` where nobody chooses, and whatever a plugin finds wrong with the data."""
    completed = deepcopy(dict(content))
    wanted = open_keys(completed)
    chosen: dict[str, Choice] = {}
    for answer in plugins.hook.taoke_complete(recipe=deepcopy(completed), context=None):  # there is none yet
        for choice in answer or ():
            if choice.key in wanted:
                chosen.setdefault(choice.key, choice)
    left = [key for key in wanted if key not in chosen]
    if left:
        raise RecipeError(
            f"{where} leaves to choose what no active plugin chooses",
            problems=[f"{key}: auto; give it a value" for key in left],
        )
    for key in wanted:
        *path, last = key.split(".")
        place: Any = completed
        for name in path:
            place = place[int(name)] if isinstance(place, list) else place[name]
        place[int(last) if isinstance(place, list) else last] = deepcopy(chosen[key].value)
    return completed, [chosen[key] for key in wanted]


def brief(value: Any) -> str:
    """A value of a recipe in one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
        .removesuffix("\n...\n")
        .strip()
    )
