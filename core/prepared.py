"""What preprocessing makes: fitted transforms, the task's states, and splits of encoded examples."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from core.context import Context
from core.contract import JSON, SELECT, TRAIN, Base, Row, Split, Task, Transform
from core.data.cache import Store, folder, pack, room
from core.data.rows import Lazy, is_streamed
from core.errors import ContractError
from core.loading import made, spare
from core.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class Fitted:
    """A transform under its qualified name, with the options it was made with, and the state it learned, or that
    the base brought."""

    name: str
    transform: Transform
    state: JSON
    options: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def slow(self) -> bool | str:
        return getattr(self.transform, "slow", False)


@dataclass(frozen=True, slots=True)
class Begun:
    """Rows after the first `done` transforms: what is worth making once and keeping, in memory or on disk."""

    rows: Sequence[Row]
    done: int


@dataclass(frozen=True)
class Pipeline:
    """Fitted transforms in the recipe's order. Augmentation is what the random ones add, in training alone."""

    steps: Sequence[Fitted] = ()

    @property
    def augments(self) -> bool:
        return any(step.transform.random for step in self.steps)

    def apply(self, rows: Sequence[Row], workers: int | None = None) -> Sequence[Row]:
        """The rows after every deterministic transform: a list of a list, else streamed."""
        return self.finish(self.begin(rows, workers))

    def begin(self, rows: Sequence[Row], workers: int | None = None) -> Begun:
        """The rows after the transforms whose result is kept. Of a list: all before the first random one, in
        memory. Of streamed rows: all up to the last slow one of these, on disk (`core.data.cache`)."""
        lead = next((i for i, step in enumerate(self.steps) if step.transform.random), len(self.steps))
        if not is_streamed(rows):
            return Begun(_deterministic(rows, self.steps[:lead]), lead)
        slow = max((i + 1 for i in range(lead) if self.steps[i].slow), default=0)
        return Begun(on_disk(rows, self.steps[:slow], workers) if slow else rows, slow)

    def finish(self, begun: Begun) -> Sequence[Row]:
        """The rows after the deterministic ones of the other transforms."""
        return _deterministic(begun.rows, self.steps[begun.done :])

    def augment(self, row: Row, rng: torch.Generator, done: int = 0) -> Row:
        """A row that `done` transforms have seen after all others, the random ones drawing from `rng`."""
        return _applied(row, self.steps[done:], rng)

    def states(self) -> dict[str, JSON]:
        """Each transform's state, in order, under its place and name."""
        return {f"{i}.{step.name}": step.state for i, step in enumerate(self.steps)}


def _deterministic(rows: Sequence[Row], steps: Sequence[Fitted]) -> Sequence[Row]:
    chosen = [step for step in steps if not step.transform.random]
    rng = torch.Generator()
    if is_streamed(rows):
        return Lazy(len(rows), lambda i: _applied(rows[i], chosen, rng)) if chosen else rows
    return [_applied(row, chosen, rng) for row in rows]


def _applied(row: Row, steps: Sequence[Fitted], rng: torch.Generator) -> Row:
    for step in steps:
        row = step.transform.apply(row, step.state, rng)
    return row


WRITTEN = 4 * 2**20
"""Bytes that are written to the cache at a time, about: each time, the disk is waited for."""


def on_disk(rows: Sequence[Row], steps: Sequence[Fitted], workers: int | None) -> Sequence[Row]:
    """Streamed rows after `steps`, each made once and kept in the cache under its content; read from there.

    Where the cache would take more than half of what is free on its disk, nothing is kept and every reading makes
    them anew.
    """
    store = Store(folder() / f"{_chain(steps)}.sqlite")

    def key(row: Row) -> str:
        return row.id.partition("-")[0]

    missing = store.missing(key(row) for row in rows)
    workers = spare(len(missing)) if workers is None else workers
    size = 64
    rng = torch.Generator()

    def made_anew(place: int) -> Row:
        row = rows[place]
        made_row = _applied(row, steps, rng)
        if made_row.target is not row.target or made_row.group is not row.group:
            raise ContractError(
                f"{', '.join(step.name for step in steps)}: a row's target or group was changed, and what they make is"
                " cached",
                "a transform before one that is slow changes `inputs` alone: put it behind",
            )
        return made_row

    def piece(number: int) -> list[tuple[str, bytes]]:
        places = missing[number * size : (number + 1) * size]
        return [(key(row), pack(row.inputs)) for row in map(made_anew, places)]

    waiting: list[tuple[str, bytes]] = []
    for number, pairs in enumerate(made(piece, -(-len(missing) // size), workers)):
        each = sum(len(packed) for _, packed in pairs) / len(pairs)
        if number == 0 and each * len(missing) > room(folder()):
            return Lazy(len(rows), made_anew)
        waiting += pairs
        if each * len(waiting) > WRITTEN:
            store.put(waiting)
            waiting = []
    store.put(waiting)

    def read(index: int) -> Row:
        row = rows[index]
        try:
            return row.with_inputs(store.get(key(row)))
        except KeyError:  # somebody has deleted the cache
            return made_anew(index)

    return Lazy(len(rows), read)


def _chain(steps: Sequence[Fitted]) -> str:
    """A hash of what decides what `steps` make of an input: names, options, states, the source of their packages, and
    what else they say they depend on."""
    described = [
        [step.name, dict(step.options), step.state, str(step.slow), source_digest(type(step.transform))]
        for step in steps
    ]
    return hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=16).hexdigest()


def source_digest(cls: type) -> str:
    """A hash of the modules in the folder of the package that the class is of, or, without a package, of its own."""
    path = inspect.getsourcefile(cls)
    if path is None:
        return ""
    package = sys.modules[cls.__module__].__package__
    files = sorted(Path(path).parent.glob("*.py")) if package else [Path(path)]
    source = hashlib.blake2b(digest_size=16)
    for file in files:
        source.update(hashlib.blake2b(file.read_bytes()).digest())
    return source.hexdigest()


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
    """A split of rows that all transforms have seen. Streamed rows are encoded when they are asked for."""
    if is_streamed(rows):
        return Split(name, rows, Lazy(len(rows), lambda i: task.encode(rows[i], state)), state)
    return Split(name, rows, [task.encode(row, state) for row in rows], state)


def fit_transforms(context: Context, base: Base, train: Sequence[Row]) -> Pipeline:
    """The recipe's transforms, each fitted on `train` as the ones before it leave it, unless the base brings
    its state."""
    transforms: list[Transform] = [context.make(use) for use in context.recipe.preprocess]
    steps: list[Fitted] = []
    begun = Begun(train, 0)
    for i, (use, transform) in enumerate(zip(context.recipe.preprocess, transforms, strict=True)):
        if use.name in base.preprocessing:
            state = base.preprocessing[use.name]
        else:
            state = as_json(transform.fit(Pipeline(steps).finish(begun)), use.name)
        steps.append(Fitted(use.name, transform, state, use.options))
        if steps[-1].slow and not (i + 1 < len(transforms) and getattr(transforms[i + 1], "slow", False)):
            begun = Pipeline(steps).begin(
                train, context.workers
            )  # made once, for those that are fitted after it
    return Pipeline(steps)


def prepare(context: Context, base: Base, task: Task, raw: Mapping[str, Sequence[Row]]) -> Prepared:
    """Fit the recipe's transforms and apply them, let the task learn from `train` on top of what the base
    brought, and encode every split."""
    pipeline = fit_transforms(context, base, raw[TRAIN])
    brought = base.preprocessing.get("task", {})
    begun = {name: pipeline.begin(split, context.workers) for name, split in raw.items()}
    rows = {name: pipeline.finish(split) for name, split in begun.items()}
    name = context.recipe.task.name
    state = as_json(task.fit(rows[TRAIN], deepcopy(brought)), name)
    base_state = as_json(task.fit([], deepcopy(brought)), name)
    splits = {name: encode(task, name, split, state) for name, split in rows.items()}
    if pipeline.augments:
        start, rng = begun[TRAIN], torch.Generator()

        def augment(index: int, epoch: int) -> Any:
            row = start.rows[index]
            rng.manual_seed(derive_seed(context.seed, "augment", epoch, row.id))
            return task.encode(pipeline.augment(row, rng, start.done), state)

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
