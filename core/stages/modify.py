"""Modify: G1 = G0 ⊕ ΔG, holding θ0', the base's weights carried through the edits."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn

from core.context import Context
from core.contract import SCRATCH
from core.edits import Applied, replay
from core.errors import EditError
from core.prepared import Prepared
from core.seeds import derive_seed, seed_torch


@dataclass(frozen=True)
class Modified:
    """The edited model before any training, the edits that made it, and, where the recipe asks for it, the same
    structure with fresh weights."""

    prepared: Prepared
    model: nn.Module
    edits: Sequence[Applied]
    scratch: nn.Module | None


def modify(context: Context, prepared: Prepared) -> Modified:
    """Apply the recipe's edits, then those the task asks for, to a copy of the base. Raises `EditError`."""
    own = [use.to_json() for use in context.recipe.modify]
    components = context.plugins.components
    model, applied = replay(components, deepcopy(prepared.base.model), own)
    asked = prepared.task.edits(model, prepared.state)
    model, more = replay(components, model, asked)
    for edit in (*applied, *more):
        context.events.emit("edit", spec=edit.spec, description=edit.description, preserves=edit.preserves)
    scratch = fresh_weights(context, model) if context.recipe.evaluate.scratch else None
    return Modified(prepared, model, [*applied, *more], scratch)


def fresh_weights(context: Context, model: nn.Module) -> nn.Module:
    """The same structure with newly drawn weights, by each module's own `reset_parameters`. Raises
    `EditError` where a module holds parameters and cannot reset them."""
    fresh = deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        seed_torch(torch.device("cpu"), derive_seed(context.seed, SCRATCH))
        for name, module in fresh.named_modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            elif next(module.parameters(recurse=False), None) is not None:
                raise EditError(
                    f"module {name or '(the model)'} ({type(module).__name__}) has parameters but no reset_parameters",
                    "give it one, so that scratch can start afresh, or set evaluate.scratch to false",
                )
    return fresh
