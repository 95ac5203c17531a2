"""Which file holds which split, and how the rows of one are shared out: what texts and pairs have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from core.contract import REPORT, SELECT, TRAIN
from core.data.splits import NAMES, Part
from core.data.stored import readable
from core.errors import DataError
from plugins.nlp import options

LISTED = 5
"""How many places a message names before it counts the rest."""

Held = TypeVar("Held")
Rows = TypeVar("Rows")


def in_splits(
    files: Mapping[str, Path],
    read: Callable[[Path, bool], Held],
    share_out: Callable[[Held, Sequence[Part]], dict[str, Rows]],
    whole: Callable[[Held], Rows],
) -> dict[str, Rows]:
    """The rows of each split: as the files say, and `select` and `report` taken out of train's file where they have
    none.

    Args:
        files: as `files_of` gives them.
        read: what a file holds; the second argument is whether it is to be shared out.
        share_out: the named splits, and `train`, out of a file.
        whole: all of a file.
    """
    held = {name: read(path, name == TRAIN and SELECT not in files) for name, path in files.items()}
    if list(held) == [TRAIN]:
        return share_out(held[TRAIN], ("select", "report"))
    if SELECT not in held:
        return {**share_out(held[TRAIN], ("select",)), REPORT: whole(held[REPORT])}
    return {name: whole(held[name]) for name in (TRAIN, SELECT, REPORT)}


def files_of(path: str | options.Files) -> dict[str, Path]:
    """The file of each split, or of `train` alone where the rows come in one piece. Raises `DataError`."""
    if isinstance(path, options.Files):
        named = {TRAIN: path.train, SELECT: path.select, REPORT: path.report}
        return {name: existing(Path(file).expanduser()) for name, file in named.items() if file is not None}
    found = Path(path).expanduser()
    names = files_in(found)
    if names is None:
        return {TRAIN: existing(found)}
    files: dict[str, Path] = {}
    for split in (TRAIN, SELECT, REPORT):
        matching = called(split, names)
        if len(matching) > 1:
            raise DataError(
                f"{found} has {len(matching)} files that could be {split}: {', '.join(matching)}",
                "name them: data.path={train: FILE, select: FILE, report: FILE}",
            )
        if matching:
            files[split] = found / matching[0]
    missing = [name for name in (TRAIN, REPORT) if name not in files]
    if missing:
        there = ", ".join(names[:10]) or "no file"
        raise DataError(
            f"{found} has no file for {' and '.join(missing)}: it has {there}",
            "call them train.csv, dev.csv (if there is one) and test.csv (or .tsv, .jsonl, .parquet), or give one file",
        )
    return files


def called(split: str, names: Sequence[str]) -> list[str]:
    """Those of the names of which a word is one for the split: `my_dev.csv` is called select."""
    words = {name: name.lower().replace("_", ".").replace("-", ".").split(".") for name in names}
    return [name for name in names if split in {NAMES.get(word) for word in words[name]}]


def files_in(path: Path) -> list[str] | None:
    """The names of a folder's files, sorted, without hidden ones; None where it is no folder."""
    with readable(path):
        if not path.is_dir():
            return None
        return sorted(
            file.name for file in path.iterdir() if file.is_file() and not file.name.startswith(".")
        )


def existing(path: Path) -> Path:
    """The path of a file that is there. Raises `DataError`."""
    with readable(path):
        there = path.is_file()
    if not there:
        raise DataError(f"there is no file {path}", "check the path")
    return path


def refuse_encoding(path: Path, encoding: str) -> None:
    """Raises `DataError` where a table is said to be in another encoding than tables are read in."""
    if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
        raise DataError(
            f"{path}: data.encoding is {encoding}, and tables are read as UTF-8",
            f"convert it: iconv -f {encoding} -t UTF-8 {path.name} > NEW",
        )


def refuse_torn_groups(options: options.Texts | options.Pairs) -> None:
    """Raises `DataError` where rows that belong together would be split by chance."""
    how = options.splits.how
    if options.group is not None and how in ("random", "stratified"):
        raise DataError(
            f"data.group is {options.group!r}, and data.splits.how is {how}, which tears groups apart:"
            " rows of one would stand in several splits",
            "write data.splits={how: grouped}, or leave data.group out",
        )


def split_columns(options: options.Texts | options.Pairs) -> tuple[str | None, str | None, str | None]:
    """The columns of groups, of times, and of splits, as far as these options need or name them. Raises `DataError`."""
    how, by, group = options.splits.how, options.splits.by, options.group
    if how == "grouped":
        if group and by and group != by:
            raise DataError(
                f"data.group is {group!r} and data.splits.by {by!r}: rows are grouped by one column",
                "leave data.splits.by out, or write the same column in both",
            )
        return group or by, None, None
    if how == "leave_last" and not (group and by):
        missing = " and ".join(name for name, it in (("data.group", group), ("data.splits.by", by)) if not it)
        raise DataError(
            f"data.splits.how is leave_last, which leaves each group's latest rows, and {missing} is not given",
            "write data.group=COLUMN, whose rows they are (an author), and data.splits.by=COLUMN, when they are from",
        )
    if how in ("time", "leave_last"):
        return group, by, None
    return group, None, (by or "split") if how == "column" else None
