"""Who is in which split, and which items are held out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from core.contract import Row
from core.data.rows import is_streamed
from core.errors import DataError, DataWarning
from core.rows import duplicates, identify
from plugins.recommendation import interactions, options
from plugins.recommendation.interactions import Interactions

Splits = Mapping[str, Sequence[Row]]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        yield


@pytest.fixture
def path(tmp_path: Path, logs: Any) -> Path:
    made: Path = logs.write(tmp_path / "log.csv", logs.header(), logs.readers(100))
    return made


def splits(path: Path, **chosen: Any) -> Splits:
    return Interactions(options.Interactions(path=str(path), **chosen)).rows()


def by_user(rows: Sequence[Row]) -> dict[str, Row]:
    return {row.inputs["user"]: row for row in rows}


def content(found: Splits) -> dict[str, list[tuple[Any, Any]]]:
    return {name: [(row.inputs, row.target) for row in rows] for name, rows in found.items()}


@pytest.mark.parametrize("holdout", ["random", "last"])
def test_what_is_asked_is_never_in_what_train_shows_of_the_same_user(path: Path, holdout: str) -> None:
    """A fifth for the report, and of the users of `select` a fifth of the rest; nothing gets lost."""
    found = splits(path, holdout=holdout)
    train, select, report = (by_user(found[name]) for name in ("train", "select", "report"))
    assert (len(train), len(select), len(report)) == (100, 20, 100)
    for user, row in report.items():
        whole = {*row.inputs["history"], *row.target}
        assert len(row.target) == row.inputs["held_out"] == int(0.2 * len(whole) + 0.5)
        shown = set(train[user].inputs["history"])
        if user in select:
            asked = select[user]
            assert asked.inputs["history"] == train[user].inputs["history"]
            assert asked.target
            assert shown | set(asked.target) == set(row.inputs["history"])
            assert not shown & set(asked.target)
        else:
            assert shown == set(row.inputs["history"])
        assert not set(row.inputs["history"]) & set(row.target)
        assert row.group == user


def test_the_last_items_are_held_out_by_time(path: Path) -> None:
    """With a count too; in the order in which they came."""
    found = splits(path, holdout="last", held_out=2, keep=["times"])
    for row in found["report"]:
        times = row.inputs["times"]
        assert times == sorted(times)
        assert len(row.target) == 2
    train = by_user(found["train"])
    report = by_user(found["report"])
    assert all(train[user].target is None for user in train)
    first = report["reader000"]
    assert first.inputs["times"][-1] == 1_700_000_000 + 1000 * (len(first.inputs["history"]) - 1)


def test_without_times_the_last_are_those_that_stand_last(tmp_path: Path, logs: Any) -> None:
    """In the file's order."""
    rows = [[user, item] for user in "abcdefgh" for item in ("z", "m", "a")]
    path = logs.write(tmp_path / "log.csv", ["user", "item"], rows)
    found = splits(path, holdout="last", held_out=1, select=1)
    assert {tuple(row.target) for row in found["report"]} == {("a",)}
    assert {tuple(row.inputs["history"]) for row in found["report"]} == {("z", "m")}


def test_random_items_do_not_depend_on_the_order_of_the_file(tmp_path: Path, logs: Any) -> None:
    """Nor on users who come or go; on the draw they do."""
    rows = logs.readers(100, rated=False, timed=False)
    names = logs.header(rated=False, timed=False)
    one = splits(logs.write(tmp_path / "one.csv", names, rows))
    other = splits(logs.write(tmp_path / "other.csv", names, rows[::-1]))
    fewer = splits(logs.write(tmp_path / "fewer.csv", names, [row for row in rows if row[0] != "reader050"]))
    assert content(one) == content(other)
    kept = by_user(fewer["report"])
    assert len(kept) == 99
    assert all(row.target == by_user(one["report"])[user].target for user, row in kept.items())
    assert content(splits(tmp_path / "one.csv", draw=1)) != content(one)


def test_users_apart_are_in_one_split_only(path: Path) -> None:
    """The model then meets users in the report that it has never seen."""
    found = splits(path, users="apart", report=0.3, select=10)
    users = {name: set(by_user(rows)) for name, rows in found.items()}
    assert {name: len(some) for name, some in users.items()} == {"train": 60, "select": 10, "report": 30}
    assert len(set.union(*users.values())) == 100
    with pytest.raises(DataError, match="leave none of 100 to train on"):
        splits(path, users="apart", report=90, select=10)


def test_retain_has_users_of_the_bases_side_whom_it_does_not_see(path: Path) -> None:
    """And of no other split; without the option there is none."""
    found = splits(path, base_users=0.5, retain_users=0.3)
    users = {name: set(by_user(rows)) for name, rows in found.items()}
    assert users["retain"]
    assert not users["retain"] & (users["train"] | users["report"])
    assert "retain" not in splits(path, base_users=0.5)


def test_rows_are_held_where_they_are_few_and_else_made_when_asked_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same ones: what is held is encoded once, and not again in each epoch."""
    held = splits(path, base_users=0.3, retain_users=0.3)
    monkeypatch.setattr(interactions, "HELD", 50)
    streamed = splits(path, base_users=0.3, retain_users=0.3)
    assert not any(is_streamed(rows) for rows in held.values())
    assert all(is_streamed(rows) for rows in streamed.values())
    assert content(held) == content(streamed)


def test_no_row_stands_in_two_splits(path: Path) -> None:
    """A user's row in `report` says how much is asked, and so is another than the one in `train`."""
    found = splits(path, base_users=0.3, retain_users=0.3)
    assert duplicates({name: identify(list(rows)) for name, rows in found.items()}) == {}
    assert found["report"][-1] == found["report"][len(found["report"]) - 1]


def test_ratings_and_times_stand_beside_the_history_where_asked_for(path: Path) -> None:
    """One an item; unasked, a row has the user and the history alone."""
    row = splits(path, keep=["ratings", "times"])["train"][0]
    assert len(row.inputs["history"]) == len(row.inputs["ratings"]) == len(row.inputs["times"])
    assert set(row.inputs["ratings"]) <= {2.0, 5.0}
    assert list(splits(path)["train"][0].inputs) == ["user", "history"]


def test_users_too_poor_to_select_with_are_said(tmp_path: Path, logs: Any) -> None:
    """Of two items one is held out for the report, and the other is all that is left to train on."""
    rows = [[user, item] for user in "abcd" for item in "xy"]
    path = logs.write(tmp_path / "log.csv", ["user", "item"], rows)
    with pytest.raises(DataError, match="none has items enough for the split 'select'"):
        splits(path)


def test_shares_that_cannot_be_are_refused_at_once() -> None:
    """Before any file is opened."""
    for wrong, match in (
        ({"base_users": 1.0}, "leaves no user to adapt to"),
        ({"held_out": 1.5}, "a share below 1 or a whole number"),
        ({"users": "apart"}, "leave nobody to train on"),
        ({"report": 2.5}, "a share up to 1.0 or a whole number"),
    ):
        with pytest.raises(ValidationError, match=match):
            options.Interactions(path="log.csv", **wrong)
