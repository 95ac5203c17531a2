"""The dataset: users, items, and who is in which split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from core.contract import Row
from core.errors import DataError
from core.rows import content_digest, duplicates, identify
from plugins.recommendation import options
from plugins.recommendation.data import (
    MIN_ITEMS,
    MIN_USERS,
    Imports,
    base_split,
    is_test,
    leave_one_out,
    users,
    whole,
)


def members(rows: Sequence[Row]) -> set[str]:
    return {row.inputs["user"] for row in rows}


def test_every_user_and_every_item_has_enough_of_the_other() -> None:
    """With fewer there is nothing to hold out, or nothing to learn from; dropping one kind may starve the other."""
    count = Counter(item for items in users().values() for item in items)
    assert min(map(len, users().values())) == MIN_ITEMS
    assert min(count.values()) == MIN_USERS
    assert (len(users()), len(count), sum(count.values())) == (1266, 155, 7759)


def test_the_splits_have_the_stated_sizes(splits: Mapping[str, Sequence[Row]]) -> None:
    """Users: 40 to train, 40 to select, all other tests to report, 60 files that are no tests to retain."""
    sizes = {name: len(members(rows)) for name, rows in splits.items()}
    assert sizes == {"train": 40, "select": 40, "report": 768, "retain": 60}
    assert len(splits["train"]) == 40
    for name in ("select", "report", "retain"):
        assert len(splits[name]) == sum(len(users()[user]) for user in members(splits[name]))


def test_each_item_is_left_out_in_turn() -> None:
    """The history never holds the target, and both together are all that the user has."""
    user = "test/test_os.py"
    rows = leave_one_out(user)
    assert [row.target for row in rows] == list(users()[user])
    assert all(row.target not in row.inputs["history"] for row in rows)
    assert all({*row.inputs["history"], row.target} == set(users()[user]) for row in rows)
    assert {row.group for row in rows} == {user}
    assert whole(user).inputs["history"] == list(users()[user])


def test_nobody_stands_in_two_splits_or_in_the_bases_own_data(splits: Mapping[str, Sequence[Row]]) -> None:
    """The base has seen no test, and none of `retain`; users with equal imports are still two."""
    groups = [set(base_split()[0]), *map(members, splits.values())]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert not any(map(is_test, base_split()[0] + base_split()[1]))
    assert all(is_test(user) for name in ("train", "select", "report") for user in members(splits[name]))
    assert duplicates({name: identify(rows) for name, rows in splits.items()}) == {}


def test_the_default_draw_is_the_same_everywhere(splits: Mapping[str, Sequence[Row]]) -> None:
    """Figures in the documentation are of these very rows."""
    assert (
        content_digest({name: [[r.inputs, r.target] for r in rows] for name, rows in splits.items()})
        == "5390f616f9101c30"
    )


def test_another_draw_is_another_world_with_the_same_base(splits: Mapping[str, Sequence[Row]]) -> None:
    """`draw` changes who is trained on and reported; what is retained stays."""
    other = Imports(options.Imports(draw=1)).rows()
    assert members(other["train"]) != members(splits["train"])
    assert other["retain"] == splits["retain"]


def test_options_that_leave_nobody_to_report_on_are_refused() -> None:
    """The error says how many files there are and what to lower."""
    with pytest.raises(DataError, match="none of the 848 test files") as caught:
        Imports(options.Imports(train_files=800, select_files=48)).rows()
    assert "less than 848" in caught.value.hint
