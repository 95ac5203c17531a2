"""The embedded recipes, each run once as a user runs it, and what the project promises of all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.endtoend.core_cost import OVERRIDES, check
from benchmarks.endtoend.setting import prepare
from benchmarks.recipes import EMBEDDED
from core.recipe import built_in, default_name
from core.shell.read import load

RECIPES = EMBEDDED
OTHERS = sorted(set(built_in()) - set(EMBEDDED))
PROMISED = (
    "recipe",
    "run",
    "domain",
    "primary",
    "higher_is_better",
    "contenders",
    "difference",
    "verdict",
    "seconds",
)
STAGES = ["choose", "preprocess", "modify", "fine_tune", "evaluate", "seal"]


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-m", "core", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(
    scope="module",
    params=[
        "vision/digits",
        "recommendation/imports",
        "nlp/reference fine_tune.epochs=1",
        pytest.param("nlp/reference", marks=pytest.mark.slow),
    ],
)
def finished(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, int, dict[str, Any]]:
    """(recipe, working folder, exit code, document) of `python -m core run RECIPE --json`."""
    folder = tmp_path_factory.mktemp("recipe")
    recipe, *overrides = request.param.split()
    done = command("run", recipe, *overrides, "--json", folder=folder)
    assert done.stdout, done.stderr
    return recipe, folder, done.returncode, json.loads(done.stdout)


def test_a_run_prints_one_document_with_everything_promised(finished: Any) -> None:
    """`--json` gives one document, with the promised keys and the seconds of each stage."""
    recipe, folder, _, document = finished
    assert [key for key in PROMISED if key not in document] == []
    assert document["recipe"] == recipe
    assert document["domain"] == recipe.partition("/")[0]
    assert list(document["seconds"]) == STAGES
    assert {"base", "adapted", "scratch"} < set(document["contenders"])
    assert (folder / document["run"] / "evidence.json").is_file()


def test_the_adapted_model_beats_the_base_and_the_best_trivial_contender(finished: Any) -> None:
    """Both paired 95 % intervals lie above zero, the gate holds, and the run ships."""
    _, _, code, document = finished
    for rival in ("base", document["best_trivial"]):
        assert document["gains"][rival]["low"] > 0, (rival, document["gains"])
    assert (document["verdict"], code) == ("ship", 0), document["reasons"]


def test_a_fresh_process_scores_the_shell_with_the_same_numbers(finished: Any) -> None:
    """`eval` reads the shell from disk and finds, to the bit, what the run reported."""
    _, folder, _, document = finished
    done = command("eval", document["shell"], "--json", folder=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scores"] == document["contenders"]["adapted"]


def test_every_contender_predicted_the_same_examples(finished: Any) -> None:
    """The predictions on disk hold one row an example for every contender, with the same ids in the same order."""
    _, folder, _, document = finished
    ids = {}
    for contender in document["contenders"]:
        path = folder / document["run"] / "predictions" / contender / "report.jsonl"
        ids[contender] = [json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert len({tuple(found) for found in ids.values()}) == 1
    assert len(set(ids["base"])) == len(ids["base"])


def test_the_shell_holds_a_delta_and_no_copy_of_the_base(finished: Any) -> None:
    """What is stored are tensors that changed; base and delta together are another model than the base."""
    _, folder, _, document = finished
    shell = folder / document["shell"]
    described = json.loads((shell / "delta.json").read_text(encoding="utf-8"))
    adapted = load(shell)
    assert set(described["tensors"]) <= set(adapted.model.state_dict())
    assert described["adapted"] != described["base"]["digest"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_same_seed_same_bits_and_a_loop_by_hand_agrees(recipe: str, tmp_path: Path) -> None:
    """Fine-tuning twice ends with the same weights, and so does a plain loop; another seed does not."""

    short = OVERRIDES.get(recipe, {"fine_tune.epochs": 1})

    def tuned(seed: int) -> dict[str, torch.Tensor]:
        return prepare(recipe, {**short, "seed": seed}, tmp_path).with_core().state_dict()

    first, second, other = tuned(0), tuned(0), tuned(1)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert any(not torch.equal(first[name], other[name]) for name in first)
    check(prepare(recipe, short, tmp_path))


@pytest.mark.parametrize("recipe", OTHERS)
def test_a_recipe_that_needs_files_says_which_and_leaves_nothing_behind(recipe: str, tmp_path: Path) -> None:
    """Run bare: exit code 2, the key to give by name, and no folder."""
    done = command("run", recipe, "--json", folder=tmp_path)
    assert done.returncode == 2, done
    assert "data" in json.loads(done.stdout)["error"]["message"]
    assert list(tmp_path.iterdir()) == []


def test_one_embedded_recipe_is_the_default_because_its_plugin_says_so() -> None:
    """`python -m core run` without a recipe finds one of the built-in ones, from metadata."""
    assert default_name() in RECIPES
