"""Making batches, in this process or ahead of it in worker processes: the same ones in the same order, to the bit."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from core.errors import ContractError, UsageError

T = TypeVar("T")


def made(make: Callable[[int], T], count: int, workers: int) -> Iterator[T]:
    """`make(0)`, ..., `make(count - 1)`, in order. With `workers`, that many forked processes make them ahead of
    time, each computing with one thread.

    An exception of `make` is raised here as it was there; one that cannot travel between processes becomes a
    `ContractError`. Raises `UsageError` where the system cannot fork.
    """
    if not workers or count < 2:
        yield from map(make, range(count))
        return
    if "fork" not in multiprocessing.get_all_start_methods():
        raise UsageError("this system cannot fork, so that it has no worker processes", "leave --workers out")
    loader = DataLoader(
        _Numbered(make, count),
        batch_size=None,
        num_workers=min(workers, count),
        prefetch_factor=2,
        multiprocessing_context="fork",
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # the loader draws a seed: not from the stream that the model draws from
    )
    for item in loader:
        if isinstance(item, _Failed):
            raise item.error
        yield item


ROOM = 2**30
"""Bytes of shared memory, through which batches come: a container has 64 MiB by default, and a process that finds none
left is killed."""


def beside(chosen: int | None, augmented: int) -> int:
    """Worker processes that make an epoch's batches while the model learns: as many as the user chose, or else one,
    where a thousand examples or more are augmented. None for few, which are made sooner than a process, nor where
    forking is not the system's usual way."""
    if chosen is not None:
        return chosen
    shared = Path("/dev/shm")  # noqa: S108 (nothing is written there by us)
    forks = sys.platform == "linux" and shared.is_dir() and shutil.disk_usage(shared).free >= ROOM
    return 1 if forks and augmented >= 1000 else 0


def spare(count: int) -> int:
    """Worker processes to make `count` things with while the model computes nothing: a core each. None for few
    things, which are made sooner than processes, nor where forking is not the system's usual way."""
    return torch.get_num_threads() if count >= 1000 and sys.platform == "linux" else 0


def _as_it_is(item: T) -> T:
    """In the place of the loader's own way, which makes lists of tuples and tensors of arrays."""
    return item


@dataclass(frozen=True, slots=True)
class _Failed:
    """What a worker hands over in place of a batch: the loader itself would keep nothing of it but its text."""

    error: Exception


class _Numbered(Dataset[Any], Generic[T]):
    def __init__(self, make: Callable[[int], T], count: int) -> None:
        self._make, self._count = make, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> T | _Failed:
        try:
            return self._make(index)
        except Exception as error:
            return _Failed(_able_to_travel(error))


def _able_to_travel(error: Exception) -> Exception:
    """The error itself where pickle brings it back, or else one that quotes it: what pickle refuses would never arrive,
    and be waited for. Its traceback stays here; where it came from goes along (`core.manager.Plugins.attribute`)."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (what this process has just written)
    except Exception:
        error = ContractError(
            f"a worker process failed with {type(error).__name__}: {error}",
            "without --workers the error itself is raised",
        )
    error.taoke_frames = frames  # type: ignore[attr-defined]
    return error
