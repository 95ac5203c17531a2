"""Rows that are read when they are needed, so that a split may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, overload

T = TypeVar("T")


class Lazy(Sequence[T], Generic[T]):
    """A sequence of `length` items that `make` makes, one at a time, whenever it is asked.

    A dataset that may be large gives one for each split. `make(i)`, for 0 <= i < length, gives the same item
    each time, in whatever process: loading may use several.
    """

    def __init__(self, length: int, make: Callable[[int], T]) -> None:
        self._length, self._make = length, make

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Lazy[T]: ...
    def __getitem__(self, index: int | slice) -> T | Lazy[T]:
        if isinstance(index, slice):
            places = range(self._length)[index]
            return Lazy(len(places), lambda i: self._make(places[i]))
        place = index + self._length if index < 0 else index
        if not 0 <= place < self._length:
            raise IndexError(f"item {index} of {self._length}")
        return self._make(place)

    def __iter__(self) -> Iterator[T]:
        return map(self._make, range(self._length))


def is_streamed(rows: Sequence[object]) -> bool:
    """Whether a split is read when it is needed, instead of held: whether it is no list (or tuple)."""
    return not isinstance(rows, list | tuple)


def spread(rows: Sequence[T], most: int) -> Sequence[T]:
    """At most so many of the rows, evenly spread, and read when they are needed."""
    if len(rows) <= most:
        return rows
    return Lazy(most, lambda i: rows[i * len(rows) // most])
