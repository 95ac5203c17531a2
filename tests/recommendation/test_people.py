"""Whom to trust: `recommendation/people` as a user runs it, on a small society and on FilmTrust."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import core
from core.errors import DataError, DataWarning, RecipeError
from core.result import Run
from plugins.recommendation.tradeoff import SETTINGS, chart

QUICK = {
    "base": {"dimensions": 8},
    "fine_tune": {"epochs": 4},
    "evaluate": {"resamples": 200},
}


@pytest.fixture(scope="module")
def society(tmp_path_factory: pytest.TempPathFactory, people: Any) -> Path:
    folder = tmp_path_factory.mktemp("society")
    people.ratings(folder / "ratings.txt")
    path: Path = people.links(folder / "trust.txt")
    return path


@pytest.fixture(scope="module")
def run(society: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One run for all tests here, with a cache of its own."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore", DataWarning)
        patch.setenv("TAOKE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield core.run(
            "recommendation/people",
            out=tmp_path_factory.mktemp("runs"),
            quiet=True,
            data={"path": str(society)},
            **QUICK,
        )


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        yield


def test_every_contender_is_judged_for_accuracy_and_variety(run: Run) -> None:
    """The base, the trivial ones, the graph without the ratings, and the adapted model; in the run's table too."""
    names = ["base", "popularity", "reciprocity", "common_neighbours", "adamic_adar", "pagerank", "scratch"]
    assert list(run.contenders) == [*names, "adapted"]
    metrics = ["ndcg@10", "recall@10", "mrr", "coverage@10", "novelty@10", "distance@10"]
    assert all(list(scores) == metrics for scores in run.contenders.values())
    assert run.contenders["adapted"]["ndcg@10"] > run.contenders["popularity"]["ndcg@10"]
    assert all(name in str(run) for name in (*names, *metrics))


def test_both_curves_are_in_the_record(run: Run) -> None:
    """On `select`. The first setting is the run's own, so its scores are those of the shell; then variety grows."""
    scores = core.load(run.shell).evaluate("select")
    kept = json.loads((run.folder / "evidence.json").read_text())["illustrations"]["diversity"]
    assert kept["setting"] == list(SETTINGS)
    for metric in ("ndcg@10", "coverage@10", "novelty@10", "distance@10"):
        assert kept[metric][0] == pytest.approx(scores[metric], abs=1e-4)
        assert len(kept[metric]) == len(SETTINGS)
    assert kept["distance@10"][-1] > kept["distance@10"][0]
    assert kept["ndcg@10"][-1] < kept["ndcg@10"][0]
    drawn = ET.parse(run.folder / kept["chart"])  # noqa: S314 (what the run has just written)
    assert len(drawn.findall(".//{*}polyline")) == 4


def test_a_chart_of_equal_values_is_drawn() -> None:
    """A curve that is flat divides by nothing."""
    drawn = ET.fromstring(chart((0.0, 1.0), {"flat": [0.5, 0.5]}))  # noqa: S314 (made here)
    (line,) = drawn.findall(".//{*}polyline")
    (_, y0), (_, y1) = (point.split(",") for point in line.attrib["points"].split())
    assert y0 == y1


def test_a_shell_recommends_to_people_by_name(run: Run) -> None:
    """To one who links and rates, to one who links alone, to one who rates alone, and to nobody in particular."""
    adapted = core.load(run.shell)
    both, linking, rating, nobody = adapted.predict(["p00", "p55", "p90", ""])
    assert both["history"]
    assert not set(both["history"]) & {*both["recommended"], "p00"}
    assert linking["history"]
    assert rating["history"] == nobody["history"] == []
    for found in (both, linking, rating, nobody):
        assert len(found["recommended"]) == 10
        assert list(found["recommended"].values()) == sorted(found["recommended"].values(), reverse=True)
    assert sum(int(name[1:]) % 3 == 0 for name in both["recommended"]) > 5  # p00 is of that circle
    with pytest.raises(DataError, match="does not know 'p999'"):
        adapted.predict(["p999"])


def test_the_shell_scores_as_in_the_run(run: Run) -> None:
    """In a fresh process, by the command line."""
    command = [sys.executable, "-m", "core", "eval", str(run.folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["same"] is True


def test_ratings_are_looked_for_beside_the_links(society: Path, tmp_path: Path, people: Any) -> None:
    """Where there are none, the path is asked for; a path that is given is taken."""
    alone = people.links(tmp_path / "trust.txt")
    with pytest.raises(RecipeError, match=r"no file of ratings, called ratings.txt, beside .*trust.txt"):
        core.run("recommendation/people", out=tmp_path / "runs", data={"path": str(alone)}, quiet=True)
    with pytest.raises(RecipeError, match="names no file of links"):
        core.run("recommendation/people", out=tmp_path / "runs", quiet=True)
    assert not (tmp_path / "runs").exists()
    changes = (f"data={alone}", f"base.path={society.with_name('ratings.txt')}", "base.dimensions=8")
    command = [sys.executable, "-m", "core", "plan", "recommendation/people", *changes, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["edits"][0] == "walks of up to 3 links and degrees, beside tastes"


@pytest.mark.slow
def test_on_filmtrust_the_adapted_model_is_as_good_as_the_best_of_the_others(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    """`python -m core run recommendation/people data=trust.txt`: a minute on 2 cores. Six of ten links are mutual, so
    that PageRank is hard to beat; common neighbours and what the base knows are left far behind."""
    path = real_data("filmtrust") / "trust.txt"
    run = core.run("recommendation/people", out=tmp_path, quiet=True, data={"path": str(path)})
    gains = run.document["gains"]
    for name in ("base", "popularity", "reciprocity", "common_neighbours", "adamic_adar"):
        assert gains[name]["low"] > 0, name
    assert gains["pagerank"]["high"] > 0
    assert 0.4 < run.contenders["pagerank"]["ndcg@10"] < 0.55
