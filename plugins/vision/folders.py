"""The dataset `images`: pictures in class folders, or named by a table, read when they are needed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.contract import RETAIN, SELECT, TRAIN, Row
from core.data.cache import folder as cache_folder
from core.data.options import Splits
from core.data.rows import Lazy
from core.data.splits import NAMES, assign
from core.data.stored import Stored, readable
from core.errors import DataError, DataWarning
from core.loading import made, spare
from plugins.vision import options, pictures
from plugins.vision.splitting import split_rows

TABLES = (".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".tsv.gz", ".jsonl.gz")
IGNORED = ("thumbs.db", "desktop.ini", "__macosx")
"""What file managers and archives leave in folders of pictures, beside hidden files."""
NAMED = 5
"""How many of the files that cannot be read an error names."""


@dataclass
class Found:
    """Pictures, by parallel lists: file and label, and what a table says besides. `place` says, in words, where a
    table names one."""

    paths: list[Path] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: dict[str, list[int]] = field(default_factory=dict)
    place: Callable[[int], str] | None = None
    groups: list[str] | None = None
    times: NDArray[np.float64] | None = None

    def add(self, path: Path, label: str, split: str) -> None:
        self.splits.setdefault(split, []).append(len(self.paths))
        self.paths.append(path)
        self.labels.append(label)

    def where(self, index: int) -> str:
        """In words, where a row stands."""
        return str(self.paths[index]) if self.place is None else self.place(index)

    def without(self, dropped: set[int]) -> Found:
        """Those that can be read."""
        kept = [i for i in range(len(self.paths)) if i not in dropped]
        new = {old: i for i, old in enumerate(kept)}
        place = self.place
        return Found(
            [self.paths[i] for i in kept],
            [self.labels[i] for i in kept],
            {name: [new[i] for i in rows if i in new] for name, rows in self.splits.items()},
            None if place is None else lambda i: place(kept[i]),
            None if self.groups is None else [self.groups[i] for i in kept],
            None if self.times is None else self.times[kept],
        )


class Images:
    """The dataset `images`. A row's inputs are a file (`core.data.stored.Stored`), its target a label."""

    def __init__(self, options: options.Images) -> None:
        self._options = options

    def rows(self) -> Mapping[str, Sequence[Row]]:
        """Every picture is read once, to see that it can be, and held nowhere. Raises `DataError`."""
        options = self._options
        found = find(Path(options.path).expanduser(), options)
        found, contents = self._readable(found)
        _tell_contradictions(found, contents)
        given = {name: np.array(rows, np.int64) for name, rows in found.splits.items()}
        splits = split_rows(
            given,
            found.labels,
            options.splits,
            found.where,
            contents=contents,
            groups=found.groups,
            times=found.times,
        )
        pick = Pictures(found.paths, found.labels, found.groups)
        return {name: Lazy(len(places), pick.of(places)) for name, places in splits.items()}

    def _readable(self, found: Found) -> tuple[Found, NDArray[np.uint64]]:
        contents, wrong = inspect(found.paths)
        if not wrong:
            return found, contents
        listed = [
            error.message if found.place is None else f"{found.where(i)}: {error.message}"
            for i, error in list(wrong.items())[:NAMED]
        ]
        more = f"\n  - and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        summary = f"{len(wrong)} of {len(found.paths)} files are no pictures that can be read"
        if self._options.unreadable == "stop":
            raise DataError(
                f"{summary}:\n  - " + "\n  - ".join(listed) + more,
                "restore or remove them, or leave them out with data.unreadable=skip",
            )
        warnings.warn(f"{summary}, and are left out; the first: {listed[0]}", DataWarning, stacklevel=2)
        kept = [i for i in range(len(found.paths)) if i not in wrong]
        if not kept:
            raise DataError(
                f"{self._options.path}: none of the {len(found.paths)} files is a picture that can be read",
                "give a folder of PNG, JPEG, WebP, GIF, BMP or TIFF files",
            )
        return found.without(set(wrong)), contents[kept]


class Pictures:
    """Rows by index, in any process."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[str], groups: Sequence[str] | None) -> None:
        self._paths, self._labels, self._groups = paths, labels, groups

    def of(self, places: NDArray[np.int64]) -> partial[Row]:
        """What makes row `i` of those at `places`."""
        return partial(self._row, places)

    def _row(self, places: NDArray[np.int64], index: int) -> Row:
        i = int(places[index])
        return Row(Stored(self._paths[i]), self._labels[i], self._groups[i] if self._groups else None)


def find(path: Path, options: options.Images) -> Found:
    """What is named by the folder or table at `path`; no picture is opened. Raises `DataError`."""
    with readable(path):
        is_file, is_folder = path.is_file(), path.is_dir()
    if is_file:
        if not path.name.lower().endswith(TABLES):
            raise DataError(
                f"{path}: expected a folder of pictures, or a table ({', '.join(TABLES[:4])})",
                "give the folder that holds one folder a class",
            )
        return _from_table(path, options)
    if not is_folder:
        raise DataError(f"{path}: there is no such folder or table", "check data.path")
    folders = [entry for entry in _entries(path) if entry.is_dir()]
    found = Found()
    by_split = {NAMES.get(folder.name.lower(), folder.name.lower()): folder for folder in folders}
    split_names = {*NAMES.values(), RETAIN}
    strange = [folder.name for name, folder in by_split.items() if name not in split_names]
    if TRAIN in by_split and (strange or len(folders) == 1) and _has_folders(by_split[TRAIN]):
        beside = f"is {', '.join(strange)}" if strange else "is nothing"
        raise DataError(
            f"{path}: {by_split[TRAIN].name} holds folders, as a split does, and beside it {beside}:"
            " are these splits, or classes?",
            "splits are called train, test and perhaps val; move what is none elsewhere, or give one split's folder",
        )
    if TRAIN in by_split and len(folders) > 1 and not strange:
        if len(by_split) < len(folders):
            names = ", ".join(folder.name for folder in folders)
            raise DataError(f"{path}: two of the folders {names} mean the same split", "rename or merge them")
        for split, folder in sorted(by_split.items()):
            _classes(found, Path(folder.path), split)
    else:
        _classes(found, path, TRAIN)
    return found


def _has_folders(folder: os.DirEntry[str]) -> bool:
    return any(entry.is_dir() for entry in _entries(Path(folder.path)))


def _classes(found: Found, path: Path, split: str) -> None:
    """Add the pictures of one folder a class. Raises `DataError` where there are none."""
    entries = _entries(path)
    classes = [entry for entry in entries if entry.is_dir()]
    if not classes:
        inside = f"{len(entries)} files and no folder" if entries else "nothing"
        raise DataError(
            f"{path}: expected one folder a class, found {inside}",
            "put each class's pictures into a folder of its name, or give a table of path and label",
        )
    loose = len(entries) - len(classes)
    before, empty = len(found.paths), []
    for entry in classes:
        started = len(found.paths)
        for file in _files(Path(entry.path), (_inode(path),)):
            found.add(file, entry.name, split)
        if len(found.paths) == started:
            empty.append(entry.name)
    if len(found.paths) == before:
        raise DataError(
            f"{path}: its {len(classes)} class folders hold no file",
            "put each class's pictures into its folder",
        )
    if empty:
        names = ", ".join(map(repr, empty[:NAMED])) + (" ..." if len(empty) > NAMED else "")
        warnings.warn(
            f"{path}: class folders without a file: {names} ({len(empty)} of {len(classes)})",
            DataWarning,
            stacklevel=2,
        )
    stray = sum(Path(e.name).suffix.lower() in PICTURES for e in entries if e.is_file()) if loose else 0
    if stray:
        warnings.warn(
            f"{path}: pictures beside the class folders, which belong to none, are left out: {stray}",
            DataWarning,
            stacklevel=2,
        )


Inode = tuple[int, int]
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def _entries(path: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, by name, but hidden things and what file managers leave. Raises `DataError`."""
    try:
        with os.scandir(path) as entries:
            visible = [e for e in entries if not e.name.startswith(".") and e.name.lower() not in IGNORED]
    except OSError as error:
        raise DataError(
            f"{path}: the folder cannot be read: {error.strerror}", "check the path and its permissions"
        ) from error
    return sorted(visible, key=lambda entry: entry.name)


def _files(path: Path, above: Sequence[Inode]) -> Iterator[Path]:
    """The files in a folder and in those below it; a link to a folder above is not followed."""
    here = _inode(path)
    if here in above:
        return
    for entry in _entries(path):
        if entry.is_dir():
            yield from _files(Path(entry.path), (*above, here))
        else:
            yield Path(entry.path)


def _inode(path: Path) -> Inode:
    with readable(path):
        status = path.stat()
    return status.st_dev, status.st_ino


def _from_table(path: Path, options: options.Images) -> Found:
    from core.data.tables import place, read_table

    splits = options.splits
    columns: dict[str, type] = {options.picture: str, options.label: str}
    how, by = (splits.how, splits.by) if splits else ("column", None)
    by = by or "split"
    if how in ("grouped", "time") and splits is not None and splits.by is None:
        raise DataError(
            f"{path}: data.splits is {how}, and names no column",
            f"write `splits: {{how: {how}, by: COLUMN}}`",
        )
    if splits is not None and how in ("column", "grouped", "time"):
        columns[by] = datetime if how == "time" else str
    table = read_table(
        path,
        columns,
        optional={"split": str} if splits is None else {},
        hint="data.picture=COLUMN and data.label=COLUMN say which are which",
    )
    names: list[str] = table.column(options.picture).to_pylist()
    if not names:
        raise DataError(f"{path}: the table has no rows", "give one row a picture")
    found = Found(
        [path.parent / name for name in names],
        table.column(options.label).to_pylist(),
        {TRAIN: list(range(len(names)))},
        lambda i: place(table, i),
    )
    with readable(path.parent):
        missing = [i for i, file in enumerate(found.paths) if not file.is_file()]
    if missing:
        listed = [f"{found.where(i)}: there is no file {found.paths[i]}" for i in missing[:NAMED]]
        more = [f"and {len(missing) - NAMED} more"] if len(missing) > NAMED else []
        raise DataError(
            f"{len(missing)} of {len(names)} rows point at nothing:\n  - " + "\n  - ".join(listed + more),
            f"correct or remove them; paths are relative to the table's folder, {path.parent}",
        )
    if how == "grouped":
        found.groups = table.column(by).to_pylist()
    elif how == "time":
        found.times = table.column(by).to_numpy()
    elif how == "column" and by in table.column_names:
        said = [value or "" for value in table.column(by).to_pylist()]
        has = {NAMES.get(value.strip().lower()) for value in said}
        made = assign(
            Splits.model_validate({"how": "column", "by": by}),
            len(said),
            given=said,
            parts=("select", "report") if SELECT in has else ("report",),
            where=found.where,
        )
        found.splits = {name: rows.tolist() for name, rows in made.items()}
    return found


def _tell_contradictions(found: Found, contents: NDArray[np.uint64]) -> None:
    """Warn of equal pictures with different labels."""
    order = np.argsort(contents, kind="stable")
    equal = np.flatnonzero(contents[order][1:] == contents[order][:-1])
    pairs = [(int(order[i]), int(order[i + 1])) for i in equal]
    apart = [(a, b) for a, b in pairs if found.labels[a] != found.labels[b]]
    if apart:
        a, b = apart[0]
        warnings.warn(
            f"{len(apart)} times the same picture has two labels; first {found.where(a)} ({found.labels[a]}) and"
            f" {found.where(b)} ({found.labels[b]})",
            DataWarning,
            stacklevel=2,
        )


def inspect(paths: Sequence[Path]) -> tuple[NDArray[np.uint64], dict[int, DataError]]:
    """(digests of the files' contents, what is wrong with those that cannot be read, by index): every picture is
    decoded once, by processes where there are many.

    Where all are whole, that is noted in the cache with the files' names, sizes and times, so that the next run
    over the same files does not decode them again.
    """
    image = pictures.pillow()
    stamp = blake2b(f"Pillow {image.__version__}".encode(), digest_size=16)
    try:
        for path in paths:
            seen = path.stat()
            stamp.update(os.fsencode(path.absolute()) + f"\0{seen.st_size}\0{seen.st_mtime_ns}\n".encode())
        note = cache_folder() / f"pictures-{stamp.hexdigest()}.npy"
    except OSError:  # the file at fault is found below
        note = None
    if note is not None and note.is_file():
        try:
            known: NDArray[np.uint64] = np.load(note, allow_pickle=False)
            if known.shape == (len(paths),):
                return known, {}
        except (OSError, ValueError):
            pass  # it is written anew
    size = 64

    def piece(number: int) -> list[tuple[int, DataError | None]]:
        return [_inspected(path) for path in paths[number * size : (number + 1) * size]]

    seen_all = list(chain.from_iterable(made(piece, -(-len(paths) // size), spare(len(paths)))))
    contents = np.array([digest for digest, _ in seen_all], np.uint64)
    wrong = {i: error for i, (_, error) in enumerate(seen_all) if error is not None}
    if note is not None and not wrong:
        written = note.with_name(f"{note.name}.{os.getpid()}")
        with written.open("wb") as file:
            np.save(file, contents)
        written.replace(note)
    return contents, wrong


def _inspected(path: Path) -> tuple[int, DataError | None]:
    try:
        data = Stored(path).read()
    except DataError as error:
        return 0, error
    digest = int.from_bytes(blake2b(data, digest_size=8).digest(), "little")
    try:
        pictures.decode(data, path)
    except DataError as error:
        return digest, error
    return digest, None
