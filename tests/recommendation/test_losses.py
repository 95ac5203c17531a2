"""Losses of rankings, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from plugins.recommendation import options
from plugins.recommendation.losses import Bpr, SampledSoftmax


def batch(histories: list[list[float]], seed: int = 0) -> Any:
    has = torch.tensor(histories)
    return {"histories": has, "positives": has, "seed": torch.tensor(seed)}


def bpr(scores: Tensor, given: Any, **chosen: Any) -> tuple[Tensor, float]:
    return Bpr(options.Bpr(**chosen))(scores, given)


def softmax(scores: Tensor, given: Any, **chosen: Any) -> tuple[Tensor, float]:
    return SampledSoftmax(options.SampledSoftmax(**chosen))(scores, given)


def test_bpr_by_hand() -> None:
    """One item had, one lacked, one apart: -ln σ(1) = 0.3133; the other way round -ln σ(-1) = 1.3133."""
    total, weight = bpr(torch.tensor([[2.0, 1.0]]), batch([[1, 0]]))
    assert (float(total), weight) == (pytest.approx(0.313262, abs=1e-6), 1.0)
    total, _ = bpr(torch.tensor([[2.0, 1.0]]), batch([[0, 1]]))
    assert float(total) == pytest.approx(1.313262, abs=1e-6)


def test_bpr_counts_pairs() -> None:
    """Each item that a user has, with as many others as asked for: equal scores cost ln 2 a pair."""
    total, weight = bpr(torch.zeros(2, 4), batch([[1, 1, 0, 0], [1, 0, 0, 0]]), negatives=5)
    assert weight == 15.0
    assert float(total) == pytest.approx(15 * math.log(2), rel=1e-6)


def test_bpr_draws_what_the_user_lacks_and_everything_of_it() -> None:
    """Whatever the user has never counts as lacked; over many draws each lacked item does."""
    scores = torch.tensor([[0.0, 10.0, -20.0, -20.0, 0.0]], requires_grad=True)
    total, _ = bpr(scores, batch([[1, 1, 0, 0, 1]]), negatives=100)
    total.backward()
    assert scores.grad is not None
    assert (scores.grad[0, [0, 1, 4]] < 0).all()
    assert (scores.grad[0, [2, 3]] > 0).all()


def test_a_softmax_over_all_that_is_lacked_is_the_softmax() -> None:
    """-ln 0.8 = 0.2231, of one item had with e^score 4 and one lacked with 1; items had do not compete."""
    scores = torch.tensor([[math.log(4.0), 0.0, 7.0]])
    total, weight = softmax(scores[:, :2], batch([[1, 0]]))
    assert (float(total), weight) == (pytest.approx(0.223144, abs=1e-6), 1.0)
    total, weight = softmax(scores, batch([[1, 0, 1]]))
    assert weight == 2.0
    assert float(total) == pytest.approx(0.223144 + math.log1p(math.exp(-7)), abs=1e-5)


def test_a_sample_stands_for_all_that_is_lacked() -> None:
    """Of 100 equal ones 10 are drawn, and count tenfold."""
    given = batch([[1.0] + [0.0] * 100])
    total, _ = softmax(torch.zeros(1, 101), given, negatives=10)
    assert float(total) == pytest.approx(math.log(101), rel=1e-5)


def test_temperature_divides_scores() -> None:
    """2 ln 4 at a temperature of 2 is ln 4: -ln(4/5) = 0.2231."""
    total, _ = softmax(torch.tensor([[2 * math.log(4.0), 0.0]]), batch([[1, 0]]), temperature=2.0)
    assert float(total) == pytest.approx(0.223144, abs=1e-6)


@pytest.mark.parametrize("loss", [bpr, softmax])
def test_draws_depend_on_the_batchs_number_alone(loss: Any) -> None:
    """The same number, the same bits, whatever the state of torch's own generator; another number, others."""
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(4, 50, generator=rng)
    histories = (torch.rand(4, 50, generator=rng) < 0.2).float().tolist()
    torch.manual_seed(1)
    one = float(loss(scores, batch(histories, 5), negatives=3)[0])
    torch.manual_seed(2)
    same, other = (float(loss(scores, batch(histories, seed), negatives=3)[0]) for seed in (5, 6))
    assert one == same != other


@pytest.mark.parametrize("loss", [bpr, softmax])
def test_users_with_everything_or_nothing_weigh_nothing(loss: Any) -> None:
    """They leave no infinite or missing number behind, in the sum or in a gradient."""
    scores = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    total, weight = loss(scores, batch([[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]]))
    assert weight == 1.0
    total.backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert not scores.grad[:2].any()
    total, weight = loss(scores, batch([[1, 1, 1, 1]] * 3))
    assert (float(total.detach()), weight) == (0.0, 1.0)
