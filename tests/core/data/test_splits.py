"""Which rows go where: each row once, in the shares asked for, always the same, and what belongs together stays so."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.data.labels import Coded
from core.data.options import Splits
from core.data.splits import assign, mix
from core.errors import DataError

SHARES = st.floats(0.05, 0.45)


def sizes(made):
    return {name: len(places) for name, places in made.items()}


def whole(made, count):
    """Every row stands in one split, in ascending order; none is empty."""
    assert all(
        len(places) and (np.diff(places) > 0).all() and places.dtype == np.int64 for places in made.values()
    )
    assert sorted(np.concatenate(list(made.values())).tolist()) == list(range(count))


@given(st.integers(10, 300), SHARES, SHARES, st.integers(0, 9))
def test_a_random_split_has_the_rows_it_was_asked_for(count, select, report, draw):
    """Shares are rounded to the nearest number of rows, one at least."""
    made = assign(Splits(select=select, report=report, draw=draw), count)
    whole(made, count)
    for name, share in (("select", select), ("report", report)):
        assert abs(len(made[name]) - share * count) <= 1


def test_a_count_is_a_count():
    """And the default a tenth and a fifth."""
    assert sizes(assign(Splits(select=30, report=1), 1000)) == {"train": 969, "select": 30, "report": 1}
    assert sizes(assign(Splits(), 1000)) == {"train": 700, "select": 100, "report": 200}


def test_another_draw_is_another_split_and_the_same_draw_the_same():
    """In this version and the next: a recipe's splits are part of what it promises."""
    rows = assign(Splits(), 20)["report"].tolist()
    assert rows == assign(Splits(), 20)["report"].tolist() == GOLDEN_ROWS
    assert rows != assign(Splits(draw=1), 20)["report"].tolist()
    words = assign(Splits(how="grouped", report=0.3), 12, groups=list("aabbccddeeff"))
    assert {name: places.tolist() for name, places in words.items()} == GOLDEN_GROUPS


GOLDEN_ROWS = [0, 6, 15, 18]
GOLDEN_GROUPS = {"train": [2, 3, 4, 5, 6, 7], "select": [10, 11], "report": [0, 1, 8, 9]}


@given(
    st.lists(st.integers(0, 12), min_size=40, max_size=200),
    st.sampled_from(["random", "stratified"]),
    st.integers(0, 5),
)
def test_equal_contents_never_stand_in_two_splits(contents, how, draw):
    """Also where they have different labels."""
    labels = ["even" if i % 2 else "odd" for i in range(len(contents))]
    digests = np.array(contents, np.uint64)
    try:
        made = assign(Splits(how=how, draw=draw), len(contents), labels=labels, contents=digests)
    except DataError:
        assert len(set(contents)) < 13 or how == "stratified"  # too few different ones
        return
    whole(made, len(contents))
    found = [set(digests[places].tolist()) for places in made.values()]
    assert sum(map(len, found)) == len(set(contents))


def test_the_order_of_the_file_changes_nothing_where_contents_are_known():
    """The same contents go to report; and a new row moves few."""
    contents = mix(np.arange(1000, dtype=np.uint64))
    report = set(contents[assign(Splits(), 1000, contents=contents)["report"]].tolist())
    turned = contents[::-1]
    assert set(turned[assign(Splits(), 1000, contents=turned)["report"]].tolist()) == report
    more = np.append(contents, np.uint64(7))
    assert len(set(more[assign(Splits(), 1001, contents=more)["report"]].tolist()) ^ report) <= 3


def test_content_that_most_rows_share_is_trained_on():
    """It would fill a split of its own."""
    contents = np.append(np.zeros(800, np.uint64), np.arange(1, 201, dtype=np.uint64))
    for draw in range(20):
        made = assign(Splits(draw=draw), 1000, contents=contents)
        whole(made, 1000)
        assert set(range(800)) <= set(made["train"].tolist())


@given(st.lists(st.integers(3, 60), min_size=2, max_size=6), SHARES, st.integers(0, 5))
def test_a_stratified_split_keeps_the_share_of_each_label(counts, share, draw):
    """To one row; and each label stands in each split."""
    labels = [f"label {i}" for i, count in enumerate(counts) for _ in range(count)]
    made = assign(Splits(how="stratified", select=share, report=share, draw=draw), len(labels), labels=labels)
    whole(made, len(labels))
    for name, places in made.items():
        found = Counter(labels[i] for i in places)
        assert len(found) == len(counts), name
        if name != "train":
            for i, count in enumerate(counts):
                assert abs(found[f"label {i}"] - share * count) <= 1.001


def test_a_stratified_count_is_met_exactly_where_labels_allow_it():
    """Largest remainders."""
    labels = [f"{i % 7}" for i in range(1000)]
    assert len(assign(Splits(how="stratified", report=100), 1000, labels=labels)["report"]) == 100


def test_a_label_too_small_to_stratify_is_named():
    """With how many different examples it has; equal ones count once."""
    labels = ["a"] * 50 + ["b"] * 2 + ["c"] * 4
    contents = np.append(np.arange(52), [99, 99, 99, 99]).astype(np.uint64)
    with pytest.raises(DataError, match=r"'b' \(2\), 'c' \(1\)") as caught:
        assign(Splits(how="stratified"), 56, labels=labels, contents=contents)
    assert "random" in caught.value.hint


@given(st.lists(st.sampled_from("abcdefghij"), min_size=30, max_size=120), st.integers(0, 5))
def test_a_group_stands_in_one_split(groups, draw):
    """Whole; and report has about what it wants, give or take half a group."""
    if len(set(groups)) < 3:
        return
    made = assign(Splits(how="grouped", draw=draw), len(groups), groups=groups)
    whole(made, len(groups))
    found = [{groups[i] for i in places} for places in made.values()]
    assert sum(map(len, found)) == len(set(groups))


def test_fewer_groups_than_splits_are_refused():
    """What would be empty is named."""
    with pytest.raises(DataError, match=r"grouped\) leaves .* without any"):
        assign(Splits(how="grouped"), 10, groups=list("aaaaabbbbb"))


@given(st.lists(st.integers(0, 30), min_size=30, max_size=100))
def test_by_time_no_row_of_an_earlier_split_is_as_late_as_a_later_one(times):
    """Equal times never straddle."""
    if len(set(times)) < 3:
        return
    moments = np.array(times)
    made = assign(Splits(how="time"), len(times), times=moments)
    whole(made, len(times))
    assert moments[made["train"]].max() < moments[made["select"]].min()
    assert moments[made["select"]].max() < moments[made["report"]].min()


def test_most_rows_may_be_of_the_latest_time():
    """Time's order is kept even then."""
    moments = np.array([0, 1] + [2] * 30)
    made = assign(Splits(how="time"), 32, times=moments)
    assert sizes(made) == {"train": 1, "select": 1, "report": 30}


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5)), min_size=1, max_size=40))
def test_leave_last_is_what_a_loop_over_users_does(rows):
    """The last of each to report, the one before to select, one at least to train; of equal times, the later row is
    the last."""
    expected = {"train": [], "select": [], "report": []}
    for user in {user for user, _ in rows}:
        mine = sorted((i for i, row in enumerate(rows) if row[0] == user), key=lambda i: rows[i][1])
        for name in ("report", "select"):
            if len(mine) > 1:
                expected[name].append(mine.pop())
        expected["train"] += mine
    users, times = [user for user, _ in rows], np.array([moment for _, moment in rows], np.float64)
    if all(expected.values()):
        made = assign(Splits(how="leave_last"), len(rows), groups=users, times=times)
        assert {name: places.tolist() for name, places in made.items()} == {
            k: sorted(v) for k, v in expected.items()
        }
    else:
        with pytest.raises(DataError, match="leave_last"):
            assign(Splits(how="leave_last"), len(rows), groups=users, times=times)


def test_a_column_of_splits_is_taken_as_it_is():
    """By our names and by the usual ones."""
    given_ = ["train", "Val", "test", "dev", "report ", "select", "train"]
    made = assign(Splits(how="column", by="fold"), 7, given=given_)
    assert {name: places.tolist() for name, places in made.items()} == {
        "train": [0, 6],
        "select": [1, 3, 5],
        "report": [2, 4],
    }


def test_a_value_that_is_no_split_is_named_with_its_place():
    """And what would be one."""
    with pytest.raises(
        DataError, match=r"row 1: the column 'fold' says 'trian'; report, select, train are wanted"
    ) as caught:
        assign(Splits(how="column", by="fold"), 3, given=["train", "trian", "test"])
    assert "'train'" in caught.value.hint
    with pytest.raises(DataError, match="without any: train 1, select 0, report 1"):
        assign(Splits(how="column"), 2, given=["train", "test"])


def test_only_the_parts_that_are_wanted_are_made():
    """Where report is a file of its own."""
    made = assign(Splits(select=0.25), 8, parts=("select",))
    assert sizes(made) == {"train": 6, "select": 2}
    whole(made, 8)


@pytest.mark.parametrize(
    ("how", "missing"),
    [("stratified", "labels"), ("grouped", "groups"), ("time", "times"), ("leave_last", "groups")],
)
def test_what_a_split_needs_and_the_dataset_lacks_is_said(how, missing):
    """With the option that names a column."""
    with pytest.raises(DataError, match=f"is {how}, which needs {missing}") as caught:
        assign(Splits(how=how), 9)
    assert "splits.by" in caught.value.hint


def test_gaps_in_groups_and_times_are_refused_with_their_place():
    """As the caller names places."""
    with pytest.raises(DataError, match=r"1 rows have no group; the first: line 3"):
        assign(Splits(how="grouped"), 3, groups=["a", "", "b"], where=lambda row: f"line {row + 2}")
    with pytest.raises(DataError, match=r"no time that is a finite number; the first: row 2"):
        assign(Splits(how="time"), 3, times=np.array([1.0, 2.0, np.nan]))


def test_more_rows_than_there_are_cannot_be_given_away():
    """Nothing would be left to train on."""
    with pytest.raises(DataError, match="of 50 rows, 20 to select and 30 to report leave none"):
        assign(Splits(select=20, report=30), 50)
    with pytest.raises(DataError, match="no rows to split"):
        assign(Splits(), 0)


@pytest.mark.parametrize(
    "options",
    [
        {"select": 0.5, "report": 0.5},
        {"report": 1.5},
        {"report": 0},
        {"how": "column", "report": 0.2},
        {"how": "leave_last", "select": 0.1},
        {"how": "fair"},
    ],
)
def test_options_that_mean_nothing_are_refused(options):
    """Before any data is read."""
    with pytest.raises(ValidationError):
        Splits(**options)


def test_options_survive_being_written_into_a_recipe():
    """Counts stay whole numbers, and what was left out stays so."""
    options = Splits(how="leave_last", report=2)
    assert options.model_dump(mode="json", exclude_none=True) == {"how": "leave_last", "report": 2, "draw": 0}
    assert Splits(**options.model_dump(mode="json", exclude_none=True)) == options


def test_a_million_rows_are_split_in_a_moment():
    """Each way; a loop over rows in Python would take longer by far."""
    count = 1_000_000
    rng = np.random.RandomState(0)
    columns = {
        "labels": Coded(rng.randint(0, 10, count), [str(i) for i in range(10)]),
        "groups": Coded(rng.randint(0, 10_000, count), [str(i) for i in range(10_000)]),
        "times": rng.randint(0, 10**9, count),
        "contents": rng.randint(0, 2**40, count).astype(np.uint64),
    }
    for how in ("random", "stratified", "grouped", "time", "leave_last"):
        began = time.process_time()
        assign(Splits(how=how), count, **columns)
        assert time.process_time() - began < 3, how
