"""Recipes: what they are (`model`), where they lie and how they are changed (`files`), what plugins choose where
they say `auto` (`complete`), what they mean with the active plugins (`resolve`), and their JSON Schema (`schema`).
Nothing here imports torch."""

from core.recipe.complete import brief
from core.recipe.files import built_in, default_name, default_names, find, override, parse_overrides, read
from core.recipe.model import Recipe, dump
from core.recipe.resolve import Resolved, resolve, resolve_content
from core.recipe.schema import schema

__all__ = [
    "Recipe",
    "Resolved",
    "brief",
    "built_in",
    "default_name",
    "default_names",
    "dump",
    "find",
    "override",
    "parse_overrides",
    "read",
    "resolve",
    "resolve_content",
    "schema",
]
