"""Preprocess: raw rows to splits of examples, with everything fitted on `train` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.context import Context
from core.contract import REPORT, RETAIN, SELECT, SPLITS, TRAIN, Base, Dataset, Row, Task
from core.errors import DataError
from core.inference import metric_named
from core.prepared import Fitted, Pipeline, Prepared
from core.recipe import Resolved
from core.rows import duplicates, halves, identify, refuse_leaks


def preprocess(context: Context, resolved: Resolved, base: Base) -> Prepared:
    """Read the dataset, give its rows their ids, refuse leaks, and ask the plugins (by default: the recipe's
    transforms, then the task).

    Raises `DataError` where a split is missing or empty, or where `train` and `report` share examples.
    """
    recipe = resolved.recipe
    task: Task = resolved.make(recipe.task)
    metric_named(task, recipe.evaluate.primary)  # wrong ones are refused before anything takes time
    dataset: Dataset = resolved.make(recipe.data)
    splits = identified(dataset.rows(), retain=recipe.evaluate.retain, dataset=recipe.data.name)
    shared = duplicates(splits)
    for (one, other), count in shared.items():
        context.events.emit("duplicates", splits=[one, other], contents=count)
        if (one, other) != (TRAIN, REPORT):
            context.warn(f"{count} examples stand in both {one} and {other}")
    refuse_leaks(shared, allowed="duplicates" in recipe.allow)
    if RETAIN in splits:
        count = len(splits[RETAIN])
        splits[RETAIN] = halves(splits[RETAIN])[1]
        if not splits[RETAIN]:
            raise DataError(
                f"of the {count} rows in retain none falls into the half that is looked at once",
                "give it more rows, or set evaluate.retain to false",
            )
    prepared: Prepared = context.plugins.hook.taoke_preprocess(
        context=context, base=base, task=task, splits=splits
    )
    for name, split in prepared.splits.items():
        context.events.emit("split", name=name, examples=len(split.examples))
    return prepared


def identified(raw: Mapping[str, Sequence[Row]], *, retain: bool, dataset: str) -> dict[str, list[Row]]:
    """The splits a run needs, each row with its id. Raises `DataError`."""
    unknown = sorted(set(raw) - set(SPLITS))
    if unknown:
        raise DataError(
            f"dataset {dataset!r} makes the unknown split {unknown[0]!r}", f"splits are {', '.join(SPLITS)}"
        )
    needed = [TRAIN, SELECT, REPORT] + ([RETAIN] if retain else [])
    for name in needed:
        if not raw.get(name):
            hint = "set evaluate.retain to false" if name == RETAIN else "check the dataset's options"
            raise DataError(f"dataset {dataset!r} has no rows in the split {name!r}", hint)
    return {name: identify(raw[name]) for name in needed}


def fit_transforms(context: Context, base: Base, splits: Mapping[str, Sequence[Row]]) -> Pipeline:
    """The recipe's transforms, each fitted on `train` as the ones before it leave it, unless the base brings
    its state."""
    steps: list[Fitted] = []
    rows: Sequence[Row] = splits[TRAIN]
    for use in context.recipe.preprocess:
        transform = context.plugins.components.make(use.kind, use.name, use.options)
        state = base.preprocessing[use.name] if use.name in base.preprocessing else transform.fit(rows)
        fitted = Fitted(use.name, transform, state)
        rows = Pipeline([fitted]).apply(rows)
        steps.append(fitted)
    return Pipeline(steps)
