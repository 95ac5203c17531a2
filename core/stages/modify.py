"""Modify: G1 = G0 ⊕ ΔG, holding θ0', the base's weights carried through the edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from torch import nn

from core import edits
from core.context import Context
from core.contract import Edit
from core.edits import Applied
from core.loader import Plugins
from core.prepared import Prepared
from core.recipe import Use


@dataclass(frozen=True)
class Modified:
    """The edited model before any training, and the edits that made it."""

    prepared: Prepared
    model: nn.Module
    edits: Sequence[Applied]

    @property
    def preserves(self) -> bool:
        """Whether the model still computes what the base computed."""
        return all(edit.preserves for edit in self.edits)


def modify(context: Context, prepared: Prepared) -> Modified:
    """Apply the recipe's edits, then those the task asks for, to a copy of the base. Raises `EditError`."""
    own = [use.to_json() for use in context.recipe.modify]
    model, applied = replay(context.plugins, deepcopy(prepared.base.model), own)
    asked = prepared.task.edits(model, prepared.state)
    model, more = replay(context.plugins, model, asked)
    for edit in (*applied, *more):
        context.events.emit("edit", spec=edit.spec, description=edit.description, preserves=edit.preserves)
    return Modified(prepared, model, [*applied, *more])


def replay(
    plugins: Plugins, model: nn.Module, specs: Sequence[Mapping[str, Any]]
) -> tuple[nn.Module, list[Applied]]:
    """Apply edits in their serial form, in order; changes `model`. Raises `EditError`, or `ComponentError`."""

    def make(spec: Mapping[str, Any]) -> Edit:
        use = Use.read("edit", spec)
        edit: Edit = plugins.components.make(use.kind, use.name, use.options)
        return edit

    return edits.apply(model, specs, make)
