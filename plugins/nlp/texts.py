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
from core.data.tables import coded, column_names, digests, place, read_table
from core.errors import DataError, DataWarning
from plugins.nlp import options
from plugins.nlp.data import windows

HERE = {
    TRAIN: ("train", "training"),
    SELECT: ("select", "dev", "valid", "validation", "val"),
    REPORT: ("report", "test", "testing"),
}
"""The names of a folder's files, by split."""

LISTED = 5
"""How many places a message names before it counts the rest."""

TEXT_NAMES = (
    *("text", "sentence", "review", "content", "body", "comment", "question", "message", "tweet", "document"),
    *("utterance", "description", "title", "headline", "abstract", "sms", "texts", "sentences", "reviews"),
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
        files = files_of(self._options.path)
        read = {name: source_of(path, self._options) for name, path in files.items()}
        if list(read) == [TRAIN]:
            return self._share_out(read[TRAIN], ("select", "report"))
        if SELECT not in read:
            return {**self._share_out(read[TRAIN], ("select",)), REPORT: Part.whole(read[REPORT])}
        return {name: Part.whole(read[name]) for name in (TRAIN, SELECT, REPORT)}

    def _share_out(self, source: Source, parts: Sequence[str]) -> dict[str, Part]:
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
    part of the text that it is of: neighbouring windows are alike, and intervals resample them together."""

    def __init__(self, options: options.Plain) -> None:
        self._options = options

    def rows(self) -> Mapping[str, Sequence[Row]]:
        """The first part of the text is `train`, the next `select`, the last `report`; each ends with a line. Raises
        `DataError` where a file is missing, empty, or in another encoding."""
        o = self._options
        text = "".join(read_text(path, o.encoding) for path in text_files(Path(o.path).expanduser()))
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
    if not path.is_dir():
        return [_file(path)]
    found = sorted(path.glob("*.txt"))
    if not found:
        there = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
        raise DataError(
            f"{path} has no .txt file; it has {there}", "give a text file, or a folder of .txt files"
        )
    return found


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

    def refuse_empty(self) -> None:
        """Raises `DataError` where a text is missing, or nothing but white space."""
        empty: list[int] = []
        start = 0
        for chunk in self.texts.chunks:  # a whole column's copies might be large
            bare = pc.fill_null(pc.utf8_trim_whitespace(chunk), "")
            empty += (np.flatnonzero(np.asarray(pc.equal(bare, ""))) + start).tolist()
            start += len(chunk)
        if empty:
            shown = "; ".join(self.where(place) for place in empty[:LISTED])
            more = f"; and {len(empty) - LISTED} more" if len(empty) > LISTED else ""
            raise DataError(
                f"{len(empty)} of {len(self.texts)} rows have no text: {shown}{more}",
                "fill in or remove these rows",
            )


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


def source_of(path: Path, options: options.Texts) -> Source:
    """The rows of a file. Raises `DataError` where it has none, or one without a text."""
    source = label_first(path, options.encoding) if is_lines(path, options) else table(path, options)
    if not len(source.texts):
        raise DataError(f"{path} is empty: it has no row with a text", "check the path")
    source.refuse_empty()
    return source


def files_of(path: str | options.Files) -> dict[str, Path]:
    """The file of each split, or of `train` alone where the rows come in one piece. Raises `DataError`."""
    if isinstance(path, options.Files):
        named = {TRAIN: path.train, SELECT: path.select, REPORT: path.report}
        return {name: _file(Path(file).expanduser()) for name, file in named.items() if file is not None}
    found = Path(path).expanduser()
    if not found.is_dir():
        return {TRAIN: _file(found)}
    names = sorted(file.name for file in found.iterdir() if file.is_file() and not file.name.startswith("."))
    files: dict[str, Path] = {}
    for split, words in HERE.items():
        matching = [
            name
            for name in names
            if set(name.lower().replace("_", ".").replace("-", ".").split(".")) & set(words)
        ]
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


def _file(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"there is no file {path}", "check the path")
    return path


def is_lines(path: Path, options: options.Texts) -> bool:
    """Whether the file has lines of label and text, and is no table: as the options say, or else its name's ending."""
    if options.format is not None:
        return options.format == "label_first"
    endings = {suffix.lower() for suffix in path.suffixes}
    return not endings & {".csv", ".tsv", ".tab", ".jsonl", ".json", ".ndjson", ".parquet", ".pq"}


def label_first(path: Path, encoding: str) -> Source:
    """Lines of a label, white space, and a text; empty lines are left out. Raises `DataError`."""
    labels: list[str] = []
    texts: list[str | None] = []
    numbers: list[int] = []
    for number, line in enumerate(
        read_text(path, encoding).split("\n"), 1
    ):  # splitlines would also cut at U+0085
        if not line.strip():
            continue
        label, *rest = line.strip().split(maxsplit=1)
        labels.append(label)
        texts.append(rest[0] if rest else None)
        numbers.append(number)
    lines = np.array(numbers, np.int64)
    column = pa.chunked_array([pa.array(texts, pa.string())], pa.string())
    return Source(path, column, Coded.of(labels), lambda row: f"{path}, line {lines[row]}")


def read_text(path: Path, encoding: str) -> str:
    """A file's text. Raises `DataError` that names the line where it is not in that encoding."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}", "check the path and its permissions"
        ) from error
    try:
        return data.decode(encoding).removeprefix("\ufeff").replace("\r\n", "\n")
    except LookupError:
        raise DataError(
            f"there is no encoding {encoding!r}", "use utf-8, latin-1, cp1252, utf-16, ..."
        ) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is no {encoding}",
            "write the file as UTF-8, or say what it is: data.encoding=latin-1 (or cp1252, utf-16, ...)",
        ) from error


def table(path: Path, options: options.Texts) -> Source:
    """The columns of a table that the options name, or whose names are those that people give them. Raises
    `DataError`."""
    if options.encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
        raise DataError(
            f"{path}: data.encoding is {options.encoding}, and tables are read as UTF-8",
            f"convert it: iconv -f {options.encoding} -t UTF-8 {path.name} > NEW",
        )
    header = column_names(path)
    text, label = columns(path, header, options.text, options.label)
    splits = options.splits
    by = splits.by or ("split" if splits.how == "column" else None)
    group = options.group or (by if splits.how == "grouped" else None)
    wanted: dict[str, type] = dict.fromkeys([*text, label], str)
    if group:
        wanted[group] = str
    if by and splits.how == "column":
        wanted[by] = str
    if by and splits.how == "time":
        wanted[by] = datetime
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
        times=read[by].to_numpy() if by and splits.how == "time" else None,
        given=coded(read[by]) if by and splits.how == "column" else None,
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
