"""What preprocessing makes: fitted transforms, the task's states, and splits of encoded examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from core.context import Context, derive_seed
from core.contract import JSON, SELECT, TRAIN, Base, Row, Split, Task, Transform


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
        """Each transform's state, in order, under its name and place."""
        return {f"{i}.{step.name}": step.state for i, step in enumerate(self.steps)}


@dataclass(frozen=True)
class Prepared:
    """The new data, ready for the model. `state` is what the task knows after seeing `train`, `base_state`
    what it knew from the base alone. `splits` are encoded with `state`; `retain` holds the half that is
    looked at once."""

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


def prepare(
    context: Context, base: Base, task: Task, pipeline: Pipeline, raw: Mapping[str, Sequence[Row]]
) -> Prepared:
    """Apply the pipeline, let the task learn from `train` on top of what the base brought, and encode every
    split."""
    brought = base.preprocessing.get("task", {})
    rows = {name: pipeline.apply(split) for name, split in raw.items()}
    state = task.fit(rows[TRAIN], brought)
    splits = {name: encode(task, name, split, state) for name, split in rows.items()}
    if pipeline.augments:
        splits[TRAIN] = replace(
            splits[TRAIN], augment=_Augment(context.seed, pipeline, task, state, raw[TRAIN])
        )
    return Prepared(base, task, pipeline, state, task.fit([], brought), splits)


class _Augment:
    """`core.contract.Augment`: keyed by (seed, epoch, row), so that neither order nor worker changes an
    example."""

    def __init__(self, seed: int, pipeline: Pipeline, task: Task, state: JSON, rows: Sequence[Row]) -> None:
        self._seed, self._pipeline, self._task, self._state, self._rows = seed, pipeline, task, state, rows
        self._rng = torch.Generator()

    def __call__(self, index: int, epoch: int) -> Any:
        row = self._rows[index]
        self._rng.manual_seed(derive_seed(self._seed, "augment", epoch, row.id))
        return self._task.encode(self._pipeline.augment(row, self._rng), self._state)
