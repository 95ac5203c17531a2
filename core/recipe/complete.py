"""`auto`: what a recipe leaves open, chosen by the plugins from the data and the base, each choice with its reason."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import yaml
from pydantic import ValidationError

from core.contract import Choice
from core.errors import DataWarning, RecipeError
from core.manager import Plugins
from core.recipe.explain import explain
from core.recipe.model import AUTO


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
            if inner != AUTO:  # in a list, as of labels, it is a word like others
                yield from _open(inner, f"{key}.{i}")


def complete(
    content: Mapping[str, Any], plugins: Plugins, where: str
) -> tuple[dict[str, Any], Sequence[Choice]]:
    """The recipe with every `auto` replaced by what a plugin chose, and these choices; of two for one key the
    first plugin's. What plugins warn of the data is left to the run, which reads them too. Raises `RecipeError` where
    nobody chooses, or where values that are given do not go together, and whatever a plugin finds wrong with the data.
    """
    completed = deepcopy(dict(content))
    wanted = open_keys(completed)
    chosen: dict[str, Choice] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            answers = plugins.hook.taoke_complete(
                recipe=deepcopy(completed), context=None
            )  # there is none yet
            for choice in (choice for answer in answers for choice in answer or ()):
                if choice.key in wanted:
                    chosen.setdefault(choice.key, choice)
    except ValidationError as error:
        raise RecipeError(f"{where}: values do not go together", problems=explain(error, None)) from error
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
    apart = json.loads(
        json.dumps(value)
    )  # YAML would write what stands there twice as an anchor and an alias
    return (
        yaml.safe_dump(apart, default_flow_style=True, width=10_000, sort_keys=False)
        .removesuffix("\n...\n")
        .strip()
    )
