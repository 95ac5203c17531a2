"""What preprocessing makes: fitted transforms, the task's states, and splits of encoded examples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch

from core.context import Context
from core.contract import JSON, SELECT, TRAIN, Base, Row, Split, Task, Transform
from core.errors import ContractError
from core.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class Fitted:
    """A transform under its qualified name, with the state it learned, or that the base brought."""

    name: str
    transform: Transform
    state: JSON


@dataclass(frozen=True)
class Pipeline:
    """Fitted transforms in the recipe's order. Augmentation is what the random ones add, in training alone."""

    steps: Sequence[Fitted] = ()

    @property
    def augments(self) -> bool:
        return any(step.transform.random for step in self.steps)

    def apply(self, rows: Sequence[Row]) -> list[Row]:
        """The rows after every deterministic transform."""
        rng = torch.Generator()
        out = list(rows)
        for step in self.steps:
            if not step.transform.random:
                out = [step.transform.apply(row, step.state, rng) for row in out]
        return out

    def augment(self, row: Row, rng: torch.Generator) -> Row:
        """A raw row after all transforms, the random ones drawing from `rng`."""
        for step in self.steps:
            row = step.transform.apply(row, step.state, rng)
        return row

    def states(self) -> dict[str, JSON]:
        """Each transform's state, in order, under its place and name."""
        return {f"{i}.{step.name}": step.state for i, step in enumerate(self.steps)}


@dataclass(frozen=True)
class Prepared:
    """The new data, ready for the model. `state` is what the task knows after seeing `train`, `base_state`
    what it knew from the base alone. `splits` are encoded with `state`."""

    base: Base
    task: Task
    pipeline: Pipeline
    state: JSON
    base_state: JSON
    splits: Mapping[str, Split]

    def for_base(self, name: str) -> Split:
        """A split encoded as the base itself reads it."""
        return encode(self.task, name, self.splits[name].rows, self.base_state)

    def for_training(self) -> dict[str, Split]:
        """The splits that training may see."""
        return {name: self.splits[name] for name in (TRAIN, SELECT)}


def encode(task: Task, name: str, rows: Sequence[Row], state: JSON) -> Split:
    """A split of rows that all transforms have seen."""
    return Split(name, rows, [task.encode(row, state) for row in rows], state)


def fit_transforms(context: Context, base: Base, train: Sequence[Row]) -> Pipeline:
    """The recipe's transforms, each fitted on `train` as the ones before it leave it, unless the base brings
    its state."""
    steps: list[Fitted] = []
    rows = train
    for use in context.recipe.preprocess:
        transform: Transform = context.make(use)
        brought = use.name in base.preprocessing
        state = base.preprocessing[use.name] if brought else as_json(transform.fit(rows), use.name)
        steps.append(Fitted(use.name, transform, state))
        rows = Pipeline(steps[-1:]).apply(rows)
    return Pipeline(steps)


def prepare(context: Context, base: Base, task: Task, raw: Mapping[str, Sequence[Row]]) -> Prepared:
    """Fit the recipe's transforms and apply them, let the task learn from `train` on top of what the base
    brought, and encode every split."""
    pipeline = fit_transforms(context, base, raw[TRAIN])
    brought = base.preprocessing.get("task", {})
    rows = {name: pipeline.apply(split) for name, split in raw.items()}
    name = context.recipe.task.name
    state = as_json(task.fit(rows[TRAIN], deepcopy(brought)), name)
    base_state = as_json(task.fit([], deepcopy(brought)), name)
    splits = {name: encode(task, name, split, state) for name, split in rows.items()}
    if pipeline.augments:
        rng = torch.Generator()

        def augment(index: int, epoch: int) -> Any:
            row = raw[TRAIN][index]
            rng.manual_seed(derive_seed(context.seed, "augment", epoch, row.id))
            return task.encode(pipeline.augment(row, rng), state)

        splits[TRAIN] = replace(splits[TRAIN], augment=augment)
    return Prepared(base, task, pipeline, state, base_state, splits)


def as_json(state: Any, name: str) -> JSON:
    """A state as a shell will bring it back: through JSON, where tuples become lists and keys text, so that
    the run itself works with nothing else. Raises `ContractError`."""
    try:
        return json.loads(json.dumps(state))
    except (TypeError, ValueError) as error:
        raise ContractError(
            f"the state that {name!r} learned cannot go into a shell: {error}",
            "`fit` returns JSON: dicts, lists, strings, numbers; call .tolist() on arrays",
        ) from error
