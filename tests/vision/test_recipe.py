"""The recipe as a user runs it, and what it costs to look at the plugin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import core
from core.shell.read import load

LESS = {"fine_tune": {"epochs": 2}, "evaluate": {"scratch": False}, "quiet": True, "strict": True}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> core.Run:
    """The recipe as it is, once."""
    return core.run("vision/digits", out=tmp_path_factory.mktemp("runs"), quiet=True, strict=True)


def test_looking_at_the_plugin_imports_neither_torch_nor_numpy() -> None:
    """Help and lists stay fast."""
    look = "import sys, plugins.vision.plugin, plugins.vision.options; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_adapted_model_is_worth_shipping(run: core.Run) -> None:
    """Better than the base and the best trivial contender, by paired intervals, and little forgotten."""
    document = run.document
    assert document["verdict"] == "ship", document["reasons"]
    assert all(gain["low"] > 0 for gain in document["gains"].values())
    assert document["contenders"]["adapted"]["accuracy"] > 0.80
    assert document["forgetting"]["high"] <= 0.05


def test_the_adapted_model_beats_the_same_structure_from_scratch(run: core.Run) -> None:
    """What the base knew is worth something beyond its structure."""
    scores = run.contenders
    assert scores["adapted"]["accuracy"] > scores["scratch"]["accuracy"]


def test_the_shell_reads_files_and_knows_all_ten_digits(run: core.Run, tmp_path: Path) -> None:
    """Report images written to files are predicted as in the run, digits the base never saw among them."""
    adapted = load(run.shell)
    rows = adapted.resolved.make(adapted.resolved.recipe.data).rows()["report"]
    paths = []
    for i in range(0, len(rows), 40):
        paths.append(str(tmp_path / f"{i}.npy"))
        np.save(paths[-1], rows[i].inputs[0].numpy())
    labels = [prediction["label"] for prediction in adapted.predict(paths)]
    right = sum(label == rows[i].target for label, i in zip(labels, range(0, len(rows), 40), strict=True))
    assert right >= 0.7 * len(labels)
    assert {"8", "9"} <= set(labels)


def test_two_runs_with_one_seed_give_the_same_weights(tmp_path: Path) -> None:
    """To the bit; another seed gives others."""

    def weights(seed: int) -> bytes:
        done = core.run("vision/digits", out=tmp_path, seed=seed, **LESS)
        return (done.shell / "delta.safetensors").read_bytes()

    assert weights(3) == weights(3)
    assert weights(3) != weights(4)
