"""Rows by content: ids, what stands in two splits, and the two halves of `retain`.

A split that is no list is streamed (`core.contract.Dataset`): one pass takes its rows' hashes, twelve bytes a row are
kept, and the rows themselves are read again whenever they are needed.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.contract import REPORT, RETAIN, TRAIN, Row
from core.data.rows import Lazy, is_streamed
from core.data.stored import Stored
from core.errors import DataError


def content_digest(value: Any) -> str:
    """A hash of nested dicts, lists, tuples, strings, bytes, numbers, None, numpy arrays, tensors and stored
    files (by their bytes); dict order does not matter, dtype and shape do. Raises `DataError` for anything
    else."""
    digest = hashlib.blake2b(digest_size=8)
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: hashlib.blake2b, value: Any) -> None:
    if isinstance(value, Mapping):
        digest.update(b"{%d" % len(value))
        for key in sorted(value, key=str):
            _feed(digest, str(key))
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(b"[%d" % len(value))
        for item in value:
            _feed(digest, item)
    elif isinstance(value, bytes | Stored):
        content = value.read() if isinstance(value, Stored) else value
        digest.update(b"b%d:" % len(content))
        digest.update(content)
    elif isinstance(value, str):
        encoded = value.encode(errors="surrogatepass")
        digest.update(b"s%d:" % len(encoded) + encoded)
    elif isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        if tensor.dtype == torch.bfloat16:  # numpy has none
            digest.update(b"bf16")
            tensor = tensor.view(torch.int16)
        _feed(digest, tensor.numpy())
    elif isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        digest.update(f"a{value.dtype.str}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif value is None or isinstance(value, bool | int | float):
        digest.update(f"{type(value).__name__}{value!r};".encode())
    else:
        raise DataError(
            f"a row's inputs or target hold a {type(value).__name__}, which has no content hash",
            "make them of dicts, lists, strings, bytes, numbers, numpy arrays or tensors",
        )


def identify(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows with their ids: the hash of `inputs`, a dash, and how many equal rows came before in this split.
    A list gives a list; a streamed split stays streamed."""
    if is_streamed(rows):
        return Identified.of(rows)
    seen: dict[str, int] = {}
    identified = []
    for row in rows:
        digest = content_digest(row.inputs)
        ordinal = seen.get(digest, 0)
        seen[digest] = ordinal + 1
        identified.append(replace(row, id=f"{digest}-{ordinal}"))
    return identified


class Identified(Lazy[Row]):
    """A streamed split with ids.

    Args:
        source: the dataset's rows.
        digests: (rows of `source`,) uint64, the content hash of each.
        ordinals: (rows of `source`,) int32, how many equal ones came before.
        places: (rows,) int64, which rows of `source` these are.
    """

    def __init__(
        self,
        source: Sequence[Row],
        digests: NDArray[np.uint64],
        ordinals: NDArray[np.int32],
        places: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__(len(source) if places is None else len(places), self._row)
        self._source, self._digests, self._ordinals, self._places = source, digests, ordinals, places

    @classmethod
    def of(cls, source: Sequence[Row]) -> Identified:
        """One pass over the rows."""
        found = array("Q", (int(content_digest(row.inputs), 16) for row in source))
        digests = np.frombuffer(found, np.uint64)
        return cls(source, digests, _ordinals(digests))

    @property
    def digests(self) -> NDArray[np.uint64]:
        """The content hash of each row."""
        return self._digests if self._places is None else self._digests[self._places]

    def only(self, kept: NDArray[np.bool_]) -> Identified:
        """The rows for which `kept` (rows,) is true."""
        places = np.flatnonzero(kept) if self._places is None else self._places[kept]
        return Identified(self._source, self._digests, self._ordinals, places)

    def _row(self, index: int) -> Row:
        place = index if self._places is None else int(self._places[index])
        row = self._source[place]
        return Row(row.inputs, row.target, row.group, f"{self._digests[place]:016x}-{self._ordinals[place]}")


def _ordinals(digests: NDArray[np.uint64]) -> NDArray[np.int32]:
    """How many equal ones stand before each."""
    order = np.argsort(digests, kind="stable")
    ordered = digests[order]
    first = np.ones(len(ordered), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    places = np.arange(len(ordered))
    began = np.maximum.accumulate(np.where(first, places, 0))
    ordinals = np.empty(len(ordered), np.int32)
    ordinals[order] = places - began
    return ordinals


def _digests(rows: Sequence[Row]) -> NDArray[np.uint64]:
    """(rows,) the content hashes of rows that have their ids."""
    if isinstance(rows, Identified):
        return rows.digests
    return np.array([int(row.id.partition("-")[0], 16) for row in rows], np.uint64)


def duplicates(splits: Mapping[str, Sequence[Row]]) -> dict[tuple[str, str], int]:
    """How many distinct contents stand in both of two splits, for each pair that shares any."""
    contents = {name: np.unique(_digests(rows)) for name, rows in splits.items()}
    names = list(contents)
    shared = {
        (a, b): len(np.intersect1d(contents[a], contents[b], assume_unique=True))
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    }
    return {pair: count for pair, count in shared.items() if count}


def refuse_leaks(
    shared: Mapping[tuple[str, str], int],
    *,
    allowed: bool,
    splits: Mapping[str, Sequence[Row]] | None = None,
) -> None:
    """Raises `DataError` where `train` and `report` share examples and the recipe does not allow it. Of `splits`, those
    that were counted, it shows the first few examples."""
    leaked = shared.get((TRAIN, REPORT), 0) + shared.get((REPORT, TRAIN), 0)
    if leaked and not allowed:
        shown = [] if splits is None else _shared_rows(splits[TRAIN], splits[REPORT])
        more = [f"and {leaked - len(shown)} more"] if shown and leaked > len(shown) else []
        raise DataError(
            f"examples that stand in both train and report: {leaked}; the report would flatter the adapted model"
            + "".join(f"\n  - {line}" for line in [*shown, *more]),
            "remove them from one of the two, or write `allow: [duplicates]` in the recipe",
        )


SHOWN = 3
"""How many shared examples a message shows."""


def _shared_rows(train: Sequence[Row], report: Sequence[Row]) -> list[str]:
    """The first contents of `report` that stand in `train` too: what they are, and where in the splits."""
    ours, theirs = _digests(train), _digests(report)
    lines = []
    _, first = np.unique(theirs, return_index=True)
    first.sort()
    for place in first[np.isin(theirs[first], ours)][:SHOWN].tolist():
        other = int(np.flatnonzero(ours == theirs[place])[0])
        told = dict.fromkeys(_shown(row) for row in (train[other], report[place]))  # copies have two paths
        lines.append(f"{' = '.join(told)} (row {other + 1} of train, row {place + 1} of report)")
    return lines


def _shown(row: Row) -> str:
    """What a person can look a row up by: its files, its text or numbers where they are short, else its id."""
    paths = _paths(row.inputs)
    if paths:
        return ", ".join(paths[:2])
    if isinstance(row.inputs, str):
        return repr(row.inputs if len(row.inputs) <= 80 else f"{row.inputs[:77]}...")
    if isinstance(row.inputs, bytes | np.ndarray | torch.Tensor):
        return row.id
    said = repr(row.inputs)
    return said if len(said) <= 80 and "\n" not in said else row.id


def _paths(value: Any) -> list[str]:
    if isinstance(value, Stored):
        return [str(value.path)]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [path for item in inner for path in _paths(item)]


def judged(split: str, rows: Sequence[Row]) -> Sequence[Row]:
    """The rows of a split that a run may look at, with their ids: all of them, but of `retain` the half that
    is looked at once. The halves go by content hash, so that adding rows moves none; rows of a group stay
    together."""
    identified = identify(rows)
    if split != RETAIN:
        return identified
    keys = (row.id if row.group is None else content_digest(row.group) for row in identified)
    kept = np.fromiter((int(key[:2], 16) % 2 == 0 for key in keys), bool, len(identified))
    if isinstance(identified, Identified):
        return identified.only(kept)
    return [row for row, chosen in zip(identified, kept, strict=True) if chosen]


def data_digest(rows: Sequence[Row]) -> str:
    """`sha256:...` over the rows' ids and targets, in order: the same examples in the same order, the same digest.
    Raises `DataError` where a target has no content hash."""
    total = hashlib.sha256()
    for i, row in enumerate(rows):
        is_label = isinstance(row.target, str) and len(row.target) <= LABEL
        target = _label_digest(row.target) if is_label else content_digest(row.target)
        total.update(f"{chr(10) if i else ''}{row.id} {target}".encode())
    return "sha256:" + total.hexdigest()


LABEL = 100
"""Characters of a target that may be a label; longer texts are many, and keeping their digests would hold them all."""


@lru_cache(maxsize=65_536)
def _label_digest(label: str) -> str:
    """Labels are few and stand in many rows."""
    return content_digest(label)
