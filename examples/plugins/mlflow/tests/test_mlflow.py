"""What MLflow knows after a run, and what a run leaves behind beside that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from taoke_mlflow import tracking
from taoke_mlflow.tracking import MlflowClient, file_store_allowed

import core
from core.errors import TaokeError


def told(place: str) -> tuple[MlflowClient, Any]:
    """The only run of mlflow/digits."""
    with file_store_allowed():
        client = MlflowClient(tracking_uri=place)
        (experiment,) = (one for one in client.search_experiments() if one.name == "mlflow/digits")
        (run,) = client.search_runs([experiment.experiment_id])
    return client, run


def test_losses_and_every_contender_s_scores_are_with_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a file store beside the runs; the consent that it takes is taken back."""
    monkeypatch.delenv(tracking.STORE, raising=False)
    run = core.run("mlflow/digits", out=tmp_path, quiet=True, **{"fine_tune.epochs": 10})
    place = run.document["illustrations"]["mlflow"]
    assert place == (tmp_path / "mlruns").as_uri()
    assert "MLFLOW_ALLOW_FILE_STORE" not in os.environ
    client, known = told(place)
    losses = client.get_metric_history(known.info.run_id, "adapted/loss")
    assert known.info.status == "FINISHED"
    assert known.data.metrics["adapted/accuracy"] == run.contenders["adapted"]["accuracy"]
    assert known.data.metrics["base/accuracy"] == run.contenders["base"]["accuracy"]
    assert [loss.step for loss in losses] == [20]


@pytest.mark.parametrize("where", ["core.stages.evaluate.weigh", "core.runner.seal"])
def test_a_run_that_fails_is_told_as_failed(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the last stage did, in the store that the environment names; and the failure comes out."""
    place = (tmp_path / "elsewhere").as_uri()
    monkeypatch.setenv(tracking.STORE, place)
    monkeypatch.setattr(where, fail)
    with pytest.raises(TaokeError, match="on purpose"):
        core.run("mlflow/digits", out=tmp_path, quiet=True, **{"fine_tune.epochs": 10})
    assert told(place)[1].info.status == "FAILED"
    assert not (tmp_path / "mlruns").exists()


def fail(*arguments: Any, **more: Any) -> None:
    raise TaokeError("a failure on purpose")


def test_importing_it_leaves_the_environment_as_it_was() -> None:
    """MLflow names its session there, unless it knows that it is being tested."""
    code = "import os; before = dict(os.environ); import taoke_mlflow.tracking; assert dict(os.environ) == before"
    outside = {
        name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST")
    }
    subprocess.run([sys.executable, "-c", code], env=outside, check=True)
