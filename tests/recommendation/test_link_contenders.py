"""The trivial predictors of links, by hand on a small graph."""

from __future__ import annotations

import math

import pytest

from core.contract import Row
from plugins.recommendation import link_contenders
from plugins.recommendation.graph import Graph
from plugins.recommendation.link_contenders import LinkRanker, trivial

PEOPLE = ["a", "b", "c", "d", "e", "f"]
LINKS = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("c", "e"), ("f", "a"), ("f", "d")]
GRAPH = Graph(PEOPLE, [[PEOPLE.index(pair[i]) for pair in LINKS] for i in (0, 1)])
ASKED = [Row({"user": "a", "history": ["b", "c"]}, ["d"])]


@pytest.fixture(scope="module")
def fitted() -> dict[str, LinkRanker]:
    made = {contender.name: contender for contender in trivial(GRAPH, ASKED, 0.0)}
    assert all(isinstance(contender, LinkRanker) for contender in made.values())
    return made  # type: ignore[return-value]


def scores(contender: LinkRanker, row: Row) -> dict[str, float]:
    (found,) = contender.predict([row])
    recommended: dict[str, float] = found["recommended"]
    return recommended


def test_they_score_as_their_definitions_say(fitted: dict[str, LinkRanker]) -> None:
    """Of a, who links to b and c, and to whom f links."""
    assert list(fitted) == ["popularity", "reciprocity", "common_neighbours", "adamic_adar", "pagerank"]
    rounded = {
        name: {k: round(v, 2) for k, v in scores(one, ASKED[0]).items()} for name, one in fitted.items()
    }
    assert next(iter(rounded["popularity"])) == "d"
    assert rounded["reciprocity"] == {"f": 1, "d": 0, "e": 0}
    assert rounded["common_neighbours"] == {"d": 2, "e": 1, "f": 0}  # ahead: as good on select as around
    assert rounded["adamic_adar"]["d"] == pytest.approx(1 / math.log(2) + 1 / math.log(3), abs=0.01)
    assert rounded["adamic_adar"]["e"] == pytest.approx(1 / math.log(3), abs=0.01)


def test_pagerank_is_where_a_walk_with_returns_ends(fitted: dict[str, LinkRanker]) -> None:
    """Along links, with .15 to return: half of the first step at b and at c, then d has .5 + .25 of the next."""
    found = scores(fitted["pagerank"], ASKED[0])
    assert found["d"] == pytest.approx(0.15 * 0.85 * 0.75, abs=2e-4)
    assert found["e"] == pytest.approx(0.15 * 0.85 * 0.25, abs=2e-4)


def test_equals_go_by_popularity_and_oneself_is_never_recommended(fitted: dict[str, LinkRanker]) -> None:
    """Somebody without any link gets those to whom most link, by every contender."""
    for name, contender in fitted.items():
        found = list(scores(contender, Row({"user": "nobody", "history": []})))
        assert found[0] == "d", name
        assert sorted(found) == PEOPLE
        assert "e" not in scores(contender, Row({"user": "e", "history": []}))


def test_select_chooses_between_links_in_their_direction_and_of_any() -> None:
    """Where somebody is to be found whom only a link backwards leads to, neighbours are those of any direction."""
    row = Row({"user": "b", "history": ["d"]}, ["f"])  # d is between b and f, to whom no link goes
    chosen = {one.name: one for one in trivial(GRAPH, [row], 0.0)}
    ahead = {one.name: one for one in trivial(GRAPH, ASKED, 0.0)}
    for name in ("common_neighbours", "adamic_adar", "pagerank"):
        one, other = chosen[name], ahead[name]
        assert isinstance(one, LinkRanker)
        assert isinstance(other, LinkRanker)
        assert one.ndcg([row]) > other.ndcg([row])


def test_pagerank_walks_as_long_as_its_remainder_matters() -> None:
    """Of all chances to return."""
    assert all((1 - back) ** link_contenders.WALK < 0.01 for back in link_contenders.RETURNS)
