"""The JSON Schema of recipes, for editors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from core.components import Registry, Use
from core.contract import Kind
from core.recipe.model import Recipe


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
            if kind == "base":  # also `SOURCE:NAME`
                named = [
                    name for name in names if "name" in definitions[f"{kind}:{name}"].get("properties", {})
                ]
                sources = sorted({re.escape(n) for name in named for n in (name, name.rpartition(".")[2])})
                if sources:
                    node["anyOf"].append({"type": "string", "pattern": f"^({'|'.join(sources)}):."})
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
