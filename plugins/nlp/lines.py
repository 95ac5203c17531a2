"""Text files, block by block: decoded, as lines of a label and a text, and as a sentence a line."""

from __future__ import annotations

import codecs
import gzip
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from core.data.sources import BLOCK, check_readable, translated
from core.data.stored import readable
from core.errors import DataError


class Lines:
    """Lines of a label, white space, and a text, or of a label alone; empty ones are left out. A source for
    `core.data.tables.read_source` with the columns `label` and `text`, whose rows may be more than memory holds."""

    header: Sequence[str] = ("label", "text")

    def __init__(self, path: Path, encoding: str) -> None:
        check_readable(path)
        self.path, self._encoding = path, encoding
        self.form = f"a label and a text in {decoder(encoding)[0]}"

    def batches(self, columns: Mapping[str, type]) -> Iterator[Sequence[Any]]:
        """Raises `DataError` where there is no line, or one in another encoding."""
        empty = True
        for block in blocks(self.path, self._encoding):
            rows = [row for line in block if (row := line.strip().split(maxsplit=1))]
            if rows:
                empty = False
                values = {"label": [row[0] for row in rows], "text": [(*row, None)[1] for row in rows]}
                yield [pa.array(values[name], pa.string()) for name in columns]
        if empty:
            raise DataError(f"{self.path} is empty: it has no row with a text", "check the path")

    def place(self, row: int) -> str:
        number, seen = 0, -1
        for block in blocks(self.path, self._encoding):
            for line in block:
                number += 1
                seen += bool(line.strip())
                if seen == row:
                    return f"line {number}"
        return f"row {row + 1}"


class Sentences:
    """A sentence a line, without the white space around it. A source for `core.data.tables.read_source` with the column
    `text`, one row a line, so that the rows of two files belong together."""

    header: Sequence[str] = ("text",)

    def __init__(self, path: Path, encoding: str) -> None:
        check_readable(path)
        self.path, self._encoding = path, encoding
        self.form = f"a sentence a line in {decoder(encoding)[0]}"

    def batches(self, columns: Mapping[str, type]) -> Iterator[Sequence[Any]]:
        """Raises `DataError` where there is no line, or one in another encoding."""
        empty = True
        for block in blocks(self.path, self._encoding):
            empty = empty and not block
            yield [pa.array([line.strip() for line in block], pa.string())]
        if empty:
            raise DataError(f"{self.path} is empty: it has no line", "check the path")

    def place(self, row: int) -> str:
        return f"line {row + 1}"


def blocks(path: Path, encoding: str) -> Iterator[list[str]]:
    """A file's lines, some at a time; what stands behind the last line's end is one where it is not empty. Raises
    `DataError`."""
    begun, number = "", 0
    for text in decoded(path, encoding):
        *lines, begun = (begun + text).split("\n")  # splitlines would also cut at U+0085
        _refuse_other_ends(path, number, lines)
        number += len(lines)
        yield lines
    if begun:
        _refuse_other_ends(path, number, [begun])
        yield [begun]


def _refuse_other_ends(path: Path, before: int, lines: Sequence[str]) -> None:
    """Raises `DataError` where a line has a carriage return inside: the file of an old Mac would be one line."""
    for number, line in enumerate(lines, before + 1):
        if "\r" in line and "\r" in line.rstrip("\r"):
            raise DataError(
                f"{path}, line {number}: a carriage return stands inside of it; lines end with a line feed, or both",
                "if the returns end lines, convert them: tr '\\r' '\\n' < OLD > NEW",
            )


def decoded(path: Path, encoding: str) -> Iterator[str]:
    """A file's text, in pieces; one whose name ends with .gz is unpacked. Raises `DataError` that names the line
    where it is not in that encoding."""
    _, decode = decoder(encoding)
    line, first = 1, True
    unpacked = gzip.open if path.suffix.lower() == ".gz" else Path.open
    with translated(path), readable(path), unpacked(path, "rb") as file:
        while True:
            data = file.read(BLOCK)
            try:
                text = decode.decode(data, final=not data)
            except UnicodeError as error:
                what = f"is no {encoding}: {error}"
                if isinstance(error, UnicodeDecodeError):
                    line += error.object.count(b"\n", 0, error.start)
                    what = f"byte 0x{error.object[error.start]:02x} is no {encoding}"
                raise DataError(
                    f"{path}, line {line}: {what}",
                    "write the file as UTF-8, or say what it is: data.encoding=latin-1 (or cp1252, utf-16, ...)",
                ) from error
            line += text.count("\n")
            yield text.removeprefix("\ufeff") if first else text
            if not data:
                return
            first = False


def decoder(encoding: str) -> tuple[str, codecs.IncrementalDecoder]:
    """The encoding's one name, and what decodes a file in it. Raises `DataError` where there is no such encoding."""
    try:
        with suppress(UnicodeError):
            b"0000".decode(encoding)  # refuses what Python can decode, but not to texts
        return codecs.lookup(encoding).name, codecs.getincrementaldecoder(encoding)()
    except (LookupError, ValueError):  # the second of a name with a null character
        raise DataError(
            f"there is no encoding {encoding!r}", "use utf-8, latin-1, cp1252, utf-16, ..."
        ) from None
