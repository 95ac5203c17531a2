"""User vectors, learned from ratings."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.bases import digest
from core.data.cache import folder
from core.errors import BaseError, DataError
from plugins.recommendation import options
from plugins.recommendation.factors import Factors, UserVectors
from plugins.recommendation.kept import STEP


@pytest.fixture
def path(tmp_path: Path, people: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAOKE_CACHE", str(tmp_path / "cache"))
    made: Path = people.ratings(tmp_path / "ratings.txt")
    return made


def chosen(path: Path, **more: Any) -> options.Factors:
    return options.Factors(path=str(path), **{"names": ["user", "item", "rating"], "dimensions": 4, **more})


def test_the_vectors_are_the_best_of_their_rank(path: Path) -> None:
    """Their inner products are those of the matrix with its smaller singular values left out, to the step to which
    they are rounded (Eckart and Young)."""
    base = Factors(chosen(path)).load()
    lines = [line.split() for line in path.read_text().splitlines()]
    users, items = (sorted({line[i] for line in lines}) for i in (0, 1))
    has = np.zeros((len(users), len(items)))
    for user, item, _ in lines:
        has[users.index(user), items.index(item)] = 1
    weighted = has * np.log(len(users) / has.sum(0))
    left, values, _ = np.linalg.svd(weighted, full_matrices=False)
    wanted = (left[:, :4] * values[:4] ** 2) @ left[:, :4].T
    vectors = base.model.get_parameter("vectors").detach().double().numpy()
    assert base.preprocessing["task"]["people"] == users
    assert np.abs(vectors @ vectors.T - wanted).max() < 100 * STEP
    assert base.origin == f"ratings.txt: 4 factors of what {len(users)} users have"


def test_learning_again_gives_the_same_digest_and_another_rank_another(path: Path) -> None:
    """Without the cache, and from the cache; a copy elsewhere is the same file."""
    base = Factors(chosen(path)).load()
    assert base.digest == digest(base.model.state_dict())
    shutil.rmtree(folder())
    assert Factors(chosen(path)).load().digest == base.digest
    copy = path.with_name("copy.txt")
    shutil.copy(path, copy)
    again = Factors(chosen(copy, licence="CC0-1.0")).load()
    assert (again.digest, again.licence, base.licence) == (base.digest, "CC0-1.0", "NOASSERTION")
    assert Factors(chosen(path, dimensions=3)).load().digest != base.digest


def test_people_are_ranked_by_the_cosine_of_what_they_like(path: Path) -> None:
    """Of the same circle before others; of whom nothing is known, all are equal."""
    base = Factors(chosen(path)).load()
    people = base.preprocessing["task"]["people"]
    circle = torch.tensor([int(name[1:]) % 3 for name in people])
    scores = base.model(torch.arange(len(people))).detach()
    same = circle[:, None] == circle
    assert torch.allclose(scores.diagonal(), torch.ones(len(people)))
    assert scores[same].mean() > scores[~same].mean() + 0.5
    model = UserVectors(2, 3)
    with torch.no_grad():
        model.vectors[1] = 0.0
    assert model(torch.tensor([-1, 1])).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_ratings_of_everything_by_everybody_are_refused(path: Path) -> None:
    """They say nothing of anybody: rarity is zero, and so is the matrix."""
    path.write_text("".join(f"p{user} film{item} 5\n" for user in range(6) for item in range(6)))
    with pytest.raises(DataError, match="all 6 users have all 6 items") as caught:
        Factors(chosen(path, dimensions=2)).load()
    assert caught.value.hint


def test_what_does_not_serve_is_refused(path: Path, tmp_path: Path) -> None:
    """More dimensions than there are items, a line that is none, and a cache that is damaged."""
    with pytest.raises(DataError, match="have 29 dimensions at most") as caught:
        Factors(chosen(path, dimensions=30)).load()
    assert "base.dimensions=29" in caught.value.hint
    Factors(chosen(path)).load()
    (card,) = (folder() / "recommendation").glob("*.json")
    card.write_text('{"people": ["a"]}')
    with pytest.raises(BaseError, match="is damaged") as damaged:
        Factors(chosen(path)).load()
    assert "delete it" in damaged.value.hint
    path.write_text(path.read_text() + "p00 film01 good\n")
    with pytest.raises(
        DataError, match=r"ratings.txt, line \d+, column 'rating': is 'good'; a number is wanted"
    ):
        Factors(chosen(path)).load()
