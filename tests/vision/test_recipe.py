"""The recipe's shell in a user's hands, and what it costs to look at the plugin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

import core


def test_looking_at_the_plugin_imports_neither_torch_nor_numpy() -> None:
    """Help and lists stay fast."""
    look = "import sys, plugins.vision.plugin, plugins.vision.options as _; print({'torch', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_shell_reads_files_and_knows_digits_the_base_never_saw(tmp_path: Path) -> None:
    """Report images written to files are predicted as the run predicted them, an 8 and a 9 among them."""
    less = {"fine_tune": {"epochs": 40}, "evaluate": {"scratch": False}}
    run = core.run("vision/digits", out=tmp_path, quiet=True, strict=True, **less)
    adapted = core.load(run.shell)
    rows = adapted.resolved.make(adapted.resolved.recipe.data).rows()["report"]
    in_the_run = adapted.predict_rows(adapted.rows("report"))
    paths = []
    for i in range(0, len(rows), 20):
        paths.append(str(tmp_path / f"{i}.npy"))
        np.save(paths[-1], rows[i].inputs[0].numpy())
    predictions = adapted.predict(paths)
    assert [p["label"] for p in predictions] == [p["label"] for p in in_the_run[::20]]
    assert {"8", "9"} <= {p["label"] for p in predictions}
