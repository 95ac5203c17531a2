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

from benchmarks import RESULTS, keep, setting_of_this_run

ROOT = Path(__file__).parents[2]


def call(*arguments: str, cache: str) -> dict[str, Any]:
    """The JSON document that a command prints."""
    environment = {**os.environ, "TAOKE_CACHE": cache, "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 3):
        raise RuntimeError(done.stderr)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def by_recipe(data: str, weights: str, seed: int, folder: str) -> dict[str, Any]:
    """A run of the recipe: its scores, its seconds, and the part of training in which the loop waited for data."""
    made = call(
        *("core", "run", "vision/cifar-jpeg", f"data={data}", f"base.path={weights}", f"seed={seed}"),
        *("--out", f"{folder}/runs", "--json"),
        cache=f"{folder}/cache",
    )
    events = (ROOT / made["run"] / "events.jsonl").read_text(encoding="utf-8").splitlines()
    trained = [event for event in map(json.loads, events) if event.get("event") == "trained"]
    return {
        "seed": seed,
        "contenders": {name: scores["accuracy"] for name, scores in made["contenders"].items()},
        "verdict": made["verdict"],
        "stages_s": made["seconds"],
        "waited": [round(event["waited"] / event["took"], 4) for event in trained],
    }


def main(data: str, weights: str, seeds: list[int]) -> None:
    result = RESULTS / "cifar.json"
    rounds = json.loads(result.read_text(encoding="utf-8"))["rounds"] if result.is_file() else []
    for seed in seeds:
        plain, last = (
            call("benchmarks.endtoend.cifar_by_hand", data, weights, "--seed", str(seed), *more, cache="")
            for more in ([], ["--channels-last"])
        )
        with tempfile.TemporaryDirectory() as folder:
            recipe = by_recipe(data, weights, seed, folder)
        made = {"seed": seed, "by_hand": plain, "by_hand_channels_last": last, "recipe": recipe}
        print(json.dumps(made), flush=True)
        rounds = sorted([*(r for r in rounds if r["seed"] != seed), made], key=lambda r: int(r["seed"]))
        keep("cifar", {**setting_of_this_run(), "rounds": rounds})


if __name__ == "__main__":
    data, weights = (str(Path(path).resolve()) for path in sys.argv[1:3])
    main(data, weights, [int(seed) for seed in sys.argv[3:]] or [0, 1, 2])
