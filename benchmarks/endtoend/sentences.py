"""The recipe `nlp/sentences` on TREC beside the loop by hand, in turn, seed by seed.

    python -m benchmarks.endtoend.sentences --base FOLDER --data FOLDER [--epochs 2] [--seeds 0 1 2]

As `sentences_by_hand`, which trains on all of the train file for `--epochs`, while the recipe keeps a twentieth of it
for `select` and has epochs of its own: shorter ones, since texts are packed and word vectors stay.
Compared are the seconds of the training loops and the accuracy on the test file. Writes
benchmarks/results/sentences.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import keep, run_recipe, setting_of_this_run


def by_hand(base: str, data: Path, epochs: int, seed: int) -> dict[str, Any]:
    """Accuracy on the test file and the seconds of training."""
    arguments = ("--base", base, "--data", str(data), "--epochs", str(epochs), "--seeds", str(seed))
    command = (sys.executable, "-m", "benchmarks.endtoend.sentences_by_hand", *arguments)
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def by_recipe(base: str, data: Path, seed: int, out: str) -> dict[str, Any]:
    """Accuracy of each contender on the test file, the seconds of training, and the part of them spent on waiting for
    data."""
    made = run_recipe(
        *("nlp/sentences", f"base.name={base}", f"seed={seed}"),
        f"data.path={{train: {data / 'TREC.train.all'}, report: {data / 'TREC.test.all'}}}",
        *("data.encoding=latin-1", "allow=[duplicates]"),
        out=out,
    )
    scores = {name: score["accuracy"] for name, score in made["contenders"].items()}
    return {
        "seed": seed,
        "accuracy": scores["adapted"],
        "seconds": round(made["took"]["adapted"], 1),
        "waited": made["waited"]["adapted"],
        "contenders": scores,
        "stages": made["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="The recipe nlp/sentences beside the loop by hand.")
    parser.add_argument("--base", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as out:
        for seed in options.seeds:
            hand = by_hand(options.base, options.data, options.epochs, seed)
            recipe = by_recipe(options.base, options.data, seed, out)
            rounds.append({"by_hand": hand, "recipe": recipe})
            print(json.dumps(rounds[-1]), flush=True)
    means = {
        key: {who: statistics.mean(one[who][key] for one in rounds) for who in ("by_hand", "recipe")}
        for key in ("accuracy", "seconds")
    }
    print(json.dumps(means))
    keep("sentences", {"setting": setting_of_this_run(), "means": means, "rounds": rounds})


if __name__ == "__main__":
    main()
