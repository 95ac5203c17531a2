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
EMBEDDED = ("nlp/reference", "recommendation/imports", "vision/digits")
"""The recipes whose data and base come with the project; the others ask for files of the user's."""


def setting_of_this_run() -> dict[str, str]:
    """Date, commit, command, machine and versions, to stand beside the figures."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    versions = f"torch {metadata.version('torch')}, Python {platform.python_version()}"
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": commit.stdout.strip(),
        "command": f"python -m {_module()}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {versions}",
    }


def _module() -> str:
    path = Path(sys.argv[0])
    if path.is_relative_to(ROOT):
        return path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__main__")
    return path.name


def keep(name: str, figures: Mapping[str, Any]) -> None:
    """Write `results/NAME.json`."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def run_recipe(*arguments: str, out: str, cache: str | None = None) -> dict[str, Any]:
    """The document of `python -m core run`, with the parts of training, by contender, that waited for data (`waited`),
    and their seconds (`took`). `cache` names a folder for the cache. Raises `RuntimeError` where the run failed."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"} | ({"TAOKE_CACHE": cache} if cache else {})
    command = [sys.executable, "-m", "core", "run", *arguments, "--out", out, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise RuntimeError(done.stdout + done.stderr)
    document: dict[str, Any] = json.loads(done.stdout)
    events = Path(document["run"], "events.jsonl").read_text(encoding="utf-8").splitlines()
    trained = [event for event in map(json.loads, events) if event["event"] == "trained"]
    document["took"] = {event["contender"]: event["took"] for event in trained}
    document["waited"] = {event["contender"]: round(event["waited"] / event["took"], 4) for event in trained}
    return document
