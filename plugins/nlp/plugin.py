"""The nlp plugin's entry point: its components. Imports no torch."""

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
            "nlp.language_model",
            "predict text, in bits per byte",
            "plugins.nlp.tasks:LanguageModelling",
            "plugins.nlp.options:LanguageModellingOptions",
        ),
        Component(
            "base",
            "nlp.builtin",
            "a language model of this plugin",
            "plugins.nlp.models:Builtin",
            "plugins.nlp.options:BuiltinOptions",
        ),
        Component(
            "dataset",
            "nlp.reference",
            "Python's language reference, with the library's docstrings to retain",
            "plugins.nlp.data:Reference",
            "plugins.nlp.options:ReferenceOptions",
        ),
    ]
