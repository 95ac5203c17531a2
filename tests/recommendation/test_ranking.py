"""Rankings and their metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.contract import Row
from plugins.recommendation.ranking import MRR, NDCG, RECALL, catalogue, histories, places, recommend

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


def test_a_score_that_is_no_number_gains_nothing() -> None:
    """It stands behind every number, and a model of nothing else finds nothing, whatever is asked."""
    scores = np.arange(15.0)[None]
    scores[0, [3, 14]] = np.nan
    for targets in ([14, 13, 3], 14):
        (prediction,) = recommend(scores, np.zeros((1, 15)), [targets], ITEMS)
        assert next(iter(prediction["recommended"])) == "item13"
        assert not {"item3", "item14"} & set(prediction["recommended"])
        assert prediction.get("ranks", [None, 1, None]) == [None, 1, None]
        assert "rank" not in prediction
    for targets in ([0, 1, 2], 0):
        (nothing,) = recommend(np.full((1, 15), np.nan), np.zeros((1, 15)), [targets], ITEMS)
        assert nothing["recommended"] == {}
        assert [metric.score(nothing) for metric in (NDCG, RECALL, MRR)] == [(0.0, 1.0)] * 3


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


def test_several_targets_have_a_rank_each() -> None:
    """In their order; one that the contender does not know has none."""
    scores = np.arange(15.0)[None]
    has = np.zeros((1, 15))
    has[0, 14] = 1
    target = places(["item0", "unknown", "item13"], {item: i for i, item in enumerate(ITEMS)})
    (prediction,) = recommend(scores, has, [target], ITEMS)
    assert prediction["ranks"] == [14, None, 1]
    assert "rank" not in prediction


@pytest.mark.parametrize(
    ("ranks", "ndcg", "recall", "mrr"),
    [
        ([1, 2], 1.0, 1.0, 1.0),
        ([2, 1], 1.0, 1.0, 1.0),
        ([3, None], 0.5 / (1 + 1 / math.log2(3)), 0.5, 1 / 3),
        ([None, None], 0.0, 0.0, 0.0),
        ([11, 20], 0.0, 0.0, 1 / 11),
        (list(range(1, 21)), 1.0, 0.5, 1.0),
    ],
)
def test_metrics_of_several_targets_by_hand(
    ranks: list[int | None], ndcg: float, recall: float, mrr: float
) -> None:
    """The ideal has as many hits as there are targets, ten at most; recall is of all targets."""
    row = {"recommended": {}, "ranks": ranks, "target": ["x"] * len(ranks)}
    assert NDCG.score(row) == (pytest.approx(ndcg), 1.0)
    assert RECALL.score(row) == (pytest.approx(recall), 1.0)
    assert MRR.score(row) == (pytest.approx(mrr), 1.0)


@given(
    st.lists(st.integers(0, 3), min_size=15, max_size=15), st.lists(st.booleans(), min_size=15, max_size=15)
)
def test_ranks_are_those_of_a_full_sort(levels: list[int], had: list[bool]) -> None:
    """With ties within and across the cut; the plain way is to sort everything."""
    scores, has = np.array([levels], dtype=np.float64), np.array([had], dtype=np.float64)
    wanted = [i for i in range(15) if not had[i]]
    (prediction,) = recommend(scores, has, [wanted], ITEMS)
    order = list(recommend(np.zeros((1, 15)), np.zeros((1, 15)), [list(range(15))], ITEMS)[0]["ranks"])
    plain = sorted(wanted, key=lambda i: (-levels[i], order[i]))
    assert prediction["ranks"] == [plain.index(i) + 1 for i in wanted]
    assert list(prediction["recommended"]) == [ITEMS[i] for i in plain[:10]]


def test_new_items_need_users_and_room() -> None:
    """Those with most users are added; the known ones stay whatever they have."""
    rows = [Row({"user": str(u), "history": history}) for u, history in enumerate(["abk", "ab", "ac", "d"])]
    assert catalogue(rows, ["k", "m"], users=2) == ["k", "m", "a", "b"]
    assert catalogue(rows, ["k", "m"], most=3) == ["k", "m", "a"]
    assert catalogue(rows, ["k", "m"], most=1) == ["k", "m"]
