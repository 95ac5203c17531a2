"""`auto`: what is chosen from a log, and the one line with which a new user begins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import core
from core.errors import DataError, RecipeError
from core.recipe import find, resolve
from core.recipe.files import read as read_recipe
from plugins.recommendation.complete import complete


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
