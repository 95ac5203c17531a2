"""What it costs to look at the plugin."""

from __future__ import annotations

import subprocess
import sys


def test_looking_at_the_plugin_imports_neither_torch_nor_numpy() -> None:
    """Help and lists stay fast."""
    look = "import sys, plugins.nlp.plugin, plugins.nlp.options\nprint({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
