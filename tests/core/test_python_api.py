"""`import core`: run, load, and what they give back, also in a notebook."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from rich.console import Console

import core
from core.errors import RecipeError
from core.result import Run

HERE = Path(__file__).parent
TOY, RECIPE = HERE / "toy.py", HERE / "toy.yaml"


def test_importing_core_imports_no_torch():
    """Nor does asking for its version; asking for `run` does."""
    code = (
        "import sys, core, core.version, core.errors, core.contract, core.hookspecs, core.components, core.options\n"
        "core.version.version()\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "core.run\n"
        "assert 'torch' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_core_publishes_what_it_says():
    """Every name in __all__ is there, and no other is invented."""
    assert sorted(core.__all__) == ["Adapted", "Run", "load", "run"]
    for name in core.__all__:
        assert getattr(core, name)
    with pytest.raises(AttributeError, match="module 'core' has no attribute 'rum'"):
        core.rum  # noqa: B018 (asking is the test)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run from Python: a nested override, a dotted one, strings for paths; all of torch's global state kept."""
    out = tmp_path_factory.mktemp("api") / "runs"
    before = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    done = core.run(
        str(RECIPE),
        out=str(out),
        plugin_files=[str(TOY)],
        quiet=True,
        strict=True,
        seed=3,
        fine_tune={"epochs": 4, "updater": {"anchor": 0.01}},
        evaluate={"scratch": False},
        **{"fine_tune.batch_size": 6, "data.report": 60},
    )
    after = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    return done, before, after


def test_run_is_a_run_with_properties(run):
    """Those of the document, as Python values."""
    done = run[0]
    assert isinstance(done, Run)
    assert done.folder.is_dir()
    assert done.shell == done.folder / "shell"
    assert done.verdict in ("ship", "no-ship", "inconclusive")
    assert isinstance(done.contenders, Mapping)
    assert list(done.contenders) == ["base", "majority", "adapted"]
    assert done.difference["low"] <= done.difference["value"] <= done.difference["high"]
    assert list(done.seconds) == ["choose", "preprocess", "modify", "fine_tune", "evaluate", "seal"]
    assert done.exit_code == 0
    assert json.loads(json.dumps(done.document)) == done.document


def test_nested_and_dotted_overrides_reach_the_run(run):
    """As the record of the run has them."""
    import yaml

    recipe = yaml.safe_load((run[0].folder / "recipe.yaml").read_text())
    assert recipe["seed"] == 3
    assert (recipe["fine_tune"]["epochs"], recipe["fine_tune"]["batch_size"]) == (4, 6)
    assert recipe["fine_tune"]["updater"]["anchor"] == 0.01
    assert recipe["fine_tune"]["lr"] == 0.05
    assert recipe["data"]["report"] == 60


def test_torch_s_global_state_is_as_it_was(run):
    """Random numbers and the deterministic flag."""
    _, before, after = run
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]


def test_run_prints_as_its_table(run):
    """Every contender, verdict, seconds, and where things lie; no terminal codes."""
    text = str(run[0])
    for part in (*run[0].contenders, "accuracy", run[0].verdict, "seconds", "fine_tune", "\x1b"):
        assert (part in text) == (part != "\x1b")
    flat = text.replace("\n", "")
    assert str(run[0].folder) in flat
    assert f"{run[0].difference['value']:+.4f}" in text


def test_run_shows_itself_in_a_notebook(run):
    """As HTML with the same numbers, and nothing that a page would execute."""
    html = run[0]._repr_html_()
    assert html.startswith("<pre")
    assert html.rstrip().endswith("</pre>")
    assert "adapted" in html
    assert f"{run[0].contenders['adapted']['accuracy']:.4f}" in html
    assert "<script" not in html


def test_names_in_brackets_are_printed_as_they_are(run):
    """They are no markup, whoever's console it is."""
    document = json.loads(json.dumps(run[0].document).replace("majority", "[majority] of [k=5]"))
    document["recipe"] = "mine[beta]"
    strange = Run(document)
    html = strange._repr_html_()
    printed = io.StringIO()
    Console(file=printed, width=200).print(strange)
    for text in (str(strange), html, printed.getvalue()):
        assert "mine[beta]" in text
        assert re.search(r"│ \[majority\] of \[k=5\] +│", text)


def test_loaded_run_predicts(run):
    """One input or several, and the scores of the run."""
    adapted = core.load(run[0].shell, plugin_files=[TOY])
    assert isinstance(adapted, core.Adapted)
    (one,) = adapted.predict("[0.5, 1.0]")
    assert adapted.predict(["[0.5, 1.0]", "[0.5, 1.0]"])[0]["label"] == one["label"]
    assert adapted.evaluate() == run[0].contenders["adapted"]


def test_wrong_recipe_raises_and_leaves_nothing(tmp_path):
    """The exception has what the command line prints."""
    with pytest.raises(RecipeError, match="did you mean 'epochs'") as caught:
        core.run(RECIPE, out=tmp_path / "out", plugin_files=[TOY], quiet=True, fine_tune={"epoch": 1})
    assert caught.value.exit_code == 2
    assert len(caught.value.problems) == 1
    assert not (tmp_path / "out").exists()


def test_failed_run_leaves_torch_s_global_state_as_it_was(tmp_path):
    """Also where it was deterministic with warnings only."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    before = torch.get_rng_state()
    try:
        with pytest.raises(core.errors.TrainingError):
            core.run(RECIPE, out=tmp_path, plugin_files=[TOY], quiet=True, fine_tune={"lr": 3e37})
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.equal(before, torch.get_rng_state())
    finally:
        torch.use_deterministic_algorithms(False)
