"""Transforms of histories, and that they learn from `train` alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from core.contract import Row
from core.errors import DataError
from plugins.recommendation import options
from plugins.recommendation.transforms import Common, Drop, TimeBins

RNG = torch.Generator()


def row(*history: str, **beside: Any) -> Row:
    return Row({"user": "u", "history": list(history), **beside}, ["held"])


def test_drop_leaves_columns_out() -> None:
    """And nothing else; what is not there is refused with what is."""
    drop = Drop(options.Drop(columns=["ratings"]))
    given = row("a", ratings=[5.0], times=[1.0])
    assert drop.apply(given, drop.fit([given]), RNG).inputs == {"user": "u", "history": ["a"], "times": [1.0]}
    with pytest.raises(DataError, match="no column 'ratings'; they have user, history"):
        drop.fit([row("a")])


def test_common_keeps_the_items_that_enough_users_in_train_have() -> None:
    """What stands beside a history goes with its items; what is asked stays."""
    common = Common(options.Common(min_users=2))
    state = common.fit([row("a", "b"), row("b", "c"), row("c", "d", "c")])
    assert state == {"items": ["b", "c"]}
    found = common.apply(row("a", "b", "z", "c", ratings=[1, 2, 3, 4]), state, RNG)
    assert found.inputs == {"user": "u", "history": ["b", "c"], "ratings": [2, 4]}
    assert found.target == ["held"]


def test_common_keeps_at_most_so_many() -> None:
    """Those with most users; of equal ones the first by name."""
    state = Common(options.Common(min_users=1, most=2)).fit(
        [row("a", "b"), row("b", "c"), row("c", "a"), row("b")]
    )
    assert state == {"items": ["a", "b"]}


def test_common_that_leaves_nothing_is_refused() -> None:
    """With the most usual item's count."""
    with pytest.raises(DataError, match="no item of train has 3 users; the most usual has 2"):
        Common(options.Common(min_users=3)).fit([row("a"), row("a")])


def test_bins_hold_equally_many_of_trains_times() -> None:
    """What lies outside of them is in the first or last."""
    bins = TimeBins(options.TimeBins(bins=4))
    state = bins.fit([row("a", times=[float(i)]) for i in range(8)])
    found = bins.apply(row(*"abcd", times=[-5.0, 2.0, 4.0, 99.0]), state, RNG)
    assert found.inputs["times"] == [0, 1, 2, 3]


def test_bins_of_a_length_begin_with_trains_first_time() -> None:
    """What is earlier falls into the first bin."""
    bins = TimeBins(options.TimeBins(seconds=10))
    state = bins.fit([row("a", "b", times=[100.0, 150.0])])
    assert bins.apply(row("a", "b", "c", times=[90.0, 109.0, 131.0]), state, RNG).inputs["times"] == [0, 0, 3]


def test_what_is_long_ago_can_be_forgotten() -> None:
    """Each history keeps its own last bins; what a user types has no times, and stays."""
    bins = TimeBins(options.TimeBins(seconds=10, keep=2))
    state = {"begin": 0.0, "seconds": 10.0}
    found = bins.apply(row("a", "b", "c", times=[5.0, 35.0, 44.0]), state, RNG)
    assert found.inputs == {"user": "u", "history": ["b", "c"], "times": [3, 4]}
    assert bins.apply(row("a"), state, RNG) == row("a")


def test_bins_need_times_and_one_way_to_make_them() -> None:
    """Both said with what to write."""
    with pytest.raises(DataError, match="the rows have no times") as caught:
        TimeBins(options.TimeBins(bins=2)).fit([row("a")])
    assert "keep: [times]" in caught.value.hint
    with pytest.raises(ValidationError, match="either bins or seconds"):
        options.TimeBins(bins=2, seconds=1.0)
