"""Seconds until the commands that import no torch have answered, as whole processes.

    python -m benchmarks.startup.commands [ROUNDS]

Each is checked first: it exits with 0 and prints what it is for. `python -c pass` is the baseline in the
same rounds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks import keep, setting_of_this_run

COMMANDS = {
    "python -c pass": (["-c", "pass"], ""),
    "--version": (["-m", "core", "--version"], "taoke"),
    "--help": (["-m", "core", "--help"], "recipes"),
    "recipes list": (["-m", "core", "recipes", "list"], "default"),
    "plugins list": (["-m", "core", "plugins", "list"], "distribution"),
}


BOUND = 0.4
"""Seconds within which each of them has to answer."""


def main(rounds: int = 11) -> int:
    """Print a line a command, keep the figures in `benchmarks/results/startup.json`; 1 where one is beyond
    the bound."""
    for name, (arguments, expected) in COMMANDS.items():
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
        if expected not in done.stdout:
            raise AssertionError(f"{name} does not print {expected!r}")
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, (arguments, _) in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
            times[name].append(time.perf_counter() - began)
    figures = {
        name: {"median_s": statistics.median(seconds), "min_s": min(seconds), "max_s": max(seconds)}
        for name, seconds in times.items()
    }
    for name, row in figures.items():
        print(f"{name:<16} {row['median_s']:.3f} s [{row['min_s']:.3f}, {row['max_s']:.3f}]")
    keep("startup", {**setting_of_this_run(), "rounds": rounds, "bound_s": BOUND, **figures})
    return int(any(row["median_s"] > BOUND for row in figures.values()))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
