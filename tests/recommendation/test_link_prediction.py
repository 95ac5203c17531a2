"""The task of whom to link to: states, examples, loss, predictions, and what a user types."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from core.contract import Base, Row
from core.errors import DataError, DataWarning
from plugins.recommendation import options
from plugins.recommendation.factors import UserVectors
from plugins.recommendation.link_prediction import LinkPrediction, State
from plugins.recommendation.losses import SampledSoftmax
from plugins.recommendation.social import Social
from plugins.recommendation.tasks import NONE
from tests.conftest import Always

TRAIN = [
    Row({"user": "ann", "history": ["cid"]}, ["bob"]),
    Row({"user": "ann", "history": ["bob"]}, ["cid"]),
    Row({"user": "cid", "history": []}, ["zoe"]),
]
KNOWN = {"people": ["ann", "bob", "cid", "dan"]}


@pytest.fixture
def task() -> LinkPrediction:
    return LinkPrediction(options.LinkPrediction())


@pytest.fixture
def state(task: LinkPrediction) -> State:
    with pytest.warns(DataWarning, match=r"whom the base does not know, and .*: 1 \('zoe'\)"):
        return task.fit(TRAIN, KNOWN)


def row(user: str, *history: str, target: Any = None) -> Row:
    return Row({"user": user, "history": list(history)}, target)


def test_the_state_has_the_bases_people_first_and_each_link_once(task: LinkPrediction, state: State) -> None:
    """A base alone knows no links; the model grows for the new people."""
    assert state == {"people": ["ann", "bob", "cid", "dan", "zoe"], "links": [[0, 0, 2], [1, 2, 4]]}
    assert task.fit([], KNOWN) == {**KNOWN, "links": [[], []]}
    assert task.edits(UserVectors(4, 2), state) == [
        {"edit": "grow", "axis": "people", "to": 5, "init": "zero"}
    ]
    assert task.edits(UserVectors(5, 2), state) == []


def test_a_batch_says_who_has_whom_and_who_is_to_be_found(
    task: LinkPrediction, state: State, rng: torch.Generator
) -> None:
    """Oneself is no candidate; who is unknown is left out of a history, and has no place as a target."""
    rows = [row("ann", "bob", "eve", target=["cid", "eve"]), row("new", "dan"), row("zoe", target=["ann"])]
    batch = task.collate([task.encode(one, state) for one in rows], rng)
    assert batch["people"].tolist() == [0, NONE, 4]
    assert batch["linked"].tolist() == [[0, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]
    assert batch["histories"].tolist() == [[1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    assert batch["positives"].tolist() == [[0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert batch["links"].tolist() == state["links"]


def test_the_loss_is_the_softmax_over_candidates_by_hand(
    task: LinkPrediction, state: State, rng: torch.Generator
) -> None:
    """ann has bob, is to find cid and may get dan and zoe: ln 3 where all are equal, with a weight of 1/√2; the row
    without a history weighs nothing."""
    rows = [row("ann", "bob", target=["cid"]), row("zoe", target=["ann"])]
    batch = task.collate([task.encode(one, state) for one in rows], rng)
    scores = torch.tensor([[9.0, 9, 1, 1, 1], [5, 0, 0, 0, 0]], requires_grad=True)
    total, weight = task.loss(scores, batch)
    assert float(total.detach()) == pytest.approx(math.log(3) / math.sqrt(2), abs=1e-6)
    assert float(weight) == pytest.approx(1 / math.sqrt(2))
    total.backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert scores.grad[0].count_nonzero() == 3
    nothing, least = task.loss(
        scores[1:], {**batch, **{k: batch[k][1:] for k in ("histories", "positives", "linked")}}
    )  # type: ignore[misc, literal-required]
    assert float((nothing / least).detach()) == 0.0


def test_the_losses_of_rankings_take_the_batch_too(
    task: LinkPrediction, state: State, rng: torch.Generator
) -> None:
    """Drawn from all who are no candidates otherwise, the sampled softmax is the softmax itself: ln 3."""
    batch = task.collate([task.encode(row("ann", "bob", target=["cid"]), state)], rng)
    total, weight = SampledSoftmax(options.SampledSoftmax(negatives=100))(torch.ones(1, 5), batch)
    assert (float(total), weight) == (pytest.approx(math.log(3), abs=1e-6), 1.0)


def test_a_prediction_ranks_all_to_whom_one_does_not_link(
    task: LinkPrediction, state: State, rng: torch.Generator
) -> None:
    """And holds what the measures of variety need."""
    batch = task.collate([task.encode(row("ann", "bob", target=["zoe", "eve"]), state)], rng)
    (found,) = task.predict(Always(torch.tensor([[9.0, 8, 3, 5, 4]])), batch, state)
    assert found == {
        "recommended": {"dan": 5.0, "zoe": 4.0, "cid": 3.0},
        "ranks": [2, None],
        "history": ["bob"],
    }


def test_diversity_keeps_those_apart_to_whom_the_same_people_link(rng: torch.Generator) -> None:
    """b and c are linked to by the same two; d by another: with variety d comes before c."""
    state: State = {"people": ["a", "b", "c", "d", "e", "f"], "links": [[4, 4, 5, 5, 0], [1, 2, 1, 2, 3]]}
    for diversity, wanted in ((0.0, ["b", "c", "d"]), (0.5, ["b", "d", "c"])):
        task = LinkPrediction(options.LinkPrediction(diversity=diversity))
        batch = task.collate([task.encode(row("a", target=["c"]), state)], rng)
        (found,) = task.predict(Always(torch.tensor([[0.0, 5, 4.5, 3, 1, 0]])), batch, state)
        assert [name for name in found["recommended"] if name in "bcd"] == wanted
        assert found["ranks"] == [wanted.index("c") + 1] if diversity == 0 else [found["ranks"][0]]
        assert list(found["recommended"])[found["ranks"][0] - 1] == "c"


def test_a_person_is_named_and_has_the_links_that_are_known(task: LinkPrediction, state: State) -> None:
    """Somebody with ratings alone has none; '' is nobody in particular."""
    found = task.parse([" ann ", "dan", ""], state)
    assert [one.inputs for one in found] == [
        {"user": "ann", "history": ["bob", "cid"]},
        {"user": "dan", "history": []},
        {"user": "", "history": []},
    ]
    assert all(one.target is None for one in found)


def test_whom_the_model_does_not_know_is_refused_with_who_comes_nearest(
    task: LinkPrediction, state: State
) -> None:
    """All at once, and how to ask for somebody new."""
    with pytest.raises(DataError, match="by rating or link; it does not know 'bobb', 'x7'") as caught:
        task.parse(["x7", "ann", "bobb"], state)
    assert "'bobb': did you mean 'bob'?" in caught.value.hint
    assert "'x7': nobody of that name among 5" in caught.value.hint
    assert "'' stands for somebody of whom nothing is known" in caught.value.hint


def test_cold_people_get_a_ranking(task: LinkPrediction, state: State, rng: torch.Generator) -> None:
    """With ratings and no links, with links and no ratings, and with neither: who is linked to comes first."""
    torch.manual_seed(1)
    model = Social(UserVectors(5, 2), 2).eval()
    with torch.no_grad():
        model.tastes.vectors[4] = 0.0
        rows = task.parse(["dan", "zoe", ""], state)
        batch = task.collate([task.encode(one, state) for one in rows], rng)
        dan, zoe, nobody = task.predict(model, batch, state)
    assert sorted(dan["recommended"]) == ["ann", "bob", "cid", "zoe"]
    assert next(iter(zoe["recommended"])) == "cid"  # who links to her
    assert set(list(nobody["recommended"])[:3]) == {"bob", "cid", "zoe"}


def test_the_contenders_know_whom_the_adapted_model_knows(task: LinkPrediction, state: State) -> None:
    """The base's people, and those of train."""
    from core.contract import Split

    base = Base(UserVectors(4, 2), "", "", "", {"task": KNOWN})
    base_state = task.fit([], KNOWN)
    splits = {
        "train": Split("train", TRAIN, [], base_state),
        "select": Split("select", [row("ann", "bob", target=["cid"])], [], base_state),
    }
    for contender in task.trivial(base, splits):
        (found,) = contender.predict([row("ann", "bob", target=["zoe"])])
        assert found["history"] == ["bob"]
        assert sorted(found["recommended"]) == ["cid", "dan", "zoe"]
