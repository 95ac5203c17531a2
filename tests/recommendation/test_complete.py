"""`auto`: what is chosen from a log, and the one line with which a new user begins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import core
from core.errors import DataError, DataWarning, RecipeError
from core.recipe import find, resolve
from core.recipe.files import read as read_recipe
from plugins.recommendation import options
from plugins.recommendation.complete import complete
from plugins.recommendation.log import read


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        yield


def choices(path: Path, **data: Any) -> dict[str, Any]:
    recipe = read_recipe(find("recommendation/interactions").path)
    recipe["data"] = {**recipe["data"], "path": str(path), **data}
    found = complete(recipe)
    assert all(choice.why for choice in found)
    return {choice.key: choice.value for choice in found}


def test_a_log_with_ratings_and_times(tmp_path: Path, logs: Any) -> None:
    """Liked is what is rated in the upper half; the last items are held out; the base's log is the data's."""
    found = choices(logs.write(tmp_path / "log.csv", logs.header(), logs.readers(100)))
    assert found["data.min_rating"] == found["base.min_rating"] == 5
    assert (found["data.rating"], found["data.time"], found["data.holdout"]) == ("stars", "when", "last")
    assert (found["data.base_users"], found["base.base_users"]) == (0.5, 0.5)
    assert found["fine_tune.batch_size"] <= 60
    assert 0 < found["fine_tune.lr"] <= 0.1
    assert 50 <= found["fine_tune.epochs"] <= 200


def test_a_log_without_ratings_and_times(tmp_path: Path, logs: Any) -> None:
    """Each interaction counts, and what is held out is random."""
    names = logs.header(rated=False, timed=False)
    found = choices(logs.write(tmp_path / "log.csv", names, logs.readers(100, rated=False, timed=False)))
    assert found["data.min_rating"] is None
    assert (found["data.rating"], found["data.time"], found["data.holdout"]) == (False, False, "random")


@pytest.mark.parametrize(
    ("ratings", "least"),
    [([1, 2, 3, 4, 5], 3), ([0, 0, 0, 1, 0], 1), ([4, 4, 4, 4, 4], None), ([0.5, 3.5], 3.5)],
)
def test_liked_is_what_is_rated_in_the_upper_half(
    tmp_path: Path, logs: Any, ratings: list[float], least: float | None
) -> None:
    """And never the lowest rating, where there is a higher one."""
    rows = [[f"u{u}", f"i{i}", ratings[(u + i) % len(ratings)]] for u in range(40) for i in range(15)]
    path = logs.write(tmp_path / "log.csv", ["user", "item", "rating"], rows)
    assert choices(path)["data.min_rating"] == least


def test_what_the_recipe_settles_is_what_the_rest_rests_on(tmp_path: Path, logs: Any) -> None:
    """A base from a file of its own learns from all of its users."""
    path = logs.write(tmp_path / "log.csv", logs.header(), logs.readers(100))
    older = logs.write(tmp_path / "older.csv", logs.header(), logs.readers(100, key=8))
    changes = {"data.path": str(path), "data.min_rating": 2, "base.path": str(older), "data.base_users": 0.0}
    recipe = resolve("recommendation/interactions", changes).recipe
    assert recipe.base.options["min_rating"] == 2
    assert (recipe.base.options["path"], recipe.base.options["base_users"]) == (str(older), 1.0)
    assert recipe.data.options["base_users"] == 0.0


DOUBLE = ["reader", "book", "stars", "when", "group", "shelf", "points", "day"]
SETTLED = {
    "user": "group",
    "item": "shelf",
    "rating": "points",
    "time": "day",
    "min_rating": 2.0,
    "min_user_items": 3,
    "base_users": 0.3,
    "retain_users": 0.4,
    "draw": 3,
}


@pytest.mark.parametrize("recipe", ["interactions", "movies"])
@pytest.mark.parametrize("key", [*SETTLED, "rating of none", "time of none"])
def test_what_the_recipe_settles_for_the_data_the_base_has_too(
    tmp_path: Path, logs: Any, recipe: str, key: str
) -> None:
    """Each key that both have, in both recipes; and no user stands on both sides."""
    rows = [
        [*row, f"g{row[0]}", f"s{row[1]}", int(row[2]) - 0.5, int(row[3]) + 1] for row in logs.readers(100)
    ]
    path = logs.write(tmp_path / "log.csv", DOUBLE, rows)
    name, _, none = key.partition(" of ")
    settled = {f"data.{name}": False if none else SETTLED[key]}
    if none and recipe == "movies" and name == "rating":
        settled["data.min_rating"] = None
    found = resolve(f"recommendation/{recipe}", {"data.path": str(path), **settled}).recipe
    data = options.Interactions.model_validate(found.data.options)
    base = options.Learned.model_validate(found.base.options)
    assert getattr(data, name) == settled[f"data.{name}"]
    shared = ("path", *SETTLED)
    assert {one: getattr(base, one) for one in shared} == {one: getattr(data, one) for one in shared}
    sides = set(read(base, "base").users), set(read(data, "new").users)
    assert all(sides)
    assert not sides[0] & sides[1]


def test_the_data_in_other_words_are_the_same_file(
    tmp_path: Path, logs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through `~` or a dot: the base still keeps to its half."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = logs.write(tmp_path / "log.csv", logs.header(), logs.readers(100))
    changes = {"data.path": "~/log.csv", "base.path": f"{path.parent}/./log.csv"}
    recipe = resolve("recommendation/interactions", changes).recipe
    assert recipe.base.options["base_users"] == 0.5


@pytest.mark.parametrize(
    "changes",
    [
        {"base.base_users": 0.7},
        {"base.draw": 1},
        {"data.base_users": 0.0, "base.base_users": 1.0},
        {"data.base_users": 0.0},
    ],
)
def test_a_base_that_would_know_the_new_users_is_refused(
    tmp_path: Path, logs: Any, changes: dict[str, Any]
) -> None:
    """It would know what is held out of them; a base of nobody is refused too. What to write stands beside it."""
    path = logs.write(tmp_path / "log.csv", logs.header(), logs.readers(100))
    with pytest.raises(RecipeError, match=r"users of the new task|leaves nobody") as caught:
        resolve("recommendation/interactions", {"data.path": str(path), **changes})
    assert "base.path" in caught.value.hint


def test_choices_rest_on_what_the_recipe_settles(tmp_path: Path, logs: Any) -> None:
    """The users that are left to report on; the epochs that a smaller step needs; steps of smaller batches."""
    path = logs.write(tmp_path / "log.csv", logs.header(), logs.readers(100))
    recipe = read_recipe(find("recommendation/interactions").path)
    recipe["data"] = {**recipe["data"], "path": str(path), "base_users": 0.2}
    recipe["fine_tune"] = {**recipe["fine_tune"], "lr": 0.04, "batch_size": 30}
    found = {choice.key: choice for choice in complete(recipe)}
    assert not found.keys() & {"data.base_users", "fine_tune.lr", "fine_tune.batch_size"}
    assert found["data.report"].why == "all of about 80 users"
    assert found["fine_tune.epochs"].value == 125 // 3


def test_without_a_file_the_recipe_says_what_to_write() -> None:
    """And the hint has the words to write."""
    with pytest.raises(RecipeError, match="names no file of interactions") as caught:
        resolve("recommendation/interactions", {})
    assert "data=PATH" in caught.value.hint


def test_recipes_of_other_data_are_left_alone() -> None:
    """Another dataset or another task: nothing is chosen."""
    assert (
        complete({"task": "recommendation.recommend", "data": {"dataset": "imports"}, "base": "auto"}) == []
    )
    assert complete({"task": "vision.classify", "data": {"dataset": "interactions"}}) == []


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(core.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-m", "core", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("kind", ["full", "plain"])
def test_one_line_on_a_log_of_ones_own_gives_a_model_that_recommends(
    tmp_path: Path, logs: Any, kind: str
) -> None:
    """200 users, 30 items, with ratings and times and without: a run, its figures again, a recommendation."""
    extra = {"rated": kind == "full", "timed": kind == "full"}
    logs.write(tmp_path / "loans.csv", logs.header(**extra), logs.readers(200, **extra))
    done = command("run", "recommendation/interactions", "data=loans.csv", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    scores = {name: by_metric["ndcg@10"] for name, by_metric in document["contenders"].items()}
    assert scores["adapted"] > 0.8 * max(scores.values())
    assert scores["adapted"] > 1.2 * scores["popularity"]
    again = command("eval", document["shell"], "--json", folder=tmp_path)
    assert json.loads(again.stdout)["same"], again.stderr
    answer = command("predict", document["shell"], "book00,book03,book06", "--json", folder=tmp_path)
    best = list(json.loads(answer.stdout)[0]["recommended"])[:5]
    assert sum(int(item.removeprefix("book")) % 3 == 0 for item in best) >= 4, best


def test_a_wrong_file_ends_with_2_and_leaves_nothing(tmp_path: Path, logs: Any) -> None:
    """Before a run's folder is made."""
    logs.write(tmp_path / "log.csv", ["who", "what"], [["a", "b"]])
    done = command("run", "recommendation/interactions", "data=log.csv", folder=tmp_path)
    assert done.returncode == 2
    assert "none of its columns ('who', 'what')" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_a_tiny_log_that_cannot_be_split_is_said(tmp_path: Path, logs: Any) -> None:
    """Two users: one for the base leaves none to select and report on."""
    rows = [["a", "x"], ["a", "y"], ["b", "x"], ["b", "y"]]
    path = logs.write(tmp_path / "log.csv", ["user", "item"], rows)
    with pytest.raises(DataError):
        choices(path)
