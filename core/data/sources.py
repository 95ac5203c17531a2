"""Files of rows and columns, read batch by batch: CSV, plain text, JSON lines, Parquet. No whole file is held.

Each source gives its columns as the file has them (`core.data.values` makes what is wanted of them), and says of
a row where it stands.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from core.data.stored import readable
from core.data.values import ARROW, UTF8_HINT, WANTED, Wrong, not_utf8, shortened
from core.errors import DataError, DataWarning

BLOCK = 2 << 20
"""Bytes of a file that are looked at together; no row of a CSV may be longer."""


class Source(Protocol):
    """An open file of rows."""

    path: Path
    header: Sequence[str]

    def batches(self, columns: Mapping[str, type]) -> Iterator[Sequence[Any]]:
        """The columns, as Arrow arrays of whatever type, batch after batch. Raises `DataError`, and `Wrong` with the
        index in its batch."""

    def place(self, row: int) -> str:
        """Where row `row`, counted from 0, stands: "line 12" or "row 11"."""


def open_source(path: Path, names: Sequence[str] | None = None) -> Source:
    """The file as a source, by its name's ending. `names` are those of the columns, in order, where the file has no
    header: a .csv or .tsv file, or one of another ending whose values have blanks or tabs between them. Raises
    `DataError` where it cannot be read at all."""
    name = path.name.lower().removesuffix(".gz")
    if names is not None:
        return _without_header(path, name, names)
    if name.endswith((".csv", ".tsv")):
        make: type[Csv | JsonLines | Parquet] = Csv
    elif name.endswith((".jsonl", ".ndjson")):
        make = JsonLines
    elif name.endswith(".parquet") and not path.name.lower().endswith(".gz"):
        make = Parquet
    else:
        make = _unknown(path)
    check_readable(path)
    with translated(path):
        return make(path)


def _without_header(path: Path, name: str, names: Sequence[str]) -> Csv | Plain:
    """The file as a source, its columns called `names`; `name` is the file's, in lower case and without .gz."""
    check_readable(path)
    if name.endswith((".jsonl", ".ndjson", ".parquet")):
        raise DataError(
            f"{path} names its columns itself, and the names {', '.join(map(repr, names))} are given",
            "leave the names out; they are for text files without a header",
        )
    with translated(path):
        return Csv(path, names) if name.endswith((".csv", ".tsv")) else Plain(path, names)


def _unknown(path: Path) -> Any:
    check_readable(path)
    json_hint = "; write one JSON object a line, in a .jsonl file" if path.suffix.lower() == ".json" else ""
    if path.name.lower().removesuffix(".gz").endswith((".txt", ".dat", ".data", ".edges")):
        json_hint = (
            "; or name the columns of a file that has no header, where the dataset has an option for that"
        )
    raise DataError(
        f"{path}: a table is a .csv, .tsv, .jsonl, .ndjson or .parquet file (text ones also with .gz)",
        f"convert it, or give the file the ending of what it is{json_hint}",
    )


def check_readable(path: Path) -> None:
    """Raises `DataError` unless `path` is a file with something in it that may be read."""
    with readable(path):
        try:
            with path.open("rb") as file:
                head = file.read(4)
        except FileNotFoundError:
            raise DataError(
                f"there is no file {path}", f"look in {path.parent}; the path is taken as written"
            ) from None
        except IsADirectoryError:
            raise DataError(f"{path} is a folder; a file is wanted", "name a file in it") from None
    if not head:
        raise DataError(f"{path} is empty", "it holds no byte; look at how it was made")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """What the readers raise about a file that is damaged, as `DataError`."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path} cannot be read: {text}", "the file is damaged or not what its name says"
        ) from error


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if _is_gzip(path) else path.open("rb")  # type: ignore[return-value]


def _is_gzip(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _refuse_utf16(path: Path, head: bytes) -> None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head[:4]:
        raise DataError(
            f"{path}, line 1 is not UTF-8: the file begins with byte 0x{head[0]:02x} as UTF-16 does",
            "save it as UTF-8, for example with `iconv -f UTF-16 -t UTF-8 OLD > NEW`",
        )


class _Record(NamedTuple):
    """A row of a text file: its first and last line, counted from 1, its values, and its lines as they stand there."""

    start: int
    end: int
    values: list[str]
    lines: list[str]


class Csv:
    """Values with commas (or semicolons or tabs) between them, the first line naming the columns unless `names` does;
    quoted as in RFC 4180, so that a value may hold line breaks."""

    def __init__(self, path: Path, names: Sequence[str] | None = None) -> None:
        self.path, self._names = path, names
        with _opened(path) as file:
            head = file.read(1 << 16)
        if not head.strip():
            raise DataError(f"{path} is empty", "it holds no row; look at how it was made")
        _refuse_utf16(path, head)
        self._tabs = path.name.lower().removesuffix(".gz").endswith(".tsv")
        self.delimiter = "\t" if self._tabs else ","
        self.header: Sequence[str] = []
        self._lines = 0
        self._read_header()
        if not self.header:  # a byte order mark alone
            raise DataError(f"{path} is empty", "it holds no row; look at how it was made")
        if len(self.header) == 1 and not self._tabs:
            for other in ";\t":
                if other in self.header[0]:
                    self.delimiter = other
                    self._read_header()
                    break
        if names is not None:
            self._lines, self.header = 0, list(names)

    def _read_header(self) -> None:
        record = next(self._records(), None)
        if record is not None:
            self._lines, self.header = record.end, record.values

    def _records(self) -> Iterator[_Record]:
        """Each record, the header first; slow, and for messages and what Arrow does not tell."""
        before = csv.field_size_limit(16 * BLOCK)
        try:
            with _opened(self.path) as raw:
                text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="")
                lines: list[str] = []

                def noted() -> Iterator[str]:
                    for line in text:
                        lines.append(line)
                        yield line

                reader = csv.reader(noted(), delimiter=self.delimiter)
                start = 1
                try:
                    for values in reader:
                        if values:
                            yield _Record(start, reader.line_num, values, lines[:])
                        lines.clear()
                        start = reader.line_num + 1
                except csv.Error as error:
                    raise DataError(
                        f"{self.path}, line {start}: {error}; is a quote opened there and never closed?",
                        'close the quote, or double it ("") where it is part of the value',
                    ) from error
        finally:
            csv.field_size_limit(before)

    def batches(self, columns: Mapping[str, type]) -> Iterator[Sequence[Any]]:
        names = [str(i) for i in range(len(self.header))]
        wanted = [self.header.index(name) for name in columns]
        looked = any("\n" in name or "\r" in name for name in self.header)
        if looked:
            self._refuse_swallowed_rows()
        try:
            file = pa.input_stream(str(self.path), compression="gzip" if _is_gzip(self.path) else None)
            reader = pa.csv.open_csv(
                file,
                read_options=pa.csv.ReadOptions(column_names=names, skip_rows=self._lines, block_size=BLOCK),
                parse_options=pa.csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
                # All columns: a quote in one that nobody wants swallows rows as well.
                convert_options=pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.binary()), strings_can_be_null=False
                ),
            )
            for batch in reader:
                if not looked and any(_goes_on(column) for column in batch.columns):
                    looked = True
                    self._refuse_swallowed_rows()
                yield [batch.column(i) for i in wanted]
        except pa.ArrowInvalid as error:
            self._explain(error)

    def _refuse_swallowed_rows(self) -> None:
        """Looks at each record of several lines. A value that begins with a quote, as texts and inches do, goes on up
        to the next quote, and the rows between are its own. Raises `DataError` where that is sure: in a .tsv, whose
        values have no line breaks, and where a quote closes in the middle of a value. Warns where it is likely: where
        each of the lines has the values of a row."""
        likely = []
        self._closes_within = re.compile(f'"[^"]*"(?![{self.delimiter}\\r\\n]|$)')
        for record in self._records():
            if record.end == record.start:
                continue
            if self._tabs or not self._is_quoted_well(record):
                raise DataError(
                    f"{self.path}, lines {record.start} to {record.end}: a value that begins with a quote in line"
                    f" {record.start} goes on to line {record.end}, and so the lines between are no rows",
                    'double the quotes that are part of values ("") and put quotes around these values',
                )
            delimiters = len(self.header) - 1
            quotes = sum(line.count('"') for line in record.lines)
            # more quotes are a writer's, who doubles those of values
            if (
                quotes == 2
                and delimiters
                and all(x.count(self.delimiter) == delimiters for x in record.lines)
            ):
                likely.append(f"{record.start} to {record.end}")
        if likely:
            warnings.warn(
                f"{self.path}: {len(likely)} values go on over lines each of which looks like a row (first: lines"
                f" {likely[0]}); if these are rows, double the quotes that are part of values",
                DataWarning,
                stacklevel=2,
            )

    def _is_quoted_well(self, record: _Record) -> bool:
        """Whether a quote that closes ends its value, as RFC 4180 has it."""
        if not self._closes_within.search("".join(record.lines).replace('""', "")):
            return True
        try:  # slower, and sure
            list(csv.reader(record.lines, delimiter=self.delimiter, strict=True))
        except csv.Error:
            return False
        return True

    def _explain(self, error: Exception) -> None:
        """Raises `DataError` with the line that does not fit the header."""
        count = len(self.header)
        for start, end, values, _ in self._records():
            if len(values) != count:
                wants = "as the header has" if self._names is None else f"as {', '.join(self._names)} say"
                raise DataError(
                    f"{self.path}, line {start}: {count} values are wanted, {wants}, and {len(values)} came"
                    + (f" (a quoted value goes on to line {end})" if end > start else ""),
                    f"give each line {count} values; put quotes around a value that holds {self.delimiter!r}"
                    " or a line break",
                ) from error
        text = str(error).splitlines()[0]
        raise DataError(
            f"{self.path} cannot be read as CSV: {text}",
            f"is a quote never closed, or a row longer than {BLOCK >> 20} MiB?",
        ) from error

    def place(self, row: int) -> str:
        for i, (start, end, _, _) in enumerate(self._records()):
            if i == row + (self._names is None):
                return f"line {start}" if start == end else f"row {row + 1} (lines {start} to {end})"
        return f"row {row + 1}"


def _goes_on(column: Any) -> bool:
    """Whether a value of a column holds a line break."""
    return any(pa.compute.any(pa.compute.match_substring(column, end)).as_py() for end in "\n\r")


def _blocks(path: Path) -> Iterator[list[bytes]]:
    """Whole lines of a text file, about a block at a time; a byte order mark is dropped."""
    with _opened(path) as file:
        first = True
        while lines := file.readlines(BLOCK):
            if first:
                lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
                first = False
            yield lines


def _line_of(path: Path, row: int) -> str:
    """Which line holds row `row`, counted from 0, where blank lines are none."""
    number, seen = 0, -1
    for lines in _blocks(path):
        for line in lines:
            number += 1
            seen += bool(line.strip())
            if seen == row:
                return f"line {number}"
    return f"row {row + 1}"


class Plain:
    """Values with blanks or tabs between them, as many in each line as there are `names`; blank lines are left out."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        self.header: Sequence[str] = list(names)
        first = next((line for lines in _blocks(path) for line in lines if line.strip()), None)
        if first is None:
            raise DataError(f"{path} is empty", "it holds no row; look at how it was made")
        _refuse_utf16(path, first[:4])

    def batches(self, columns: Mapping[str, type]) -> Iterator[Sequence[Any]]:
        wanted = [self.header.index(name) for name in columns]
        for lines in _blocks(self.path):
            rows = [values for line in lines if (values := line.split())]
            count = len(self.header)
            for i, values in enumerate(rows):
                if len(values) != count:
                    raise Wrong(
                        i,
                        f"has {len(values)} value{'' if len(values) == 1 else 's'}; {count} are wanted, as"
                        f" {', '.join(self.header)} say",
                        f"give each line {count} values with blanks or tabs between them, or name other columns",
                    )
            if rows:
                yield [pa.array([values[place] for values in rows], pa.binary()) for place in wanted]

    def place(self, row: int) -> str:
        return _line_of(self.path, row)


class JsonLines:
    """One JSON object a line; blank lines are left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Sequence[str] = []
        for lines in _blocks(path):
            _refuse_utf16(path, lines[0][:4])
            if lines[0].lstrip().startswith(b"["):
                raise DataError(
                    f"{path}, line 1 begins a JSON array; one object a line is wanted",
                    "write each element on a line of its own, without the brackets and commas around them",
                )
            seen: dict[str, None] = {}
            for line in lines:  # of the first block: a column may be left out of the first rows
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise TypeError
                    seen.update(dict.fromkeys(row))
                except (ValueError, TypeError):
                    if seen:
                        break  # `batches` says what is wrong with it
                    raise DataError(
                        f"{path}, line {lines.index(line) + 1} is {shortened(line.decode(errors='replace').strip())};"
                        " one JSON object a line is wanted",
                        'write {"column": value, ...} in each line',
                    ) from None
            if seen:
                self.header = list(seen)
                return
        raise DataError(f"{path} is empty", "it holds no row; look at how it was made")

    def batches(self, columns: Mapping[str, type]) -> Iterator[Sequence[Any]]:
        for lines in _blocks(self.path):
            kept = [line for line in lines if line.strip()]
            if kept:
                yield self._by_arrow(kept, columns) or self._by_hand(kept, columns)

    def _by_arrow(self, lines: Sequence[bytes], columns: Mapping[str, type]) -> Sequence[Any] | None:
        """Fast, where the values are of the types wanted; None where not."""
        if datetime in columns.values():
            return None
        schema = pa.schema([(name, ARROW[kind]) for name, kind in columns.items()])
        try:
            table = pa.json.read_json(
                pa.BufferReader(b"".join(lines)),
                pa.json.ReadOptions(use_threads=False, block_size=4 * BLOCK),
                pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
            )
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None
        if table.num_rows != len(lines):  # two objects on one line
            return None
        return [column.combine_chunks() for column in table.columns]

    def _by_hand(self, lines: Sequence[bytes], columns: Mapping[str, type]) -> Sequence[Any]:
        values: list[list[Any]] = [[] for _ in columns]
        for i, line in enumerate(lines):
            try:
                found = json.loads(line.decode())
            except UnicodeDecodeError as error:
                raise Wrong(i, not_utf8(error), UTF8_HINT) from None
            except ValueError as error:
                detail = (
                    f"{error.msg} at character {error.pos + 1}"
                    if isinstance(error, json.JSONDecodeError)
                    else error
                )
                raise Wrong(i, f"is not JSON: {detail}", "write one JSON object a line") from None
            if not isinstance(found, dict):
                raise Wrong(
                    i,
                    f"is {_json_type(found)}; one JSON object a line is wanted",
                    'write {"column": value, ...}',
                )
            for (name, kind), column in zip(columns.items(), values, strict=True):
                try:
                    column.append(_plain(found.get(name), kind))
                except TypeError as error:
                    hint = "write the same type in every line" + ", numbers without quotes" * (kind is float)
                    raise Wrong(i, f"is {error}; {WANTED[kind]} is wanted", hint, name) from None
                except OverflowError:
                    raise Wrong(i, "is beyond all floats", "correct it or remove the row", name) from None
        kinds = (pa.string() if kind is datetime else ARROW[kind] for kind in columns.values())
        arrays = []
        for (name, _), column, kind in zip(columns.items(), values, kinds, strict=True):
            try:
                arrays.append(pa.array(column, kind))
            except UnicodeEncodeError as error:
                index = next(
                    i for i, value in enumerate(column) if value is not None and value == error.object
                )
                problem = "holds half of a surrogate pair, which is no character"
                raise Wrong(index, problem, "correct the escape \\uD8.. to \\uDF..", name) from None
        return arrays

    def place(self, row: int) -> str:
        return _line_of(self.path, row)


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    name = names.get(type(value))
    return name or f"the {'text' if isinstance(value, str) else 'number'} {shortened(value)}"


def _plain(value: Any, wanted: type) -> Any:
    """A JSON value as text or float; where text is wanted, NaN, which Python writes for what is missing, is None.
    Raises `TypeError` with what it is instead, and `OverflowError`."""
    if value is None or (wanted is str and value != value):
        return None
    if wanted is str or wanted is datetime:
        if isinstance(value, str):
            return value
        if isinstance(value, bool) and wanted is str:
            return "true" if value else "false"
        if isinstance(value, int | float) and not isinstance(value, bool):
            if wanted is str and abs(value) == math.inf:
                raise TypeError("infinite")
            whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
            return str(int(value)) if whole else str(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise TypeError(_json_type(value))


class Parquet:
    """A Parquet file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pa.parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{path} is not a Parquet file: {str(error).splitlines()[0]}",
                "is it damaged, or of another type?",
            ) from error
        self.header: Sequence[str] = self._file.schema_arrow.names

    def batches(self, columns: Mapping[str, type]) -> Iterator[Sequence[Any]]:
        for batch in self._file.iter_batches(8192, columns=list(columns)):
            yield [batch.column(name) for name in columns]

    def place(self, row: int) -> str:
        return f"row {row + 1}"
