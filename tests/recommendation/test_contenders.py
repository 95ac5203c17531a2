"""The trivial contenders: sane, cheap, and fitted without a look at what is reported."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
import torch

from core.contract import Base, Row, Split
from core.errors import DataWarning
from plugins.recommendation import contenders, options
from plugins.recommendation.contenders import Ranker
from plugins.recommendation.ease import best_penalty, ease
from plugins.recommendation.ranking import catalogue, histories
from plugins.recommendation.tasks import Recommend, State


@pytest.fixture
def fitted(base: Base, for_base: dict[str, Split], task: Recommend) -> dict[str, Ranker]:
    """Fitted as the core asks for it."""
    made = {contender.name: contender for contender in task.trivial(base, for_base)}
    assert all(isinstance(contender, Ranker) for contender in made.values())
    return made  # type: ignore[return-value]


def test_the_contenders_are_as_good_as_such_methods_are(
    fitted: dict[str, Ranker], splits: Mapping[str, Sequence[Row]]
) -> None:
    """A contender that is broken would flatter the adapted model."""
    scores = {name: contender.ndcg(splits["report"]) for name, contender in fitted.items()}
    assert list(scores) == ["popularity", "item_knn", "ease", "base_popularity", "base_ease"]
    floors = dict(zip(scores, (0.44, 0.38, 0.46, 0.47, 0.48), strict=True))
    assert {name: score for name, score in scores.items() if score < floors[name]} == {}


def test_popularity_counts_the_users_in_train(
    fitted: dict[str, Ranker], splits: Mapping[str, Sequence[Row]]
) -> None:
    """For a user who has nothing, the items with most users, with their shares."""
    (prediction,) = fitted["popularity"].predict([Row({"user": "u", "history": []})])
    count = Counter(item for row in splits["train"] for item in row.inputs["history"])
    assert list(prediction["recommended"].values()) == [n / 40 for _, n in count.most_common(10)]
    assert all(count[item] / 40 == share for item, share in prediction["recommended"].items())


def test_item_knn_adds_up_cosines(fitted: dict[str, Ranker], splits: Mapping[str, Sequence[Row]]) -> None:
    """Of the columns of users of two items, by hand."""
    having = {
        item: {row.inputs["user"] for row in splits["train"] if item in row.inputs["history"]}
        for item in ("os", "sys", "test")
    }

    def cosine(one: str, other: str) -> float:
        shared = len(having[one] & having[other])
        return shared / (len(having[one]) * len(having[other])) ** 0.5

    (prediction,) = fitted["item_knn"].predict([Row({"user": "u", "history": ["os", "sys"]})])
    wanted = cosine("os", "test") + cosine("sys", "test")
    assert prediction["recommended"]["test"] == pytest.approx(wanted, abs=1e-4)


def test_ease_has_the_penalty_that_is_best_on_select(
    fitted: dict[str, Ranker], splits: Mapping[str, Sequence[Row]], base_state: State
) -> None:
    """`select` chooses: no other penalty does better there."""
    items = catalogue(splits["train"], base_state["items"])
    has = histories(splits["train"], items)
    chosen = fitted["ease"].ndcg(splits["select"])
    others = []
    for penalty in options.PENALTIES:
        weight, bias = ease(has, penalty)
        others.append(
            Ranker("other", items, lambda has, w=weight, b=bias: has @ w + b).ndcg(splits["select"])
        )
    assert chosen == max(others) > min(others)


def test_the_rival_chooses_from_the_penalties_that_the_base_has() -> None:
    """No less than the base does."""
    assert tuple(options.Learned(path="log.csv").penalties) == contenders.PENALTIES


def test_a_penalty_at_the_edge_is_said() -> None:
    """Either one, if it alone is best; one in the middle is not, nor are equals: there is nothing to gain beyond."""
    for best in (1.0, 9.0):
        with pytest.warns(
            DataWarning, match=rf"rival: of EASE's penalties, 1 to 9, {best:g} is best, at the edge"
        ):
            assert best_penalty([1.0, 3.0, 9.0], lambda one, best=best: -abs(one - best), "rival") == best
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        assert best_penalty([1.0, 3.0, 9.0], lambda one: -abs(one - 3), "rival") == 3.0
        assert best_penalty([1.0, 3.0, 9.0], lambda one: 0.0, "rival") == 1.0
        assert best_penalty([7.0], lambda one: 0.0, "rival") == 7.0


def test_the_base_in_a_mixture_is_the_base(
    base: Base, task: Recommend, for_base: dict[str, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing added, a mixture ranks the items the base knows as the base does."""
    monkeypatch.setattr(contenders, "SHARES", (0.0,))
    mixture = {contender.name: contender for contender in task.trivial(base, for_base)}["base_ease"]
    select = for_base["select"]
    batch = task.collate(select.examples[:50], torch.Generator())
    alone = task.predict(base.model, batch, select.state)
    for one, other in zip(mixture.predict(select.rows[:50]), alone, strict=True):
        known = [item for item in one["recommended"] if item in select.state["items"]]
        assert known == list(other["recommended"])[: len(known)]


def test_new_items_can_be_recommended_by_all(
    fitted: dict[str, Ranker], splits: Mapping[str, Sequence[Row]], base_state: State
) -> None:
    """Those that the base lacks, too, first of all `test`."""
    assert "test" not in base_state["items"]
    for contender in fitted.values():
        recommended = [p["recommended"] for p in contender.predict(splits["report"][:200])]
        assert any("test" in items for items in recommended)


def test_fitting_leaves_the_base_as_it_was(base: Base, fitted: dict[str, Ranker]) -> None:
    """Frozen means frozen."""
    assert fitted
    assert all(not p.requires_grad and p.grad is None for p in base.model.parameters())
