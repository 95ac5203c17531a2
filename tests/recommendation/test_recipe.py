"""The recipe's shell in a user's hands, and what it costs to look at the plugin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import core


def test_looking_at_the_plugin_imports_neither_torch_nor_numpy() -> None:
    """Help and lists stay fast."""
    look = (
        "import sys, plugins.recommendation.plugin, plugins.recommendation.options\n"
        "print({'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_shell_recommends_modules_that_the_base_never_saw(tmp_path: Path) -> None:
    """To a user who typed modules, as to one who has them in a file; an empty history gets what is popular."""
    run = core.run(
        "recommendation/imports", out=tmp_path, quiet=True, strict=True, evaluate={"scratch": False}
    )
    adapted = core.load(run.shell)
    path = tmp_path / "mine.py"
    path.write_text("import unittest, os", encoding="utf-8")
    typed, pointed, nothing = adapted.predict(["os,unittest", str(path), ""])
    assert next(iter(typed["recommended"])) == "test"
    assert typed["recommended"] == pointed["recommended"]
    bias = adapted.model.get_parameter("bias")
    assert next(iter(nothing["recommended"])) == adapted.state["items"][int(bias.argmax())]
    assert run.document["verdict"] == "ship"
