"""The entry module of the plugin schedulefree: what it brings. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from core.contract import Component
from core.hookspecs import hookimpl

taoke_api = 1


@hookimpl
def taoke_register() -> Iterable[Component]:
    return [
        Component(
            "updater",
            "schedulefree.adamw",
            "schedule-free AdamW: an average of the weights in the place of a schedule",
            "taoke_schedulefree.updater:AdamW",
            "taoke_schedulefree.options:AdamW",
        ),
    ]
