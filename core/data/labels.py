"""Labels of many rows, kept as small integers, and what must be true of them before anything is trained."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from core.contract import REPORT, SELECT, SPLITS, TRAIN
from core.errors import DataError, DataWarning

LISTED = 5
"""How many places or classes a message names before it counts the rest."""


class Coded(Sequence[str]):
    """A sequence of texts as `codes`, (n,) int64 or int32, into `values`, which are distinct; -1 is a missing text, and
    reads as ''. Ten million labels take 80 MB this way."""

    def __init__(self, codes: NDArray[Any], values: Sequence[str]) -> None:
        self.codes, self.values = codes, values

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> Coded:
        """Any texts; values in order of appearance. None and '' are missing."""
        if isinstance(texts, Coded):
            return texts
        known: dict[str, int] = {}
        codes = (known.setdefault(text, len(known)) if text else -1 for text in texts)
        return cls(np.fromiter(codes, np.int64, len(texts)), list(known))

    def take(self, places: NDArray[np.int64]) -> Coded:
        """The texts at these places, with the same `values`."""
        return Coded(self.codes[places], self.values)

    def counts(self) -> NDArray[np.int64]:
        """(len(values),) how often each value occurs."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.values)).astype(np.int64)

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Coded: ...
    def __getitem__(self, index: int | slice) -> str | Coded:
        if isinstance(index, slice):
            return Coded(self.codes[index], self.values)
        code = int(self.codes[index])
        return self.values[code] if code >= 0 else ""


def check_labels(splits: Mapping[str, Sequence[str | None]], where: Callable[[str, int], str]) -> None:
    """Raises one `DataError` that names all that is wrong with the labels of a classification.

    `splits` holds the label of each row, by split; `where(split, index)` says in words where a row stands, as in
    "reviews.csv, line 12". Wrong are: missing labels; one class alone; a class with one example in all of the
    splits; a label in `select` or `report` that is never in `train`. `retain` belongs to the base's own task, and
    only its missing labels are wrong."""
    coded = {name: Coded.of(labels) for name, labels in splits.items() if name in SPLITS}
    problems = [problem for name, labels in coded.items() for problem in _missing(name, labels, where)]
    judged = {name: coded[name] for name in (TRAIN, SELECT, REPORT) if name in coded}
    counts = {name: _counts(labels) for name, labels in judged.items()}
    totals: dict[str, int] = {}
    for part in counts.values():
        for label, count in part.items():
            totals[label] = totals.get(label, 0) + count
    if len(totals) == 1:
        problems.append(f"there is one class alone, {next(iter(totals))!r}, and nothing to tell apart")
    elif not totals:
        problems.append("no row has a label")
    single = [label for label, count in totals.items() if count == 1]
    problems += _some(
        single,
        lambda label: (
            f"the class {label!r} has one example{_only(label, judged)} ({_first(label, judged, where)})"
        ),
        "more classes with one example",
    )
    if TRAIN in counts:
        unseen = [
            (name, label)
            for name in (SELECT, REPORT)
            for label in counts.get(name, {})
            if label not in counts[TRAIN] and totals[label] > 1
        ]
        problems += _some(
            unseen,
            lambda pair: (
                f"the label {pair[1]!r} stands in {pair[0]}, {_times(counts[pair[0]][pair[1]])}, and never in"
                f" train (first: {_first(pair[1], {pair[0]: judged[pair[0]]}, where)})"
            ),
            "more labels that are never in train",
        )
    _tell_doubtful(list(totals))
    if problems:
        raise DataError(
            "the labels cannot be learned from:\n  - " + "\n  - ".join(problems),
            "name the column of labels in data.label: most of these stand once, as numbers or names do"
            if len(single) > len(totals) / 2
            else "correct or remove these rows, add examples of the class, or split the data another way"
            " (stratified keeps each class in each split)",
        )


def _tell_doubtful(labels: Sequence[str]) -> None:
    """Warn of labels that are likely mistakes: alike but for spaces and case, or a word for what is missing."""
    alike: dict[str, list[str]] = {}
    for label in labels:
        alike.setdefault(" ".join(label.split()).casefold(), []).append(label)
    doubtful = [
        f"{' and '.join(map(repr, same))} differ in spaces or case alone; write them alike if they are one"
        for same in alike.values()
        if len(same) > 1
    ]
    doubtful += [f"{alike[word][0]!r} looks like a missing value" for word in MISSING if word in alike]
    for said in doubtful[:LISTED]:
        warnings.warn(f"labels: {said}", DataWarning, stacklevel=3)


MISSING = ("nan", "null", "none", "n/a", "")


def _counts(labels: Coded) -> dict[str, int]:
    counts = zip(labels.values, labels.counts().tolist(), strict=True)
    return {label: count for label, count in counts if count}


def _missing(name: str, labels: Coded, where: Callable[[str, int], str]) -> list[str]:
    places = np.flatnonzero(labels.codes < 0)
    if not len(places):
        return []
    shown = "; ".join(where(name, int(place)) for place in places[:LISTED])
    more = f"; and {len(places) - LISTED} more" if len(places) > LISTED else ""
    return [f"{len(places)} rows of {name} have no label: {shown}{more}"]


def _only(label: str, splits: Mapping[str, Coded]) -> str:
    """Which split a label stands in alone, where that is not train."""
    return next(
        (f", in {name}" for name, labels in splits.items() if name != TRAIN and label in _counts(labels)), ""
    )


def _first(label: str, splits: Mapping[str, Coded], where: Callable[[str, int], str]) -> str:
    """Where a label stands first."""
    for name, labels in splits.items():
        if label in labels.values:
            places = np.flatnonzero(labels.codes == labels.values.index(label))
            if len(places):
                return where(name, int(places[0]))
    raise KeyError(label)


def _some(items: Sequence[Any], say: Callable[[Any], str], rest: str) -> list[str]:
    """A line for each of the first few, and one that counts the others."""
    lines = [say(item) for item in items[:LISTED]]
    return [*lines, f"{len(items) - LISTED} {rest}"] if len(items) > LISTED else lines


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
