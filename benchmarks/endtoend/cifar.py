"""The recipe `vision/cifar-jpeg` beside the loop by hand, in turn, seed by seed.

    python -m benchmarks.endtoend.cifar DATA WEIGHTS [SEED...]

The loop by hand runs in torch's own order of memory, and in the one that the recipe's model uses. Every run starts
with an empty cache. Compared are reading and training: of the recipe the stages preprocess (reading, checking,
hashing and decoding each picture) and fine_tune. Keeps the rounds in benchmarks/results/cifar.json, with those of
other seeds that are there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import RESULTS, keep, run_recipe, setting_of_this_run


def by_hand(data: str, weights: str, seed: int, *more: str) -> dict[str, Any]:
    """What the loop by hand prints."""
    command = (
        sys.executable,
        "-m",
        "benchmarks.endtoend.cifar_by_hand",
        data,
        weights,
        "--seed",
        str(seed),
        *more,
    )
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def by_recipe(data: str, weights: str, seed: int, folder: str) -> dict[str, Any]:
    """A run of the recipe: its scores, its seconds, and the part of training in which the loop waited for data."""
    overrides = (f"data={data}", f"base.path={weights}", f"seed={seed}")
    made = run_recipe("vision/cifar-jpeg", *overrides, out=f"{folder}/runs", cache=f"{folder}/cache")
    return {
        "seed": seed,
        "contenders": {name: scores["accuracy"] for name, scores in made["contenders"].items()},
        "verdict": made["verdict"],
        "stages_s": made["seconds"],
        "waited": made["waited"]["adapted"],
    }


def main(data: str, weights: str, seeds: list[int]) -> None:
    result = RESULTS / "cifar.json"
    rounds = json.loads(result.read_text(encoding="utf-8"))["rounds"] if result.is_file() else []
    for seed in seeds:
        plain, last = (by_hand(data, weights, seed, *more) for more in ((), ("--channels-last",)))
        with tempfile.TemporaryDirectory() as folder:
            recipe = by_recipe(data, weights, seed, folder)
        made = {
            **setting_of_this_run(),
            "seed": seed,
            "by_hand": plain,
            "by_hand_channels_last": last,
            "recipe": recipe,
        }
        print(json.dumps(made), flush=True)
        rounds = sorted([*(r for r in rounds if r["seed"] != seed), made], key=lambda r: int(r["seed"]))
        keep("cifar", {"rounds": rounds})


if __name__ == "__main__":
    data, weights = (str(Path(path).resolve()) for path in sys.argv[1:3])
    main(data, weights, [int(seed) for seed in sys.argv[3:]] or [0, 1, 2])
