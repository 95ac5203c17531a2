"""From what files, folders or a column say, and from what the recipe asks for, to the rows of each split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from core.contract import TRAIN
from core.data.labels import check_labels
from core.data.options import Splits
from core.data.splits import Part, assign
from core.errors import DataError

Ints = NDArray[np.int64]


def split_rows(
    given: Mapping[str, Ints],
    labels: Sequence[str],
    options: Splits | None,
    where: Callable[[int], str],
    *,
    contents: NDArray[np.uint64] | None = None,
    groups: Sequence[str] | None = None,
    times: NDArray[np.float64] | None = None,
) -> dict[str, Ints]:
    """The rows of each split, checked: as `given` says, `select` and `report` taken out of train where they are not
    given.

    Args:
        given: indices of the rows of each split that is given; at least `train`.
        labels: of every row; so are `contents`, `groups` and `times` (`core.data.splits.assign`).
        options: how to take them; None: at random, with each label's share kept.
        where: in words, where a row stands.

    Raises:
        DataError: the labels cannot be learned from, or the rows cannot be split so.
    """
    train = given[TRAIN]
    wanted: tuple[Part, ...] = ("select", "report")
    missing = tuple(part for part in wanted if part not in given)
    if not missing:
        if options is not None and options.how != "column":
            raise DataError(
                "splits: train, select and report are given already, so there is nothing to split",
                "leave `splits` out",
            )
        return _checked(dict(given), labels, where)
    if options is not None and options.how == "leave_last":
        raise DataError(
            "splits: leave_last takes the latest rows of each user, and pictures have none",
            "use {how: time, by: COLUMN} for the latest pictures, {how: grouped, by: COLUMN} for whole groups",
        )
    _check({TRAIN: np.concatenate(list(given.values()))}, labels, where)
    made = assign(
        options or Splits.model_validate({"how": "stratified"}),
        len(train),
        labels=[labels[i] for i in train],
        contents=None if contents is None else contents[train],
        groups=None if groups is None else [groups[i] for i in train],
        times=None if times is None else times[train],
        parts=missing,
        where=lambda i: where(int(train[i])),
    )
    return _checked({**given, **{name: train[places] for name, places in made.items()}}, labels, where)


def _checked(splits: dict[str, Ints], labels: Sequence[str], where: Callable[[int], str]) -> dict[str, Ints]:
    _check(splits, labels, where)
    return splits


def _check(splits: Mapping[str, Ints], labels: Sequence[str], where: Callable[[int], str]) -> None:
    check_labels(
        {name: [labels[i] for i in places] for name, places in splits.items()},
        lambda name, place: where(int(splits[name][place])),
    )
