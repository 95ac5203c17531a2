"""Rows by content: ids, what stands in two splits, and the two halves of `retain`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from core.contract import REPORT, RETAIN, TRAIN, Row
from core.errors import DataError


def content_digest(value: Any) -> str:
    """A hash of nested dicts, lists, tuples, strings, bytes, numbers, None, numpy arrays and tensors; dict
    order does not matter, dtype and shape do. Raises `DataError` for anything else."""
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
    elif isinstance(value, bytes):
        digest.update(b"b%d:" % len(value) + value)
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


def identify(rows: Sequence[Row]) -> list[Row]:
    """The rows with their ids: the hash of `inputs`, a dash, and how many equal rows came before in this split."""
    seen: dict[str, int] = {}
    identified = []
    for row in rows:
        digest = content_digest(row.inputs)
        ordinal = seen.get(digest, 0)
        seen[digest] = ordinal + 1
        identified.append(replace(row, id=f"{digest}-{ordinal}"))
    return identified


def duplicates(splits: Mapping[str, Sequence[Row]]) -> dict[tuple[str, str], int]:
    """How many distinct contents stand in both of two splits, for each pair that shares any."""
    contents = {name: {row.id.partition("-")[0] for row in rows} for name, rows in splits.items()}
    names = list(contents)
    shared = {(a, b): len(contents[a] & contents[b]) for i, a in enumerate(names) for b in names[i + 1 :]}
    return {pair: count for pair, count in shared.items() if count}


def refuse_leaks(shared: Mapping[tuple[str, str], int], *, allowed: bool) -> None:
    """Raises `DataError` where `train` and `report` share examples and the recipe does not allow it."""
    leaked = shared.get((TRAIN, REPORT), 0) + shared.get((REPORT, TRAIN), 0)
    if leaked and not allowed:
        raise DataError(
            f"{leaked} examples stand in both train and report, so the report would flatter the adapted model",
            "remove them from one of the two, or write `allow: [duplicates]` in the recipe",
        )


def judged(split: str, rows: Sequence[Row]) -> list[Row]:
    """The rows of a split that a run may look at, with their ids: all of them, but of `retain` the half that
    is looked at once. The halves go by content hash, so that adding rows moves none; rows of a group stay
    together."""
    identified = identify(rows)
    if split != RETAIN:
        return identified
    keys = (row.id if row.group is None else content_digest(row.group) for row in identified)
    return [row for row, key in zip(identified, keys, strict=True) if int(key[:2], 16) % 2 == 0]


def data_digest(rows: Sequence[Row]) -> str:
    """`sha256:...` over the rows' ids and targets, in order: the same examples in the same order, the same digest.
    Raises `DataError` where a target has no content hash."""
    lines = (f"{row.id} {content_digest(row.target)}" for row in rows)
    return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()
