"""Tables from files: what is read, what is refused and where it is said to be, and in how much memory."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.data import sources, tables
from core.data.tables import coded, column_names, digests, place, read_table
from core.errors import ComponentError, DataError, DataWarning

pa = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")
import pyarrow.parquet as pq  # noqa: E402

TEXTS = {"text": str, "label": str}
RATINGS = {"user": str, "rating": float}


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of the given name and content."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every file counts as large; returns the folder of the cached tables."""
    monkeypatch.setattr(tables, "LARGE", 0)
    monkeypatch.setenv("TAOKE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tables"


def refused(path: Path, columns: dict[str, type] | None = None, **keywords: Any) -> DataError:
    """The error of a file that cannot be read, which says what to do."""
    with pytest.raises(DataError) as caught:
        read_table(path, columns or TEXTS, **keywords)
    assert caught.value.hint
    assert str(path) in caught.value.message
    return caught.value


# What is read


ROWS = [
    ("one, two", "a"),
    ('he said "no"', "b"),
    ("two\nlines", "a"),
    ("ünïcode 猫", "007"),
    (" spaces ", "NA"),
]


def as_csv(path: Path, delimiter: str = ",") -> bytes:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([("id", "text", "label"), *((str(i), *row) for i, row in enumerate(ROWS))])
    return path.read_bytes()


def as_json(rows: list[tuple[Any, ...]]) -> bytes:
    return b"".join(json.dumps({"label": label, "text": text}).encode() + b"\n" for text, label in rows)


def test_every_format_gives_the_same_table(tmp_path, put):
    """CSV by comma, semicolon and tab, JSON lines, Parquet; compressed ones too. Columns come as asked for."""
    content = as_csv(tmp_path / "rows.csv")
    files = [
        tmp_path / "rows.csv",
        put("bom.csv", b"\xef\xbb\xbf" + content),
        put("excel.csv", as_csv(tmp_path / "semicolon.csv", ";")),
        put("rows.csv.gz", gzip.compress(content)),
        put("rows.jsonl", as_json(ROWS)),
        put("rows.ndjson", b"\xef\xbb\xbf\n" + as_json(ROWS).replace(b"\n", b"\n\n")),
        put("rows.jsonl.gz", gzip.compress(as_json(ROWS))),
        tmp_path / "rows.parquet",
    ]
    pq.write_table(pa.table({"label": [b for _, b in ROWS], "text": [a for a, _ in ROWS]}), files[-1])
    for file in files:
        table = read_table(file, TEXTS)
        assert table.column_names == ["text", "label"]
        assert list(zip(*table.to_pydict().values(), strict=True)) == ROWS, file


def test_tabs_are_read_in_a_tsv(put):
    """A quote within a value is part of it."""
    table = read_table(put("a.tsv", 'text\tlabel\na "b", c\tx\n'), TEXTS)
    assert table.to_pylist() == [{"text": 'a "b", c', "label": "x"}]


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
            st.text("ab\n\r,\"'", min_size=1),
        ).filter(lambda row: all(cell.strip() for cell in row)),
        min_size=1,
        max_size=20,
    )
)
@example([("a", "b\r"), ("\ufeff", "c")])
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory, rows):
    """Any texts, with quotes, commas and line breaks in them."""
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
    assert list(zip(*read_table(path, TEXTS).to_pydict().values(), strict=True)) == rows


def test_labels_are_the_same_texts_from_every_format(tmp_path, put):
    """The numbers 1 and 1.0 and the text "1" are one class; 007 is not 7, and the text 1.0 not 1; true is a text."""
    found = [
        read_table(put("a.jsonl", as_json([("x", 1), ("x", 1.0), ("x", "1"), ("x", 2.5)])), TEXTS),
        read_table(put("b.csv", "text,label\nx,1\nx,1\nx,1\nx,2.5\n"), TEXTS),
    ]
    pq.write_table(pa.table({"text": ["x"] * 4, "label": [1.0, 1.0, 1.0, 2.5]}), tmp_path / "c.parquet")
    found.append(read_table(tmp_path / "c.parquet", TEXTS))
    assert [table["label"].to_pylist() for table in found] == [["1", "1", "1", "2.5"]] * 3
    pq.write_table(
        pa.table({"text": ["x", "y"], "label": pa.array(["a", "b"]).dictionary_encode()}),
        tmp_path / "d.parquet",
    )
    assert read_table(tmp_path / "d.parquet", TEXTS)["label"].to_pylist() == ["a", "b"]
    assert read_table(put("e.jsonl", as_json([("x", True), ("x", False)])), TEXTS)["label"].to_pylist() == [
        "true",
        "false",
    ]
    labels = read_table(put("f.csv", "text,label\nx,007\ny,1.0\nz,1\n"), TEXTS)["label"]
    assert labels.to_pylist() == ["007", "1.0", "1"]


def test_numbers_are_read_with_spaces_around_them(put):
    """As spreadsheets write them."""
    table = read_table(put("a.csv", "n,x\n 3 , 1.5\n4.0,1e3\n"), {"n": float, "x": float})
    assert table.to_pydict() == {"n": [3.0, 4.0], "x": [1.5, 1000.0]}


def test_whole_numbers_beyond_those_that_floats_hold_exactly_are_read_as_floats(put):
    """Also where another line keeps Arrow from reading the block."""
    big = 2**60 + 1
    lines = f'{{"user": 1, "rating": {big}}}\n{{"user": "u", "rating": 1}}\n'
    assert read_table(put("a.jsonl", lines), RATINGS).to_pydict() == {
        "user": ["1", "u"],
        "rating": [float(big), 1.0],
    }


@pytest.mark.parametrize("ending", [".csv.GZ", ".CSV.gz", ".Jsonl.GZ"])
def test_endings_count_in_any_case(put, ending):
    """As other systems write them."""
    content = "text,label\nx,y\n" if "csv" in ending.lower() else GOOD
    table = read_table(put(f"X{ending}", gzip.compress(content.encode())), TEXTS)
    assert table["text"].to_pylist() == ["x"]


def test_times_are_seconds_whether_dates_or_numbers(tmp_path, put):
    """ISO 8601 with and without a zone, in one column; numbers; the types of Parquet."""
    written = "t\n2021-01-01\n2021-01-01 00:00:01\n2021-01-01T02:00:02+02:00\n"
    seconds = [1609459200.0 + i for i in range(3)]
    assert read_table(put("a.csv", written), {"t": datetime})["t"].to_pylist() == seconds
    lines = "".join(json.dumps({"t": t}) + "\n" for t in ("1609459200", 1609459201))
    assert read_table(put("a.jsonl", lines), {"t": datetime})["t"].to_pylist() == seconds[:2]
    pq.write_table(
        pa.table({"t": [datetime(2021, 1, 1), datetime(2021, 1, 1, 0, 0, 1)]}), tmp_path / "a.parquet"
    )
    assert read_table(tmp_path / "a.parquet", {"t": datetime})["t"].to_pylist() == seconds[:2]


def test_an_optional_column_may_be_absent_and_have_gaps(put):
    """Gaps are null."""
    path = put("a.csv", "text,label,rating\nx,,1\ny,b,\n")
    table = read_table(path, {"text": str}, optional={"label": str, "rating": float, "time": datetime})
    assert table.to_pydict() == {"text": ["x", "y"], "label": [None, "b"], "rating": [1.0, None]}
    lines = put("a.jsonl", '{"text": "x"}\n{"text": "y", "rating": 2}\n')
    assert read_table(lines, {"text": str}, optional={"rating": float})["rating"].to_pylist() == [None, 2.0]


def test_columns_that_are_not_asked_for_may_hold_anything(put):
    """Another encoding, no values, nested ones."""
    assert read_table(put("a.csv", b"q,text,\xe9\n,x,\xff\n,y,\n"), {"text": str})["text"].to_pylist() == [
        "x",
        "y",
    ]
    lines = '{"text": "x", "q": [1]}\n{"text": "y", "q": {"a": NaN}}\n'
    assert read_table(put("a.jsonl", lines), {"text": str})["text"].to_pylist() == ["x", "y"]


def test_the_columns_of_a_file_are_known_before_it_is_read(tmp_path, put):
    """For guessing which are meant; JSON lines have those of the first rows together."""
    assert column_names(put("a.csv", '\n"a b",c\n1,2\n')) == ["a b", "c"]
    assert column_names(put("a.jsonl", '{"a": 1}\n{"b": 1}\n')) == ["a", "b"]
    pq.write_table(pa.table({"x": [1], "y": [2]}), tmp_path / "a.parquet")
    assert column_names(tmp_path / "a.parquet") == ["x", "y"]


# What is refused


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.csv.gz"])
def test_an_empty_file_is_named(put, name):
    """Of every format."""
    assert "is empty" in refused(put(name, b"")).message
    if not name.endswith("parquet"):
        blank = b"\n\n" if not name.endswith("gz") else gzip.compress(b"\n")
        assert "is empty" in refused(put(name, blank)).message
        for mark in (b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"):
            content = gzip.compress(mark) if name.endswith("gz") else mark
            assert "is empty" in refused(put(name, content)).message


def test_a_table_without_rows_is_no_table(tmp_path, put):
    """A header alone."""
    assert "a header and no rows" in refused(put("a.csv", "text,label\n")).message
    pq.write_table(
        pa.table({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}),
        tmp_path / "a.parquet",
    )
    assert "no rows" in refused(tmp_path / "a.parquet").message


def test_a_path_that_is_no_file_is_refused(tmp_path):
    """Missing, or a folder."""
    assert "there is no file" in refused(tmp_path / "a.csv").message
    (tmp_path / "b.csv").mkdir()
    assert "is a folder" in refused(tmp_path / "b.csv").message


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, if we have them: to root no file is forbidden."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are those of POSIX")
def test_a_file_without_permission_is_refused(tmp_path, put):
    """Of the file, and of the folder it lies in."""
    path = put("a.csv", "text,label\nx,y\n")
    path.chmod(0)
    with as_nobody():
        assert "no permission" in refused(path).message
    path.chmod(0o644)
    locked = tmp_path / "locked"
    locked.mkdir()
    path = path.rename(locked / "a.csv")
    locked.chmod(0)
    try:
        with as_nobody():
            assert "no permission" in refused(path).message
    finally:
        locked.chmod(0o755)


def test_an_ending_that_means_no_table_is_refused_with_those_that_do(put):
    """JSON gets a hint of its own."""
    assert ".csv, .tsv, .jsonl, .ndjson or .parquet" in refused(put("a.xlsx", b"PK")).message
    assert "one JSON object a line" in refused(put("a.json", b"[]")).hint


def test_a_missing_column_is_named_with_those_that_are_there(put):
    """And with the nearest one."""
    error = refused(put("a.csv", "txt,label\nx,y\n"))
    assert "no column 'text'; its columns are 'txt', 'label'" in error.message
    assert "'txt'" in error.hint
    error = refused(put("a.jsonl", '{"text": "x", "labels": 1}\n'))
    assert "no column 'label'; its columns are 'text', 'labels'" in error.message


def test_a_file_without_a_header_is_told_that_one_is_wanted(put):
    """Its first row is shown in the place of the names."""
    error = refused(put("a.csv", "great film,1\nbad film,0\n"))
    assert "its columns are 'great film', '1'" in error.message
    assert "add one if the file has no header" in error.hint


NAMES = ("user", "item", "rating")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "1 10 4\n2\t11  3.5\n\n 3 12 1 \n"),
        ("a.data", "1\t10\t4\n2\t11\t3.5\n3\t12\t1\n"),
        ("a.csv", "1,10,4\n2,11,3.5\n3,12,1\n"),
        ("b.csv", "1;10;4\n2;11;3.5\n3;12;1\n"),
        ("a.tsv", "1\t10\t4\n2\t11\t3.5\n3\t12\t1\n"),
    ],
)
def test_a_file_without_a_header_is_read_by_the_names_that_are_given(put, large, name, content):
    """Of plain text values have blanks or tabs between them; a large file, and a compressed one, give the same."""
    for path in (put(name, content), put(f"{name}.gz", gzip.compress(content.encode()))):
        found = read_table(path, {"item": str, "rating": float}, names=NAMES)
        assert found.to_pydict() == {"item": ["10", "11", "12"], "rating": [4.0, 3.5, 1.0]}
        assert place(found, 2) == f"{path}, line {4 if name == 'a.txt' else 3}"
        assert read_table(path, {"user": str}, names=("item", "user", "rating"))["user"].to_pylist() == [
            "10",
            "11",
            "12",
        ]


def test_what_is_wrong_with_a_file_without_a_header_is_said_with_its_line(put):
    """Values that are too many, too few, or no numbers, names that are given twice or in vain, and nothing at all."""
    ratings = {"user": str, "rating": float}
    for name, content, said in (
        ("a.txt", "1 10 4\n\n2 11\n", "line 3: has 2 values; 3 are wanted, as user, item, rating say"),
        ("a.txt", "1 10 4\n2 11 3 5\n", "line 2: has 4 values; 3 are wanted"),
        ("a.txt", "1 10 4\n2 11 x\n", "line 2, column 'rating': is 'x'; a number is wanted"),
        ("a.csv", "1,10,4\n2,11\n", "line 2: 3 values are wanted, as user, item, rating say, and 2 came"),
        ("a.csv", "1,10,4\n2,11,x\n", "line 2, column 'rating': is 'x'; a number is wanted"),
        ("a.txt", " \n\n", "is empty"),
        ("a.txt", "\xff 10 4\n".encode("latin-1"), "line 1, column 'user': is not UTF-8"),
        ("a.jsonl", "{}\n", "names its columns itself"),
    ):
        assert said in refused(put(name, content), ratings, names=NAMES).message
    path = put("a.txt", "1 10 4\n")
    assert "has no column 'stars'" in refused(path, {"stars": float}, names=NAMES).message
    assert (
        "are to be called 'user', 'user'" in refused(path, {"user": str}, names=["user", "user", "x"]).message
    )
    assert "name the columns" in refused(path, ratings).hint


def test_a_column_that_stands_there_twice_is_refused(put):
    """One of the two would be picked silently."""
    assert "'label' more than once" in refused(put("a.csv", "text,label,label\nx,y,z\n")).message


GOOD, GOOD_RATING = '{"text": "x", "label": "a"}\n', '{"user": "u", "rating": 1}\n'

# name: (file, content, columns, where, what)
BROKEN: dict[str, tuple[str, str | bytes, dict[str, type], str, str]] = {
    "empty value": ("a.csv", "text,label\nx,a\n\ny,\n", TEXTS, "line 4, column 'label'", "is empty"),
    "blank value": ("a.csv", 'text,label\n"  ",a\n', TEXTS, "line 2, column 'text'", "is empty"),
    "after a break": ("a.csv", 'text,label\n"x\ny",a\nz,\n', TEXTS, "line 4, column 'label'", "is empty"),
    "over lines": (
        "a.csv",
        'text,label\nq,b\n"x\ny",\n',
        TEXTS,
        "row 2 (lines 3 to 4), column 'label'",
        "empty",
    ),
    "latin-1": (
        "a.csv",
        b"text,label\nx,a\ncaf\xe9,b\n",
        TEXTS,
        "line 3, column 'text'",
        "0xe9 at its position 4",
    ),
    "utf-16": ("a.csv", "text,label\nx,a\n".encode("utf-16"), TEXTS, "line 1", "UTF-16"),
    "too many values": (
        "a.csv",
        "text,label\nx,a\ny,b,c\n",
        TEXTS,
        "line 3",
        "2 values are wanted, as the header",
    ),
    "too few values": ("a.csv", "text,label\n\nx\n", TEXTS, "line 3", "and 1 came"),
    "open quote": ("a.csv", 'text,label\nx,a\n"y,b\nz,c\n', TEXTS, "line 3", "goes on to line 4"),
    "quote in a tsv": (
        "a.tsv",
        'text\tlabel\nx\ta\n"y\tb\nz" w\tc\n',
        TEXTS,
        "lines 3 to 4",
        "a quote in line 3 goes on to line 4",
    ),
    "quote in another column of a tsv": (
        "a.tsv",
        'id\tcomment\tlabel\n1\t"hello\tA\n2\t"bye\tB\n3\tx\tC\n',
        {"label": str},
        "lines 2 to 3",
        "a quote in line 2 goes on to line 3",
    ),
    "quote in another column": (
        "a.csv",
        'id,comment,label\n0,"two\nlines",A\n1,"hello,A\n2,"bye,B\n3,x,C\n',
        {"label": str},
        "lines 4 to 5",
        "the lines between are no rows",
    ),
    "quote in the header": ("a.tsv", 'label\t"c\nA\tx"\nB\ty\n', {"label": str}, "lines 1 to 2", "no rows"),
    "no number": (
        "a.csv",
        "user,rating\nu,3\nv,good\n",
        RATINGS,
        "line 3, column 'rating'",
        "'good'; a number",
    ),
    "decimal comma": ("a.csv", "user;rating\nu;3,5\n", RATINGS, "line 2, column 'rating'", "is '3,5'"),
    "NaN": ("a.csv", "user,rating\nu,3\nv,NaN\n", RATINGS, "line 3, column 'rating'", "is NaN"),
    "infinite": ("a.csv", "user,rating\nu,-inf\n", RATINGS, "line 2, column 'rating'", "is infinite"),
    "no time": (
        "a.csv",
        "t\n2021-01-01\n2021-02-30\n",
        {"t": datetime},
        "line 3, column 't'",
        "is '2021-02-30', unlike the times",
    ),
    "a number among dates": (
        "a.csv",
        "t\n2021-01-01\n5\n",
        {"t": datetime},
        "line 3, column 't'",
        "is '5', unlike",
    ),
    "a date far behind numbers": (
        "a.csv",
        "t\n" + "5\n" * 2_000_000 + "2021-01-01\n",
        {"t": datetime},
        "line 2000002, column 't'",
        "is '2021-01-01', unlike",
    ),
    "a time at no time": (
        "a.csv",
        "t\n5\n1e30\n",
        {"t": datetime},
        "line 3, column 't'",
        "is 1e+30, which is no",
    ),
    "a date of another form": (
        "a.csv",
        "t\n27.03.2023\n",
        {"t": datetime},
        "line 2, column 't'",
        "a time is wanted",
    ),
    "broken JSON": ("a.jsonl", GOOD + '\n{"text": "y",\n', TEXTS, "line 3", "is not JSON"),
    "two objects": ("a.jsonl", GOOD + GOOD.strip() + GOOD, TEXTS, "line 2", "is not JSON: Extra data"),
    "array": ("a.jsonl", f"[{GOOD}]", TEXTS, "line 1", "JSON array"),
    "a list": (
        "a.jsonl",
        GOOD + '{"text": ["y"], "label": "b"}',
        TEXTS,
        "line 2, column 'text'",
        "is a list",
    ),
    "a text": (
        "a.jsonl",
        GOOD_RATING + '{"rating": "2"}',
        {"rating": float},
        "line 2, column 'rating'",
        "the text '2'",
    ),
    "a key left out": ("a.jsonl", GOOD + '{"text": "y"}\n', TEXTS, "line 2, column 'label'", "is empty"),
    "null": ("a.jsonl", GOOD + '{"text": null, "label": "b"}\n', TEXTS, "line 2, column 'text'", "is empty"),
    "NaN in JSON": ("a.jsonl", GOOD_RATING.replace("1", "NaN"), RATINGS, "line 1, column 'rating'", "is NaN"),
    "NaN for a text": (
        "a.jsonl",
        GOOD + GOOD.replace('"a"', "NaN"),
        TEXTS,
        "line 2, column 'label'",
        "is empty",
    ),
    "infinite for a text": (
        "a.jsonl",
        GOOD.replace('"a"', "-Infinity"),
        TEXTS,
        "line 1, column 'label'",
        "infinite",
    ),
    "1e400 for a text": (
        "a.jsonl",
        GOOD.replace('"a"', "1e400"),
        TEXTS,
        "line 1, column 'label'",
        "infinite",
    ),
    "beyond floats": (
        "a.jsonl",
        GOOD_RATING.replace('"u"', "1") + GOOD_RATING.replace("1", "1" + "0" * 400),
        RATINGS,
        "line 2, column 'rating'",
        "beyond all floats",
    ),
    "latin-1 in JSON": (
        "a.jsonl",
        GOOD.encode() + GOOD.replace('"x', '"é').encode("cp1252"),
        TEXTS,
        "line 2",
        "0xe9",
    ),
    "half a pair": ("a.jsonl", GOOD.replace('"x', '"\\ud800'), TEXTS, "line 1, column 'text'", "surrogate"),
    "no object": ("a.jsonl", GOOD + "[1]\n", TEXTS, "line 2", "a list"),
    "no JSON at all": ("a.jsonl", "text,label\n", TEXTS, "line 1", "'text,label'"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("is_large", [False, True])
def test_what_is_wrong_is_said_with_line_and_column(put, case, is_large, request):
    """Also in a large file, of which then nothing is kept."""
    folder = request.getfixturevalue("large") if is_large else None
    name, content, columns, where, what = BROKEN[case]
    error = refused(put(name, content), columns)
    assert re.search(re.escape(where) + r"(?!\d)", error.message), error
    assert what in error.message, error
    if folder:
        assert not folder.exists() or not list(folder.iterdir())


def test_lines_that_look_like_rows_within_a_value_are_told(put):
    """The quotes of two values may have swallowed the rows between them, or the text has these lines: who can tell."""
    path = put("a.csv", 'id,size,label\n0,"a, b\nc",z\n1,"5,x\n2,6",y\n3,7,z\n')
    with pytest.warns(DataWarning, match=r"1 values go on over lines .* \(first: lines 4 to 5\)"):
        assert read_table(path, {"label": str})["label"].to_pylist() == ["z", "y", "z"]


def test_lines_are_counted_over_the_batches_of_a_file(put, monkeypatch):
    """The bad value stands far behind the first batch, in each of the formats of text."""
    monkeypatch.setattr(sources, "BLOCK", 1 << 12)
    rows = 5000
    path = put("a.csv", "user,rating\n" + "u,1\n" * rows + "v,x\n" + "u,1\n" * 9)
    assert f"line {rows + 2}, column 'rating'" in refused(path, RATINGS).message
    path = put("a.csv", "user,rating\n" + "u,1\n" * rows + "v\n" + "u,1\n" * 9)
    assert f"line {rows + 2}:" in refused(path, RATINGS).message
    path = put("a.csv", "user,rating\n" + '"u\n",1\n' * rows + "v,x\n" + "u,1\n" * 9)
    assert f"line {2 * rows + 2}, column 'rating'" in refused(path, RATINGS).message
    good = '{"user": "u", "rating": 1}\n'
    path = put("a.jsonl", good * rows + "\n" + good.replace("1", "[]") + good)
    assert f"line {rows + 2}, column 'rating'" in refused(path, RATINGS).message


def test_a_quote_that_is_never_closed_is_found_in_a_long_file(put, monkeypatch):
    """It swallows more than a batch."""
    monkeypatch.setattr(sources, "BLOCK", 1 << 12)
    path = put("a.csv", "text,label\nx,a\n" + '"y,b\n' + "z,c\n" * 50_000)
    assert "line 3" in refused(path).message


def test_rows_of_parquet_are_named_by_number(tmp_path):
    """Missing, NaN, of a type that is not meant."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", None], "label": ["x", "y"]}), path)
    assert "row 2, column 'text': is empty" in refused(path).message
    pq.write_table(pa.table({"user": ["a", "b"], "rating": [1.0, float("nan")]}), path)
    assert "row 2, column 'rating': is NaN" in refused(path, RATINGS).message
    pq.write_table(pa.table({"text": [["a"], ["b"]], "label": ["x", "y"]}), path)
    assert "is of the type list<" in refused(path).message
    pq.write_table(pa.table({"text": ["a", "b"], "label": [1.0, float("-inf")]}), path)
    assert "row 2, column 'label': is infinite" in refused(path).message
    path.write_bytes(b"no parquet")
    assert "is not a Parquet file" in refused(path).message


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz"])
def test_a_damaged_compressed_file_is_refused(put, name):
    """Cut off after many rows, and not compressed at all."""
    rows = os.urandom(200_000).hex()
    line = "{},{}\n" if "csv" in name else '{{"text": "{}", "label": "{}"}}\n'
    content = "text,label\n" * ("csv" in name) + "".join(
        line.format(rows[i : i + 40], i) for i in range(0, 400_000, 40)
    )
    packed = gzip.compress(content.encode())
    assert "cannot be read" in refused(put(name, packed[: len(packed) // 2])).message
    assert "cannot be read" in refused(put(name, content)).message


def test_without_pyarrow_it_is_said_what_to_install(put, monkeypatch):
    """The module itself is imported without it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ComponentError, match="pip install pyarrow"):
        read_table(put("a.csv", "text,label\nx,y\n"), TEXTS)


def test_importing_tables_imports_neither_pyarrow_nor_torch():
    """They take a while, and not every command reads tables."""
    code = "import sys, core.data.tables; sys.exit(bool({'pyarrow', 'torch'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Large files


def test_a_large_file_gives_the_same_table_and_is_kept_by_content(put, large):
    """Read again from another place, nothing new is kept; with another byte, it is."""
    content = "text,label\n" + "".join(f"text {i},{i % 3}\n" for i in range(1000))
    table = read_table(put("a.csv", content), TEXTS)
    assert table["text"].to_pylist() == [f"text {i}" for i in range(1000)]
    kept = {path: path.stat().st_mtime_ns for path in large.iterdir()}
    assert [path.suffix for path in kept] == [".arrow"]
    moved = read_table(put("b.csv", content), TEXTS)
    assert moved.equals(table)
    assert place(moved, 0).endswith("b.csv, line 2")
    assert {path: path.stat().st_mtime_ns for path in large.iterdir()} == kept
    assert read_table(put("a.csv", content.replace("999", "998")), TEXTS)["text"][999].as_py() == "text 998"
    assert read_table(put("a.csv", content), {"label": float})["label"][4].as_py() == 1
    assert len(list(large.iterdir())) == 1


def test_a_large_file_that_changes_leaves_no_copy_of_what_it_was(put, large):
    """In whatever columns it was read; who reads the older one still has it. Other files' copies stay."""
    before = read_table(put("a.csv", "text,label\nx,1\n"), TEXTS)
    read_table(put("a.csv", "text,label\nx,1\n"), {"label": float})
    read_table(put("b.csv", "text,label\nz,1\n"), TEXTS)
    kept = set(large.iterdir())
    assert len(kept) == 3
    read_table(put("a.csv", "text,label\ny,1\n"), TEXTS)
    assert len(set(large.iterdir())) == 2
    assert len(set(large.iterdir()) & kept) == 1
    assert before["text"].to_pylist() == ["x"]


def test_a_kept_table_that_another_process_removes_is_made_anew(put, large, monkeypatch):
    """Between being seen and being opened."""
    path = put("a.csv", "text,label\nx,1\n")
    read_table(path, TEXTS)
    mapped, calls = tables._mapped, []

    def removed_before(kept):
        if not calls:
            kept.unlink()
        calls.append(kept)
        return mapped(kept)

    monkeypatch.setattr(tables, "_mapped", removed_before)
    assert read_table(path, TEXTS)["text"].to_pylist() == ["x"]
    assert len(calls) == 2


def test_without_room_for_the_kept_table_it_is_said(put, large, monkeypatch):
    """No more than half of what is free is taken, and nothing stays."""
    monkeypatch.setattr("core.data.cache.room", lambda path: 1 << 20)
    path = put("a.csv", "text,label\n" + f"{'x' * 1000},1\n" * 5000)
    with pytest.raises(DataError, match="more than 1 MiB, half of what is free") as caught:
        read_table(path, TEXTS)
    assert "TAOKE_CACHE" in caught.value.hint
    assert str(large) in caught.value.message
    assert not list(large.iterdir())


def test_a_cache_that_cannot_be_written_is_named(put, large):
    """With the variable that names another."""
    large.parent.mkdir()
    large.write_text("a file in the place of the folder")
    with pytest.raises(DataError, match="cannot be written") as caught:
        read_table(put("a.csv", "text,label\nx,y\n"), TEXTS)
    assert "TAOKE_CACHE" in caught.value.hint


MEASURE = """
import resource, sys
from pathlib import Path
import torch
import core.data.cache, core.data.sources, pyarrow.dataset
from core.data import tables
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
table = tables.read_table(Path(sys.argv[1]), {"text": str, "label": str})
assert table.num_rows == int(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in KiB on Linux")
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_large_file_is_read_in_a_part_of_its_size(tmp_path, ending):
    """300,000 rows of 1 KB: held whole they are 300 MB; the peak grows by less than half of that."""
    path, rows = tmp_path / f"a.{ending}", 300_000
    texts = ["".join(map(chr, np.random.RandomState(i).randint(97, 123, 1000))) for i in range(64)]
    if ending == "parquet":
        schema = pa.schema([("text", pa.string()), ("label", pa.string())])
        with pq.ParquetWriter(path, schema, use_dictionary=False, compression="none") as writer:
            for begin in range(0, rows, 30_000):
                part = [f"{texts[i % 64]}{i}" for i in range(begin, begin + 30_000)]
                writer.write_table(pa.table([part, ["a"] * 30_000], schema))
    else:
        with path.open("w") as file:
            if ending == "csv":
                file.write("text,label\n")
            form = "{}{},a\n" if ending == "csv" else '{{"text": "{}{}", "label": "a"}}\n'
            file.writelines(form.format(texts[i % 64], i) for i in range(rows))
    environment = {**os.environ, "TAOKE_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", MEASURE, str(path), str(rows)]
    grown = int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert path.stat().st_size > 300e6
    assert grown * 1024 < 150e6


# What is made of columns


def test_codes_and_values_spell_the_column(put, monkeypatch):
    """Over several chunks, with gaps."""
    column = pa.chunked_array([["b", None, "a"], [], ["a", "c"]], pa.string())
    made = coded(column)
    assert list(made) == ["b", "", "a", "a", "c"]
    assert list(made.values) == ["b", "a", "c"]
    assert list(coded(pa.chunked_array([], pa.string()))) == []


@given(st.lists(st.text(max_size=6), max_size=40), st.integers(0, 3))
def test_equal_texts_have_equal_digests_and_others_do_not(texts, skipped):
    """Wherever they stand, also in a slice."""
    column = pa.chunked_array(
        [pa.array(["zz"] * skipped + texts, pa.string()).slice(skipped), pa.array(texts[::-1], pa.string())]
    )
    found = digests(column).tolist()
    assert found[: len(texts)] == found[len(texts) :][::-1]
    assert len(set(found)) == len(set(texts))


def test_digests_are_the_same_everywhere():
    """They decide about splits, so that they are part of a run's record."""
    assert digests(pa.chunked_array([["a", "b", ""]])).tolist() == [
        11859165895698246960,
        15099806263437192969,
        10569188990181819949,
    ]


def test_a_line_of_json_that_is_no_object_is_refused_with_its_line(put):
    """An array's elements are no columns."""
    path = put("t.jsonl", '{"text": "a", "label": "b"}\n[1, 2]\n{"text": "c", "label": "d"}\n')
    assert list(column_names(path)) == ["text", "label"]
    with pytest.raises(DataError, match="line 2"):
        read_table(path, TEXTS)
