"""Seconds until the commands that import no torch have answered, as whole processes.

    python -m benchmarks.startup.commands [ROUNDS]

Each is checked first: it exits with 0 and prints what it is for. `python -c pass` is the baseline in the
same rounds; `plugins list, 50 more` has so many more plugins installed, as packages that fail when they are imported.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import keep, setting_of_this_run

COMMANDS = {
    "python -c pass": (["-c", "pass"], ""),
    "--version": (["-m", "core", "--version"], "taoke"),
    "--help": (["-m", "core", "--help"], "recipes"),
    "recipes list": (["-m", "core", "recipes", "list"], "default"),
    "plugins list": (["-m", "core", "plugins", "list"], "distribution"),
    "plugins list, 50 more": (["-m", "core", "plugins", "list"], "more49"),
}

MORE = 50
BOUND, BOUND_MORE = 0.4, 0.6
"""Seconds within which each of them has to answer; with `MORE` plugins more."""


def install_more(folder: Path) -> None:
    """Packages with a plugin each, as pip leaves them."""
    for i in range(MORE):
        package, info = folder / f"acme_more{i}", folder / f"acme_more{i}-1.0.dist-info"
        for made in (package, info):
            made.mkdir()
        (package / "__init__.py").write_text('raise RuntimeError("imported")\n', encoding="utf-8")
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: acme-more{i}\nVersion: 1.0\n", encoding="utf-8"
        )
        (info / "entry_points.txt").write_text(
            f"[taoke.plugins]\nmore{i} = acme_more{i}.plugin\n", encoding="utf-8"
        )


def main(rounds: int = 11) -> int:
    """Print a line a command, keep the figures in `benchmarks/results/startup.json`; 1 where one is beyond
    the bound."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        install_more(Path(folder))
        more = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}
        environments = {name: more if name.endswith("more") else dict(os.environ) for name in COMMANDS}
        for name, (arguments, expected) in COMMANDS.items():
            command = [sys.executable, *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environments[name])
            if expected not in done.stdout:
                raise AssertionError(f"{name} does not print {expected!r}")
        for _ in range(rounds):
            for name, (arguments, _) in COMMANDS.items():
                began = time.perf_counter()
                subprocess.run(
                    [sys.executable, *arguments], capture_output=True, check=True, env=environments[name]
                )
                times[name].append(time.perf_counter() - began)
    figures = {
        name: {"median_s": statistics.median(seconds), "min_s": min(seconds), "max_s": max(seconds)}
        for name, seconds in times.items()
    }
    for name, row in figures.items():
        print(f"{name:<21} {row['median_s']:.3f} s [{row['min_s']:.3f}, {row['max_s']:.3f}]")
    keep("startup", {**setting_of_this_run(), "rounds": rounds, "bound_s": BOUND, **figures})
    return int(
        any(
            row["median_s"] > (BOUND_MORE if name.endswith("more") else BOUND)
            for name, row in figures.items()
        )
    )


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
