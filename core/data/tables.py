"""Tables from files, in bounded memory: the wanted columns, checked and of the wanted types, memory-mapped where the
file is large.

pyarrow, which reads them, comes with the extras of the domains; it is imported when a table is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.data.labels import Coded
from core.data.stored import readable
from core.errors import ComponentError, DataError, nearest

if TYPE_CHECKING:
    import pyarrow as pa

    from core.data.sources import Source

LARGE = 64 << 20
"""Bytes of a source above which its columns are kept on disk; compressed ones count eightfold."""

FORM = 1
"""Of the files in the cache: to be raised when the same source would give other tables."""


def read_table(
    path: Path,
    columns: Mapping[str, type],
    *,
    optional: Mapping[str, type] | None = None,
    names: Sequence[str] | None = None,
    hint: str = "",
) -> pa.Table:
    """The columns of a .csv, .tsv, .jsonl, .ndjson (all also with .gz) or .parquet file, in the order of `columns`,
    then of `optional`. With `names`, those of all its columns in their order, the file has no header; one that is no
    .csv or .tsv then has blanks or tabs between its values.

    The types are str, float (float64, finite) and datetime (float64: seconds since 1970 UTC of dates in
    ISO 8601, numbers as they are). No value of `columns` is missing or blank; columns of `optional` may be absent, and
    missing values in them are null. Labels that are numbers are texts if str is wanted. A large file is read once, in
    batches, into the cache, and memory-mapped.

    Raises `DataError` that says what is wrong, in which line or row and column, with a `hint` of the caller's where a
    column is absent, and `ComponentError` without pyarrow.
    """
    _require_pyarrow()
    from core.data.sources import open_source

    path = Path(path)
    source = open_source(path, names)
    wanted = _found(source, columns, optional or {}, names, hint)
    size = path.stat().st_size * (8 if path.suffix.lower() in (".gz", ".parquet") else 1)
    form = "" if names is None else json.dumps([path.suffixes[-2:], list(names)])
    table = _read(source, wanted, columns, size, form)
    return table.replace_schema_metadata({"path": str(path), "names": json.dumps(names and list(names))})


def read_source(
    source: Source, columns: Mapping[str, type], *, optional: Mapping[str, type] | None = None, form: str
) -> pa.Table:
    """As `read_table`, from a source of a plugin's own, which has these columns. `form` names, for the cache, the way
    in which it reads a file: what it depends on beside the file's bytes. `place` is the source's own."""
    _require_pyarrow()
    return _read(source, {**columns, **(optional or {})}, columns, source.path.stat().st_size, form)


def column_names(path: Path) -> list[str]:
    """The columns that the file has, in order. Raises what `read_table` does."""
    _require_pyarrow()
    from core.data.sources import open_source

    return list(open_source(Path(path)).header)


def place(table: pa.Table, row: int) -> str:
    """Where a row of a table that `read_table` gave stands, as in "reviews.csv, line 12". Reads the file up to there:
    for messages."""
    from core.data.sources import open_source

    path = Path(table.schema.metadata[b"path"].decode())
    names = json.loads(table.schema.metadata[b"names"])
    return f"{path}, {open_source(path, names).place(row)}"


def coded(column: pa.ChunkedArray) -> Coded:
    """A column of texts as codes, values in order of appearance; null is missing."""
    import pyarrow as pa

    unified = column.dictionary_encode().unify_dictionaries()
    values = unified.chunk(0).dictionary.to_pylist() if unified.num_chunks else []
    codes = pa.chunked_array([chunk.indices for chunk in unified.chunks], pa.int32())
    filled = codes.fill_null(-1) if codes.null_count else codes
    return Coded(filled.to_numpy(), values)


def digests(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """(rows,) uint64 hashes of a column of texts, equal for equal texts, and the same everywhere.

    Tabulation hashing: the wrapping sum of a hash of each (position, byte), mixed once more with the length
    (Zobrist 1970; Patrascu and Thorup 2012, https://arxiv.org/abs/1011.5200)."""
    parts = [_hashed(chunk) for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def _hashed(chunk: Any) -> NDArray[np.uint64]:
    made = np.zeros(len(chunk), np.uint64)
    for begin in range(0, len(chunk), 16_384):
        made[begin : begin + 16_384] = _hashed_part(chunk.slice(begin, 16_384))
    return made


def _hashed_part(part: Any) -> NDArray[np.uint64]:
    from core.data.splits import mix

    _, offsets, data = part.buffers()
    ends = np.frombuffer(offsets, np.int32)[part.offset : part.offset + len(part) + 1].astype(np.int64)
    lengths = np.diff(ends)
    made = np.zeros(len(part), np.uint64)
    if data is not None and ends[-1] > ends[0]:
        letters = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]].astype(np.uint64)
        starts = ends[:-1] - ends[0]
        position = np.arange(len(letters), dtype=np.int64) - np.repeat(starts, lengths)
        hashed = mix((position.astype(np.uint64) << np.uint64(8)) | letters)
        filled = lengths > 0
        made[filled] = np.add.reduceat(hashed, starts[filled])
    return mix(made ^ mix(lengths.astype(np.uint64)))


def _require_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ComponentError(
            "tables are read with pyarrow, which is not installed", "pip install pyarrow"
        ) from error


def _read(
    source: Source, wanted: Mapping[str, type], required: Mapping[str, type], size: int, form: str = ""
) -> pa.Table:
    import pyarrow as pa

    if size > LARGE:
        return _cached(source, wanted, required, form)
    return pa.Table.from_batches(list(_checked(source, wanted, required)), _schema(wanted))


def _found(
    source: Source,
    columns: Mapping[str, type],
    optional: Mapping[str, type],
    names: Sequence[str] | None,
    hint: str,
) -> dict[str, type]:
    """The columns to read. Raises `DataError` where one is absent, or stands there twice."""
    header = list(source.header)
    absent = [name for name in columns if name not in header]
    if absent:
        there = ", ".join(map(repr, header[:20])) + (
            f" and {len(header) - 20} more" if len(header) > 20 else ""
        )
        named = " and no ".join(map(repr, absent))
        guesses = {name: nearest(name, header) for name in absent}
        hints = [hint] if hint else []
        hints += [
            f"for {name!r}, {guess}" for name, guess in guesses.items() if guess.startswith("did you mean")
        ]
        hints.append(
            "name the columns as the file does" if names is None else "one of the names is to be this one"
        )
        if names is None and source.path.suffix.lower() not in (".parquet", ".jsonl", ".ndjson"):
            hints.append("the first line must hold the columns' names: add one if the file has no header")
        raise DataError(
            f"{source.path} has no column {named}; its columns are {there}",
            "; ".join(hints),
        )
    wanted = {**columns, **{name: kind for name, kind in optional.items() if name in header}}
    double = [name for name in wanted if header.count(name) > 1]
    if double and names is not None:
        raise DataError(
            f"{source.path}: the columns are to be called {', '.join(map(repr, names))}",
            "name each otherwise",
        )
    if double:
        raise DataError(f"{source.path} has the column {double[0]!r} more than once", "rename one of them")
    return wanted


def _schema(wanted: Mapping[str, type]) -> pa.Schema:
    import pyarrow as pa

    from core.data.values import ARROW

    return pa.schema([(name, ARROW[kind]) for name, kind in wanted.items()])


def _checked(
    source: Source, wanted: Mapping[str, type], required: Mapping[str, type]
) -> Iterator[pa.RecordBatch]:
    """The source's batches, converted. Raises `DataError` with the place."""
    import pyarrow as pa

    from core.data.sources import translated
    from core.data.values import ONE_WAY, Wrong, convert, is_dated

    schema, rows = _schema(wanted), 0
    batches, name = iter(source.batches(wanted)), ""
    dated: dict[str, bool] = {}
    while True:
        name = ""
        try:
            with translated(source.path):
                arrays = next(batches, None)
            if arrays is None:
                break
            made = []
            for (name, kind), array in zip(wanted.items(), arrays, strict=True):
                made.append(convert(array, kind, required=name in required))
                way = is_dated(array) if kind is datetime else None
                if way is not None and dated.setdefault(name, way) != way:
                    raise Wrong(0, "and what follows are not written as the times before them", ONE_WAY)
        except Wrong as wrong:
            named = name or wrong.column
            column = f", column {named!r}" if named else ""
            raise DataError(
                f"{source.path}, {source.place(rows + wrong.index)}{column}: {wrong.problem}", wrong.hint
            ) from None
        rows += len(made[0])
        yield pa.RecordBatch.from_arrays(made, schema=schema)
    if not rows:
        raise DataError(
            f"{source.path} has a header and no rows",
            "it holds nothing to learn from; look at how it was made",
        )


def _cached(source: Source, wanted: Mapping[str, type], required: Mapping[str, type], form: str) -> pa.Table:
    """The table in the cache, made where it is missing.

    A kept file's name says of what it was made: a hash of the source's path, one of its content, one of the columns.
    Content and columns are what it is found by; the path tells which others are of older content."""
    from core.data import cache

    folder = cache.folder() / "tables"
    described = {name: [kind.__name__, name in required] for name, kind in wanted.items()}
    columns = _hash(
        json.dumps([FORM, form or source.path.suffixes[-2:], list(described.items())]).encode(), 8
    )
    with source.path.open("rb") as file:
        content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    kept = folder / f"{_hash(os.fsencode(source.path.resolve()), 8)}-{content}-{columns}.arrow"
    with readable(folder):
        same = next(folder.glob(f"*-{content}-{columns}.arrow"), None)
    table = None if same is None else _mapped(same)
    if table is not None:
        return table
    _write(kept, _checked(source, wanted, required), _schema(wanted))
    _remove_older(kept)
    table = _mapped(kept)
    if table is None:
        raise DataError(
            f"the cached table {kept} was removed as soon as it was made: {source.path} changes while it is read",
            "run again when nothing writes it any more",
        )
    return table


def _hash(content: bytes, size: int) -> str:
    return hashlib.blake2b(content, digest_size=size).hexdigest()


def _mapped(kept: Path) -> pa.Table | None:
    """A kept table; None where another process has removed it, as an older one, since it was seen."""
    import pyarrow as pa

    try:
        return pa.ipc.open_file(pa.memory_map(str(kept))).read_all()
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"the cached table {kept} cannot be read: {error}", "delete the file; it will be made again"
        ) from error


def _remove_older(kept: Path) -> None:
    """Removes what was made of the same path when it had another content. Who has mapped it, keeps it until then; a
    system that does not allow that keeps the file."""
    path, content, _ = kept.stem.split("-")
    for other in kept.parent.glob(f"{path}-*.arrow"):
        if not other.name.startswith(f"{path}-{content}-"):
            with suppress(OSError):
                other.unlink()


def _write(kept: Path, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> None:
    """Written beside, then renamed. Raises `DataError` where that would take more than the cache may."""
    import pyarrow as pa

    from core.data import cache

    part: Path | None = None
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        room = cache.room(kept.parent)
        handle, name = tempfile.mkstemp(dir=kept.parent, suffix=".part")
        os.close(handle)
        part = Path(name)
        with pa.OSFile(name, "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
                if file.tell() > room:
                    raise DataError(
                        f"the table, which is kept on disk while it is used, takes more than {room >> 20} MiB, half"
                        f" of what is free for {kept.parent}",
                        "make room, or name a folder on another disk in TAOKE_CACHE",
                    )
        part.replace(kept)
    except OSError as error:
        raise DataError(
            f"the cache folder {kept.parent} cannot be written: {error.strerror or error}",
            "make room, or name another folder in TAOKE_CACHE",
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
