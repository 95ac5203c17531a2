"""The recipe `nlp/sentences` on TREC beside the loop by hand, in turn, seed by seed.

    python -m benchmarks.endtoend.sentences --base FOLDER --data FOLDER [--epochs 1] [--seeds 0 1 2]

As `sentences_by_hand`, which trains on all of the train file, while the recipe keeps a twentieth of it for `select`.
Compared are the seconds of the training loops and the accuracy on the test file. Writes
benchmarks/results/sentences.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import ROOT, keep, setting_of_this_run


def call(*arguments: str) -> str:
    """What a command of Python's prints."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 3):
        raise RuntimeError(done.stderr)
    return done.stdout


def by_hand(base: str, data: Path, epochs: int, seed: int) -> dict[str, Any]:
    """Accuracy on the test file and the seconds of training."""
    arguments = ("--base", base, "--data", str(data), "--epochs", str(epochs), "--seeds", str(seed))
    made: dict[str, Any] = json.loads(call("benchmarks.endtoend.sentences_by_hand", *arguments))
    return made


def by_recipe(base: str, data: Path, epochs: int, seed: int, out: str) -> dict[str, Any]:
    """Accuracy of each contender on the test file, the seconds of training, and the part of them spent on waiting for
    data."""
    made = json.loads(
        call(
            *(
                "core",
                "run",
                "nlp/sentences",
                f"base.name={base}",
                f"seed={seed}",
                f"fine_tune.epochs={epochs}",
            ),
            f"data.path={{train: {data / 'TREC.train.all'}, report: {data / 'TREC.test.all'}}}",
            *("data.encoding=latin-1", "allow=[duplicates]", "--out", out, "--json"),
        )
    )
    events = (ROOT / made["run"] / "events.jsonl").read_text(encoding="utf-8").splitlines()
    trained = next(e for e in map(json.loads, events) if e["event"] == "trained")
    scores = {name: score["accuracy"] for name, score in made["contenders"].items()}
    return {
        "seed": seed,
        "epochs": epochs,
        "accuracy": scores["adapted"],
        "seconds": round(trained["took"], 1),
        "waited": round(trained["waited"] / trained["took"], 4),
        "contenders": scores,
        "stages": made["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="The recipe nlp/sentences beside the loop by hand.")
    parser.add_argument("--base", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as out:
        for seed in options.seeds:
            hand = by_hand(options.base, options.data, options.epochs, seed)
            recipe = by_recipe(options.base, options.data, options.epochs, seed, out)
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
