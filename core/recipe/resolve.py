"""Resolving a recipe: plugins loaded, every component found, every option checked; all that is wrong
reported at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from core.components import Use
from core.contract import Choice
from core.errors import ComponentError, PluginError, RecipeError, nearest
from core.loader import chosen
from core.manager import CORE, Plugins
from core.recipe.complete import complete, open_keys
from core.recipe.files import find, override, read
from core.recipe.model import PLACES, Recipe


@dataclass(frozen=True, slots=True)
class Resolved:
    """A recipe whose every component is found and whose every option has its value, with the plugins that
    answer it."""

    name: str
    recipe: Recipe
    plugins: Plugins
    choices: Sequence[Choice] = ()
    """What the plugins chose for keys that were left `auto`."""


def resolve(
    reference: str | Path | None,
    overrides: Mapping[str, Any] | None = None,
    *,
    plugins: Sequence[str] = (),
    plugin_files: Sequence[Path] = (),
    strict: bool = False,
) -> Resolved:
    """Find, read, override, load and check. `plugins` are the changes of `-p`. Raises `RecipeError` with
    everything that is wrong, or `PluginError`."""
    found = find(reference)
    content = override(read(found.path), overrides or {})
    return resolve_content(
        content, found.name, str(found.path), plugins=plugins, plugin_files=plugin_files, strict=strict
    )


def resolve_content(
    content: Mapping[str, Any],
    name: str,
    where: str,
    *,
    plugins: Sequence[str] = (),
    plugin_files: Sequence[Path] = (),
    strict: bool = False,
) -> Resolved:
    """As `resolve`, for a recipe that is already read. `where` stands in error messages."""
    problems: list[str] = []
    choices: Sequence[Choice] = ()
    named = content.get("plugins")
    if open_keys(content) and isinstance(named, list):
        active = Plugins.load(chosen([str(name) for name in named], plugins), plugin_files, strict=strict)
        content, choices = complete(content, active, where)
    try:
        content = Recipe.model_validate(content).to_json()
    except ValidationError as error:
        problems += explain(error, Recipe)
    named, answers = content.get("plugins"), content.get("answers")
    if not (isinstance(named, list) and all(isinstance(name, str) for name in named)):
        raise _recipe_error(where, problems)  # without plugins, no component can be looked up
    try:
        wanted = answers if isinstance(answers, dict) else {}
        active = Plugins.load(chosen(named, plugins), plugin_files, answers=wanted, strict=strict)
    except PluginError as error:
        if not problems:
            raise
        raise _recipe_error(where, [*problems, f"plugins: {error}"]) from error
    content = deepcopy(dict(content))
    for place, container, key, use in _uses(content):
        try:
            component = active.components.find(use.kind, use.name)
            options = active.components.check(component, use.options)
        except ValidationError as error:
            problems += explain(error, active.components.options_of(component), place)
        except ComponentError as error:
            problems.append(f"{place}: {error.message}" + (f"; {error.hint}" if error.hint else ""))
        else:
            container[key] = Use(use.kind, component.name, options).to_json()
    if problems:
        raise _recipe_error(where, problems)
    loaded = [plugin.name for plugin in active.active if plugin.name != CORE]
    return Resolved(name, Recipe.model_validate({**content, "plugins": loaded}), active, choices)


def _recipe_error(where: str, problems: Sequence[str]) -> RecipeError:
    return RecipeError(
        f"{where} has {len(problems)} problem{'s' if len(problems) > 1 else ''}", problems=problems
    )


def _uses(content: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any, Use]]:
    """The well-formed uses in a recipe's content: place, container, key and use. Malformed ones are the
    schema's to report."""
    for pattern, kind in PLACES.items():
        *path, last = pattern.split(".")
        container: Any = content.get(path[0]) if path else content
        entries: list[tuple[Any, Any]]
        if last == "*":
            entries = list(enumerate(container)) if isinstance(container, list) else []
        else:
            entries = (
                [(last, container[last])]
                if isinstance(container, dict) and container.get(last) is not None
                else []
            )
        for key, value in entries:
            try:
                use = Use.read(kind, value)
            except ValueError:
                continue
            yield ".".join([*path, str(key)]), container, key, use


def explain(error: ValidationError, model: type[BaseModel] | None, place: str = "") -> list[str]:
    """pydantic's errors as sentences: where, what was expected, what came, and for an unknown key the
    nearest one."""
    sentences = []
    for item in error.errors():
        path = [str(part) for part in item["loc"]]
        where = ".".join(filter(None, [place, *path]))
        if item["type"] == "extra_forbidden":
            section = ".".join(filter(None, [place, *path[:-1]])) or "the recipe"
            hint = nearest(path[-1], _keys_at(model, path[:-1]))
            sentences.append(
                f"{where}: unknown key {path[-1]!r} in {section}" + (f"; {hint}" if hint else "")
            )
        elif item["type"] == "missing":
            sentences.append(f"{where}: missing; it is required")
        else:
            message = item["msg"].removeprefix("Value error, ")
            sentences.append(
                f"{where}: {message[0].lower()}{message[1:]}"
                + (f", got {item['input']!r}" if "got" not in message else "")
            )
    return sentences


def _keys_at(model: type[BaseModel] | None, path: Sequence[str]) -> set[str]:
    current: Any = model
    for key in path:
        field = getattr(current, "model_fields", {}).get(key)
        if field is None:
            return set()
        current = next(
            (
                t
                for t in (field.annotation, *get_args(field.annotation))
                if isinstance(t, type) and issubclass(t, BaseModel)
            ),
            None,
        )
    return set(getattr(current, "model_fields", {}))
