"""Sentences with their translations, and what bad ones are told."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from core.contract import Row
from core.data import tables
from core.data.rows import is_streamed
from core.errors import DataError, DataWarning
from plugins.nlp import options
from plugins.nlp import pairs as pairs_module
from plugins.nlp.pairs import Pairs

ROWS = [(f"a house, number {i}", f"ein Haus, Nummer {i}") for i in range(20)]


def pairs(path: object, **rest: object) -> Mapping[str, Sequence[Row]]:
    given = {"path": path, "source": "en", "target": "de", **rest}
    return Pairs(options.Pairs.model_validate(given)).rows()


def lines(folder: Path, name: str, rows: Sequence[tuple[str, str]] = ROWS, packed: bool = False) -> str:
    """Two files, of sources and of targets; what their names begin with."""
    for ending, side in (("en", 0), ("de", 1)):
        content = "".join(f"{row[side]}\n" for row in rows).encode()
        path = folder / f"{name}.{ending}{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content) if packed else content)
    return str(folder / name)


def written(folder: Path, form: str) -> str:
    """ROWS in a file, or two, of that form."""
    path = folder / f"rows.{form}"
    if form in ("lines", "gz"):
        return lines(folder, "rows", packed=form == "gz")
    if form in ("csv", "tsv"):
        mark = "\t" if form == "tsv" else ","
        path.write_text("".join(mark.join(f'"{v}"' for v in row) + "\n" for row in [("en", "de"), *ROWS]))
    elif form == "jsonl":
        path.write_text("".join(json.dumps({"en": s, "de": t, "n": 1}) + "\n" for s, t in ROWS))
    else:
        columns = {"de": [t for _, t in ROWS], "en": [s for s, _ in ROWS]}
        pa.parquet.write_table(pa.table(columns), path)
    return str(path)


@pytest.mark.parametrize("form", ["lines", "gz", "csv", "tsv", "jsonl", "parquet"])
def test_every_form_of_file_gives_the_same_pairs(tmp_path: Path, form: str) -> None:
    """All of them, each in one split, by their content."""
    splits = pairs(written(tmp_path, form))
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 14, "select": 2, "report": 4}
    found = [(row.inputs["text"], row.target) for rows in splits.values() for row in rows]
    assert sorted(found) == sorted(ROWS)
    assert splits == pairs(lines(tmp_path, "again"))


def test_a_folder_is_read_by_its_files_names(tmp_path: Path) -> None:
    """Of lines or of tables; without a select file train gives some."""
    for name, part in {"train": ROWS[:12], "val": ROWS[12:16], "test_2016": ROWS[16:]}.items():
        lines(tmp_path, name, part, packed=True)
    splits = pairs(str(tmp_path))
    assert [(row.inputs["text"], row.target) for row in splits["select"]] == ROWS[12:16]
    assert [(row.inputs["text"], row.target) for row in splits["report"]] == ROWS[16:]
    (tmp_path / "val.en.gz").unlink()
    without = pairs(str(tmp_path), splits={"select": 4})
    assert {name: len(rows) for name, rows in without.items()} == {"train": 8, "select": 4, "report": 4}
    of_tables = tmp_path / "tables"
    of_tables.mkdir()
    for name, part in {"train": ROWS[:16], "test": ROWS[16:]}.items():
        (of_tables / f"{name}.jsonl").write_text(
            "".join(json.dumps({"en": s, "de": t}) + "\n" for s, t in part)
        )
    assert pairs(str(of_tables))["report"] == splits["report"]


def test_files_that_could_be_the_same_split_are_named_with_what_to_write(tmp_path: Path) -> None:
    """Two tests, as public data have them; the hint can be pasted."""
    for name, part in {
        "train": ROWS[:12],
        "dev": ROWS[12:14],
        "test_a": ROWS[14:17],
        "test_b": ROWS[17:],
    }.items():
        lines(tmp_path, name, part)
    with pytest.raises(DataError, match="test_a, test_b could all be report") as caught:
        pairs(str(tmp_path))
    assert (
        f"data.path={{train: {tmp_path}/train, select: {tmp_path}/dev, report: {tmp_path}/test_a}}"
        in caught.value.hint
    )
    (tmp_path / "train.en").unlink()
    with pytest.raises(DataError, match="none is called as train is"):
        pairs(str(tmp_path))


def test_columns_of_a_table_say_groups_and_splits(tmp_path: Path) -> None:
    """As for texts with labels."""
    path = tmp_path / "a.jsonl"
    named = [
        {"en": s, "de": t, "book": f"b{i // 4}", "split": "test" if i > 15 else "val" if i > 11 else "train"}
        for i, (s, t) in enumerate(ROWS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in named))
    by_column = pairs(str(path), splits={"how": "column"})
    assert {name: len(rows) for name, rows in by_column.items()} == {"train": 12, "select": 4, "report": 4}
    grouped = pairs(str(path), group="book", splits={"how": "grouped"})
    groups = [{row.group for row in rows} for rows in grouped.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 5
    with pytest.raises(DataError, match="tears groups apart"):
        pairs(str(path), group="book")
    with pytest.raises(DataError, match="pairs have no labels"):
        pairs(str(path), splits={"how": "stratified"})


def test_files_of_different_lengths_are_refused_with_both_counts(tmp_path: Path) -> None:
    """A pair would otherwise be no translation from some line on."""
    begin = lines(tmp_path, "a")
    Path(f"{begin}.de").write_text("".join(f"{t}\n" for _, t in ROWS[:-3]))
    with pytest.raises(DataError, match=r"a\.en has 20 lines and .*a\.de 17") as caught:
        pairs(begin)
    assert caught.value.exit_code == 2


EMPTY = [*ROWS[:3], ("", "nichts"), *ROWS[3:9], ("nothing", "   "), ("", ""), *ROWS[9:]]


def test_empty_lines_are_refused_with_file_and_line(tmp_path: Path) -> None:
    """Of either side; spaces are nothing."""
    begin = lines(tmp_path, "a", EMPTY)
    with pytest.raises(DataError, match=r"3 of 23 pairs have an empty side") as caught:
        pairs(begin)
    for place in ("a.en, line 4", "a.de, line 11", "a.en, line 12", "a.de, line 12"):
        assert place in caught.value.message
    assert "data.empty=drop" in caught.value.hint
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"en": s, "de": t}) + "\n" for s, t in EMPTY))
    with pytest.raises(DataError, match=r"a\.jsonl, line 4, column 'en'; .*a\.jsonl, line 11, column 'de'"):
        pairs(str(path))


@pytest.mark.parametrize("form", ["lines", "table"])
def test_empty_lines_are_left_out_where_the_recipe_says_so(tmp_path: Path, form: str) -> None:
    """All other pairs stay together, and the user is told how many are gone."""
    path = lines(tmp_path, "a", EMPTY)
    if form == "table":
        path = str(tmp_path / "a.jsonl")
        Path(path).write_text("".join(json.dumps({"en": s, "de": t}) + "\n" for s, t in EMPTY))
    with pytest.warns(DataWarning, match="left out: 3 of 23 pairs have an empty side"):
        splits = pairs(path, empty="drop")
    assert sorted((row.inputs["text"], row.target) for rows in splits.values() for row in rows) == sorted(
        ROWS
    )


def test_lines_that_end_with_returns_alone_are_refused(tmp_path: Path) -> None:
    """They would be one long sentence. Before a line feed, a return is part of the end."""
    begin = lines(tmp_path, "rows")
    for ending in ("en", "de"):
        path = Path(f"{begin}.{ending}")
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert sum(map(len, pairs(begin).values())) == len(ROWS)
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\r"))
    with pytest.raises(DataError, match=r"rows.de, line 1: a carriage return stands inside") as caught:
        pairs(begin)
    assert "convert them" in caught.value.hint


def test_a_name_that_no_encoding_can_have_is_refused(tmp_path: Path) -> None:
    """One with a null character, which Python does not even look for."""
    with pytest.raises(DataError, match="there is no encoding"):
        pairs(lines(tmp_path, "rows"), encoding="utf\0")


@pytest.mark.parametrize("form", ["lines", "tsv"])
def test_a_language_is_no_translation_of_itself(tmp_path: Path, form: str) -> None:
    """The same ending, or column, for both sides."""
    with pytest.raises(DataError, match=r"data.source and data.target are both 'en'") as caught:
        pairs(written(tmp_path, form), target="en")
    assert caught.value.hint


def test_another_encoding_is_told_with_its_line_and_can_be_named(tmp_path: Path) -> None:
    """Also of a packed file; U+0085 is no end of a line."""
    begin = tmp_path / "a"
    rows = [(s, f"{t} für \x85 alle") for s, t in ROWS]
    Path(f"{begin}.en").write_text("".join(f"{s}\r\n" for s, _ in rows))
    Path(f"{begin}.de.gz").write_bytes(gzip.compress("".join(f"{t}\n" for _, t in rows).encode("latin-1")))
    with pytest.raises(DataError, match=r"a\.de\.gz, line 1: byte 0xfc is no utf-8") as caught:
        pairs(str(begin))
    assert "data.encoding=latin-1" in caught.value.hint
    found = pairs(str(begin), encoding="latin-1")["train"][0]
    assert (found.inputs["text"], found.target) in rows


def no_target(folder: Path) -> str:
    Path(lines(folder, "a") + ".de").unlink()
    return "there is no file .*a.de, nor a.de.gz"


def both_forms(folder: Path) -> str:
    lines(folder, "a")
    lines(folder, "a", packed=True)
    return "there are both .*a.en and a.en.gz"


def cut(folder: Path) -> str:
    path = Path(lines(folder, "a", ROWS * 50, packed=True) + ".de.gz")
    path.write_bytes(path.read_bytes()[:-20])
    return "a.de.gz cannot be read: .*end-of-stream"


def no_gzip(folder: Path) -> str:
    Path(lines(folder, "a", packed=True) + ".de.gz").write_text("plain text")
    return "a.de.gz cannot be read: Not a gzipped file"


def no_byte(folder: Path) -> str:
    Path(lines(folder, "a") + ".en").write_text("")
    return "a.en is empty"


def packed_nothing(folder: Path) -> str:
    Path(lines(folder, "a", packed=True) + ".en.gz").write_bytes(gzip.compress(b""))
    return "a.en.gz is empty: it has no line"


@pytest.mark.parametrize("spoil", [no_target, both_forms, cut, no_gzip, no_byte, packed_nothing])
def test_bad_files_are_told(tmp_path: Path, spoil: object) -> None:
    """By name, with what is wrong."""
    said = spoil(tmp_path)  # type: ignore[operator]
    with pytest.raises(DataError, match=said):
        pairs(str(tmp_path / "a"))


def test_a_table_without_the_columns_says_which_it_has(tmp_path: Path) -> None:
    """And which options name them."""
    path = tmp_path / "a.csv"
    path.write_text("english,german\na,b\n")
    with pytest.raises(
        DataError, match="no column 'en' and no 'de'; its columns are 'english', 'german'"
    ) as caught:
        pairs(str(path))
    assert "data.source and data.target" in caught.value.hint
    with pytest.raises(DataError, match="tables are read as UTF-8"):
        pairs(str(path), encoding="latin-1")
    with pytest.raises(DataError, match=r"no column .book. for data\.group"):
        pairs(lines(tmp_path, "b"), group="book")


def test_many_pairs_are_streamed_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows as when they are held."""
    held = pairs(lines(tmp_path, "a"))
    assert not any(is_streamed(rows) for rows in held.values())
    monkeypatch.setattr(pairs_module, "HELD", 3)
    monkeypatch.setattr(tables, "LARGE", 10)
    streamed = pairs(str(tmp_path / "a"))
    assert {name: is_streamed(rows) for name, rows in streamed.items()} == {
        "train": True,
        "select": False,
        "report": True,
    }
    assert {name: list(rows) for name, rows in streamed.items()} == held
