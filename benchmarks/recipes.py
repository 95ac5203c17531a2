"""Seconds of each embedded recipe as a user runs it: `python -m core run RECIPE --json`, the whole process.

    python -m benchmarks.recipes

Each run is checked first: it exits with 0 and its verdict is ship. The bounds: 60 s for the default
recipe, 5 minutes for the others.
"""

from __future__ import annotations

import sys
import tempfile
import time
from typing import Any

from benchmarks import EMBEDDED, keep, run_recipe, setting_of_this_run
from core.recipe import default_name


def main() -> int:
    """Print a line a recipe, keep the figures in `benchmarks/results/recipes.json`; 1 where one is beyond
    its bound."""
    results: dict[str, Any] = setting_of_this_run()
    beyond = 0
    for recipe in EMBEDDED:
        with tempfile.TemporaryDirectory() as out:
            began = time.perf_counter()
            document = run_recipe(recipe, out=out)
            seconds = time.perf_counter() - began
        if document["verdict"] != "ship":
            raise AssertionError(f"{recipe}: {document['verdict']}: {document['reasons']}")
        bound = 60.0 if recipe == default_name() else 300.0
        beyond += seconds > bound
        scores = {name: by_metric[document["primary"]] for name, by_metric in document["contenders"].items()}
        results[recipe] = {
            "wall_s": seconds,
            "bound_s": bound,
            "stages_s": document["seconds"],
            document["primary"]: scores,
            "gains": document["gains"],
            "forgetting": document["forgetting"],
        }
        print(f"{recipe:<24} {seconds:6.1f} s of {bound:.0f}")
    keep("recipes", results)
    return int(beyond > 0)


if __name__ == "__main__":
    sys.exit(main())
