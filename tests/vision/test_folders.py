"""The dataset `images`: folders and tables of pictures, their splits, and everything that may be wrong with them."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from core.contract import Row
from core.data.options import Splits
from core.data.rows import is_streamed
from core.data.stored import Stored
from core.errors import DataError, DataWarning
from core.rows import duplicates, identify
from plugins.vision import folders, options
from plugins.vision.folders import Images

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("pyarrow")

Tree = dict[str, int]


def picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def grow(root: Path, tree: Tree, start: int = 0) -> Path:
    """So many different pictures in each folder."""
    seed = start
    for name, count in tree.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            seed += 1
            picture(root / name / f"{i:03}.png", seed)
    return root


def images(path: Path, **more: object) -> Images:
    return Images(options.Images.model_validate({"path": str(path), **more}))


def test_a_folder_with_one_folder_a_class_is_split_with_each_classs_share(tmp_path: Path) -> None:
    """A tenth to select, a fifth to report; rows are files, streamed, and targets the folders' names."""
    splits = images(grow(tmp_path, {"cat": 40, "dog": 20})).rows()
    assert {name: Counter(row.target for row in rows) for name, rows in splits.items()} == {
        "train": {"cat": 28, "dog": 14},
        "select": {"cat": 4, "dog": 2},
        "report": {"cat": 8, "dog": 4},
    }
    assert all(is_streamed(rows) for rows in splits.values())
    row = splits["train"][0]
    assert isinstance(row.inputs, Stored)
    assert row.inputs.path.parent.name == row.target
    everything = [row.inputs.path for rows in splits.values() for row in rows]
    assert len(set(everything)) == 60


def test_the_same_options_give_the_same_rows(tmp_path: Path) -> None:
    """Another draw gives others."""
    grow(tmp_path, {"cat": 20, "dog": 20})

    def report(draw: int) -> list[Path]:
        rows = images(tmp_path, splits={"how": "stratified", "draw": draw}).rows()["report"]
        return [row.inputs.path for row in rows]

    assert report(0) == report(0) != report(1)


@pytest.mark.parametrize(
    ("select", "report"), [("select", "report"), ("val", "test"), ("valid", "test"), ("DEV", "Testing")]
)
def test_folders_named_as_splits_are_taken_as_they_are(tmp_path: Path, select: str, report: str) -> None:
    """Whatever of the usual names they have."""
    grow(
        tmp_path,
        {f"{split}/{label}": n for split, n in (("train", 5), (select, 2), (report, 3)) for label in "ab"},
    )
    splits = images(tmp_path).rows()
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 10, "select": 4, "report": 6}
    assert {row.inputs.path.parts[-3] for row in splits["report"]} == {report}


def test_select_is_taken_out_of_train_where_only_report_is_given(tmp_path: Path) -> None:
    """What is given is left alone."""
    grow(tmp_path, {"train/a": 20, "train/b": 20, "test/a": 3, "test/b": 3})
    splits = images(tmp_path, splits={"how": "stratified", "select": 10}).rows()
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 30, "select": 10, "report": 6}
    assert {row.inputs.path.parts[-3] for row in splits["select"]} == {"train"}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    """Among other vehicles it is no split."""
    splits = images(grow(tmp_path, {"train": 10, "bus": 10, "car": 10})).rows()
    assert {row.target for row in splits["report"]} == {"train", "bus", "car"}


def test_a_folder_beside_those_of_splits_is_asked_about(tmp_path: Path) -> None:
    """Otherwise the splits would be taken for classes; what an archiver leaves is no folder."""
    grow(tmp_path, {f"{split}/{label}": 10 for split in ("train", "test") for label in ("cat", "dog")})
    (tmp_path / "__MACOSX" / "train").mkdir(parents=True)
    assert {row.target for row in images(tmp_path).rows()["report"]} == {"cat", "dog"}
    grow(tmp_path, {"extra": 3}, start=500)
    with pytest.raises(
        DataError, match="train holds folders, as a split does, and beside it is extra"
    ) as caught:
        images(tmp_path).rows()
    assert "splits are called train, test and perhaps val" in caught.value.hint


@pytest.mark.parametrize("other", ["tset", None])
def test_a_split_that_is_misspelt_or_missing_is_no_class(tmp_path: Path, other: str | None) -> None:
    """`train` with folders in it is none."""
    grow(
        tmp_path, {f"{split}/{label}": 10 for split in ("train", other) if split for label in ("cat", "dog")}
    )
    with pytest.raises(DataError, match=f"beside it is {other or 'nothing'}"):
        images(tmp_path).rows()


def test_a_link_to_a_folder_above_is_not_followed(tmp_path: Path) -> None:
    """Each picture counts once, and the search ends."""
    grow(tmp_path, {"cat": 20, "dog": 20})
    (tmp_path / "cat" / "loop").symlink_to(tmp_path)
    (tmp_path / "cat" / "self").symlink_to(tmp_path / "cat")
    assert sum(map(len, images(tmp_path).rows().values())) == 40


def test_names_that_are_no_text_are_names(tmp_path: Path) -> None:
    """As old archives leave them."""
    grow(tmp_path, {"cat": 20, "dog": 20})
    Path(tmp_path / "cat" / "000.png").rename(os.fsdecode(os.fsencode(tmp_path / "cat") + b"/\xff\xfe.png"))
    assert sum(map(len, images(tmp_path).rows().values())) == 40


def test_a_picture_with_two_labels_is_told(tmp_path: Path) -> None:
    """With both places."""
    grow(tmp_path, {"cat": 20, "dog": 20})
    (tmp_path / "dog" / "same.png").write_bytes((tmp_path / "cat" / "003.png").read_bytes())
    with pytest.warns(
        DataWarning, match=r"1 times the same picture has two labels; first .*003\.png \(cat\) and .*same"
    ):
        images(tmp_path).rows()


def test_leave_last_has_no_meaning_for_pictures(tmp_path: Path) -> None:
    """With what to use instead."""
    grow(tmp_path, {"cat": 20, "dog": 20})
    with pytest.raises(DataError, match="leave_last takes the latest rows of each user") as caught:
        images(tmp_path, splits={"how": "leave_last"}).rows()
    assert "how: grouped" in caught.value.hint


def test_pictures_in_folders_below_a_class_belong_to_it(tmp_path: Path) -> None:
    """And hidden files, and what file managers leave, to nobody."""
    grow(tmp_path, {"cat/2023": 10, "cat/2024/may": 10, "dog": 10})
    for name in (".DS_Store", "cat/.hidden.png", "cat/Thumbs.db", "dog/desktop.ini"):
        (tmp_path / name).write_text("no picture")
    splits = images(tmp_path).rows()
    assert Counter(row.target for rows in splits.values() for row in rows) == {"cat": 20, "dog": 10}


def test_equal_pictures_stay_in_one_split(tmp_path: Path) -> None:
    """Copies under other names are the same example: made splits have no leak."""
    for label in "ab":
        for i in range(30):
            for copy in range(3):
                picture(tmp_path / label / f"{i}-{copy}.png", 1000 * ord(label) + i)
    splits = images(tmp_path).rows()
    assert sum(map(len, splits.values())) == 180
    assert duplicates({name: identify(list(rows)) for name, rows in splits.items()}) == {}


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def numbered(root: Path, count: int) -> list[str]:
    return [str(picture(root / "pictures" / f"{i}.png", i).relative_to(root)) for i in range(count)]


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_names_pictures_and_labels(tmp_path: Path, form: str) -> None:
    """Paths are relative to the table; a column `split` is taken as it stands."""
    names = numbered(tmp_path, 24)
    rows = [(name, "ab"[i % 2], ("train", "val", "test")[i // 2 % 3]) for i, name in enumerate(names)]
    table = tmp_path / f"table.{form}"
    if form == "jsonl":
        write(table, [json.dumps({"path": p, "label": label, "split": s}) for p, label, s in rows])
    elif form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = dict(zip(("path", "label", "split"), map(list, zip(*rows, strict=True)), strict=True))
        pq.write_table(pa.table(columns), table)
    else:
        mark = "\t" if form == "tsv" else ","
        write(table, [mark.join(row) for row in [("path", "label", "split"), *rows]])
    splits = images(table).rows()
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 8, "select": 8, "report": 8}
    assert splits["train"][1] == Row(Stored(tmp_path / names[1]), "b")


def test_a_tables_columns_may_have_other_names_and_groups_stay_whole(tmp_path: Path) -> None:
    """`grouped` keeps a patient's pictures in one split, and intervals resample whole patients."""
    names = numbered(tmp_path, 40)
    lines = [f"{name},{'xy'[i % 2]},p{i // 4}" for i, name in enumerate(names)]
    table = write(tmp_path / "t.csv", ["file,kind,patient", *lines])
    how = {"how": "grouped", "by": "patient", "select": 8, "report": 8}
    splits = images(table, picture="file", label="kind", splits=how).rows()
    patients = {name: {row.group for row in rows} for name, rows in splits.items()}
    assert {name: len(groups) for name, groups in patients.items()} == {"train": 6, "select": 2, "report": 2}
    assert not patients["train"] & patients["report"]


def test_a_table_may_be_split_by_time(tmp_path: Path) -> None:
    """The latest are reported on."""
    lines = [f"{name},{'xy'[i % 2]},2024-01-{i + 1:02}" for i, name in enumerate(numbered(tmp_path, 20))]
    table = write(tmp_path / "t.csv", ["path,label,taken", *lines])
    splits = images(table, splits={"how": "time", "by": "taken", "select": 4, "report": 4}).rows()
    assert [row.inputs.path.stem for row in splits["report"]] == ["16", "17", "18", "19"]


def test_files_that_are_no_pictures_are_named_and_counted_and_stop_the_run(tmp_path: Path) -> None:
    """The first five by name; nothing is skipped unasked."""
    grow(tmp_path, {"cat": 10, "dog": 10})
    whole = (tmp_path / "cat" / "003.png").read_bytes()
    (tmp_path / "cat" / "003.png").write_bytes(whole[: len(whole) // 2])
    for i in range(6):
        (tmp_path / "dog" / f"notes{i}.txt").write_text("no picture")
    with pytest.raises(DataError, match="7 of 26 files are no pictures that can be read") as caught:
        images(tmp_path).rows()
    assert str(tmp_path / "cat" / "003.png") in caught.value.message
    assert "and 2 more" in caught.value.message
    assert "unreadable=skip" in caught.value.hint


def test_unreadable_pictures_are_left_out_where_the_recipe_says_so(tmp_path: Path) -> None:
    """With a warning that counts them."""
    grow(tmp_path, {"cat": 10, "dog": 10})
    (tmp_path / "cat" / "003.png").write_bytes(b"")
    with pytest.warns(DataWarning, match=r"1 of 20 files .* left out; the first: .*003\.png"):
        splits = images(tmp_path, unreadable="skip").rows()
    assert sum(map(len, splits.values())) == 19
    assert "003.png" not in {
        row.inputs.path.name for rows in splits.values() for row in rows if row.target == "cat"
    }


def test_pictures_that_were_seen_to_be_whole_are_not_decoded_again(tmp_path: Path) -> None:
    """Unless one of them changes."""
    grow(tmp_path, {"cat": 5, "dog": 5})
    paths = sorted(tmp_path.rglob("*.png"))
    first, wrong = folders.inspect(paths)
    assert not wrong
    again, _ = folders.inspect(paths)
    assert (first == again).all()
    paths[0].write_bytes(b"broken")
    assert list(folders.inspect(paths)[1]) == [0]


def test_strays_and_empty_class_folders_are_mentioned(tmp_path: Path) -> None:
    """They are likely mistakes, and no reason to stop."""
    grow(tmp_path, {"cat": 10, "dog": 10, "hamster": 0})
    picture(tmp_path / "loose.png", 99)
    with pytest.warns(DataWarning) as told:
        splits = images(tmp_path).rows()
    said = " ".join(str(one.message) for one in told)
    assert "class folders without a file: 'hamster' (1 of 3)" in said
    assert "left out: 1" in said
    assert {row.target for row in splits["train"]} == {"cat", "dog"}


def _table(lines: Callable[[list[str]], list[str]]) -> Callable[[Path], Path]:
    return lambda root: write(root / "t.csv", lines(numbered(root, 12)))


def _text(root: Path) -> Path:
    return write(root / "notes.txt", ["hello"])


BAD: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "no such folder": (lambda root: root / "nowhere", "there is no such folder or table", "data.path"),
    "an empty folder": (
        lambda root: root,
        "expected one folder a class, found nothing",
        "folder of its name",
    ),
    "pictures without class folders": (
        lambda root: grow(root, {".": 4}),
        "expected one folder a class, found 4 files and no folder",
        "folder of its name",
    ),
    "empty class folders": (
        lambda root: grow(root, {"a": 0, "b": 0}),
        "2 class folders hold no file",
        "put each",
    ),
    "one class": (lambda root: grow(root, {"cat": 9}), "one class alone, 'cat'", "add examples"),
    "a class with one example": (
        lambda root: grow(root, {"cat": 9, "dog": 1}),
        r"the class 'dog' has one example \(.*dog.000\.png\)",
        "add examples",
    ),
    "a class too small to split": (
        lambda root: grow(root, {"cat": 9, "dog": 2}),
        r"needs 3 different examples of each label.*'dog' \(2\)",
        "add examples",
    ),
    "a label in report that train never has": (
        lambda root: grow(root, {"train/a": 9, "train/b": 9, "test/a": 2, "test/b": 2, "test/c": 2}),
        "the label 'c' stands in report, 2 times, and never in train",
        "correct or remove",
    ),
    "two folders for one split": (
        lambda root: grow(root, {"train/a": 3, "train/b": 3, "val/a": 3, "dev/a": 3}),
        "two of the folders dev, train, val mean the same split",
        "rename",
    ),
    "a file that is no table": (
        _text,
        r"expected a folder of pictures, or a table \(\.csv",
        "one folder a class",
    ),
    "an empty table": (
        lambda root: write(root / "t.csv", ["path,label"]),
        "has a header and no rows",
        "nothing to learn from",
    ),
    "a table without the column": (
        _table(lambda names: ["file,label", *(f"{name},a" for name in names)]),
        "no column 'path'; its columns are 'file', 'label'",
        "name",
    ),
    "a table without labels in a line": (
        _table(
            lambda names: [
                "path,label",
                *(f"{n},{'' if i == 4 else 'ab'[i % 2]}" for i, n in enumerate(names)),
            ]
        ),
        "line 6.*label",
        "",
    ),
    "a row that points at nothing": (
        _table(
            lambda names: [
                "path,label",
                *(f"{name},{'ab'[i % 2]}" for i, name in enumerate(names)),
                "gone.png,a",
            ]
        ),
        r"1 of 13 rows point at nothing:\n  - .*t\.csv, line 14: there is no file .*gone\.png",
        "relative to the table's folder",
    ),
    "an unknown split in a table": (
        _table(lambda names: ["path,label,split", *(f"{name},a,tset" for name in names)]),
        "line 2: the column 'split' says 'tset'",
        "",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_are_refused(name: str, tmp_path: Path) -> None:
    """Where, what was expected, and what to do; with the exit code of a wrong request."""
    make, message, hint = BAD[name]
    path = make(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        images(path).rows()
    assert hint in caught.value.hint
    assert caught.value.hint
    assert str(tmp_path) in str(caught.value) or "examples" in str(caught.value)
    assert caught.value.exit_code == 2


def test_splits_that_are_given_are_not_made_too(tmp_path: Path) -> None:
    """The option would say something that does not happen."""
    grow(tmp_path, {f"{split}/{label}": 3 for split in ("train", "val", "test") for label in "ab"})
    with pytest.raises(DataError, match="train, select and report are given already"):
        images(tmp_path, splits={"how": "random"}).rows()


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that this process may not read; where it may read everything, it becomes somebody else meanwhile."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    grow(root, {"cat": 3, "dog": 3})
    (root / "dog").chmod(0o000)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield root
    os.seteuid(user)
    (root / "dog").chmod(0o755)
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    root.rmdir()


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_folder_without_permission_is_refused(closed: Path) -> None:
    """By name, not as if it were empty."""
    with pytest.raises(DataError, match=r"dog: the folder cannot be read: Permission denied") as caught:
        images(closed).rows()
    assert "permissions" in caught.value.hint


def test_report_changes_nothing_about_train(tmp_path: Path) -> None:
    """More pictures to report on: train and select stay the rows they were."""
    grow(tmp_path, {"train/a": 12, "train/b": 12, "test/a": 2, "test/b": 2})
    before = images(tmp_path).rows()
    grow(tmp_path / "test", {"a": 5, "b": 5}, start=500)
    after = images(tmp_path).rows()
    assert len(after["report"]) == 10
    assert [list(before[name]) for name in ("train", "select")] == [
        list(after[name]) for name in ("train", "select")
    ]


def test_the_option_splits_is_the_cores() -> None:
    """With its own checks."""
    given = options.Images.model_validate({"path": "x", "splits": {"how": "random", "select": 5}})
    assert isinstance(given.splits, Splits)
