"""Users' own texts: with a label each, from tables or lines of label and text, or running text."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from core.contract import REPORT, SELECT, TRAIN, Row
from core.data.labels import Coded, check_labels
from core.data.rows import Lazy
from core.data.splits import assign
from core.data.tables import coded, column_names, digests, place, read_source, read_table
from core.errors import DataError, DataWarning
from plugins.nlp import options
from plugins.nlp.data import windows
from plugins.nlp.files import (
    LISTED,
    existing,
    files_in,
    files_of,
    in_splits,
    refuse_encoding,
    refuse_torn_groups,
    split_columns,
)
from plugins.nlp.lines import Lines, decoded

TEXT_NAMES = (
    *("text", "sentence", "review", "content", "body", "comment", "question", "message", "tweet", "document"),
    *(
        "utterance",
        "description",
        "summary",
        "title",
        "headline",
        "abstract",
        "sms",
        "texts",
        "sentences",
        "reviews",
    ),
)
LABEL_NAMES = (
    *("label", "class", "category", "target", "sentiment", "topic", "intent", "polarity", "tag", "labels"),
    *("type", "y", "stars", "rating", "score", "genre"),
)
"""Names of columns, in any case, that are taken to be the text's and the label's where the recipe names none."""


class Texts:
    """A row's `inputs` is `{"text": ...}`, its `target` the label. Rows are streamed: texts stay in an Arrow column."""

    def __init__(self, options: options.Texts) -> None:
        self._options = options

    def rows(self) -> Mapping[str, Sequence[Row]]:
        """Raises `DataError` where a file is missing, empty or damaged, a row has no text or no label, or the labels
        cannot be learned from (`core.data.labels.check_labels`)."""
        splits = self._splits()
        check_labels(
            {name: part.labels for name, part in splits.items()}, lambda name, i: splits[name].where(i)
        )
        return {name: Lazy(len(part.places), part.row) for name, part in splits.items()}

    def _splits(self) -> dict[str, Part]:
        def read(path: Path, shared: bool) -> Source:
            return source_of(path, self._options, shared=shared)

        return in_splits(files_of(self._options.path), read, self._share_out, Part.whole)

    def _share_out(self, source: Source, parts: Sequence[str]) -> dict[str, Part]:
        refuse_torn_groups(self._options)
        splits = self._options.splits
        places = assign(
            splits,
            len(source.texts),
            labels=source.labels,
            groups=source.groups,
            times=source.times,
            given=source.given,
            contents=digests(source.texts) if splits.how in ("random", "stratified") else None,
            parts=parts,  # type: ignore[arg-type]
            where=source.where,
        )
        return {name: Part(source, places[name]) for name in (TRAIN, SELECT, REPORT) if name in places}


class Plain:
    """Running text in windows of whole lines. A row's `inputs` is `{"text": ...}`, its `group` the thousandth
    part of the text that it is of: neighbouring windows are alike, and intervals resample them together.

    All of it is held in memory, several times its size: for a few hundred megabytes of text, no more."""

    def __init__(self, options: options.Plain) -> None:
        self._options = options

    def rows(self) -> Mapping[str, Sequence[Row]]:
        """The first part of the text is `train`, the next `select`, the last `report`; each ends with a line. Raises
        `DataError` where a file is missing, empty, or in another encoding."""
        o = self._options
        files = text_files(Path(o.path).expanduser())
        text = "".join(piece for path in files for piece in decoded(path, o.encoding)).replace("\r\n", "\n")
        pieces = list(windows(text, o.window))
        if len(pieces) < 10:
            raise DataError(
                f"{o.path} has {len(text)} characters, {len(pieces)} windows of at most {o.window} bytes: too little to"
                " be split",
                "give more text, or set data.window lower",
            )
        last = min(len(pieces) - 1, round(len(pieces) * (1 - o.report)))
        middle = max(1, min(last - 1, round(len(pieces) * (1 - o.report - o.select))))
        rows = [
            Row({"text": piece}, group=f"part {i * 1000 // len(pieces)}") for i, piece in enumerate(pieces)
        ]
        return {TRAIN: rows[:middle], SELECT: rows[middle:last], REPORT: rows[last:]}


def text_files(path: Path) -> list[Path]:
    """The file itself, or the *.txt files of a folder by name. Raises `DataError`."""
    inside = files_in(path)
    if inside is None:
        return [existing(path)]
    found = [name for name in inside if name.endswith(".txt")]
    if not found:
        there = ", ".join(inside[:8]) or "no file"
        raise DataError(
            f"{path} has no .txt file; it has {there}", "give a text file, or a folder of .txt files"
        )
    return [path / name for name in found]


@dataclass(frozen=True)
class Source:
    """The rows of one file: texts (n,) as an Arrow column, labels, where a row stands, in words, and what splits go
    by."""

    path: Path
    texts: pa.ChunkedArray
    labels: Coded
    where: Callable[[int], str]
    groups: Coded | None = None
    times: NDArray[np.float64] | None = None
    given: Coded | None = None


@dataclass(frozen=True)
class Part:
    """Some rows of a file, in ascending order of `places`, int64."""

    source: Source
    places: NDArray[np.int64]

    @classmethod
    def whole(cls, source: Source) -> Part:
        return cls(source, np.arange(len(source.texts)))

    @property
    def labels(self) -> Coded:
        return self.source.labels.take(self.places)

    def where(self, index: int) -> str:
        return self.source.where(int(self.places[index]))

    def row(self, index: int) -> Row:
        place, source = int(self.places[index]), self.source
        group = None if source.groups is None else source.groups[place]
        return Row({"text": source.texts[place].as_py()}, source.labels[place], group)


def source_of(path: Path, options: options.Texts, *, shared: bool = False) -> Source:
    """The rows of a file, with what its splits go by where they are to be `shared` out. Raises `DataError` where it has
    none, or one without a text."""
    if is_lines(path, options):
        if options.group:
            raise DataError(
                f"{path} has lines of a label and a text, and no column {options.group!r} for data.group",
                "give a table, or leave data.group out",
            )
        return label_first(path, options.encoding)
    return table(path, options, shared=shared)


def is_lines(path: Path, options: options.Texts) -> bool:
    """Whether the file has lines of label and text, and is no table: as the options say, or else its name's ending."""
    if options.format is not None:
        return options.format == "label_first"
    endings = {suffix.lower() for suffix in path.suffixes}
    return not endings & {".csv", ".tsv", ".tab", ".jsonl", ".json", ".ndjson", ".parquet", ".pq"}


def label_first(path: Path, encoding: str) -> Source:
    """Lines of a label, white space, and a text; empty lines are left out. A large file's are kept in the cache, and
    mapped into memory. Raises `DataError`."""
    lines = Lines(path, encoding)
    read = read_source(lines, {"label": str}, optional={"text": str}, form=lines.form)

    def where(row: int) -> str:
        return f"{path}, {lines.place(row)}"

    found = read["text"]
    if found.null_count:
        empty = np.flatnonzero(found.is_null().to_numpy())
        shown = "; ".join(where(int(row)) for row in empty[:LISTED])
        more = f"; and {len(empty) - LISTED} more" if len(empty) > LISTED else ""
        raise DataError(
            f"{len(empty)} of {len(found)} rows have no text: {shown}{more}", "fill in or remove these rows"
        )
    return Source(path, found, coded(read["label"]), where)


def table(path: Path, options: options.Texts, *, shared: bool) -> Source:
    """The columns of a table that the options name, or whose names are those that people give them. Raises
    `DataError`."""
    refuse_encoding(path, options.encoding)
    header = column_names(path)
    text, label = columns(path, header, options.text, options.label)
    group, time, given = split_columns(options) if shared else (options.group, None, None)
    wanted: dict[str, type] = dict.fromkeys([*text, label], str)
    wanted |= {name: str for name in (group, given) if name}
    if time:
        wanted[time] = datetime
    read = read_table(path, wanted)
    joined = read[text[0]]
    if len(text) > 1:
        joined = pc.binary_join_element_wise(*(read[name] for name in text), "\n")
    return Source(
        path,
        joined,
        coded(read[label]),
        where=lambda row: place(read, row),
        groups=coded(read[group]) if group else None,
        times=read[time].to_numpy() if time else None,
        given=coded(read[given]) if given else None,
    )


def columns(
    path: Path, header: Sequence[str], text: str | Sequence[str] | None, given: str | None
) -> tuple[list[str], str]:
    """The text's columns and the label's, guessed where they are None, which the user is told unless the names leave no
    doubt. Raises `DataError` where no name tells."""
    named, label = [text] if isinstance(text, str) else list(text or ()), given
    free = [name for name in header if name not in named and name != label]
    if label is None:
        label = _known(free, LABEL_NAMES)
        free = [name for name in free if name != label]
    if not named:
        found = _known(free, TEXT_NAMES) or (free[0] if len(free) == 1 else None)
        named = [found] if found else []
        free = [name for name in free if name != found]
    if label is None and named and len(free) == 1:
        label = free[0]
    for what, it in (("text", named), ("label", label)):
        if not it:
            raise DataError(
                f"{path}: none of its columns is called as a {what} is; they are {', '.join(map(repr, header))}",
                f"name it: data.{what}=COLUMN (a file without a header needs one)",
            )
    if (text is None and named != ["text"]) or (given is None and label != "label"):
        said = f"{path.name}: the column {named[0]!r} is taken for the text and {label!r} for the label"
        warnings.warn(f"{said}; data.text and data.label name others", DataWarning, stacklevel=2)
    return named, str(label)


def _known(free: Sequence[str], names: Sequence[str]) -> str | None:
    lower = {name.strip().lower(): name for name in reversed(free)}
    return next((lower[name] for name in names if name in lower), None)
