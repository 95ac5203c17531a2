"""Seconds until the commands that import no torch have answered, as whole processes.

    python -m benchmarks.startup.commands [ROUNDS]

Each is checked first: it exits with 0 and prints what it is for. `python -c pass` is the baseline in the same rounds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": (["-c", "pass"], ""),
    "--version": (["-m", "core", "--version"], "taoke"),
    "--help": (["-m", "core", "--help"], "recipes"),
    "recipes list": (["-m", "core", "recipes", "list"], "default"),
    "plugins list": (["-m", "core", "plugins", "list"], "distribution"),
}


def main(rounds: int = 11) -> None:
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
    for name, seconds in times.items():
        print(f"{name:<16} {statistics.median(seconds):.3f} s [{min(seconds):.3f}, {max(seconds):.3f}]")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
