"""Which rows go to `train`, `select` and `report`: pure functions of arrays, the same in every version of numpy.

What is random goes by a hash of what a row is (its content, its group, or else its place) and of `draw`. So rows
of equal content stand in one split, and where contents or groups are given, the order of the file changes
nothing and a new row moves few others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.contract import REPORT, SELECT, TRAIN
from core.data.labels import Coded
from core.data.options import Splits
from core.errors import DataError, nearest

Part = Literal["select", "report"]
Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]

NAMES = {
    **dict.fromkeys((TRAIN, "training"), TRAIN),
    **dict.fromkeys((SELECT, "dev", "val", "valid", "validation"), SELECT),
    **dict.fromkeys((REPORT, "test", "testing"), REPORT),
}
"""What columns, files and folders call the splits."""


def assign(
    options: Splits,
    count: int,
    *,
    labels: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    times: NDArray[Any] | None = None,
    given: Sequence[str] | None = None,
    contents: Keys | None = None,
    parts: Sequence[Part] = ("select", "report"),
    where: Callable[[int], str] = "row {}".format,
) -> dict[str, Ints]:
    """The rows of each split, int64 indices in ascending order, for `count` rows.

    `labels` are needed for stratified, `groups` for grouped and leave_last, `times` (int or float) for time and
    leave_last, `given` for column; each has one entry a row. `contents`, uint64, are digests: rows with equal ones
    stay together in random and stratified. `parts` are the splits to make beside `train`. `where` says where a row
    stands. Raises `DataError` where a split would be empty, a label has too few rows, or what is needed is missing.
    """
    if count == 0:
        raise DataError("there are no rows to split", "look at what the dataset reads")
    wanted = {part: options.wanted(part) for part in parts}
    if (
        options.how not in ("column", "leave_last")
        and sum(_rows_of(w, count) for w in wanted.values()) >= count
    ):
        asked = " and ".join(f"{rows} to {part}" for part, rows in wanted.items())
        raise DataError(
            f"of {count} rows, {asked} leave none to train on", "write smaller counts, or shares below 1"
        )
    match options.how:
        case "random":
            keys = mix(np.arange(count, dtype=np.uint64) if contents is None else contents, options.draw)
            order = np.argsort(keys, kind="stable")
            made = _deal(order, keys, options, parts)
        case "stratified":
            made = _stratified(options, count, _needed("labels", labels, options), contents, parts)
        case "grouped":
            coded = _whole(Coded.of(_needed("groups", groups, options)), "group", where)
            keys = mix(_digests(coded.values), options.draw)[coded.codes]
            order = np.argsort(keys, kind="stable")
            made = _deal(order, keys, options, parts)
        case "time":
            moments = _finite(_needed("times", times, options), where)
            order = np.argsort(moments, kind="stable")[::-1]
            made = _deal(order, moments, options, parts)
        case "leave_last":
            coded = _whole(Coded.of(_needed("groups", groups, options)), "group", where)
            made = _leave_last(options, coded, _finite(_needed("times", times, options), where), parts)
        case "column":
            return _column(options, _needed("given", given, options), parts, where)
    return _named(made, options, parts)


def _needed(name: str, value: Any, options: Splits) -> Any:
    if value is None:
        raise DataError(
            f"splits.how is {options.how}, which needs {name}, and this dataset has none",
            "name their column in `splits.by`, or split another way",
        )
    return value


def _whole(coded: Coded, what: str, where: Callable[[int], str]) -> Coded:
    missing = np.flatnonzero(coded.codes < 0)
    if len(missing):
        raise DataError(
            f"{len(missing)} rows have no {what}; the first: {where(int(missing[0]))}",
            f"give each row its {what}, or split another way",
        )
    return coded


def _finite(times: NDArray[Any], where: Callable[[int], str]) -> NDArray[Any]:
    times = np.asarray(times)
    if times.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(times))
        if len(bad):
            raise DataError(
                f"{len(bad)} rows have no time that is a finite number; the first: {where(int(bad[0]))}",
                "give each row its time, or split another way",
            )
    return times


def mix(values: Keys, draw: int = 0) -> Keys:
    """SplitMix64's finaliser (https://prng.di.unimi.it/splitmix64.c) of each value, moved by the draw: one to one."""
    offset = int.from_bytes(hashlib.blake2b(b"draw %d" % draw, digest_size=8).digest(), "little")
    z = values.astype(np.uint64) + np.uint64(offset)  # wraps, as all that follows
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def _digests(values: Sequence[str]) -> Keys:
    hashes = (hashlib.blake2b(value.encode(errors="surrogatepass"), digest_size=8) for value in values)
    return np.fromiter((int.from_bytes(h.digest(), "little") for h in hashes), np.uint64, len(values))


def _rows_of(wanted: int | float, rows: int) -> float:
    return float(wanted) if wanted >= 1 else wanted * rows


def _deal(
    order: Ints,
    keys: NDArray[Any],
    options: Splits,
    parts: Sequence[Part],
    targets: Sequence[float] | None = None,
) -> NDArray[np.int8]:
    """(rows of `keys`,) which part each row of `order` goes to: 1 report, 2 select, 0 train; rows that are not in
    `order` get 0.

    Rows are dealt in `order`, report first. Those with equal keys, which stand side by side, stay together: each
    part ends at the boundary that is nearest to what it wants, with one set at least, as long as any is left. A set
    that has more than half of the rows is train's, unless the order is that of time."""
    made = np.zeros(len(keys), np.int8)
    if targets is None:
        targets = [_rows_of(options.wanted(part), len(order)) for part in parts]
    ordered = keys[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(order))
    if options.how != "time" and len(ends) > len(parts):
        sizes = np.diff(ends, prepend=0)
        largest = int(sizes.argmax())
        if 2 * sizes[largest] > len(order):  # last in line, so that it stays in train
            start, end = int(ends[largest] - sizes[largest]), int(ends[largest])
            order = np.concatenate([order[:start], order[end:], order[start:end]])
            ends = np.cumsum(np.append(np.delete(sizes, largest), sizes[largest]))
    begin = 0
    for after, (part, target) in zip(
        range(len(parts), 0, -1), sorted(zip(parts, targets, strict=True)), strict=True
    ):  # report before select
        later = ends[ends > begin]
        later = later[: max(1, len(later) - after)]  # the parts after this one, and train, want some too
        if not len(later):
            break
        end = int(later[np.abs(later - (begin + target)).argmin()])
        made[order[begin:end]] = 1 if part == REPORT else 2
        begin = end
    return made


def _stratified(
    options: Splits, count: int, labels: Sequence[str], contents: Keys | None, parts: Sequence[Part]
) -> NDArray[np.int8]:
    coded = Coded.of(labels)
    keys = mix(np.arange(count, dtype=np.uint64) if contents is None else contents, options.draw)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.append(True, ordered[1:] != ordered[:-1])
    # Equal rows with different labels go where the first of them goes.
    strata = coded.codes[order][np.flatnonzero(first)[np.cumsum(first) - 1]]
    sizes = np.bincount(strata + 1, minlength=len(coded.values) + 1)  # rows without a label are a stratum too
    distinct = np.bincount(strata[first] + 1, minlength=len(coded.values) + 1)
    names = ["", *coded.values]
    needed = len(parts) + 1
    small = [i for i in np.flatnonzero((distinct > 0) & (distinct < needed)) if i > 0]
    if small:
        few = ", ".join(f"{names[i]!r} ({distinct[i]})" for i in small[:5])
        more = f" and {len(small) - 5} more" if len(small) > 5 else ""
        raise DataError(
            f"a stratified split needs {needed} different examples of each label, one for each split; fewer have:"
            f" {few}{more}",
            "add examples, drop the label, or write `splits: {how: random}`",
        )
    made = np.zeros(count, np.int8)
    quotas = [_quotas(_rows_of(options.wanted(part), count), sizes) for part in parts]
    by_stratum = order[np.argsort(strata, kind="stable")]
    bounds = np.append(0, np.cumsum(sizes))
    for i in np.flatnonzero(sizes):
        members = by_stratum[bounds[i] : bounds[i + 1]]
        made[members] = _deal_members(members, keys, options, parts, [float(quota[i]) for quota in quotas])
    return made


def _deal_members(
    members: Ints, keys: Keys, options: Splits, parts: Sequence[Part], targets: Sequence[float]
) -> NDArray[np.int8]:
    """`_deal` of some rows that are in order, in arrays of their size alone."""
    return _deal(np.arange(len(members)), keys[members], options, parts, targets)


def _quotas(total: float, sizes: Ints) -> Ints:
    """Whole numbers in proportion to `sizes` that add up to `total`, by largest remainders."""
    exact = total * sizes / sizes.sum()
    quotas: Ints = np.floor(exact).astype(np.int64)
    left = max(0, round(total) - int(quotas.sum()))
    quotas[np.argsort(quotas - exact, kind="stable")[:left]] += 1
    return quotas


def _leave_last(
    options: Splits, groups: Coded, times: NDArray[Any], parts: Sequence[Part]
) -> NDArray[np.int8]:
    """Of each group in order of time (of equal times, of place), the last rows to report, those before to select. A
    group keeps one row in train; one too small gives to report first."""
    order = np.lexsort((times, groups.codes))
    ordered = groups.codes[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    sizes = np.diff(np.append(starts, len(order)))
    place = np.arange(len(order)) - np.repeat(starts, sizes)
    from_end = np.repeat(sizes, sizes) - place  # 1 is the last
    made = np.zeros(len(order), np.int8)
    begin = 0
    for part in sorted(parts):
        end = begin + int(options.wanted(part))
        taken = (from_end > begin) & (from_end <= end) & (place > 0)
        made[order[taken]] = 1 if part == REPORT else 2
        begin = end
    return made


def _column(
    options: Splits, given: Sequence[str], parts: Sequence[Part], where: Callable[[int], str]
) -> dict[str, Ints]:
    coded = _whole(Coded.of(given), f"split in the column {options.by or 'split'!r}", where)
    allowed = {TRAIN, *parts}
    names = [NAMES.get(value.strip().lower(), value.strip().lower()) for value in coded.values]
    for code, name in enumerate(names):
        places = np.flatnonzero(coded.codes == code)
        if name not in allowed and len(places):
            raise DataError(
                f"{where(int(places[0]))}: the column {options.by or 'split'!r} says {coded.values[code]!r};"
                f" {', '.join(sorted(allowed))} are wanted (val, valid, validation and dev mean select, test report)",
                nearest(name, allowed),
            )
    found = np.array([["train", REPORT, SELECT].index(name) for name in names], np.int8)
    return _named(found[coded.codes], options, parts)


def _named(made: NDArray[np.int8], options: Splits, parts: Sequence[Part]) -> dict[str, Ints]:
    splits = {TRAIN: np.flatnonzero(made == 0)}
    if SELECT in parts:
        splits[SELECT] = np.flatnonzero(made == 2)
    if REPORT in parts:
        splits[REPORT] = np.flatnonzero(made == 1)
    empty = [name for name, places in splits.items() if not len(places)]
    if empty:
        held = ", ".join(f"{name} {len(places)}" for name, places in splits.items())
        raise DataError(
            f"splitting {len(made)} rows ({options.how}) leaves {' and '.join(empty)} without any: {held}",
            "every split needs rows: change select and report, split another way, or add data",
        )
    return splits
