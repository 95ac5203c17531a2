"""Users' own sentences with a translation each: two files whose lines belong together, or a table's two columns."""

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
from core.data.labels import Coded
from core.data.rows import Lazy
from core.data.splits import assign
from core.data.stored import readable
from core.data.tables import coded, column_names, digests, place, read_source, read_table
from core.errors import DataError, DataWarning
from plugins.nlp import options
from plugins.nlp.files import (
    LISTED,
    called,
    files_in,
    files_of,
    in_splits,
    refuse_encoding,
    refuse_torn_groups,
    split_columns,
)
from plugins.nlp.lines import Sentences

HELD = 100_000
"""Pairs of a split that are held in memory, and so encoded once: some 100 MB. More are streamed."""


class Pairs:
    """A row's `inputs` is `{"text": ...}`, the sentence, its `target` the translation."""

    def __init__(self, options: options.Pairs) -> None:
        self._options = options

    def rows(self) -> Mapping[str, Sequence[Row]]:
        """Raises `DataError` where a file is missing, empty, damaged or in another encoding, two files have different
        numbers of lines, or a pair has an empty side, unless such are to be left out."""
        return {name: part.rows() for name, part in self._splits().items()}

    def _splits(self) -> dict[str, Part]:
        def read(path: Path, shared: bool) -> Corpus:
            return corpus_of(path, self._options, shared=shared)

        return in_splits(self._files(), read, self._share_out, Corpus.whole)

    def _share_out(self, corpus: Corpus, parts: Sequence[str]) -> dict[str, Part]:
        o = self._options
        refuse_torn_groups(o)
        if o.splits.how == "stratified":
            raise DataError(
                "data.splits.how is stratified, which keeps each label's share, and pairs have no labels",
                "write data.splits={how: random}",
            )
        places = assign(
            o.splits,
            len(corpus.kept),
            groups=corpus.groups,
            times=corpus.times,
            given=corpus.given,
            contents=digests(corpus.sources)[corpus.kept] if o.splits.how == "random" else None,
            parts=parts,  # type: ignore[arg-type]
            where=lambda index: corpus.where(int(corpus.kept[index])),
        )
        return {name: Part(corpus, places[name]) for name in (TRAIN, SELECT, REPORT) if name in places}

    def _files(self) -> dict[str, Path]:
        """Of each split, or of `train` alone where the pairs come in one piece, the table, or what the names of its two
        files begin with. Raises `DataError`."""
        path = self._options.path
        if isinstance(path, options.Files):
            given = {TRAIN: path.train, SELECT: path.select, REPORT: path.report}
            return {name: Path(file).expanduser() for name, file in given.items() if file is not None}
        found = Path(path).expanduser()
        names = files_in(found)
        if names is None:
            return {TRAIN: found}
        endings = tuple(f".{self._options.source}{packed}" for packed in ("", ".gz"))
        of_source = [name for name in names if name.endswith(endings)]
        begin = list(dict.fromkeys(name.removesuffix(".gz").removesuffix(endings[0]) for name in of_source))
        if not begin:
            return files_of(path)
        files = {split: called(split, begin) for split in (TRAIN, SELECT, REPORT)}
        doubtful = {split: several for split, several in files.items() if len(several) > 1}
        missing = [split for split in (TRAIN, REPORT) if not files[split]]
        if doubtful or missing:
            what = [f"{', '.join(several)} could all be {split}" for split, several in doubtful.items()]
            what += [f"none is called as {split} is" for split in missing]
            named = ", ".join(
                f"{split}: {found / (several or ['NAME'])[0]}" for split, several in files.items()
            )
            raise DataError(
                f"{found}, files ending with {endings[0]}: {'; '.join(what)}",
                f"name them: data.path={{{named}}}",
            )
        return {split: found / several[0] for split, several in files.items() if several}


@dataclass(frozen=True)
class Corpus:
    """The pairs of one place: sources and targets (n,) as Arrow columns, of which `kept` (m,) int64 are used, where
    one of the n stands, in words, and of the m used ones what splits go by."""

    sources: pa.ChunkedArray
    targets: pa.ChunkedArray
    kept: NDArray[np.int64]
    where: Callable[[int], str]
    groups: Coded | None = None
    times: NDArray[np.float64] | None = None
    given: Coded | None = None

    def whole(self) -> Part:
        return Part(self, np.arange(len(self.kept)))


@dataclass(frozen=True)
class Part:
    """Some of the used pairs of a corpus, `places` int64 in ascending order."""

    corpus: Corpus
    places: NDArray[np.int64]

    def rows(self) -> Sequence[Row]:
        """A list of few, streamed where they are many."""
        streamed = Lazy(len(self.places), self._row)
        return list(streamed) if len(streamed) <= HELD else streamed

    def _row(self, index: int) -> Row:
        corpus, used = self.corpus, int(self.places[index])
        at = int(corpus.kept[used])
        group = None if corpus.groups is None else corpus.groups[used]
        return Row({"text": corpus.sources[at].as_py()}, corpus.targets[at].as_py(), group)


def corpus_of(path: Path, options: options.Pairs, *, shared: bool) -> Corpus:
    """The pairs of a table, or of two files whose names begin with `path`; with what splits go by where they are to be
    `shared` out. Raises `DataError`."""
    if options.source == options.target:
        raise DataError(
            f"data.source and data.target are both {options.source!r}: a sentence is no translation of itself",
            "name another for one of them",
        )
    with readable(path):
        is_table = path.is_file()
    return table(path, options, shared=shared) if is_table else line_files(path, options)


def line_files(begin: Path, options: options.Pairs) -> Corpus:
    """The lines of BEGIN.SOURCE and BEGIN.TARGET, each of which may end with .gz. Raises `DataError`."""
    if options.group:
        raise DataError(
            f"{begin}.{options.source} has a sentence a line, and no column {options.group!r} for data.group",
            "give a table, or leave data.group out",
        )
    one, other = (_with_ending(begin, ending) for ending in (options.source, options.target))
    sides = []
    for path in (one, other):
        lines = Sentences(path, options.encoding)
        sides.append(read_source(lines, {}, optional={"text": str}, form=lines.form)["text"])
    if len(sides[0]) != len(sides[1]):
        raise DataError(
            f"{one} has {len(sides[0]):,} lines and {other} {len(sides[1]):,}: line by line, one is the other's"
            " translation",
            "look for the first line that does not belong to its neighbour; one of the files may be cut",
        )
    return _checked(sides[0], sides[1], lambda row, side: f"{(one, other)[side]}, line {row + 1}", options)


def table(path: Path, options: options.Pairs, *, shared: bool) -> Corpus:
    """Two columns of a table. Raises `DataError`."""
    refuse_encoding(path, options.encoding)
    header, languages = column_names(path), (options.source, options.target)
    absent = [name for name in languages if name not in header]
    if absent:
        raise DataError(
            f"{path} has no column {' and no '.join(map(repr, absent))}; its columns are"
            f" {', '.join(map(repr, header))}",
            "data.source and data.target name the columns of the sentences and of their translations",
        )
    group, time, given = split_columns(options) if shared else (options.group, None, None)
    wanted: dict[str, type] = {name: str for name in (group, given) if name}
    if time:
        wanted[time] = datetime
    read = read_table(path, wanted, optional=dict.fromkeys(languages, str))
    corpus = _checked(
        read[options.source], read[options.target], lambda row, _: place(read, row), options, languages
    )
    return Corpus(
        corpus.sources,
        corpus.targets,
        corpus.kept,
        corpus.where,
        groups=coded(read[group]).take(corpus.kept) if group else None,
        times=read[time].to_numpy()[corpus.kept] if time else None,
        given=coded(read[given]).take(corpus.kept) if given else None,
    )


def _checked(
    sources: pa.ChunkedArray,
    targets: pa.ChunkedArray,
    where: Callable[[int, int], str],
    options: options.Pairs,
    columns: Sequence[str] = (),
) -> Corpus:
    """With the pairs of which neither side is empty; others are refused, or left out and told."""
    empty = [np.asarray(pc.is_null(side)) for side in (sources, targets)]
    wrong = np.flatnonzero(empty[0] | empty[1])
    if len(wrong):
        sides = [(int(row), side) for row in wrong[:LISTED] for side in (0, 1) if empty[side][row]]
        shown = "; ".join(
            where(row, side) + (f", column {columns[side]!r}" if columns else "")
            for row, side in sides[:LISTED]
        )
        more = f"; and {len(wrong) - LISTED} more" if len(wrong) > LISTED else ""
        what = f"{len(wrong)} of {len(sources)} pairs have an empty side: {shown}{more}"
        if options.empty == "refuse":
            raise DataError(
                what, "fill in or remove both lines; data.empty=drop leaves such pairs out, and says how many"
            )
        if len(wrong) == len(sources):
            raise DataError(what, "give sentences that have a translation")
        warnings.warn(f"left out: {what}", DataWarning, stacklevel=2)
    kept = np.flatnonzero(~(empty[0] | empty[1]))
    return Corpus(sources, targets, kept, lambda row: where(row, 0))


def _with_ending(begin: Path, ending: str) -> Path:
    """The file BEGIN.ENDING, or its packed form. Raises `DataError` where there is none, or both."""
    plain = begin.with_name(f"{begin.name}.{ending}")
    packed = plain.with_name(f"{plain.name}.gz")
    with readable(plain):
        there = [path for path in (plain, packed) if path.is_file()]
    if len(there) != 1:
        raise DataError(
            f"there are both {plain} and {packed.name}"
            if there
            else f"there is no file {plain}, nor {packed.name}",
            "remove one of them"
            if there
            else "data.source and data.target name the endings of the two files, as en and de; data.path names a folder"
            " of them, what their names begin with, or a table",
        )
    return there[0]
