"""The recipe's shell in a user's hands, and what it costs to look at the plugin."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import core
from core.contract import Row


def test_looking_at_the_plugin_imports_neither_torch_nor_numpy() -> None:
    """Help and lists stay fast."""
    look = "import sys, plugins.vision.plugin, plugins.vision.options; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert "plugins.vision.options" in done.stdout.split()
    assert {"torch", "numpy"} & set(done.stdout.split()) == set()


def test_a_shell_reads_files_and_knows_digits_the_base_never_saw(
    tmp_path: Path, splits: Mapping[str, Sequence[Row]]
) -> None:
    """Report images written to files are predicted as the run predicted them, an 8 and a 9 among them."""
    less = {"fine_tune": {"epochs": 40}, "evaluate": {"scratch": False}}
    run = core.run("vision/digits", out=tmp_path, quiet=True, strict=True, **less)
    lines = (run.folder / "predictions" / "adapted" / "report.jsonl").read_text(encoding="utf-8").splitlines()
    in_the_run = [json.loads(line)["label"] for line in lines[::20]]
    paths = [str(tmp_path / f"{i}.npy") for i in range(0, len(lines), 20)]
    for path, row in zip(paths, splits["report"][::20], strict=True):
        np.save(path, row.inputs[0].numpy())
    labels = [prediction["label"] for prediction in core.load(run.shell).predict(paths)]
    assert labels == in_the_run
    assert {"8", "9"} <= set(labels)
