"""Users' own texts, and what bad ones are told."""

from __future__ import annotations

import errno
import gzip
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from core.contract import Row
from core.data import tables
from core.data.rows import is_streamed
from core.errors import DataError, DataWarning
from plugins.nlp import lines as lines_module
from plugins.nlp import options
from plugins.nlp.texts import Plain, Texts, label_first

ROWS = [(f"text number {i}", "even" if i % 2 == 0 else "odd") for i in range(20)]


def texts(path: object, **rest: object) -> Mapping[str, Sequence[Row]]:
    return Texts(options.Texts.model_validate({"path": path, **rest})).rows()


def csv(path: Path, rows: Sequence[tuple[str, ...]], header: Sequence[str] = ("text", "label")) -> str:
    path.write_text("".join(",".join(row) + "\n" for row in [tuple(header), *rows]))
    return str(path)


def written(folder: Path, form: str) -> str:
    """ROWS in a file of that form."""
    path = folder / f"rows.{form}"
    if form in ("csv", "tsv", "csv.gz"):
        mark = "\t" if form == "tsv" else ","
        content = "".join(mark.join(row) + "\n" for row in [("text", "label"), *ROWS]).encode()
        path.write_bytes(gzip.compress(content) if form.endswith("gz") else content)
    elif form == "jsonl":
        path.write_text("".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in ROWS))
    elif form == "parquet":
        columns = {"text": [t for t, _ in ROWS], "label": [y for _, y in ROWS]}
        pa.parquet.write_table(pa.table(columns), path)
    else:
        path.write_text("".join(f"{y} {t}\n" for t, y in ROWS))
    return str(path)


@pytest.mark.parametrize("form", ["csv", "tsv", "csv.gz", "jsonl", "parquet", "all"])
def test_every_form_of_file_gives_the_same_rows(tmp_path: Path, form: str) -> None:
    """All of them, each in one split, streamed."""
    splits = texts(written(tmp_path, form))
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 14, "select": 2, "report": 4}
    assert all(is_streamed(rows) for rows in splits.values())
    found = [(row.inputs["text"], row.target) for rows in splits.values() for row in rows]
    assert sorted(found) == sorted(ROWS)
    again = texts(written(tmp_path, "csv"))
    assert [list(rows) for rows in splits.values()] == [list(rows) for rows in again.values()]


def test_files_of_splits_stay_what_they_are(tmp_path: Path) -> None:
    """A folder is read by its files' names, a mapping as it says; without a select file train gives some."""
    for name, part in {"train": ROWS[:12], "dev": ROWS[12:16], "test": ROWS[16:]}.items():
        csv(tmp_path / f"my_{name}.csv", part)
    folder = {name: list(rows) for name, rows in texts(str(tmp_path)).items()}
    assert [row.inputs["text"] for row in folder["report"]] == [text for text, _ in ROWS[16:]]
    assert [row.inputs["text"] for row in folder["select"]] == [text for text, _ in ROWS[12:16]]
    named = {
        "train": str(tmp_path / "my_train.csv"),
        "select": str(tmp_path / "my_dev.csv"),
        "report": str(tmp_path / "my_test.csv"),
    }
    assert {name: list(rows) for name, rows in texts(named).items()} == folder
    (tmp_path / "my_dev.csv").unlink()
    without = texts(str(tmp_path), splits={"how": "stratified", "select": 4})
    assert {name: len(rows) for name, rows in without.items()} == {"train": 8, "select": 4, "report": 4}
    assert list(without["report"]) == folder["report"]


def test_splits_may_come_from_a_column_or_keep_groups_together(tmp_path: Path) -> None:
    """As the options of splits say; intervals resample the groups."""
    rows = [
        (text, label, "test" if i > 15 else "val" if i > 11 else "train")
        for i, (text, label) in enumerate(ROWS)
    ]
    path = csv(tmp_path / "a.csv", rows, ("text", "label", "split"))
    sizes = {name: len(part) for name, part in texts(path, splits={"how": "column"}).items()}
    assert sizes == {"train": 12, "select": 4, "report": 4}
    rows = [(text, label, f"author {i // 4}") for i, (text, label) in enumerate(ROWS)]
    path = csv(tmp_path / "b.csv", rows, ("text", "label", "author"))
    grouped = texts(path, group="author", splits={"how": "grouped", "by": "author"})
    groups = [{row.group for row in part} for part in grouped.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 5


AUTHORS = [(text, label, f"author {i // 4}", str(2000 + i % 4)) for i, (text, label) in enumerate(ROWS)]


def authors(folder: Path) -> str:
    """ROWS with their authors, each of whom wrote four, in four years."""
    return csv(folder / "a.csv", AUTHORS, ("text", "label", "author", "year"))


def test_groups_stay_together_by_the_dataset_s_column_alone(tmp_path: Path) -> None:
    """`splits.by` need not name it again."""
    grouped = texts(authors(tmp_path), group="author", splits={"how": "grouped"})
    assert {row.group for rows in grouped.values() for row in rows} == {row[2] for row in AUTHORS}
    assert not {row.group for row in grouped["train"]} & {row.group for row in grouped["report"]}


def test_the_last_text_of_each_group_is_left_out(tmp_path: Path) -> None:
    """Groups as `data.group` says, times as `splits.by`."""
    left = texts(authors(tmp_path), group="author", splits={"how": "leave_last", "by": "year"})
    years = {row[0]: row[3] for row in AUTHORS}
    found = {name: {years[row.inputs["text"]] for row in rows} for name, rows in left.items()}
    assert found == {"train": {"2000", "2001"}, "select": {"2002"}, "report": {"2003"}}


@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        ({"group": "author"}, "how is random, which tears groups apart", "splits={how: grouped}"),
        ({"group": "author", "splits": {"how": "stratified"}}, "how is stratified, which tears", "grouped"),
        ({"group": "author", "splits": {"how": "grouped", "by": "year"}}, "'author' and .*'year'", "leave"),
        ({"splits": {"how": "leave_last", "by": "year"}}, "and data.group is not given", "(an author)"),
        ({"group": "author", "splits": {"how": "leave_last"}}, "and data.splits.by is not", "splits.by=COL"),
    ],
)
def test_splits_that_contradict_groups_are_refused(
    tmp_path: Path, given: dict[str, object], said: str, hint: str
) -> None:
    """The error says which options do, and what to write."""
    with pytest.raises(DataError, match=said) as caught:
        texts(authors(tmp_path), **given)
    assert hint in caught.value.hint


def test_groups_do_not_hinder_files_of_splits(tmp_path: Path) -> None:
    """Nothing is split by chance there, and intervals resample the groups."""
    parts = {"train": AUTHORS[:12], "select": AUTHORS[12:16], "report": AUTHORS[16:]}
    header = ("text", "label", "author", "year")
    files = {name: csv(tmp_path / f"{name}.csv", part, header) for name, part in parts.items()}
    assert {row.group for row in texts(files, group="author")["report"]} == {"author 4"}


def test_only_what_is_split_needs_the_columns_of_splits(tmp_path: Path) -> None:
    """A report file without times, where train gives its latest to select."""
    header = ("text", "label", "author", "year")
    files = {
        "train": csv(tmp_path / "train.csv", AUTHORS[:16], header),
        "report": csv(tmp_path / "b.csv", ROWS[16:]),
    }
    splits = texts(files, splits={"how": "time", "by": "year", "select": 4})
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 12, "select": 4, "report": 4}


def test_columns_are_guessed_and_the_user_is_told(tmp_path: Path) -> None:
    """Well-known names first; then the one that is left."""
    path = csv(
        tmp_path / "a.csv", [(str(i), t, y) for i, (t, y) in enumerate(ROWS)], ("id", "Review", "Stars")
    )
    with pytest.warns(DataWarning, match="'Review' is taken for the text and 'Stars' for the label"):
        rows = texts(path)["train"]
    assert rows[0].inputs["text"].startswith("text number")
    path = csv(tmp_path / "b.csv", ROWS, ("frobnicated", "label"))
    with pytest.warns(DataWarning, match="'frobnicated' is taken for the text"):
        texts(path)
    both = texts(
        csv(tmp_path / "c.csv", [(f"title {i}", t, y) for i, (t, y) in enumerate(ROWS)], ("a", "b", "c")),
        text=["a", "b"],
        label="c",
    )
    assert all("title" in row.inputs["text"].split("\n")[0] for row in both["train"])


def test_lines_of_label_and_text_are_read_in_their_encoding(tmp_path: Path) -> None:
    """U+0085 is a letter's byte in other encodings, and no end of a line."""
    path = tmp_path / "train.txt"
    path.write_bytes("".join(f"{y}\t {t} caf\xe9 \x85 end\r\n\r\n" for t, y in ROWS).encode("latin-1"))
    rows = texts(str(path), encoding="latin-1")["train"]
    assert all(row.inputs["text"].endswith("caf\xe9 \x85 end") for row in rows)


def test_lines_are_read_in_blocks_and_large_files_stay_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows wherever blocks end; texts are mapped from the cache, where each encoding has its own."""
    rows = [(f"{text} caf\xe9", label) for text, label in ROWS]
    path = tmp_path / "rows.all"
    path.write_text("\n".join(f"{label} {text}\r\n" for text, label in rows), encoding="utf-8")
    whole = label_first(path, "utf-8")
    monkeypatch.setenv("TAOKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tables, "LARGE", 0)
    for size in (1, 7, 64):
        monkeypatch.setattr(lines_module, "BLOCK", size)
        found = label_first(path, "utf-8")
        assert found.texts.to_pylist() == whole.texts.to_pylist() == [text for text, _ in rows]
        assert list(found.labels) == [label for _, label in rows]
        assert found.where(19) == f"{path}, line 39"
        for kept in (tmp_path / "cache").rglob("*.arrow"):
            kept.unlink()
    monkeypatch.setattr(lines_module, "BLOCK", 2 << 20)
    assert label_first(path, "latin-1").texts[0].as_py() == "text number 0 caf\xc3\xa9"
    assert label_first(path, "utf8").texts[0].as_py() == "text number 0 caf\xe9"
    before = pa.total_allocated_bytes()
    held = label_first(path, "utf-8").texts
    assert pa.total_allocated_bytes() == before
    assert len(held) == 20


@pytest.mark.parametrize("size", [1, 5, 1 << 20])
def test_a_wrong_line_is_counted_over_the_blocks_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """One in another encoding, one without a text."""
    monkeypatch.setattr(lines_module, "BLOCK", size)
    path = tmp_path / "a.txt"
    path.write_bytes(b"a one\n\nb two\na caf\xe9 it is\n")
    with pytest.raises(DataError, match=r"a\.txt, line 4: byte 0xe9 is no utf-8"):
        texts(str(path))
    path.write_bytes(b"a one\n\nb two\na\n")
    with pytest.raises(DataError, match=r"1 of 3 rows have no text: .*a\.txt, line 4\n"):
        label_first(path, "utf-8")


@pytest.mark.parametrize("encoding", ["nosuch", "hex"])
def test_what_is_no_encoding_is_told(tmp_path: Path, encoding: str) -> None:
    """An unknown name, and one of what gives no text."""
    (tmp_path / "a.txt").write_text("a one\nb two\n")
    with pytest.raises(DataError, match=f"no encoding '{encoding}'") as caught:
        label_first(tmp_path / "a.txt", encoding)
    assert "latin-1" in caught.value.hint


@pytest.mark.parametrize("form", ["utf-16", "utf-16-le", "utf-8-sig"])
def test_other_encodings_and_marks_of_byte_order_are_read(tmp_path: Path, form: str) -> None:
    """The mark is no part of the first label."""
    (tmp_path / "a.txt").write_text("a one\nb two\n", encoding=form)
    read = label_first(tmp_path / "a.txt", "utf-8" if form == "utf-8-sig" else form)
    assert (list(read.labels), read.texts.to_pylist()) == (["a", "b"], ["one", "two"])


def test_lines_have_no_groups(tmp_path: Path) -> None:
    """A column that cannot be there is not passed over."""
    with pytest.raises(DataError, match=r"no column 'author' for data\.group"):
        texts(written(tmp_path, "all"), group="author")


@pytest.mark.parametrize("refusing", ["iterdir", "stat"])
@pytest.mark.parametrize("dataset", ["texts", "plain"])
def test_a_folder_without_permission_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusing: str, dataset: str
) -> None:
    """It may not be listed, or the one above it not be searched."""

    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, refusing, refuse)
    read = texts if dataset == "texts" else lambda path: Plain(options.Plain(path=path)).rows()
    with pytest.raises(DataError, match="may not be read: no permission") as caught:
        read(str(tmp_path))
    assert "chmod" in caught.value.hint


Write = Callable[[Path], object]


def lines(*content: str) -> Write:
    def write(path: Path) -> object:
        (path / "rows.csv").write_text("".join(f"{line}\n" for line in content))
        return str(path / "rows.csv")

    return write


GOOD = [f"{text},{label}" for text, label in ROWS]


def in_bytes(name: str, content: bytes) -> Write:
    def write(path: Path) -> object:
        (path / name).write_bytes(content)
        return str(path / name)

    return write


def unseen(path: Path) -> object:
    return {
        "train": csv(path / "train.csv", ROWS[:12]),
        "report": csv(path / "test.csv", [*ROWS[12:], ("new", "third"), ("newer", "third")]),
    }


def mixed(path: Path) -> object:
    rows = [{"text": t, "label": y} for t, y in ROWS]
    rows[7]["label"] = {"name": "odd"}  # type: ignore[assignment]
    (path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path / "rows.jsonl")


NO_NAME = "none of its columns is called as a text is; they are 'a', 'b', 'c'"
LONE = r"the class 'third' has one example \(.*rows\.csv, line 22\)"
UNSEEN = r"the label 'third' stands in report, 2 times, and never in train.*test\.csv, line 10"
BAD: Mapping[str, tuple[Write, str, str]] = {
    "an empty file": (in_bytes("rows.csv", b""), r"rows\.csv is empty", "how it was made"),
    "empty lines": (in_bytes("rows.txt", b"\n\n"), r"rows\.txt is empty", "check the path"),
    "no file": (lambda path: str(path / "no.csv"), r"there is no file .*no\.csv", "check the path"),
    "no rows": (lines("text,label"), "a header and no rows", "nothing to learn from"),
    "one class": (lines("text,label", *(f"{t},even" for t, _ in ROWS)), "one class alone, 'even'", "add"),
    "one example": (lines("text,label", *GOOD, "alone,third"), LONE, "add examples"),
    "unseen label": (unseen, UNSEEN, "stratified"),
    "no column": (lines("a,b,c", *(f"{row},1" for row in GOOD)), NO_NAME, "data.text=COLUMN"),
    "mixed types": (mixed, r"rows\.jsonl, line 8.* column 'label':? is an object", "same type"),
    "a table's encoding": (in_bytes("a.csv", b"text,label\nok,a\ncaf\xe9,b\n"), r"a\.csv, line 3", "UTF-8"),
    "lines' encoding": (in_bytes("a.txt", b"a ok\nb caf\xe9\n"), r"a\.txt, line 2: byte 0xe9", "=latin-1"),
    "no text": (lines("text,label", *GOOD[:4], ",even", *GOOD[4:]), r"line 6, column 'text'", "fill it in"),
    "white space": (
        lines("text,label", *GOOD[:4], '" ",odd', *GOOD[4:]),
        r"line 6, column 'text'",
        "fill it in",
    ),
    "no label": (lines("text,label", *GOOD[:4], "text,", *GOOD[4:]), r"line 6, column 'label'", "fill it in"),
    "label alone": (in_bytes("a.txt", b"a one\nb\na two\nb two\n"), r"1 of 4 rows .*line 2", "fill in or"),
}


@pytest.mark.parametrize(("write", "said", "hint"), BAD.values(), ids=BAD)
def test_bad_data_is_refused_with_its_place(tmp_path: Path, write: Write, said: str, hint: str) -> None:
    """Each says what, where, and what to do."""
    with pytest.raises(DataError, match=said) as caught:
        texts(write(tmp_path))
    assert hint in caught.value.hint
    assert caught.value.hint


def test_a_named_column_that_is_missing_is_told_those_there_are(tmp_path: Path) -> None:
    """With the nearest of them."""
    path = csv(tmp_path / "a.csv", ROWS, ("text", "label"))
    with pytest.raises(DataError, match=r"no column 'txet'; its columns are 'text', 'label'"):
        texts(path, text="txet")


def test_a_table_in_another_encoding_is_told_how_to_be_converted(tmp_path: Path) -> None:
    """Tables are UTF-8."""
    with pytest.raises(DataError, match="tables are read as UTF-8") as caught:
        texts(csv(tmp_path / "a.csv", ROWS), encoding="latin-1")
    assert "iconv -f latin-1" in caught.value.hint


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "no file for train and report: it has no file"),
        (["train.csv"], r"no file for report: it has train\.csv"),
        (["train.csv", "other_train.csv", "test.csv"], r"2 files that could be train"),
    ],
)
def test_a_folder_whose_files_are_unclear_is_refused(tmp_path: Path, names: list[str], said: str) -> None:
    """The error lists what is there."""
    for name in names:
        csv(tmp_path / name, ROWS)
    with pytest.raises(DataError, match=said):
        texts(str(tmp_path))
