"""A graph of people: which links are held out, and each bad input."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from core.contract import Row
from core.data.rows import is_streamed
from core.errors import DataError, DataWarning
from core.rows import duplicates, identify
from plugins.recommendation import interactions, options
from plugins.recommendation.links import Links, read


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        yield


@pytest.fixture
def path(tmp_path: Path, people: Any) -> Path:
    made: Path = people.links(tmp_path / "trust.txt")
    return made


def chosen(path: Path, **more: Any) -> options.Links:
    return options.Links(path=str(path), **{"names": ["trustor", "trustee", "trust"], **more})


def rows(path: Path, **more: Any) -> Mapping[str, Sequence[Row]]:
    return Links(chosen(path, **more)).rows()


def pairs(found: Sequence[Row]) -> list[tuple[str, str]]:
    return [(row.inputs["user"], one) for row in found for one in row.target]


def test_each_link_is_to_be_found_in_one_split_alone(path: Path) -> None:
    """All of the file, once; a fifth of somebody's for the report, and one stays at least."""
    found = rows(path)
    everything = {tuple(line.split()[:2]) for line in path.read_text().splitlines()}
    asked = {name: pairs(split) for name, split in found.items()}
    assert sorted(pair for split in asked.values() for pair in split) == sorted(everything)
    by_user: dict[str, int] = {}
    for user, _ in everything:
        by_user[user] = by_user.get(user, 0) + 1
    assert {row.inputs["user"] for row in found["report"]} == {u for u, count in by_user.items() if count > 1}
    for row in found["report"]:
        count = by_user[row.inputs["user"]]
        assert len(row.target) == row.inputs["held_out"] == max(1, int(0.2 * count + 0.5))
        assert row.group == row.inputs["user"]


def test_what_is_to_be_found_is_never_in_the_history(path: Path) -> None:
    """In train each link is left out of its own row, and what is held out of every row of train."""
    found = rows(path)
    known: dict[str, set[str]] = {}
    for user, other in pairs(found["train"]):
        known.setdefault(user, set()).add(other)
    for row in found["train"]:
        assert row.inputs["history"] == sorted(known[row.inputs["user"]].difference(row.target))
    for row in found["select"]:
        assert row.inputs["history"] == sorted(known[row.inputs["user"]])
    assert duplicates({name: identify(list(split)) for name, split in found.items()}) == {}


def test_the_order_of_the_file_changes_nothing_and_the_draw_does(path: Path, monkeypatch: Any) -> None:
    """Nor does it whether rows are held or streamed."""
    first = rows(path)
    lines = path.read_text().splitlines(True)
    path.write_text("".join(reversed(lines)))
    assert {name: list(split) for name, split in rows(path).items()} == dict(first)
    assert pairs(rows(path, draw=1)["report"]) != pairs(first["report"])
    monkeypatch.setattr(interactions, "HELD", 10)
    streamed = rows(path)
    assert all(is_streamed(split) for split in streamed.values())
    assert {name: list(split) for name, split in streamed.items()} == dict(first)


def test_links_to_oneself_and_repeated_ones_are_left_out_and_told_with_their_lines(tmp_path: Path) -> None:
    """The others stay."""
    path = tmp_path / "links.txt"
    path.write_text("a b 1\na a 1\na c 1\na b 1\n\nb b 1\na d 1\nb a 1\na c 1\n")
    with pytest.warns(DataWarning) as caught:
        log = read(chosen(path))
    said = [str(one.message) for one in caught]
    assert f"{path}: links to oneself, which are left out: 2 (line 2, line 6)" in said
    assert f"{path}: links that stand there already, and count once: 2 (line 4, line 9)" in said
    assert [(log.users[u], log.items[i]) for u, i in zip(log.user, log.item, strict=True)] == [
        ("a", "b"),
        ("a", "c"),
        ("a", "d"),
        ("b", "a"),
    ]


def test_a_header_where_none_is_expected_is_refused(path: Path) -> None:
    """The line of the columns' names is no link of somebody called so."""
    numbers = "".join(f"{i} {j} 1\n" for i in range(5) for j in range(5) if i != j)
    for content in (f"trustor trustee trust\n{path.read_text()}", f"user friend value\n{numbers}"):
        path.write_text(content)
        with pytest.raises(DataError, match=r"line 1: it names the columns, and is no link\n.*names=null"):
            rows(path)


def test_a_table_with_a_header_names_its_columns(tmp_path: Path) -> None:
    """The first two are taken, and that is said, unless the options name others."""
    path = tmp_path / "links.csv"
    path.write_text("day,from,to\n1,a,b\n2,a,c\n3,a,d\n")
    log = read(options.Links(path=str(path), source="from", target="to"))
    assert (list(log.users), list(log.items)) == (["a"], ["b", "c", "d"])
    assert list(read(options.Links(path=str(path), source="from")).items) == ["1", "2", "3"]
    with pytest.warns(DataWarning, match="took 'day' as who links, 'from' as to whom"):
        read(options.Links(path=str(path)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a b 1\na c\n", "line 2: has 2 values; 3 are wanted, as trustor, trustee, trust say"),
        ("a b 1\na c 1 7\n", "line 2: has 4 values"),
        ("a a 1\nb b 1\n", "people link to themselves alone: 'a', 'b'"),
        ("a b 1\na c 1\nb a 1\n", "nobody links to three people"),
        ("\n", "is empty"),
    ],
)
def test_links_that_do_not_serve_are_refused_with_file_and_line(
    tmp_path: Path, content: str, said: str
) -> None:
    """And with what to do."""
    path = tmp_path / "links.txt"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        rows(path)
    assert str(path) in caught.value.message
    assert said in caught.value.message
    assert caught.value.hint


def test_columns_that_are_no_pair_are_refused(tmp_path: Path) -> None:
    """One column alone, one twice, and one that is not there."""
    path = tmp_path / "links.csv"
    path.write_text("a;b\n")
    for content, more, said in (
        ("who\na\n", {}, "has one column, 'who'"),
        ("who,whom\na,b\n", {"source": "who", "target": "who"}, "is both source and target"),
        ("who,whom\na,b\n", {"source": "wo", "target": "whom"}, "has no column 'wo'"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=said):
            read(options.Links(path=str(path), **more))
