"""Modify: G1 = G0 ⊕ ΔG, holding θ0', the base's weights carried through the edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn

from core.context import Context
from core.contract import SCRATCH
from core.edits import Applied, replay
from core.errors import BaseError, EditError
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
    edits = [*applied, *more]
    scratch = None
    if context.recipe.evaluate.scratch:
        fresh = prepared.base.fresh
        scratch = fresh_weights(context, model) if fresh is None else rebuilt(context, fresh, edits, model)
    return Modified(prepared, model, edits, scratch)


def rebuilt(
    context: Context, fresh: Callable[[], nn.Module], edits: Sequence[Applied], model: nn.Module
) -> nn.Module:
    """The structure of `model` from a new model of the base's, with the same edits. Raises `BaseError` where that
    is another structure."""
    with torch.random.fork_rng(devices=[]):
        seed_torch(torch.device("cpu"), derive_seed(context.seed, SCRATCH))
        made, _ = replay(context.plugins.components, fresh(), [edit.spec for edit in edits])
    shapes, wanted = (
        {name: tuple(tensor.shape) for name, tensor in one.state_dict().items()} for one in (made, model)
    )
    if shapes != wanted:
        name = min(set(shapes.items()) ^ set(wanted.items()))[0]
        raise BaseError(
            f"a fresh model of the base has another structure than the base: {name} is"
            f" {shapes.get(name, 'missing')}, in the base {wanted.get(name, 'missing')}",
            "this is a mistake in the base's source; evaluate.scratch=false leaves `scratch` out",
        )
    return made.requires_grad_(False).eval()


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
