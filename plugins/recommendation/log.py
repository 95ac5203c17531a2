"""Logs of interactions, read into a few arrays: who has which items, in which order.

What is random goes by hashes of users' and items' names, so that neither the order of the file nor a new user changes
where the others go.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.data.splits import mix
from core.data.tables import coded, digests, place, read_table
from core.errors import DataError, DataWarning
from plugins.recommendation import options

if TYPE_CHECKING:
    import pyarrow as pa

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]
Mask = NDArray[np.bool_]
Side = Literal["base", "retain", "new"]

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "user": ("user", "userid", "uid", "customer", "customerid", "client", "clientid", "account", "accountid", "member",
             "memberid", "reader", "readerid", "visitor", "visitorid", "reviewer", "reviewerid", "person", "session",
             "sessionid"),
    "item": ("item", "itemid", "movie", "movieid", "film", "filmid", "product", "productid", "asin", "sku", "book",
             "bookid", "isbn", "song", "songid", "track", "trackid", "artist", "artistid", "article", "articleid",
             "game", "gameid", "recipe", "recipeid", "business", "businessid", "page", "pageid", "url", "iid"),
    "rating": ("rating", "ratings", "score", "stars", "star", "grade", "preference", "overall"),
    "time": ("time", "timestamp", "ts", "date", "datetime", "unixtime", "unixreviewtime", "createdat", "created",
             "eventtime", "when"),
}  # fmt: skip
"""Names that columns have elsewhere, the first ones first; case, blanks and signs between letters do not count."""

NAMED = 5
"""Users that a message names before it counts the rest."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column is what; None: there is none."""

    user: str
    item: str
    rating: str | None
    time: str | None


@dataclass(frozen=True, slots=True)
class Log:
    """Interactions, user by user. Of one user they are in order: of time where there is one, else of place in the file.

    `users` and `items` are names, sorted. User u has the items `item[offsets[u]:offsets[u + 1]]`, int32 indices, each
    once, with `rating` and `time` (float64) beside them where the file has them.
    """

    users: Sequence[str]
    items: Sequence[str]
    offsets: Ints
    item: NDArray[np.int32]
    rating: NDArray[np.float64] | None
    time: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.item)

    @property
    def counts(self) -> Ints:
        """(users,) how many items each has."""
        return np.diff(self.offsets)

    @property
    def user(self) -> Ints:
        """(interactions,) whose each is."""
        return np.repeat(np.arange(len(self.users)), self.counts)

    def kept(self, mask: Mask) -> Log:
        """The interactions of `mask`; users and items that none is left of go."""
        user = self.user[mask]
        had, user = np.unique(user, return_inverse=True)
        known, item = np.unique(self.item[mask], return_inverse=True)
        return Log(
            [self.users[u] for u in had.tolist()],
            [self.items[i] for i in known.tolist()],
            np.searchsorted(user, np.arange(len(had) + 1)),
            item.astype(np.int32),
            None if self.rating is None else self.rating[mask],
            None if self.time is None else self.time[mask],
        )


def located(path: str) -> Path:
    """The path with `~` written out. Raises `DataError` where it names the home of somebody who has none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(f"{path}: there is no such home folder", "write the whole path") from error


def columns(log: options.Table) -> Columns:
    """The columns that the options name, the others by their names. Raises `DataError` where the file has none that
    may be the users', or the items'."""
    from core.data.sources import open_source

    path = located(log.path)
    header = list(open_source(path, log.names).header)
    taken = {name for name in (log.user, log.item, log.rating, log.time) if isinstance(name, str)}

    def find(what: str, named: str | Literal[False] | None) -> str | None:
        if named is not None:
            return named or None
        plain = {re.sub(r"[\W_]+", "", name).lower(): name for name in reversed(header) if name not in taken}
        return next((plain[spelling] for spelling in SPELLINGS[what] if spelling in plain), None)

    user, item = find("user", log.user), find("item", log.item)
    if user is None or item is None:
        what = "user" if user is None else "item"
        free = [name for name in header if name not in taken]
        names = ", ".join(map(repr, free[:20]))
        raise DataError(
            f"{path}: none of its{' other' if taken else ''} columns ({names}) is called as columns of {what}s are"
            f" ({', '.join(SPELLINGS[what][:4])}, ...)",
            f"write data.{what}=COLUMN; the first line must hold the columns' names, or the option `names` say them",
        )
    return Columns(user, item, find("rating", log.rating), find("time", log.time))


def read(log: options.Log, side: Side) -> Log:
    """The interactions of one side's users that count.

    `new`: the users that the base does not learn from; `base`: those that it does; `retain`: those of the base's side
    whom it does not see either. Counts are of this side alone. Raises `DataError` where nothing is left.
    """
    found = _read(log)
    if side == "new":
        for warning in found.said:
            warnings.warn(warning, DataWarning, stacklevel=2)
    return counting(log, of_side(found.log, log, side), side)


def whole(log: options.Table) -> Log:
    """All interactions in the file, those that count and those that do not. Raises `DataError`."""
    return _read(log).log


def guessed(log: options.Log) -> str:
    """What `read` took for which column, where that was left to it; '' where nothing was."""
    found = columns(log)
    pairs = [(what, getattr(found, what)) for what in SPELLINGS if getattr(log, what) is None]
    taken = ", ".join(f"{column!r} as {what}" for what, column in pairs if column is not None)
    return f"{log.path}: took {taken}" if taken else ""


def of_side(read: Log, log: options.Log, side: Side) -> Log:
    """The users of one side. Raises `DataError` where there are none."""
    if log.base_users == 0:
        away = np.zeros(len(read.users), bool)
    else:
        away = unit(_named(read.users), log.draw, "base") < log.base_users
    hidden = away & (unit(_named(read.users), log.draw, "retain") < log.retain_users)
    chosen = {"base": away & ~hidden, "retain": hidden, "new": ~away}[side]
    if not chosen.any():
        raise DataError(
            f"{log.path}: of {_count(len(read.users), 'user')}, none {_SIDES[side]} (base_users {log.base_users:g},"
            f" retain_users {log.retain_users:g})",
            "change these shares or `draw`, or bring more users",
        )
    return read if chosen.all() else read.kept(np.repeat(chosen, read.counts))


_SIDES = {
    "base": "is there for the base to learn from",
    "retain": "is there for `retain`",
    "new": "is there to adapt to",
}


def counting(log: options.Log, side: Log, name: Side) -> Log:
    """The interactions that count: rated high enough, of users and items with enough of the other. Raises `DataError`
    where none is left; says how many users are left out."""
    kept = side
    if log.min_rating is not None:
        if side.rating is None:
            raise DataError(
                f"{log.path}: min_rating is {log.min_rating:g}, and there is no column of ratings",
                "name it in data.rating, or leave min_rating out",
            )
        liked = side.rating >= log.min_rating
        if not liked.any():
            raise DataError(
                f"{log.path}: none of {len(side)} ratings is {log.min_rating:g} or more; they go from"
                f" {side.rating.min():g} to {side.rating.max():g}",
                "lower min_rating, or leave it out where each interaction counts",
            )
        kept = side.kept(liked)
    while True:
        enough = kept.counts[kept.user] >= log.min_user_items
        enough &= np.bincount(kept.item, minlength=len(kept.items))[kept.item] >= log.min_item_users
        if enough.all():
            break
        if not enough.any():
            raise DataError(
                f"{log.path}: no user has {_count(log.min_user_items, 'item')} that"
                f" {_count(log.min_item_users, 'user')} have"
                + (f", rated {log.min_rating:g} or more" if log.min_rating is not None else "")
                + f"; of the {len(side.users)} users here the one with the most has {side.counts.max()}",
                "give a log of more users, or lower min_user_items, min_item_users or min_rating",
            )
        kept = kept.kept(enough)
    gone = sorted(set(side.users) - set(kept.users))
    if gone and name == "new":
        warnings.warn(
            f"{log.path}: {len(gone)} of {len(side.users)} users have fewer than"
            f" {_count(log.min_user_items, 'item')} that count, and are left out: {some(gone)}",
            DataWarning,
            stacklevel=2,
        )
    return kept


@dataclass(frozen=True, slots=True)
class _Read:
    log: Log
    said: tuple[str, ...]


def _read(log: options.Table) -> _Read:
    path = located(log.path)
    return _indexed(path, columns(log), None if log.names is None else tuple(log.names), _stamp(path))


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when the file does."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "check the path") from error
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=1)  # a run reads the same file for the base and for the dataset
def _indexed(path: Path, found: Columns, names: tuple[str, ...] | None, stamp: tuple[int, int]) -> _Read:
    wanted: dict[str, type] = {found.user: str, found.item: str}
    if found.rating is not None:
        wanted[found.rating] = float
    if found.time is not None:
        wanted[found.time] = datetime
    if len(wanted) != sum(name is not None for name in (found.user, found.item, found.rating, found.time)):
        taken = ", ".join(f"{what}: {column}" for what, column in asdict(found).items() if column is not None)
        raise DataError(f"{path}: one column is named twice ({taken})", "name another column for each")
    table = read_table(path, wanted, names=names)
    users, user = sorted_codes(table.column(found.user))
    items, item = sorted_codes(table.column(found.item))
    for there, what, other in (
        (users, "user", "adapt to some and to learn the base from others"),
        (items, "item", "rank"),
    ):
        if len(there) < 2:
            raise DataError(
                f"{path} has one {what} alone, {there[0]!r}; more are needed to {other}",
                f"is {getattr(found, what)!r} the column of {what}s?",
            )
    said = [*_alike(path, "users", users), *_alike(path, "items", items)]
    rating = None if found.rating is None else table.column(found.rating).to_numpy()
    time = None if found.time is None else table.column(found.time).to_numpy()
    order = np.argsort(user, kind="stable") if time is None else np.lexsort((time, user))
    pairs = user[order] * len(items) + item[order]
    last = _last_of_each(pairs)
    if not last.all():
        first = int(order[np.flatnonzero(~last)[0]])
        said.append(
            f"{path}: {np.count_nonzero(~last)} of {len(last)} rows repeat a user's item, as that of"
            f" {place(table, first).removeprefix(f'{path}, ')}; of each pair the latest counts"
        )
    order = order[last]
    return _Read(
        Log(
            users,
            items,
            np.searchsorted(user[order], np.arange(len(users) + 1)),
            item[order].astype(np.int32),
            None if rating is None else rating[order],
            None if time is None else time[order],
        ),
        tuple(said),
    )


def _alike(path: Path, what: str, names: Sequence[str]) -> list[str]:
    """A warning where names differ in the spaces around them alone."""
    known = set(names)
    same = [name for name in names if name != name.strip() and name.strip() in known]
    if not same:
        return []
    shown = f"{same[0]!r} and {same[0].strip()!r}"
    return [
        f"{path}: {what} that differ in spaces alone: {len(same)}, as {shown}; write them alike if they are one"
    ]


def sorted_codes(column: pa.ChunkedArray) -> tuple[list[str], Ints]:
    """(the distinct texts, sorted, (rows,) the index of each row's)."""
    found = coded(column)
    names = np.array(found.values, dtype=object)
    order = np.argsort(names)
    index = np.empty(len(order), np.int64)
    index[order] = np.arange(len(order))
    return names[order].tolist(), index[found.codes]


def _last_of_each(pairs: Ints) -> Mask:
    """Whether no equal pair follows."""
    order = np.argsort(pairs, kind="stable")
    ordered = pairs[order]
    last = np.ones(len(pairs), bool)
    last[order[:-1][ordered[1:] == ordered[:-1]]] = False
    return last


def _named(names: Sequence[str]) -> Keys:
    """(names,) hashes."""
    import pyarrow as pa

    return digests(pa.chunked_array([pa.array(names, pa.string())]))


def unit(keys: Keys, draw: int, stream: str) -> NDArray[np.float64]:
    """(keys,) numbers in [0, 1) that depend on key, draw and stream alone."""
    number = int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=8).digest(), "little")
    mixed = mix(mix(keys, draw) ^ np.uint64(number))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def users_unit(log: Log, draw: int, stream: str) -> NDArray[np.float64]:
    """(users,) a number of each user."""
    return unit(_named(log.users), draw, stream)


def pairs_unit(log: Log, draw: int, stream: str) -> NDArray[np.float64]:
    """(interactions,) a number of each user's item."""
    return unit(mix(_named(log.users))[log.user] ^ _named(log.items)[log.item], draw, stream)


def some(names: Iterable[str]) -> str:
    """The first few names."""
    listed = list(names)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(map(repr, listed[:NAMED])) + more


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def positions(log: Log, order: NDArray[Any]) -> Ints:
    """(interactions,) each one's place, from 0, among its user's when they are sorted by `order` (stable)."""
    sorted_by = np.lexsort((order, log.user))
    place_of = np.empty(len(log), np.int64)
    place_of[sorted_by] = np.arange(len(log)) - np.repeat(log.offsets[:-1], log.counts)
    return place_of


def from_end(log: Log) -> Ints:
    """(interactions,) how many of its user's items follow."""
    return np.repeat(log.offsets[1:], log.counts) - np.arange(len(log)) - 1
