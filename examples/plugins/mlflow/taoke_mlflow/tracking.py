"""One run of MLflow's for one of ours. The client alone is used: MLflow's own idea of a current run is global."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from core.evidence.scores import score

if TYPE_CHECKING:
    from core.context import Context
    from core.contract import Prediction, Task


@contextmanager
def environment(**changes: str) -> Iterator[None]:
    """With these changes, and as it was afterwards, whatever a library has set in it meanwhile."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        for name in {*os.environ, *before}:
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)


@contextmanager
def file_store_allowed() -> Iterator[None]:
    """MLflow asks for consent in the environment to keep runs in files, and draws an experiment's number from Python's
    generator, which is as it was afterwards."""
    state = random.getstate()
    try:
        with environment(MLFLOW_ALLOW_FILE_STORE="true"):
            yield
    finally:
        random.setstate(state)


# When it is imported, MLflow puts the name of its session there, and starts a thread that reports its use to its makers
# and draws from Python's generator: a run with the plugin would not be the run without.
with environment(MLFLOW_DISABLE_TELEMETRY="true"):
    from mlflow.tracking import MlflowClient

STORE = "MLFLOW_TRACKING_URI"
"""The environment variable with which MLflow itself is told where to keep runs."""
ENDS = {"done": "FINISHED", "interrupted": "KILLED"}


class Tracking:
    """`place` is where MLflow keeps the run: what `MLFLOW_TRACKING_URI` says, or `mlruns` beside the runs' folders.
    Of a run that writes nothing, nothing is kept."""

    def __init__(self, context: Context) -> None:
        folder, self._scratch = context.folder, None
        if folder is None:
            self._scratch = TemporaryDirectory(prefix="mlruns-")
            at = Path(self._scratch.name)
        else:
            at = folder.parents[len(Path(context.name).parts)]
        self.place = os.environ.get(STORE) or (at.resolve() / "mlruns").as_uri()
        with file_store_allowed():
            self._client = MlflowClient(tracking_uri=self.place)
            known = self._client.get_experiment_by_name(context.name)
            experiment = known.experiment_id if known else self._client.create_experiment(context.name)
            name = folder.name if folder else context.name  # without one, MLflow draws it
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

    def end(self, ended: str) -> None:
        self._client.set_terminated(self._run, ENDS.get(ended, "FAILED"))
        if self._scratch is not None:
            self._scratch.cleanup()
