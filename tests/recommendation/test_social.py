"""Walks along links, by hand, and what they must not see."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from core.errors import EditError
from plugins.recommendation import options
from plugins.recommendation.factors import UserVectors
from plugins.recommendation.social import Social, Walks, walks

LINKS = torch.tensor([[0, 1, 1, 2, 3], [1, 2, 3, 0, 1]])
"""0 to 1, 1 to 2 and 3, 2 to 0, 3 to 1; nobody to or from 4."""


def history(*people: int, of: int = 5) -> Tensor:
    has = torch.zeros(1, of)
    has[0, list(people)] = 1.0
    return has


def test_walks_by_hand() -> None:
    """Of 0, who links to 1, and to whom 2 links; walks of two links, and who is linked to."""
    degrees, ways = walks(torch.tensor([0]), history(1), LINKS, 2)
    back, there_on, there_back, back_on, back_back, popular = ways[:, :, 0].tolist()
    assert back == [0, 0, 1, 0, 0]
    assert there_on == [0, 0, 0.5, 0.5, 0]  # 0 to 1 to 2 or 3
    assert there_back == [0, 0, 0, 1, 0]  # 0 to 1, and back to 3, who alone links to 1 but for 0
    assert back_on == [0, 0, 0, 0, 0]  # 2 links to 0 alone
    assert back_back == [0, 1, 0, 0, 0]  # 1 links to 2, who links to 0
    assert popular == [0, 0.25, 0.25, 0.25, 0]  # without the own link to 1; oneself is left out
    assert degrees[:, :, 0].tolist() == [[1, 1, 1, 1, 0], [1, 2, 0, 1, 0]]


def test_there_are_as_many_weights_as_ways() -> None:
    """For any number of steps."""
    for steps in (1, 2, 3, 4):
        model = Social(UserVectors(5, 2), steps)
        assert len(walks(torch.tensor([0]), history(1), LINKS, steps)[1]) == len(model.weights)


def model(steps: int = 3) -> Social:
    torch.manual_seed(0)
    made = Social(UserVectors(5, 2), steps)
    with torch.no_grad():
        made.weights.copy_(torch.randn(len(made.weights)))
        made.degrees.copy_(torch.tensor([0.7, 0.3]))
    return made


def test_a_link_that_is_to_be_found_leaves_no_trace_in_its_own_score() -> None:
    """In train it stands among the links and is left out of the history; later it stands nowhere."""
    for target in (1, 3, 4):
        with_it = torch.cat([LINKS, torch.tensor([[2], [target]])], 1)
        person, has = torch.tensor([2]), history(0)
        one, other = (model()(person, has, links)[0, target] for links in (with_it, LINKS))
        assert torch.equal(one, other)


def test_rows_of_a_batch_are_apart() -> None:
    """One alone scores as beside others, somebody unknown among them."""
    people, has = torch.tensor([0, -1, 3]), torch.cat([history(1), history(2), history()])
    together = model()(people, has, LINKS)
    for i in range(3):
        alone = model()(people[i : i + 1], has[i : i + 1], LINKS)[0]
        assert torch.allclose(together[i], alone, atol=1e-6)
    assert together.isfinite().all()


def test_of_whom_nothing_is_known_those_to_whom_many_link_come_first() -> None:
    """No tastes, no links, no name: popularity alone."""
    (scores,) = Social(UserVectors(5, 2), 3)(torch.tensor([-1]), history(), LINKS)
    assert scores.argsort(descending=True)[0] == 1
    assert scores[4] == 0.0 < scores[0] == scores[2]


def test_the_edit_is_replayed_and_refuses_what_has_no_user_vectors() -> None:
    """The same options, the same model."""
    one, other = (Walks(options.Walks(steps=2)) for _ in range(2))
    base = UserVectors(5, 2)
    one.validate(base)
    made, again = one.apply(base), other.apply(base)
    assert {n: v.tolist() for n, v in made.state_dict().items()} == {
        n: v.tolist() for n, v in again.state_dict().items()
    }
    assert one.describe() == "walks of up to 2 links and degrees, beside tastes"
    with pytest.raises(EditError, match="Linear has no user vectors") as caught:
        one.validate(nn.Linear(2, 2))
    assert "factors" in caught.value.hint
