"""Rankings and their metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.contract import Row
from plugins.recommendation.ranking import MRR, NDCG, RECALL, catalogue, histories, recommend

ITEMS = [f"item{i}" for i in range(15)]


def test_all_items_that_the_user_lacks_are_ranked_by_score() -> None:
    """The best ten with their scores, best first; the history is no candidate however high it scores."""
    scores = np.arange(15.0)[None]
    has = np.zeros((1, 15))
    has[0, 13:] = 1
    (prediction,) = recommend(scores, has, [2], ITEMS)
    assert list(prediction["recommended"].items()) == [(f"item{i}", float(i)) for i in range(12, 2, -1)]
    assert prediction["rank"] == 11


def test_a_user_who_has_almost_everything_gets_what_is_left() -> None:
    """Fewer than ten candidates are fewer than ten recommendations."""
    has = np.ones((1, 15))
    has[0, 4] = 0
    (prediction,) = recommend(np.zeros((1, 15)), has, [4], ITEMS)
    assert prediction == {"recommended": {"item4": 0.0}, "rank": 1}


def test_without_a_target_there_is_no_rank() -> None:
    """Neither for a user at the command line, nor for an item that the contender does not know."""
    (prediction,) = recommend(np.zeros((1, 15)), np.zeros((1, 15)), [None], ITEMS)
    assert "rank" not in prediction
    assert [metric.score(prediction) for metric in (NDCG, RECALL, MRR)] == [(0.0, 1.0)] * 3


@given(st.permutations(ITEMS), st.lists(st.integers(0, 2), min_size=15, max_size=15))
def test_ties_are_broken_by_names_alone(order: list[str], levels: list[int]) -> None:
    """The same scores in a catalogue of another order give the same ranking."""
    level = dict(zip(ITEMS, levels, strict=True))

    def ranking(items: list[str]) -> dict[str, object]:
        scores = np.array([[level[item] for item in items]], dtype=np.float64)
        return recommend(scores, np.zeros((1, 15)), [items.index("item7")], items)[0]

    assert list(ranking(order).items()) == list(ranking(ITEMS).items())


def test_ties_favour_neither_the_first_nor_the_last_of_the_catalogue() -> None:
    """Where all scores are equal, the ranks of the items in the catalogue's order are not sorted either way."""
    ranks = [recommend(np.zeros((1, 15)), np.zeros((1, 15)), [i], ITEMS)[0]["rank"] for i in range(15)]
    assert sorted(ranks) == list(range(1, 16))
    assert abs(np.corrcoef(ranks, range(15))[0, 1]) < 0.5


@pytest.mark.parametrize(
    ("rank", "ndcg", "recall", "mrr"),
    [(1, 1.0, 1.0, 1.0), (3, 0.5, 1.0, 1 / 3), (10, 1 / math.log2(11), 1.0, 0.1), (11, 0.0, 0.0, 1 / 11)],
)
def test_metrics_by_hand(rank: int, ndcg: float, recall: float, mrr: float) -> None:
    """One relevant item, so the ideal gain is 1."""
    row = {"recommended": {}, "rank": rank, "target": "x"}
    assert NDCG.score(row) == (pytest.approx(ndcg), 1.0)
    assert RECALL.score(row) == (recall, 1.0)
    assert MRR.score(row) == (pytest.approx(mrr), 1.0)


def test_a_catalogue_keeps_the_places_of_what_is_known() -> None:
    """New items follow, sorted; histories leave out what the catalogue lacks."""
    rows = [Row({"user": "u", "history": ["b", "z", "a"]})]
    items = catalogue(rows, ["m", "b"])
    assert items == ["m", "b", "a", "z"]
    assert histories(rows, ["m", "b"]).tolist() == [[0.0, 1.0]]
