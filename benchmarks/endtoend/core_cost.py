"""What the core's fine-tune stage costs beyond a plain hand-written loop, in each embedded recipe.

    python -m benchmarks.endtoend.core_cost [ROUNDS]

Both contenders first have to end with bitwise equal weights. Then they run in turn, with the order
changing from round to round; the figure is the median over rounds of the paired difference. The bound: 5
% of the hand-written loop's time or 30 µs a step, whichever is more.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import EMBEDDED, keep, setting_of_this_run
from benchmarks.endtoend import by_hand
from benchmarks.endtoend.setting import Setting, prepare

OVERRIDES: dict[str, dict[str, Any]] = {
    # A step takes a tenth of a second: a few of them are enough.
    "nlp/reference": {"fine_tune.epochs": 1, "data.train_bytes": 30_000},
}
ROUNDS = {"recommendation/imports": 61}
"""A round of 45 ms says little by itself."""


def check(setting: Setting) -> None:
    """Both ways end with the same weights, to the bit. Raises `AssertionError` that names a tensor that
    differs."""
    ours, theirs = setting.with_core().state_dict(), by_hand.fine_tune(setting, setting.model()).state_dict()
    for name, tensor in ours.items():
        if not torch.equal(tensor, theirs[name]):
            raise AssertionError(f"{name} differs by {(tensor - theirs[name]).abs().max():.3g}")


def measure(setting: Setting, rounds: int) -> dict[str, float]:
    """Seconds of both ways, their paired difference per step, and their ratio, with medians and ranges."""
    contenders: list[Callable[[], Any]] = [
        setting.with_core,
        lambda: by_hand.fine_tune(setting, setting.model()),
    ]
    times: list[list[float]] = [[], []]
    for i in range(rounds):
        for which in (0, 1) if i % 2 else (1, 0):
            began = time.perf_counter()
            contenders[which]()
            times[which].append(time.perf_counter() - began)
    steps = setting.context.steps
    differences = [(core - hand) / steps * 1e6 for core, hand in zip(*times, strict=True)]
    ratios = [core / hand for core, hand in zip(*times, strict=True)]
    hand = statistics.median(times[1])
    return {
        "steps": steps,
        "core_s": statistics.median(times[0]),
        "hand_s": hand,
        "hand_us_a_step": hand / steps * 1e6,
        "cost_us_a_step": statistics.median(differences),
        "cost_us_a_step_min": min(differences),
        "cost_us_a_step_max": max(differences),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "bound_us_a_step": max(30.0, 0.05 * hand / steps * 1e6),
    }


def main(rounds: int = 7) -> int:
    """Print a line a recipe, keep the figures in `benchmarks/results/core_cost.json`; 1 where one is beyond
    its bound."""
    results: dict[str, Any] = {**setting_of_this_run(), "rounds": rounds}
    print(f"{results['machine']}; medians of {rounds} interleaved rounds")
    beyond = 0
    for recipe in EMBEDDED:
        with tempfile.TemporaryDirectory() as folder:
            setting = prepare(recipe, OVERRIDES.get(recipe, {}), Path(folder))
            check(setting)
            row = results[recipe] = measure(setting, ROUNDS.get(recipe, rounds))
        within = row["cost_us_a_step"] <= row["bound_us_a_step"]
        beyond += not within
        print(
            f"{recipe:<24} same weights; by hand {row['hand_us_a_step']:9.1f} µs a step, core"
            f" {row['cost_us_a_step']:+8.1f} [{row['cost_us_a_step_min']:+.1f}, {row['cost_us_a_step_max']:+.1f}],"
            f" ratio {row['ratio']:.3f} [{row['ratio_min']:.3f}, {row['ratio_max']:.3f}]:"
            f" {'within' if within else 'BEYOND'} the bound of {row['bound_us_a_step']:.1f}"
        )
    keep("core_cost", results)
    return int(beyond > 0)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
