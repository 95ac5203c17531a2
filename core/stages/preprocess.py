"""Preprocess: raw rows to splits of examples, with everything fitted on `train` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from core.context import Context
from core.contract import REPORT, RETAIN, SELECT, SPLITS, TRAIN, Base, Dataset, Row, Task
from core.errors import DataError
from core.evidence.scores import metric_named
from core.prepared import Prepared
from core.rows import data_digest, duplicates, judged, refuse_leaks


def preprocess(context: Context, base: Base) -> Prepared:
    """Read the dataset, give its rows their ids, refuse leaks, and ask the plugins (by default: the recipe's
    transforms, then the task).

    Raises `DataError` where a split is missing or empty, or where `train` and `report` share examples.
    """
    recipe = context.recipe
    task: Task = context.make(recipe.task)
    metric_named(task, recipe.evaluate.primary)  # wrong ones are refused before anything takes time
    dataset: Dataset = context.make(recipe.data)
    splits = judged_splits(dataset.rows(), retain=recipe.evaluate.retain, dataset=recipe.data.name)
    shared = duplicates(splits)
    for (one, other), count in shared.items():
        context.events.emit("duplicates", splits=[one, other], contents=count)
        if (one, other) != (TRAIN, REPORT):
            context.warn(f"examples that stand in both {one} and {other}: {count}")
    refuse_leaks(shared, allowed="duplicates" in recipe.allow, splits=splits)
    prepared: Prepared = context.plugins.hook.taoke_preprocess(
        context=context, base=base, task=task, splits=splits
    )
    digested = {
        name: replace(split, digest=data_digest(splits[name])) for name, split in prepared.splits.items()
    }
    for name, split in digested.items():
        context.events.emit("split", name=name, examples=len(split.examples), digest=split.digest)
    return replace(prepared, splits=digested)


def judged_splits(
    raw: Mapping[str, Sequence[Row]], *, retain: bool, dataset: str
) -> dict[str, Sequence[Row]]:
    """The splits that a run needs, of each the rows it may look at. Raises `DataError` where one has none."""
    unknown = sorted(set(raw) - set(SPLITS))
    if unknown:
        raise DataError(
            f"dataset {dataset!r} makes the unknown split {unknown[0]!r}", f"splits are {', '.join(SPLITS)}"
        )
    splits: dict[str, Sequence[Row]] = {}
    for name in [TRAIN, SELECT, REPORT] + ([RETAIN] if retain else []):
        given = raw.get(name, ())
        splits[name] = judged(name, given)
        if len(splits[name]) == 0:
            half = f" (of {len(given)}, none falls into the half that is looked at once)" if given else ""
            hint = "set evaluate.retain to false" if name == RETAIN else "check the dataset's options"
            raise DataError(f"dataset {dataset!r} has no rows in the split {name!r}{half}", hint)
    return splits
