"""The base learned from interactions."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.bases import digest
from core.data.cache import folder
from core.errors import BaseError, DataError, DataWarning
from plugins.recommendation import learned, options
from plugins.recommendation.ease import SMALL, ease, moments, solve
from plugins.recommendation.interactions import Interactions
from plugins.recommendation.kept import STEP
from plugins.recommendation.learned import Learned
from plugins.recommendation.log import read
from plugins.recommendation.ranking import histories, sparse_histories


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of its own for each test."""
    monkeypatch.setenv("TAOKE_CACHE", str(tmp_path / "cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        yield


@pytest.fixture
def path(tmp_path: Path, logs: Any) -> Path:
    made: Path = logs.write(tmp_path / "log.csv", logs.header(), logs.readers(120))
    return made


def chosen(path: Path, **more: Any) -> options.Learned:
    return options.Learned(path=str(path), **more)


def test_the_base_is_ease_on_its_users_alone(path: Path) -> None:
    """To the step that weights are rounded to; the users of the new task change nothing."""
    base = Learned(chosen(path, base_users=0.5, penalties=[10.0])).load()
    items = base.preprocessing["task"]["items"]
    log = read(chosen(path, base_users=0.5), "base")
    has = np.zeros((len(log.users), len(items)))
    has[log.user, [items.index(log.items[i]) for i in log.item]] = 1
    weight, bias = ease(has, 10.0)
    assert torch.allclose(base.model.get_parameter("weight"), torch.from_numpy(weight).float(), atol=STEP)
    assert torch.allclose(base.model.get_parameter("bias"), torch.from_numpy(bias).float(), atol=STEP)
    assert base.digest == digest(base.model.state_dict())
    new = {
        row.group
        for row in Interactions(options.Interactions(path=str(path), base_users=0.5)).rows()["train"]
    }
    assert not new & set(log.users)
    kept = "".join(
        line
        for line in path.read_text("utf-8").splitlines(True)
        if line.split(",")[0] in {"reader", *log.users}
    )
    path.write_text(kept, encoding="utf-8")
    assert Learned(chosen(path, base_users=0.5, penalties=[10.0])).load().digest == base.digest


def test_learning_again_gives_the_same_digest(path: Path) -> None:
    """In a fresh process with another number of threads and no cache; so a shell finds its base again."""
    base = Learned(chosen(path)).load()
    shutil.rmtree(folder())
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from plugins.recommendation import options\nfrom plugins.recommendation.learned import Learned\n"
        f"print(Learned(options.Learned(path={str(path)!r})).load().digest)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == base.digest


def test_what_was_learned_is_kept_by_content(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy elsewhere is the same file; other options, or a row more, are learned anew."""
    count = []
    monkeypatch.setattr(
        learned, "learn", lambda options, real=learned.learn: count.append(1) or real(options)
    )
    first = Learned(chosen(path)).load()
    copy = path.with_name("copy.csv")
    shutil.copy(path, copy)
    again = Learned(chosen(copy, licence="CC0-1.0")).load()
    assert (again.digest, again.licence, first.licence) == (first.digest, "CC0-1.0", "NOASSERTION")
    assert len(count) == 1
    Learned(chosen(path, min_rating=4)).load()
    with path.open("a", encoding="utf-8") as file:
        file.write("new,book01,5,1\nnew,book02,5,2\n")
    assert Learned(chosen(path)).load().digest != first.digest
    assert len(count) == 3


def test_a_damaged_cache_is_said(path: Path) -> None:
    """With the file to delete."""
    Learned(chosen(path)).load()
    (card,) = (folder() / "recommendation").glob("*.json")
    card.write_text("{", encoding="utf-8")
    with pytest.raises(BaseError, match="is damaged") as caught:
        Learned(chosen(path)).load()
    assert "delete it" in caught.value.hint


def test_of_several_penalties_the_one_that_finds_most_is_taken(path: Path) -> None:
    """A penalty that flattens everything loses; the origin says which one it was."""
    with pytest.warns(
        DataWarning, match=r"the base \(base.penalties\): .*, 10 to 1e\+09, 10 is best, at the edge"
    ):
        origin = Learned(chosen(path, penalties=[1e9, 10.0])).load().origin
    assert origin == "log.csv: EASE on 120 users, penalty 10"


def test_the_catalogue_is_bounded_by_users(path: Path) -> None:
    """The items that most users have stay, in the order of their names."""
    log = read(chosen(path), "base")
    counts = np.bincount(log.item)
    items = Learned(chosen(path, max_items=5)).load().preprocessing["task"]["items"]
    assert items == sorted(items)
    assert len(items) == 5
    assert min(counts[log.items.index(item)] for item in items) >= np.sort(counts)[-5]


def test_what_is_wrong_with_the_file_is_said_whatever_the_cache_holds(path: Path) -> None:
    """Options that leave nothing find no model of other options."""
    Learned(chosen(path)).load()
    with pytest.raises(DataError, match="none of"):
        Learned(chosen(path, min_rating=9)).load()


def test_sparse_and_dense_moments_agree() -> None:
    """The way for many users, and the one that is exact to more digits."""
    rng = np.random.RandomState(0)
    dense = (rng.rand(SMALL // 512 + 1, 512) < 0.02).astype(np.float64)
    rows = [type("R", (), {"inputs": {"history": [str(i) for i in np.flatnonzero(row)]}})() for row in dense]
    items = [str(i) for i in range(512)]
    sparse = sparse_histories(rows, items)
    assert sparse.shape[0] * sparse.shape[1] > SMALL
    assert (histories(rows, items) == dense).all()
    one, other = solve(*moments(dense), 10.0), solve(*moments(sparse), 10.0)
    assert np.allclose(one[0], other[0], atol=1e-10)
    assert np.allclose(one[1], other[1], atol=1e-10)
