"""Losses and transforms of the plugin in a recipe, through a whole run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import core

STEPS = [
    {"transform": "time_bins", "seconds": 1000, "keep": 6},
    {"transform": "common", "min_users": 2},
    {"transform": "drop", "columns": ["times"]},
]


def run(path: Path, older: Path, out: Path, **changes: Any) -> Any:
    """The last two items are held out; the base knows another log."""
    return core.run(
        "recommendation/interactions",
        out=out,
        quiet=True,
        strict=True,
        **{
            "data.path": str(path),
            "data.base_users": 0.0,
            "data.min_rating": 1,
            "data.held_out": 2,
            "base.path": str(older),
            **changes,
        },
    )


@pytest.mark.parametrize("loss", ["bpr", {"loss": "sampled_softmax", "negatives": 5}])
def test_a_ranking_loss_trains_a_model_that_ranks(tmp_path: Path, logs: Any, loss: Any) -> None:
    """Better than popularity; the same run again has the same weights."""
    path = logs.write(tmp_path / "log.csv", logs.header(), logs.readers(60))
    older = logs.write(tmp_path / "older.csv", logs.header(), logs.readers(60, key=8))
    changes = {
        "fine_tune.loss": loss,
        "fine_tune.lr": 0.5,
        "fine_tune.epochs": 30,
        "fine_tune.updater.anchor": 0.05,
    }
    one, other = (run(path, older, tmp_path / name, **changes) for name in ("one", "other"))
    scores = one.document["contenders"]
    assert scores["adapted"]["ndcg@10"] > scores["popularity"]["ndcg@10"]
    weights = [Path(each.shell, "delta.safetensors").read_bytes() for each in (one, other)]
    assert weights[0] == weights[1]


def test_what_is_fitted_does_not_depend_on_the_report(tmp_path: Path, logs: Any) -> None:
    """Other items in the place of those that are held out for it: the same states in the shell, the same weights."""
    rows = logs.readers(60)
    last = {row[0]: row[3] for row in rows}
    changed = [[row[0], "a new book", *row[2:]] if row[3] == last[row[0]] else row for row in rows]
    older = logs.write(tmp_path / "older.csv", logs.header(), logs.readers(60, key=8))
    shells = []
    for name, content in (("one", rows), ("other", changed)):
        path = logs.write(tmp_path / f"{name}.csv", logs.header(), content)
        shells.append(
            Path(run(path, older, tmp_path / name, **{"preprocess": STEPS, "data.keep": ["times"]}).shell)
        )
    one, other = ((shell / "preprocess.json").read_text("utf-8") for shell in shells)
    assert one == other
    assert set(json.loads(one)["transforms"]) == {
        "0.recommendation.time_bins",
        "1.recommendation.common",
        "2.recommendation.drop",
    }
    assert (shells[0] / "delta.safetensors").read_bytes() == (shells[1] / "delta.safetensors").read_bytes()
    (prediction,) = core.load(shells[0]).predict("book00,book03")
    assert len(prediction["recommended"]) == 10
