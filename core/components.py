"""The components of the active plugins: found by kind and name, made when a recipe uses them, never imported
before."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from core.contract import KINDS, Component, Kind
from core.errors import ComponentError, PluginError, nearest, raised_at


class Options(BaseModel):
    """What every options model derives from: unknown keys are errors, numbers are finite, values do not change
    after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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
        """From `NAME` or `{KEY: NAME, option: value, ...}`; a base also from `SOURCE:NAME`, which is
        `{source: SOURCE, name: NAME}`. Raises `ValueError`."""
        key = cls.key(kind)
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            source, colon, name = value.partition(":")
            if kind == "base" and colon:
                if not (source and name):
                    raise ValueError(f"expected `SOURCE:NAME`, got {value!r}")
                return cls(kind, source, {"name": name})
            return cls(kind, value, {})
        if isinstance(value, Mapping) and isinstance(value.get(key), str):
            return cls(kind, value[key], {name: option for name, option in value.items() if name != key})
        raise ValueError(f"expected a name or a mapping with `{key}: NAME`, got {value!r}")

    def to_json(self) -> dict[str, Any]:
        return {self.key(self.kind): self.name, **self.options}


def import_attribute(reference: str, wanted_by: str) -> Any:
    """What `module:attribute` names. Raises `ComponentError` that says which package to install or what is
    misspelt."""
    module_name, _, attribute = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        raise ComponentError(
            f"{wanted_by} needs the Python module {missing!r}, which is not installed", install_hint(missing)
        ) from error
    except (Exception, SystemExit) as error:
        raise ComponentError(
            f"{wanted_by}: importing {module_name!r} fails: {type(error).__name__}: {error}"
            f" ({raised_at(error, module_name)})",
            "tell the plugin's author",
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise ComponentError(
            f"{wanted_by} names {reference!r}, but module {module_name!r} has no {attribute!r}",
            "this is a mistake in the plugin: tell its author",
        ) from None


def install_hint(module: str) -> str:
    """How to install a missing module: the extra of an installed distribution that requires it, or the
    module's own name."""
    top = module.partition(".")[0]
    wanted = top.replace("_", "-").lower()
    for distribution in metadata.distributions():
        for requirement in distribution.requires or ():
            name, _, marker = requirement.partition(";")
            if re.split(r"[^\w.-]", name)[0].lower().replace("_", "-") != wanted or "extra ==" not in marker:
                continue
            extra = marker.partition("extra ==")[2].strip().strip("'\"")
            return f"pip install '{distribution.metadata['Name']}[{extra}]'"
    return f"pip install the package that brings {top!r}"


class Registry:
    """The components of the active plugins, by (kind, name), each with the plugin that brought it."""

    def __init__(self) -> None:
        self._components: dict[tuple[str, str], tuple[Component, str]] = {}

    def __iter__(self) -> Iterator[tuple[Component, str]]:
        return iter(self._components.values())

    def add(self, component: Component, plugin: str) -> None:
        """Raises `PluginError` where the kind is unknown, the reference malformed, or the name taken."""
        if component.kind not in KINDS:
            raise PluginError(
                f"plugin {plugin!r} registers {component.name!r} with the unknown kind {component.kind!r}",
                nearest(component.kind, KINDS),
            )
        for reference in filter(None, (component.factory, component.options)):
            module, colon, attribute = reference.partition(":")
            if not (module and colon and attribute):
                raise PluginError(
                    f"plugin {plugin!r}: component {component.name!r} refers to {reference!r}",
                    "write 'package.module:attribute'",
                )
        taken = self._components.get((component.kind, component.name))
        if taken is not None:
            raise PluginError(
                f"plugins {taken[1]!r} and {plugin!r} both register the {component.kind} {component.name!r}",
                f"switch one off: -p no:{plugin}",
            )
        self._components[component.kind, component.name] = (component, plugin)

    def find(self, kind: str, name: str) -> Component:
        """The component of that kind whose name is `name`, or the only one whose name ends with `.name`."""
        exact = self._components.get((kind, name))
        if exact is not None:
            return exact[0]
        named = {c.name: plugin for c, plugin in self if c.kind == kind and c.name.endswith(f".{name}")}
        if len(named) == 1:
            return self._components[kind, next(iter(named))][0]
        if named:
            raise ComponentError(
                f"the {kind} {name!r} is ambiguous", f"write one of {', '.join(sorted(named))}"
            )
        known = {c.name for c, _ in self if c.kind == kind}
        short = {full.rpartition(".")[2] for full in known}
        hint = nearest(name, short | known)
        if kind == "base" and ("/" in name or "." in name or os.path.exists(name)):  # noqa: PTH110 (it does not raise)
            hint += (
                "; a model is named behind its source, as in SOURCE:NAME or SOURCE:FOLDER, and a file of weights is"
                " read by {source: file, path: FILE, architecture: ...}"
            )
        raise ComponentError(f"no active plugin has a {kind} {name!r}", hint)

    def options_of(self, component: Component) -> type[BaseModel] | None:
        """The options model of a component, or None where it has no options."""
        if component.options is None:
            return None
        model = import_attribute(component.options, f"{component.kind} {component.name!r}")
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise PluginError(
                f"the options of {component.kind} {component.name!r} ({component.options}) are no pydantic model",
                "derive them from core.components.Options",
            )
        if model.model_config.get("extra") != "forbid":
            raise PluginError(
                f"the options of {component.kind} {component.name!r} ({component.options}) accept unknown keys",
                "derive them from core.components.Options, or set extra='forbid'",
            )
        return model

    def check(self, component: Component, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with their defaults, JSON-able. Raises pydantic's `ValidationError`, or `ComponentError`."""
        model = self.options_of(component)
        if model is None:
            if options:
                raise ComponentError(
                    f"the {component.kind} {component.name!r} has no options, but got {', '.join(map(repr, options))}",
                    "leave them out",
                )
            return {}
        return model.model_validate(options).model_dump(mode="json")

    def make(self, use: Use) -> Any:
        """Import the component's factory and call it with its validated options. Raises `ComponentError`."""
        component = self.find(use.kind, use.name)
        model = self.options_of(component)
        wanted_by = f"{use.kind} {component.name!r}"
        try:
            arguments = () if model is None else (model.model_validate(use.options),)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ComponentError(f"{wanted_by}: {where}: {first['msg']}") from error
        return import_attribute(component.factory, wanted_by)(*arguments)

    def describe_options(self, component: Component) -> list[dict[str, str]]:
        """The options as a table for a person: name, type, default, meaning."""
        model = self.options_of(component)
        return [
            {
                "option": name,
                "type": field.annotation.__name__
                if isinstance(field.annotation, type)
                else str(field.annotation),
                "default": "required" if field.is_required() else repr(field.default),
                "meaning": field.description or "",
            }
            for name, field in (model.model_fields.items() if model else ())
        ]
