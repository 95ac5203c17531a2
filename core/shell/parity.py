"""Parity or no artifact: a sealed shell, loaded in a fresh process, must predict exactly what the run
predicted.

    python -m core.shell.parity REQUEST

`REQUEST` is a JSON file: the shell's folder, plugin files, device, threads, and the expected predictions of
`report`. Exit code 0 if all are equal.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from core.base_file import NAME as ARCHITECTURE_OF
from core.context import Context
from core.contract import ADAPTED, Prediction
from core.errors import ParityError, TaokeError
from core.inference import complete, stretch
from core.loader import ENVIRONMENT
from core.seeds import deterministic
from core.shell.read import load


def check(shell: Path, context: Context, expected: Sequence[Prediction]) -> int:
    """Compare the first predictions of `report` in a fresh process, in batches that are those of the run; returns how
    many were compared. Raises `ParityError`."""
    count = min(len(expected), stretch(context.recipe.evaluate.batch_size))
    request = {
        "shell": str(shell),
        "device": str(context.device),
        "plugin_files": [str(plugin.file) for plugin in context.plugins.active if plugin.from_file],
        "architecture": context.recipe.base.options.get("architecture")
        if context.recipe.base.name == ARCHITECTURE_OF
        else None,  # the run's own recipe has named it
        "threads": torch.get_num_threads(),
        "expected": list(expected[:count]),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "request.json")
        path.write_text(json.dumps(request), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment.pop(ENVIRONMENT, None)
        done = subprocess.run(
            [sys.executable, "-m", "core.shell.parity", str(path)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
    if done.returncode != 0:
        raise ParityError(
            f"the shell, reloaded in a fresh process, is not this run's model:\n{(done.stderr or done.stdout).strip()}",
            "no shell was kept; the model or a plugin keeps state outside its parameters and buffers",
        )
    return count


def main(path: str) -> int:
    """The fresh process' side."""
    request = json.loads(Path(path).read_text(encoding="utf-8"))
    torch.set_num_threads(request["threads"])
    expected = request["expected"]
    try:
        with deterministic():
            adapted = load(
                request["shell"],
                device=request["device"],
                plugin_files=request["plugin_files"],
                architecture=request.get("architecture"),
            )
            rows = adapted.first(len(expected))
            found = complete(adapted.predict_rows(rows), rows, ADAPTED)
    except TaokeError as error:
        print(error, file=sys.stderr)
        return 1
    for one, other in zip(expected, found, strict=True):
        if json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True):  # in text, NaN is itself
            print(f"row {one['id']}: expected {one}\n  got {other}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
