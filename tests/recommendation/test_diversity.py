"""Measures of variety, by hand, and lists made more varied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plugins.recommendation.diversity import COVERAGE, DISTANCE, NOVELTY, cosines, varied
from plugins.recommendation.ranking import recommend


def row(recommended: str, history: str = "") -> dict[str, Any]:
    return {"recommended": dict.fromkeys(recommended, 1.0), "history": list(history)}


ROWS = [row("ab", "cd"), row("ac", "bd"), row("a", "d"), row("", "abd")]


def test_coverage_is_how_many_people_are_recommended_to_anybody() -> None:
    """Three; without the first row two, and a row that is drawn twice counts once."""
    score = COVERAGE.corpus(ROWS)
    assert score(np.ones(4)) == 3.0
    assert score(np.array([0.0, 2.0, 0.0, 1.0])) == 2.0
    assert np.isnan(COVERAGE.corpus([row("")])(np.ones(1)))


def test_novelty_is_the_mean_self_information() -> None:
    """One of four rows' users has a, two have b, one has c: with one added to both, 2/5, 3/5 and 2/5."""
    of = {"a": -np.log2(2 / 5), "b": -np.log2(3 / 5), "c": -np.log2(2 / 5)}
    rows = [(of["a"] + of["b"]) / 2, (of["a"] + of["c"]) / 2, of["a"]]
    score = NOVELTY.corpus(ROWS)
    assert score(np.ones(4)) == pytest.approx(np.mean(rows))
    assert score(np.array([1.0, 0.0, 3.0, 9.0])) == pytest.approx((rows[0] + 3 * rows[2]) / 4)
    assert np.isnan(score(np.array([0.0, 0.0, 0.0, 1.0])))


def test_distance_is_one_less_the_cosine_of_those_who_have_both() -> None:
    """a is had in the last row, b in the second and the last, c in the first: a and b share one of 1 and 2."""
    score = DISTANCE.corpus(ROWS)
    assert score(np.array([1.0, 0.0, 0.0, 0.0])) == pytest.approx(1 - 1 / np.sqrt(2))
    assert score(np.array([0.0, 1.0, 0.0, 0.0])) == pytest.approx(1.0)
    assert score(np.ones(4)) == pytest.approx(1 - 1 / np.sqrt(2) / 2)
    assert np.isnan(score(np.array([0.0, 0.0, 1.0, 1.0])))  # one alone has no distance
    alone = DISTANCE.corpus([row("xy", "z")])
    assert alone(np.ones(1)) == 1.0  # nobody has either


def test_the_most_relevant_comes_first_and_then_who_is_unlike_the_chosen() -> None:
    """By hand: relevances 1, .9, .5, 0; the second is like the first."""
    scores = np.array([11.0, 10.0, 6.0, 1.0])
    similar = np.array([[1, 0.8, 0, 0], [0.8, 1, 0, 0], [0, 0, 1, 0.2], [0, 0, 0.2, 1.0]])
    assert varied(scores, similar, 0.0, 3) == [0, 1, 2]
    assert varied(scores, similar, 0.5, 3) == [0, 2, 1]  # .25 - 0 before .45 - .4
    assert varied(scores, similar, 1.0, 4) == [0, 2, 3, 1]
    assert varied(np.ones(3), np.eye(3), 0.5, 2) == [0, 1]
    assert varied(np.zeros(0), np.zeros((0, 0)), 0.5, 2) == []


def test_cosines_by_hand() -> None:
    """Of columns of ones; an empty one is like nobody."""
    from scipy.sparse import csr_matrix

    found = cosines(csr_matrix(np.array([[1.0, 1, 0], [1, 0, 0]]))).toarray()
    assert found[0, 1] == pytest.approx(1 / np.sqrt(2))
    assert found[2].tolist() == [0, 0, 0]


def test_ranks_are_those_of_the_list_that_is_shown() -> None:
    """Who is brought to the front comes before all others, whose order stays; a rank in the list is a place in it."""
    names = [f"item{i}" for i in range(30)]
    rng = np.random.RandomState(0)
    scores = np.round(rng.rand(1, 30), 1)  # with equal ones
    has = np.zeros((1, 30))
    has[0, 3] = 1
    targets = [[i for i in range(30) if i != 3]]
    (plain,) = recommend(scores, has, targets, names)
    (same,) = recommend(scores, has, targets, names, lambda pool, of: list(range(10)))
    assert plain == same
    (turned,) = recommend(scores, has, targets, names, lambda pool, of: [12, *range(9)])
    assert sorted(turned["ranks"]) == list(range(1, 30))
    ranked = dict(zip((names[i] for i in targets[0]), turned["ranks"], strict=True))
    assert [ranked[name] for name in turned["recommended"]] == list(range(1, 11))
    before = dict(zip((names[i] for i in targets[0]), plain["ranks"], strict=True))
    others = [name for name in ranked if name not in turned["recommended"]]
    assert sorted(others, key=before.get) == sorted(others, key=ranked.get)  # type: ignore[arg-type]
