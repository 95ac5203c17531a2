"""Recipe files: found by built-in name or path, read strictly, changed by dotted overrides."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from core.components import Use
from core.errors import RecipeError, nearest
from core.loader import installed
from core.recipe.model import AUTO, PLACES, FineTune

DEFAULT_GROUP = "taoke.default_recipe"
"""Entry-point group with which a plugin marks one of its recipes as the default: the entry's name is the
recipe's, its value the plugin's module."""


@dataclass(frozen=True, slots=True)
class Found:
    """A recipe's file. `name` is `plugin/recipe` for a built-in one and the file's stem for a user's."""

    name: str
    path: Path

    def summary(self) -> str:
        """The file's first line, where it is a comment."""
        first = self.path.read_text(encoding="utf-8").partition("\n")[0]
        return first.lstrip("# ").strip() if first.startswith("#") else ""


def built_in() -> dict[str, Found]:
    """The recipes in the folders of all installed plugins, by name; no plugin is imported."""
    found = {}
    for plugin in installed().values():
        folder = plugin.folder()
        for path in sorted((folder / "recipes").glob("*.yaml")) if folder else ():
            name = f"{plugin.name}/{path.stem}"
            found[name] = Found(name, path)
    return found


def default_names() -> list[str]:
    """The recipes that plugins' metadata mark as the default; all is well where there is one."""
    plugins = {plugin.module: plugin.name for plugin in installed().values()}
    marks = metadata.entry_points(group=DEFAULT_GROUP)
    return sorted({f"{plugins[mark.module]}/{mark.name}" for mark in marks if mark.module in plugins})


def default_name() -> str:
    """The default recipe. Raises `RecipeError` where there is none, or more than one."""
    names = default_names()
    if len(names) == 1:
        return names[0]
    if names:
        raise RecipeError(
            f"more than one recipe is marked as the default: {', '.join(names)}", hint="name one"
        )
    raise RecipeError(
        "no installed plugin marks a recipe as the default", hint="name a recipe: `recipes list`"
    )


def find(reference: str | Path | None) -> Found:
    """A built-in recipe by name, a file by path, or the default where `reference` is None. Raises
    `RecipeError`."""
    if reference is None:
        reference = default_name()
    recipes = built_in()
    if str(reference) in recipes:
        return recipes[str(reference)]
    path = Path(reference)
    if path.is_file():
        return Found(path.stem, path)
    if path.suffix in (".yaml", ".yml"):
        raise RecipeError(f"there is no recipe file {path}", hint="check the path")
    hint = nearest(str(reference), recipes) or "no plugin with recipes is installed"
    raise RecipeError(f"unknown recipe {str(reference)!r}: neither a built-in name nor a file", hint=hint)


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice (plain YAML readers keep the last and say nothing)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} cannot be a key", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read(path: Path) -> dict[str, Any]:
    """A recipe file as a mapping. Raises `RecipeError` with file and line."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)  # noqa: S506 (it derives from SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.reader.ReaderError) as error:
        raise RecipeError(f"{path} cannot be read: {error}", hint="give a UTF-8 text file") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise RecipeError(
            f"{path}, line {line}: not valid YAML: {error.problem}", hint="mend that line"
        ) from error
    if not isinstance(content, dict):
        raise RecipeError(
            f"{path}: expected a mapping with task, plugins, base, ...; got {type(content).__name__}",
            hint="see `recipes show`",
        )
    return content


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """`dotted.key=value` arguments as typed on a command line; values are YAML, but a path (`data`, or a key that ends
    in `.path`) stays as it is typed unless it is a mapping or null. Raises `RecipeError`."""
    parsed = {}
    for argument in arguments:
        dotted, equals, text = argument.partition("=")
        if not equals or not dotted:
            raise RecipeError(f"override {argument!r}: expected key=value, as in fine_tune.lr=0.01")
        typed = dotted == "data" or dotted.endswith(".path")
        if typed and not text.strip():
            raise RecipeError(f"override {argument!r}: the value is empty", hint=f"write {dotted}=PATH")
        if dotted == "base" and re.fullmatch(r"[\w.-]+:\s*", text):
            raise RecipeError(f"override {argument!r}: a name is missing behind {text.strip()!r}")
        try:
            value = yaml.load(text, _StrictLoader)  # noqa: S506 (it derives from SafeLoader)
            parsed[dotted] = text if typed and not isinstance(value, Mapping | str | None) else value
        except yaml.YAMLError:
            raise RecipeError(
                f"override {argument!r}: the value is not valid YAML", hint="quote it"
            ) from None
    return parsed


def override(content: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with each dotted key set, in order; a mapping changes the keys it holds and leaves the
    others, unless it names another component than the one that stands there: then it takes its place. List items go by
    number; a path for `data` goes to the dataset's option `path`. Raises `RecipeError`."""
    changed = deepcopy(content)
    for dotted, value in _flat(content, overrides):
        if dotted == "data" and isinstance(value, str | Path | int) and "data" in content:
            _assign(changed, "data.path", str(value))
        else:
            _assign(changed, dotted, value)
    return changed


def _flat(
    content: Mapping[str, Any], overrides: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    for key, value in overrides.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and not _replaces(content, dotted, value):
            yield from _flat(content, value, f"{dotted}.")
        else:
            yield dotted, value


def _replaces(content: Mapping[str, Any], dotted: str, value: Mapping[str, Any]) -> bool:
    """Whether `value` names another component than the one that `content` has at `dotted`, whose options are none of
    its own."""
    kind = PLACES.get(dotted)
    there: Any = content
    for name in dotted.split("."):
        there = there.get(name) if isinstance(there, Mapping) else None
    if kind is None or there is None or not isinstance(value.get(Use.key(kind)), str):
        return False
    try:
        names = {Use.read(kind, one).name.rpartition(".")[2] for one in (value, there)}
    except ValueError:  # said when the recipe is checked
        return False
    return len(names) > 1


def _assign(content: dict[str, Any], dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    place: Any = content
    for depth, name in enumerate(path):
        here = ".".join(path[: depth + 1])
        key: Any = _index(place, name, dotted) if isinstance(place, list) else name
        inner = place[key] if isinstance(place, list) else place.get(key)
        kind = PLACES.get(here) or PLACES.get(here.rpartition(".")[0] + ".*")
        if inner is None and kind is not None and here.startswith("fine_tune."):
            inner = FineTune.model_fields[key].default
        if inner == AUTO:  # whoever sets a part of it settles the whole
            inner = None
        if isinstance(inner, str) and kind is not None:  # `updater: adamw` is `updater: {updater: adamw}`
            inner = Use.read(kind, inner).to_json()
        inner = {} if inner is None else inner
        if not isinstance(inner, dict | list):
            raise RecipeError(f"override {dotted}: {here!r} is a value, not a section")
        place[key] = inner
        place = inner
    place[_index(place, last, dotted) if isinstance(place, list) else last] = value


def _index(place: list[Any], key: str, dotted: str) -> int:
    if key.isdecimal() and int(key) < len(place):
        return int(key)
    raise RecipeError(f"override {dotted}: {key!r} is no item of a list of {len(place)}", hint="count from 0")
