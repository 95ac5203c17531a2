"""ΔG: structural edits, applied in order and recorded, so that replaying them on the base gives the same model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from core.components import Registry, Use
from core.contract import JSON, Edit, Structure
from core.errors import EditError


@dataclass(frozen=True, slots=True)
class Applied:
    """An edit that has been applied: its serial form, and what it says of itself."""

    spec: Mapping[str, JSON]
    description: str
    preserves: bool


def replay(
    components: Registry, model: nn.Module, specs: Sequence[Mapping[str, JSON]]
) -> tuple[nn.Module, list[Applied]]:
    """Apply edits in their serial form, in order. Changes `model`; returns the edited model and what was
    applied. Raises `EditError`, or `ComponentError`."""
    applied = []
    for spec in specs:
        edit: Edit = components.make(Use.read("edit", spec))
        edit.validate(model)
        model = edit.apply(model)
        applied.append(Applied(dict(spec), edit.describe(), edit.preserves))
    return model, applied


def axis_size(model: nn.Module, axis: str) -> int:
    """How many entries an axis of the model's `structure` has. Raises `EditError` where it has no such axis."""
    structure: Structure = getattr(model, "structure", Structure())
    places = structure.axes.get(axis)
    if not places:
        known = ", ".join(sorted(structure.axes)) or "none"
        raise EditError(f"{type(model).__name__} has no axis {axis!r}", f"axes it has: {known}")
    name, dimension = places[0]
    return model.get_parameter(name).shape[dimension]
