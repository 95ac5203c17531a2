"""ΔG: structural edits, applied in order and recorded so that replaying them on the base gives the same model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from core.contract import Edit


@dataclass(frozen=True, slots=True)
class Applied:
    """An edit that has been applied: its serial form, and what it says of itself."""

    spec: Mapping[str, Any]
    description: str
    preserves: bool


def apply(
    model: nn.Module, specs: Sequence[Mapping[str, Any]], make: Callable[[Mapping[str, Any]], Edit]
) -> tuple[nn.Module, list[Applied]]:
    """Validate and apply the edits in order. Changes `model`; returns the edited model and what was applied."""
    applied = []
    for spec in specs:
        edit = make(spec)
        edit.validate(model)
        description = edit.describe()
        model = edit.apply(model)
        applied.append(Applied(dict(spec), description, edit.preserves))
    return model, applied
