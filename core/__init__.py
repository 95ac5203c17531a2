"""taoke: adapt an existing model to a new task, and prove what the adaptation was worth.

    import core
    run = core.run("plugin/recipe", seed=1)
    adapted = core.load(run.shell)
    adapted.predict("input")

Importing this package imports no torch; calling `run` or `load` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.result import Run
    from core.runner import run
    from core.shell.read import Adapted, load

__all__ = ["Adapted", "Run", "load", "run"]

_HOMES = {"run": "core.runner", "Run": "core.result", "load": "core.shell.read", "Adapted": "core.shell.read"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'core' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
