"""Recipes: found by name or path, read strictly, changed by dotted overrides, and resolved against the
active plugins.

Everything that is wrong with a recipe is reported at once. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import core_schema

from core.components import Options, Registry
from core.contract import Kind
from core.errors import ComponentError, PluginError, RecipeError, nearest
from core.loader import CORE, Plugins, chosen, installed

DEFAULT_GROUP = "taoke.default_recipe"
"""Entry-point group with which a plugin marks one of its recipes as the default: the entry's name is the
recipe's, its value the plugin's module."""


@dataclass(frozen=True, slots=True)
class Use:
    """A component as a recipe names it, with the options given there."""

    kind: Kind
    name: str
    options: Mapping[str, Any]

    @staticmethod
    def key(kind: Kind) -> str:
        """The key under which a recipe's mapping names a component of that kind."""
        return "source" if kind == "base" else kind

    @classmethod
    def read(cls, kind: Kind, value: Any) -> Use:
        """From `NAME` or `{KEY: NAME, option: value, ...}`. Raises `ValueError`."""
        key = cls.key(kind)
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(kind, value, {})
        if isinstance(value, Mapping) and isinstance(value.get(key), str):
            return cls(kind, value[key], {name: option for name, option in value.items() if name != key})
        raise ValueError(f"expected a name or a mapping with `{key}: NAME`, got {value!r}")

    def to_json(self) -> dict[str, Any]:
        return {self.key(self.kind): self.name, **self.options}


@dataclass(frozen=True, slots=True)
class Place:
    """Marks a field of a recipe that takes a component: how pydantic reads, writes and describes it."""

    kind: Kind

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            partial(Use.read, self.kind),
            serialization=core_schema.plain_serializer_function_ser_schema(Use.to_json),
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {"x-kind": self.kind}


PLACES: Mapping[str, Kind] = {
    "task": "task",
    "base": "base",
    "data": "dataset",
    "preprocess.*": "transform",
    "modify.*": "edit",
    "fine_tune.strategy": "strategy",
    "fine_tune.loss": "loss",
    "fine_tune.updater": "updater",
}
"""Where a recipe takes components, and of which kind."""


class FineTune(Options):
    """The fine-tune stage: which strategy, loss and updater, and the core's loop around them."""

    strategy: Annotated[Use, Place("strategy")] = Field(
        "full", validate_default=True, description="which parameters move, when, and how fast"
    )
    loss: Annotated[Use, Place("loss")] | None = Field(None, description="a loss in place of the task's own")
    updater: Annotated[Use, Place("updater")] = Field(
        "adamw", validate_default=True, description="the update step"
    )
    lr: float = Field(gt=0, description="the learning rate at its highest")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="how lr falls over a phase, to zero"
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="the part of a phase over which lr rises from zero")
    batch_size: int = Field(gt=0, description="examples a step")
    epochs: int = Field(gt=0, description="passes over the train split")
    keep: Literal["last", "best"] = Field(
        "last", description="the weights to keep: the last, or the epoch best on `select`"
    )


class Evaluate(Options):
    """The evaluate stage."""

    primary: str = Field(description="the metric that decides")
    retain: bool = Field(
        False, description="also measure what was forgotten, on the dataset's `retain` split"
    )
    scratch: bool = Field(False, description="also train the same structure from fresh weights")
    batch_size: int = Field(256, gt=0, description="examples a batch")
    resamples: int = Field(10_000, ge=100, description="bootstrap resamples behind each interval")


class Gate(Options):
    """What the verdict asks for. With a gate, a verdict other than `ship` makes the run exit with 3."""

    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the paired intervals")
    max_forgetting: float | None = Field(
        None, ge=0, description="of the base's score on `retain`, the part that may be lost"
    )


class Recipe(Options):
    """A recipe, complete."""

    task: Annotated[Use, Place("task")] = Field(description="what is to be done")
    plugins: list[str] = Field(description="the active plugins, in call order")
    seed: int = Field(0, ge=0, description="of all of the run's randomness")
    base: Annotated[Use, Place("base")] = Field(description="the existing model")
    data: Annotated[Use, Place("dataset")] = Field(description="the new task's examples")
    preprocess: list[Annotated[Use, Place("transform")]] = Field([], description="transforms, in order")
    modify: list[Annotated[Use, Place("edit")]] = Field([], description="structural edits, in order")
    fine_tune: FineTune
    evaluate: Evaluate
    gate: Gate | None = None
    allow: list[Literal["duplicates"]] = Field(
        [], description="`duplicates`: the same example may stand in train and report"
    )
    answers: dict[str, str] = Field(
        {}, description="where two plugins answer one hook: hook (without taoke_) to plugin"
    )

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True)


# --- finding ---------------------------------------------------------------------------------------------


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


# --- reading ---------------------------------------------------------------------------------------------


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
    """`dotted.key=value` arguments as typed on a command line; values are YAML. Raises `RecipeError`."""
    parsed = {}
    for argument in arguments:
        dotted, equals, text = argument.partition("=")
        if not equals or not dotted:
            raise RecipeError(f"override {argument!r}: expected key=value, as in fine_tune.lr=0.01")
        try:
            parsed[dotted] = yaml.load(text, _StrictLoader)  # noqa: S506 (it derives from SafeLoader)
        except yaml.YAMLError:
            raise RecipeError(
                f"override {argument!r}: the value is not valid YAML", hint="quote it"
            ) from None
    return parsed


def override(content: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with each dotted key set, in order; a mapping changes the keys it holds and leaves the
    others; list items go by number. Raises `RecipeError`."""
    changed = deepcopy(content)
    for dotted, value in _flat(overrides):
        _assign(changed, dotted, value)
    return changed


def _flat(overrides: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in overrides.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _assign(content: dict[str, Any], dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    place: Any = content
    for depth, name in enumerate(path):
        here = ".".join(path[: depth + 1])
        key: Any = _index(place, name, dotted) if isinstance(place, list) else name
        inner = place[key] if isinstance(place, list) else place.get(key)
        kind = PLACES.get(here) or PLACES.get(here.rpartition(".")[0] + ".*")
        if inner is None and here in ("fine_tune.strategy", "fine_tune.updater"):
            inner = FineTune.model_fields[key].default
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


# --- resolving -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resolved:
    """A recipe whose every component is found and whose every option has its value, with the plugins that
    answer it."""

    name: str
    recipe: Recipe
    plugins: Plugins

    def make(self, use: Use) -> Any:
        """The component of a use, made."""
        return self.plugins.components.make(use.kind, use.name, use.options)


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
    try:
        content = Recipe.model_validate(content).to_json()
    except ValidationError as error:
        problems += explain(error, Recipe)
    named, answers = content.get("plugins"), content.get("answers", {})
    if not (isinstance(named, list) and all(isinstance(name, str) for name in named)):
        raise _recipe_error(where, problems)  # without plugins, no component can be looked up
    active = Plugins(answers if isinstance(answers, dict) else {}, strict=strict)
    try:
        active.load(chosen(named, plugins), plugin_files)
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
    return Resolved(name, Recipe.model_validate({**content, "plugins": loaded}), active)


def _recipe_error(where: str, problems: Sequence[str]) -> RecipeError:
    return RecipeError(f"{where} has {len(problems)} problem{'s' if len(problems) > 1 else ''}", problems)


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


def schema(components: Registry) -> dict[str, Any]:
    """The JSON Schema of a recipe with the given components: the core's own keys, and the keys each
    component takes."""
    document = Recipe.model_json_schema()
    options: dict[str, Any] = {}
    by_kind: dict[str, list[str]] = {}
    for component, _ in components:
        model = components.options_of(component)
        own = (
            model.model_json_schema()
            if model
            else {"type": "object", "properties": {}, "additionalProperties": False}
        )
        document.setdefault("$defs", {}).update(own.pop("$defs", {}))
        options[f"{component.kind}:{component.name}"] = {**own, "description": component.summary}
        by_kind.setdefault(component.kind, []).append(component.name)
    _fill_places(document, by_kind, options)
    return document


def _fill_places(node: Any, by_kind: Mapping[str, list[str]], definitions: Mapping[str, Any]) -> None:
    """Replace each place's marker by what it takes: a component's name, or a mapping with that component's
    options."""
    if isinstance(node, list):
        for item in node:
            _fill_places(item, by_kind, definitions)
    elif isinstance(node, dict):
        kind = node.pop("x-kind", None)
        if kind is not None:
            names = by_kind.get(kind, [])
            shapes = [_option_schema(kind, name, definitions[f"{kind}:{name}"]) for name in names]
            node["anyOf"] = [
                {"enum": sorted({n for name in names for n in (name, name.rpartition(".")[2])})},
                *shapes,
            ]
        for value in list(node.values()):
            _fill_places(value, by_kind, definitions)


def _option_schema(kind: Kind, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    key = Use.key(kind)
    return {
        **options,
        "properties": {
            key: {"enum": sorted({name, name.rpartition(".")[2]})},
            **options.get("properties", {}),
        },
        "required": [key, *options.get("required", [])],
    }


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, keys in the order of the schema."""
    return yaml.safe_dump(recipe.to_json(), sort_keys=False, allow_unicode=True, width=100)
