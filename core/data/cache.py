"""The cache: what took long to make, kept on disk by content, so that any run finds it again.

Everything in it can be deleted at any time. `TAOKE_CACHE` names its folder.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.contract import JSON
from core.errors import DataError, OutputError


def folder() -> Path:
    """`TAOKE_CACHE`, or `taoke` in the user's cache folder (`XDG_CACHE_HOME`, or `~/.cache`); made where it is missing.
    Raises `OutputError`."""
    named = os.environ.get("TAOKE_CACHE")
    path = (
        Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taoke"
    )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the cache folder {path} cannot be made: {error.strerror}", "name another one in TAOKE_CACHE"
        ) from error
    return path


def room(path: Path) -> int:
    """Bytes that a cache may still take: half of what is free on its disk."""
    return shutil.disk_usage(path).free // 2


HELD = 64 * 2**20
"""Bytes of values that a store keeps in memory once they were read: a few batches of pictures, or all of a small set,
for which SQLite and unpacking would cost more than everything else that is done to them."""


class Store:
    """Values by content hash, in one SQLite file, for any number of processes.

    Args:
        path: the file; made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: dict[str, Any] = {}
        self._room = HELD
        self._opened: tuple[int, sqlite3.Connection] | None = None

    def missing(self, keys: Iterable[str]) -> list[int]:
        """The places, in `keys`, of those that have no value; a key that stands twice is listed once."""
        seen: set[str] = set()
        places = []
        for place, key in enumerate(keys):
            if key in seen:
                continue
            seen.add(key)
            if self._execute("SELECT 1 FROM kept WHERE key = ?", key).fetchone() is None:
                places.append(place)
        return places

    def put(self, pairs: Iterable[tuple[str, bytes]]) -> None:
        """Keep values that `pack` made, all of them or none; those that are there already stay."""
        with self._connection() as connection:
            connection.executemany("INSERT OR IGNORE INTO kept VALUES (?, ?)", pairs)

    def get(self, key: str) -> Any:
        """The value of a key, not to be changed in place. Raises `KeyError`."""
        if key in self._held:
            return self._held[key]
        found = self._execute("SELECT value FROM kept WHERE key = ?", key).fetchone()
        if found is None:
            raise KeyError(key)
        value = unpack(found[0])
        if len(found[0]) <= self._room:
            self._room -= len(found[0])
            self._held[key] = value
        return value

    def _execute(self, query: str, key: str) -> sqlite3.Cursor:
        return self._connection().execute(query, (key,))

    def _connection(self) -> sqlite3.Connection:
        """One for each process: a connection does not survive a fork."""
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                connection = sqlite3.connect(self._path, timeout=60)
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID"
                )
            except sqlite3.Error as error:
                raise DataError(
                    f"the cache {self._path} cannot be used: {error}",
                    "delete the file; it will be made again",
                ) from error
            self._opened = os.getpid(), connection
        return self._opened[1]


def pack(value: Any) -> bytes:
    """A value of nested dicts, lists, texts, bytes, numbers, arrays and tensors as bytes: a line of JSON, and
    behind it the arrays' own bytes. Nothing is pickled."""
    arrays: list[bytes] = []
    head = json.dumps(_described(value, arrays))
    return b"\n".join([head.encode(), b"".join(arrays)])


def unpack(packed: bytes) -> Any:
    """What `pack` was given; tuples come back as lists."""
    end = packed.index(b"\n")
    content = memoryview(packed)[end + 1 :]
    return _restored(json.loads(packed[:end]), content, [0])


def _described(value: Any, arrays: list[bytes]) -> JSON:
    if isinstance(value, dict):
        return {"d": [[key, _described(inner, arrays)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        return {"l": [_described(inner, arrays) for inner in value]}
    if isinstance(value, bytes):
        arrays.append(value)
        return {"b": len(value)}
    if isinstance(value, torch.Tensor):
        if value.dtype == torch.bfloat16:
            raise DataError(
                "a slow transform made a bfloat16 tensor, which numpy has none of", "make it float32"
            )
        return {"t": _described(value.detach().cpu().numpy(), arrays)}
    if isinstance(value, np.ndarray | np.generic):
        arrays.append(np.ascontiguousarray(value).tobytes())
        return {"a": [value.dtype.str, list(value.shape)]}
    return value


def _restored(described: JSON, content: memoryview, at: list[int]) -> Any:
    if not isinstance(described, dict):
        return described
    ((kind, inner),) = described.items()
    if kind == "d":
        return {key: _restored(value, content, at) for key, value in inner}
    if kind == "l":
        return [_restored(value, content, at) for value in inner]
    if kind == "t":
        return torch.from_numpy(_restored(inner, content, at))
    began = at[0]
    if kind == "b":
        at[0] += inner
        return bytes(content[began : at[0]])
    dtype, shape = np.dtype(inner[0]), inner[1]
    at[0] += dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(content[began : at[0]], dtype).reshape(shape).copy()
