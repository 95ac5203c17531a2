"""Fine-tune: θ0' to θ1."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

from torch import nn

from core.context import Context
from core.contract import ADAPTED
from core.errors import ContractError
from core.stages.modify import Modified


@dataclass(frozen=True)
class Tuned:
    """The adapted model, on the run's device and in eval mode; `modified.model` still holds θ0'."""

    modified: Modified
    model: nn.Module


def fine_tune(context: Context, modified: Modified) -> Tuned:
    """Train a copy of the edited model on `train`. Raises `TrainingError`, or `ContractError`."""
    return Tuned(modified, trained(context, modified, deepcopy(modified.model), ADAPTED))


def trained(context: Context, modified: Modified, model: nn.Module, contender: str) -> nn.Module:
    """`model` after the fine-tuning that the plugins answer with; scratch is trained by the same words."""
    prepared = modified.prepared
    before, context.contender = context.contender, contender
    result = context.plugins.hook.taoke_fine_tune(
        context=context, task=prepared.task, model=model.to(context.device), splits=prepared.for_training()
    )
    context.step, context.contender = 0, before
    if not isinstance(result, nn.Module):
        raise ContractError(
            f"taoke_fine_tune returned a {type(result).__name__}",
            "a plugin that answers it returns the trained module",
        )
    return result.eval()
