"""Users with some of their items held out, from a log of interactions: what a base is adapted to, and judged by."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.contract import REPORT, RETAIN, SELECT, TRAIN, Row
from core.data.rows import Lazy
from core.errors import DataError, DataWarning
from plugins.recommendation import options
from plugins.recommendation.log import (
    Ints,
    Log,
    Mask,
    from_end,
    guessed,
    pairs_unit,
    positions,
    read,
    some,
    users_unit,
)

HELD = 1_000_000
"""Interactions of a split whose rows are held, and encoded once, at most: a row that is read and encoded again in each
epoch takes longer than all else that makes a batch."""


class Interactions:
    """The dataset `interactions`.

    A row is a user. Its inputs are `{"user": name, "history": items}`, in order of time where there are times, else
    sorted (with `holdout: last`, as in the file), and, as the option `keep` asks, `times` or `ratings` beside the
    history. In `train` there is no target: a model learns to find each item from the others. In the other splits the
    target is the list of the items held out, and the inputs say how many (`held_out`) they are, which also tells a
    user's row there from the one in `train`.

    With `users: shared` a user of `report` is in `train` too, without the items that are held out; one of `select`
    lacks there also those that `select` asks for. No target is ever in a history of `train` of the same user.

    The rows of a split with many interactions are read when they are needed, those of others are held.
    """

    def __init__(self, options: options.Interactions) -> None:
        self._options = options

    def rows(self) -> Mapping[str, Sequence[Row]]:
        """Raises `DataError` where the file cannot be read, or a split would be empty."""
        options = self._options
        if text := guessed(options):
            warnings.warn(text, DataWarning, stacklevel=2)
        log = read(options, "new")
        _refuse_single(log, options)
        splits = _shared(log, options) if options.users == "shared" else _apart(log, options)
        if options.retain_users:
            kept = read(options, "retain")
            _refuse_single(kept, options)
            splits[RETAIN] = part(kept, _held(kept, options, "held out", np.ones(len(kept), bool)), options)
        return splits


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of a split: for each, whose it is, and bounds in the arrays of what is shown and what is asked."""

    log: Log
    users: Ints
    shown: tuple[Ints, Ints]
    """(rows + 1,) offsets into (n,) interactions, those of each row's history in their order."""
    asked: tuple[Ints, Ints] | None
    keep: tuple[str, ...]

    def row(self, index: int) -> Row:
        log = self.log
        name = log.users[int(self.users[index])]
        places = self.shown[1][self.shown[0][index] : self.shown[0][index + 1]]
        inputs: dict[str, object] = {"user": name, "history": _names(log, places)}
        if "ratings" in self.keep and log.rating is not None:
            inputs["ratings"] = log.rating[places].tolist()
        if "times" in self.keep and log.time is not None:
            inputs["times"] = log.time[places].tolist()
        if self.asked is None:
            return Row(inputs, group=name)
        target = _names(log, self.asked[1][self.asked[0][index] : self.asked[0][index + 1]])
        return Row({**inputs, "held_out": len(target)}, target, group=name)


def _names(log: Log, places: Ints) -> list[str]:
    return [log.items[i] for i in log.item[places].tolist()]


def _refuse_single(log: Log, options: options.Interactions) -> None:
    """Raises `DataError` where holding out would leave a user without any item."""
    single = np.flatnonzero(log.counts < 2)
    if len(single):
        raise DataError(
            f"{options.path}: {len(single)} of {len(log.users)} users have a single item that counts, and nothing is"
            f" left of it once it is held out: {some(log.users[u] for u in single.tolist())}",
            "write data.min_user_items=2 or more, which leaves such users out",
        )


def _held(log: Log, options: options.Interactions, stream: str, among: Mask) -> Mask:
    """(interactions,) which are held out of those in `among`: of each user the option's share or count, one at least,
    and one less than all at most."""
    user = log.user
    has = np.bincount(user[among], minlength=len(log.users))
    wanted = (
        np.full(len(has), options.held_out)
        if options.held_out >= 1
        else np.floor(options.held_out * has + 0.5)
    )
    wanted = np.clip(wanted, 1, np.maximum(has - 1, 0)).astype(np.int64)
    drawn = pairs_unit(log, options.draw, stream) if options.holdout == "random" else from_end(log)
    order = np.where(among, drawn, len(log) + 1.0)  # those that may not come last
    held: Mask = among & (positions(log, order) < wanted[user])
    return held


def _shared(log: Log, options: options.Interactions) -> dict[str, Sequence[Row]]:
    held, asked = held_of_shared(log, options)
    return {
        TRAIN: part(log, None, options, shown=~held & ~asked),
        SELECT: part(log, asked, options, shown=~held & ~asked),
        REPORT: part(log, held, options),
    }


def held_of_shared(log: Log, options: options.Interactions) -> tuple[Mask, Mask]:
    """(interactions,) what is held out for `report`, and of the rest for `select`. Raises `DataError`."""
    user = log.user
    reported = _some_users(log, options, "report", options.report, np.ones(len(log.users), bool))
    held = _held(log, options, "held out", np.ones(len(log), bool)) & reported[user]
    left = np.bincount(user[~held], minlength=len(log.users))
    selected = _some_users(log, options, "select", options.select, left >= 2)
    asked = _held(log, options, "held out to select", ~held) & selected[user]
    return held, asked


def _apart(log: Log, options: options.Interactions) -> dict[str, Sequence[Row]]:
    user = log.user
    everyone = np.ones(len(log.users), bool)
    reported = _some_users(log, options, "report", options.report, everyone)
    selected = _some_users(log, options, "select", options.select, ~reported)
    learned = ~reported & ~selected
    if not learned.any():
        raise DataError(
            f"{options.path}: {np.count_nonzero(reported)} users to report on and {np.count_nonzero(selected)} to"
            f" select with leave none of {len(log.users)} to train on",
            "lower data.report or data.select",
        )
    held = _held(log, options, "held out", np.ones(len(log), bool))
    return {
        TRAIN: part(log, None, options, shown=learned[user]),
        SELECT: part(log, held & selected[user], options, shown=~held),
        REPORT: part(log, held & reported[user], options, shown=~held),
    }


def _some_users(
    log: Log, options: options.Interactions, split: str, wanted: int | float, among: Mask
) -> Mask:
    """(users,) the share (up to 1.0) or count of all users that `split` wants, taken from `among`."""
    total = len(log.users)
    count = round(wanted * total) if isinstance(wanted, float) and wanted <= 1 else int(wanted)
    count = max(1, min(count, int(np.count_nonzero(among))))
    if not among.any():
        raise DataError(
            f"{options.path}: of {total} users none has items enough for the split {split!r}, beside those that are"
            " held out for the report",
            "hold out less with data.held_out, or bring users with more items",
        )
    order = np.argsort(np.where(among, users_unit(log, options.draw, split), 2.0), kind="stable")
    chosen = np.zeros(total, bool)
    chosen[order[:count]] = True
    return chosen


def part(
    log: Log, asked: Mask | None, options: options.Interactions, *, shown: Mask | None = None
) -> Sequence[Row]:
    """The rows of a split: users of whom something is asked (of whom something is shown, where nothing is asked)."""
    shown = ~asked if shown is None and asked is not None else shown
    assert shown is not None  # noqa: S101 (one of the two is given)
    decides = shown if asked is None else asked
    users = np.flatnonzero(np.bincount(log.user[decides], minlength=len(log.users)))
    made = Part(
        log,
        users,
        _bounds(log, shown, users, options),
        None if asked is None else _bounds(log, asked, users, options),
        tuple(options.keep),
    )
    size = len(made.shown[1]) + (0 if made.asked is None else len(made.asked[1]))
    return held_or_streamed(len(users), made.row, size)


def held_or_streamed(count: int, make: Callable[[int], Row], size: int) -> Sequence[Row]:
    """So many rows, of `size` interactions in all."""
    rows = Lazy(count, make)
    return list(rows) if size <= HELD else rows


def _bounds(log: Log, mask: Mask, users: Ints, options: options.Interactions) -> tuple[Ints, Ints]:
    """The interactions of `mask` of these users, user by user, and where each user's begin."""
    user = log.user
    places = np.flatnonzero(mask & np.isin(user, users))
    if log.time is None and options.holdout != "last":
        places = places[np.lexsort((log.item[places], user[places]))]
    return np.searchsorted(user[places], np.append(users, len(log.users))), places
