"""Resolving a recipe: plugins loaded, every component found, every option checked; all that is wrong
reported at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.components import Use
from core.contract import Choice
from core.errors import ComponentError, PluginError, RecipeError
from core.loader import chosen
from core.manager import CORE, Plugins
from core.recipe.complete import complete, open_keys
from core.recipe.explain import UNKNOWN_KEY, explain
from core.recipe.files import find, override, read
from core.recipe.model import AUTO, PLACES, Recipe


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
    where = f"{found.path} with these changes" if overrides else str(found.path)
    return resolve_content(
        content, found.name, where, plugins=plugins, plugin_files=plugin_files, strict=strict
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
    choices: Sequence[Choice] = ()
    opened = bool(open_keys(content))
    try:
        active = _loaded(content, plugins, plugin_files, strict)
    except PluginError as error:
        problems = [] if opened else _schema_problems(content)
        if not problems:
            raise
        raise _recipe_error(where, [*problems, f"plugins: {error}"]) from error
    if active is not None and opened:
        problems = _schema_problems(content, only=UNKNOWN_KEY)
        problems += _check(deepcopy(dict(content)), active, partial=True)
        if problems:  # said before anybody chooses what rests on them
            raise _recipe_error(where, problems)
        content, choices = complete(content, active, where)
    problems = _schema_problems(content)
    if active is None:
        raise _recipe_error(where, problems)  # without plugins, no component can be looked up
    checked = deepcopy(dict(content)) if problems else Recipe.model_validate(content).to_json()
    problems += _check(checked, active)
    if problems:
        raise _recipe_error(where, problems)
    loaded = [plugin.name for plugin in active.active if plugin.name != CORE]
    return Resolved(name, Recipe.model_validate({**checked, "plugins": loaded}), active, choices)


def _loaded(
    content: Mapping[str, Any], changes: Sequence[str], files: Sequence[Path], strict: bool
) -> Plugins | None:
    """The plugins that a recipe lists; None where its list is none, which the schema reports. Raises `PluginError`."""
    named, answers = content.get("plugins"), content.get("answers")
    if not (isinstance(named, list) and all(isinstance(name, str) for name in named)):
        return None
    wanted = answers if isinstance(answers, dict) else {}
    return Plugins.load(chosen(named, changes), files, answers=wanted, strict=strict)


def _schema_problems(content: Mapping[str, Any], *, only: str | None = None) -> list[str]:
    try:
        Recipe.model_validate(content)
    except ValidationError as error:
        return explain(error, Recipe, only=only)
    return []


def _check(content: dict[str, Any], active: Plugins, *, partial: bool = False) -> list[str]:
    """What is wrong with the components and their options; those that are right get their full names and all of their
    options in `content`. With `partial`, options that are still `auto` are left aside, and so is what is missing."""
    problems = []
    for place, container, key, use in _uses(content):
        if partial and use.name == AUTO:
            continue
        given = {name: value for name, value in use.options.items() if not (partial and value == AUTO)}
        try:
            component = active.components.find(use.kind, use.name)
            options = active.components.check(component, given)
        except ValidationError as error:
            problems += explain(error, active.components.options_of(component), place, partial=partial)
        except ComponentError as error:
            problems.append(f"{place}: {error.message}" + (f"; {error.hint}" if error.hint else ""))
        else:
            container[key] = Use(use.kind, component.name, options).to_json()
    return problems


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
