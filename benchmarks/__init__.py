"""Benchmarks: each verifies what it compares before it times it. Figures are kept in `results/`, what did
not work in `LOG.md`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def setting_of_this_run() -> dict[str, str]:
    """Date, commit, command, machine and versions, to stand beside the figures."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    versions = f"torch {metadata.version('torch')}, Python {platform.python_version()}"
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": commit.stdout.strip(),
        "command": f"python -m {Path(sys.argv[0]).relative_to(ROOT).with_suffix('').as_posix().replace('/', '.')}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {versions}",
    }


def keep(name: str, figures: Mapping[str, Any]) -> None:
    """Write `results/NAME.json`."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
