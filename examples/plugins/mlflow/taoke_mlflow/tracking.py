"""One run of MLflow's for one of ours. The client alone is used: MLflow's own idea of a current run is global."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.tracking import MlflowClient

from core.evidence.scores import score

if TYPE_CHECKING:
    from core.context import Context
    from core.contract import Prediction, Task

STORE = "MLFLOW_TRACKING_URI"
"""The environment variable with which MLflow itself is told where to keep runs."""


class Tracking:
    """`place` is where MLflow keeps the run: what `MLFLOW_TRACKING_URI` says, or `mlruns` beside the runs' folders."""

    def __init__(self, context: Context) -> None:
        beside = context.folder.resolve().parents[1] if context.folder else Path.cwd()
        self.place = os.environ.get(STORE) or (beside / "mlruns").as_uri()
        with _file_store_allowed():
            self._client = MlflowClient(tracking_uri=self.place)
            known = self._client.get_experiment_by_name(context.name)
            experiment = known.experiment_id if known else self._client.create_experiment(context.name)
            name = context.folder.name if context.folder else None
            self._run: str = self._client.create_run(experiment, run_name=name).info.run_id
        recipe = context.recipe
        for key, value in {"base": recipe.base.name, "seed": recipe.seed, "lr": recipe.fine_tune.lr}.items():
            self._client.log_param(self._run, key, value)

    def loss(self, contender: str, step: int, loss: float, lr: float) -> None:
        self._client.log_metric(self._run, f"{contender}/loss", loss, step=step)
        self._client.log_metric(self._run, f"{contender}/lr", lr, step=step)

    def scores(self, task: Task, predictions: Mapping[str, Sequence[Prediction]]) -> None:
        for contender, rows in predictions.items():
            for metric in task.metrics():
                self._client.log_metric(self._run, f"{contender}/{metric.name}", score(metric, rows))

    def end(self, *, failed: bool) -> None:
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


@contextmanager
def _file_store_allowed() -> Iterator[None]:
    """MLflow asks for its consent in the environment to keep runs in files; it is as it was afterwards."""
    name = "MLFLOW_ALLOW_FILE_STORE"
    before = os.environ.get(name)
    os.environ[name] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
