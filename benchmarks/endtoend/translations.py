"""Sentences a minute that a translation model of a finished run writes, greedily and with the beams of its recipe.

    python -m benchmarks.endtoend.translations RUN

First, the recipe's own search has to give what the run kept, and the greedy one, for some sentences, what the model
itself says is likeliest, token by token. The sentences are those of the report split. The bound: 300 a minute
greedily. Writes benchmarks/results/translations.json.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import keep, setting_of_this_run
from core.contract import Row
from core.inference import predict
from core.prepared import encode
from core.seeds import deterministic
from core.shell.read import Adapted, load
from plugins.nlp import options
from plugins.nlp.ragged import ragged
from plugins.nlp.tokens import unpack
from plugins.nlp.translate import Translate

BOUND = 300.0
"""Sentences a minute, at least."""

CHECKED = 10
"""Sentences that are written token by token."""


def translated(adapted: Adapted, task: Translate, rows: Sequence[Row]) -> tuple[list[str], float]:
    """The translations, and the sentences a minute, tokenizing included."""
    began = time.perf_counter()
    split = encode(task, "report", rows, adapted.state)
    size = adapted.context.recipe.evaluate.batch_size
    found = predict(task, adapted.model, split, adapted.context.device, size)
    return [row["translation"] for row in found], 60 * len(rows) / (time.perf_counter() - began)


@torch.no_grad()
def step_by_step(adapted: Adapted, task: Translate, row: Row, most: int) -> str:
    """The likeliest token after those before it, until the end."""
    state: Any = adapted.state
    source, written = task.encode(row, state)["source"], [state["start"]]
    for _ in range(most):
        batch: Any = {
            "sources": ragged([source]),
            "targets": ragged([written]),
            "labels": torch.zeros(0, dtype=torch.int64),
        }
        written.append(int(task.forward(adapted.model, batch)[-1].argmax()))
        if written[-1] == state["end"]:
            break
    special = {state["start"], state["end"], state["pad"]}
    return str(unpack(state["target"]).decode([token for token in written if token not in special])).strip()


def main(run: str) -> None:
    adapted = load(run)
    asked = adapted.context.recipe.task.options
    with deterministic():
        rows = adapted.rows()
        own, own_speed = translated(adapted, Translate(options.Translate.model_validate(asked)), rows)
        kept = Path(run, "predictions", "adapted", "report.jsonl").read_text(encoding="utf-8").splitlines()
        if own != [json.loads(line)["translation"] for line in kept]:
            raise AssertionError("the shell does not write what the run kept")
        exact = Translate(options.Translate.model_validate({**asked, "beams": 1, "precision": "float32"}))
        checked = rows[:CHECKED]
        one_by_one = [step_by_step(adapted, exact, row, 64) for row in checked]
        if translated(adapted, exact, checked)[0] != one_by_one:
            raise AssertionError(f"greedy translations are not the likeliest tokens: {one_by_one}")
        greedy = Translate(options.Translate.model_validate({**asked, "beams": 1}))
        _, speed = translated(adapted, greedy, rows)
    figures = {
        "sentences": len(rows),
        "greedy_per_minute": round(speed),
        "bound": BOUND,
        "beams": asked["beams"],
        "beams_per_minute": round(own_speed),
        "scores": adapted.recorded,
    }
    print(figures)
    keep("translations", {**setting_of_this_run(), **figures})


if __name__ == "__main__":
    main(*sys.argv[1:])
