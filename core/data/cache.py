"""The cache: what took long to make, kept on disk by content, so that any run finds it again.

Everything in it can be deleted at any time, also while it is used: what is gone is made anew. `TAOKE_CACHE` names its
folder.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from core.contract import JSON
from core.data.stored import readable
from core.errors import DataError, OutputError, UsageError


def folder() -> Path:
    """`TAOKE_CACHE`, or `taoke` in the user's cache folder (`XDG_CACHE_HOME`, or `~/.cache`); made where it is missing.
    Raises `OutputError`."""
    try:
        named = os.environ.get("TAOKE_CACHE")
        users = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:  # no HOME, and a user that the system does not know
        raise OutputError(f"there is no place for the cache: {error}", "name one in TAOKE_CACHE") from error
    path = users if named else users / "taoke"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the cache folder {path} cannot be made: {error.strerror}", "name another one in TAOKE_CACHE"
        ) from error
    return path


def room(path: Path) -> int:
    """Bytes that a cache may still take: half of what is free on its disk. Raises `OutputError`."""
    with readable(path, OutputError):
        return shutil.disk_usage(path).free // 2


HELD = 64 * 2**20
"""Bytes of values that a store keeps in memory once they were read: a few batches of pictures, or all of a small set,
for which SQLite and unpacking would cost more than everything else that is done to them."""

PATIENCE = 60.0
"""Seconds that a store waits for another process to end its writing."""


class Store:
    """Values by content hash, in one SQLite file, for any number of processes.

    Every method raises `OutputError` where the disk is full, read-only, or the file locked, and `DataError` where the
    file is damaged.

    Args:
        path: the file; made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: dict[str, Any] = {}
        self._room = HELD
        self._opened: sqlite3.Connection | None = None
        _stores.add(self)

    def missing(self, keys: Iterable[str]) -> Sequence[int]:
        """The places, in `keys`, of those that have no value; a key that stands twice is listed once. Keys are hashes,
        16 hex digits at most; of each missing one 12 bytes are held, about thrice that while they are sorted."""
        hashes, places = array("Q"), array("I")
        for place, key in enumerate(keys):
            if self._value(key, "1") is None:
                hashes.append(int(key, 16))
                places.append(place)
        _, first = np.unique(np.frombuffer(hashes, np.uint64), return_index=True)
        first.sort()
        found = array("q")
        found.frombytes(np.frombuffer(places, np.uint32)[first].astype(np.int64).tobytes())
        return found

    def put(self, pairs: Iterable[tuple[str, bytes]]) -> None:
        """Keep values that `pack` made, all of them or none; those that are there already stay."""
        kept = list(pairs)
        with self._told():
            try:
                self._insert(kept)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_DBMOVED:
                    raise
                self._connection().close()  # of a file that somebody deleted meanwhile
                self._opened = None
                self._insert(kept)

    def get(self, key: str) -> Any:
        """The value of a key, not to be changed in place. Raises `KeyError`, also where there was one and the file has
        been deleted since."""
        if key in self._held:
            return self._held[key]
        found = self._value(key, "value")
        if found is None:
            raise KeyError(key)
        value = unpack(found[0])
        if len(found[0]) <= self._room:
            self._room -= len(found[0])
            self._held[key] = value
        return value

    def _value(self, key: str, column: Literal["1", "value"]) -> Any:
        with self._told():
            query = f"SELECT {column} FROM kept WHERE key = ?"  # noqa: S608 (one of two words)
            return self._connection().execute(query, (key,)).fetchone()

    def _insert(self, pairs: Sequence[tuple[str, bytes]]) -> None:
        with self._connection() as connection:
            connection.executemany("INSERT OR IGNORE INTO kept VALUES (?, ?)", pairs)

    def _connection(self) -> sqlite3.Connection:
        """One for each process: a connection does not survive a fork."""
        if self._opened is None:
            with suppress(OSError):  # which SQLite then says
                self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=PATIENCE)
            connection.execute(
                "CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID"
            )
            self._opened = connection
        return self._opened

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What SQLite raises, as an error that says what to do."""
        try:
            yield
        except sqlite3.Error as error:
            raise _refusal(self._path, error) from error


_stores: weakref.WeakSet[Store] = weakref.WeakSet()
_inherited: list[sqlite3.Connection] = []
"""The parent's connections in a forked process, which must neither use nor close them
(https://sqlite.org/howtocorrupt.html, 2.6): they stay referenced."""


def _leave_to_the_parent() -> None:
    for store in list(_stores):
        if store._opened is not None:
            _inherited.append(store._opened)
            store._opened = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)

_WHAT_TO_DO = {
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_IOERR: "make room on its disk",
    sqlite3.SQLITE_BUSY: "wait for the run that writes it",
    sqlite3.SQLITE_LOCKED: "wait for the run that writes it",
    sqlite3.SQLITE_READONLY: "allow writing it and its folder",
    sqlite3.SQLITE_PERM: "allow writing it and its folder",
    sqlite3.SQLITE_CANTOPEN: "allow writing it and its folder",
}


def _refusal(path: Path, error: sqlite3.Error) -> UsageError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # without what extends it
    what = f"the cache {path} cannot be used: {error}"
    if code in _WHAT_TO_DO:
        return OutputError(what, f"{_WHAT_TO_DO[code]}, or name another folder in TAOKE_CACHE")
    return DataError(what, "delete the file; it will be made again")


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
