"""Choose: the base model, on the CPU, frozen."""

from __future__ import annotations

from core.context import Context
from core.contract import Base, BaseSource


def choose(context: Context) -> Base:
    """Load the base that the recipe names. Raises `BaseError`."""
    source: BaseSource = context.make(context.recipe.base)
    base = source.load()
    base.model.requires_grad_(False).eval()
    context.events.emit(
        "base",
        digest=base.digest,
        licence=base.licence,
        origin=base.origin,
        parameters=sum(parameter.numel() for parameter in base.model.parameters()),
    )
    for note in base.notes:
        context.warn(f"base: {note}")
    return base
