"""Transforms of histories. What they learn, they learn from `train`; targets stay as they are, so that what is asked
does not depend on them."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from core.contract import JSON, Row
from core.errors import DataError
from plugins.recommendation import options

BESIDE = ("ratings", "times")
"""What may stand in a row's inputs beside `history`, an entry for each of its items."""


class Drop:
    """The transform `drop`: a stop-list of columns, keys of a row's inputs."""

    random = False

    def __init__(self, options: options.Drop) -> None:
        self._columns = options.columns

    def fit(self, rows: Sequence[Row]) -> None:
        """Raises `DataError` where rows have no such column."""
        there = list(rows[0].inputs)
        absent = [name for name in self._columns if name not in there]
        if absent:
            raise DataError(
                f"drop: the rows have no column {' and no '.join(map(repr, absent))}; they have {', '.join(there)}",
                "leave it out of `columns`",
            )

    def apply(self, row: Row, state: None, rng: torch.Generator) -> Row:
        return replace(
            row, inputs={key: value for key, value in row.inputs.items() if key not in self._columns}
        )


class Common:
    """The transform `common`: histories without the items that too few users in `train` have."""

    random = False

    def __init__(self, options: options.Common) -> None:
        self._least, self._most = options.min_users, options.most
        self._kept: tuple[JSON, frozenset[str]] = (None, frozenset())

    def fit(self, rows: Sequence[Row]) -> JSON:
        """The items that stay, sorted. Raises `DataError` where none does."""
        count = Counter(item for row in rows for item in set(row.inputs["history"]))
        kept = sorted(
            (item for item in count if count[item] >= self._least), key=lambda item: (-count[item], item)
        )
        if not kept:
            raise DataError(
                f"common: no item of train has {self._least} users; the most usual has"
                f" {max(count.values(), default=0)}",
                "lower min_users",
            )
        return {"items": sorted(kept[: self._most])}

    def apply(self, row: Row, state: Mapping[str, Any], rng: torch.Generator) -> Row:
        if self._kept[0] is not state:
            self._kept = state, frozenset(state["items"])
        kept = self._kept[1]
        return filtered(row, [item in kept for item in row.inputs["history"]])


class TimeBins:
    """The transform `time_bins`: the number of a bin in place of each time, from 0; before the first time of `train`
    too. With `keep`, a history holds only what lies in its own last bins: what is long ago is forgotten."""

    random = False

    def __init__(self, options: options.TimeBins) -> None:
        self._options = options

    def fit(self, rows: Sequence[Row]) -> JSON:
        """The edges between bins, or where the first one begins. Raises `DataError` where rows have no times."""
        if "times" not in rows[0].inputs:
            raise DataError(
                f"time_bins: the rows have no times; they have {', '.join(rows[0].inputs)}",
                "write `keep: [times]` in `data`; the file needs a column of times",
            )
        times = np.array([time for row in rows for time in row.inputs["times"]], dtype=np.float64)
        if self._options.bins is None:
            return {"begin": float(times.min()), "seconds": self._options.seconds}
        inner = np.arange(1, self._options.bins) / self._options.bins
        return {"edges": np.unique(np.quantile(times, inner)).tolist()}

    def apply(self, row: Row, state: Mapping[str, Any], rng: torch.Generator) -> Row:
        if "times" not in row.inputs:  # what a user types has none
            return row
        times = row.inputs["times"]
        if "edges" in state:
            bins = [bisect_right(state["edges"], time) for time in times]
        else:
            bins = [max(0, int((time - state["begin"]) // state["seconds"])) for time in times]
        row = row.with_inputs({**row.inputs, "times": bins})
        if self._options.keep is None or not bins:
            return row
        first = max(bins) - self._options.keep + 1
        return filtered(row, [one >= first for one in bins])


def filtered(row: Row, keep: Sequence[bool]) -> Row:
    """The row with the entries of its history that are kept, and those beside them."""
    inputs = dict(row.inputs)
    for key in ("history", *BESIDE):
        if key in inputs:
            inputs[key] = [value for value, stays in zip(inputs[key], keep, strict=True) if stays]
    return row.with_inputs(inputs)
