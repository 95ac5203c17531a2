"""What MLflow knows after a run."""

from __future__ import annotations

import os
from pathlib import Path

from mlflow.tracking import MlflowClient
from taoke_mlflow.tracking import _file_store_allowed

import core


def test_losses_and_every_contender_s_scores_are_with_mlflow(tmp_path: Path) -> None:
    """In a file store beside the runs; the consent that it takes is taken back."""
    run = core.run("mlflow/digits", out=tmp_path, quiet=True, **{"fine_tune.epochs": 10})
    assert "MLFLOW_ALLOW_FILE_STORE" not in os.environ
    with _file_store_allowed():
        client = MlflowClient(tracking_uri=run.document["illustrations"]["mlflow"])
        (experiment,) = (one for one in client.search_experiments() if one.name == "mlflow/digits")
        (told,) = client.search_runs([experiment.experiment_id])
        losses = client.get_metric_history(told.info.run_id, "adapted/loss")
    assert told.info.status == "FINISHED"
    assert told.data.metrics["adapted/accuracy"] == run.contenders["adapted"]["accuracy"]
    assert told.data.metrics["base/accuracy"] == run.contenders["base"]["accuracy"]
    assert [loss.step for loss in losses] == [20]
