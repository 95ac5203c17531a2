"""A recipe brought as far as the fine-tune stage, for the contenders of this benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from core.context import Context
from core.contract import TRAIN, Row, Task, Transform
from core.progress import Progress
from core.recipe import Recipe, resolve
from core.rows import identify
from core.stages.choose import choose
from core.stages.fine_tune import fine_tune
from core.stages.modify import Modified, modify
from core.stages.preprocess import preprocess
from core.training import phase_epochs


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What both loops are given."""

    recipe: Recipe
    context: Context
    modified: Modified
    task: Task
    state: Any
    rows: Sequence[Row]
    examples: Sequence[Any]
    transforms: Sequence[tuple[Transform, Any]]
    phases: Sequence[tuple[tuple[str, ...], int]]

    @property
    def augments(self) -> bool:
        return any(transform.random for transform, _ in self.transforms)

    def model(self) -> nn.Module:
        """A fresh copy of G1 holding θ0'."""
        return deepcopy(self.modified.model)

    def with_core(self) -> nn.Module:
        """θ1 by the core's fine-tune stage."""
        return fine_tune(self.context, self.modified).model


def prepare(recipe: str, overrides: Mapping[str, Any], folder: Path) -> Setting:
    """Choose, preprocess and modify as a run does; the record is written to `folder`, as in a run."""
    resolved = resolve(recipe, {**overrides, "fine_tune.keep": "last"})
    context = Context(resolved, torch.device("cpu"), Progress())
    context.events.open(folder / "events.jsonl")
    base = choose(context)
    prepared = preprocess(context, base)
    modified = modify(context, prepared)
    phases = resolved.plugins.hook.taoke_select_parameters(context=context, model=modified.model)
    epochs = phase_epochs(phases, resolved.recipe.fine_tune.epochs)
    names = [tuple(name for group in phase.groups for name in group.parameters) for phase in phases]
    return Setting(
        recipe=context.recipe,
        context=context,
        modified=modified,
        task=prepared.task,
        state=prepared.state,
        rows=identify(context.make(context.recipe.data).rows()[TRAIN]),
        examples=prepared.splits[TRAIN].examples,
        transforms=[(step.transform, step.state) for step in prepared.pipeline.steps],
        phases=list(zip(names, epochs, strict=True)),
    )
