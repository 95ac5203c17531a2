"""What anybody would try first on a table: logistic regression and gradient boosting, from scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression as Logistic
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from core.contract import JSON, Row


class _Rival:
    """The candidate, of those fitted on `train`, that is right most often on `select`; of equal ones the first."""

    name = ""

    def __init__(self, train: Sequence[Row], select: Sequence[Row]) -> None:
        fitted = [model.fit(*_table(train)) for model in self.candidates()]
        self._model = max(fitted, key=lambda model: model.score(*_table(select)))

    def candidates(self) -> list[Any]:
        raise NotImplementedError

    def predict(self, rows: Sequence[Row]) -> list[dict[str, JSON]]:
        return [{"label": str(label)} for label in self._model.predict([row.inputs for row in rows])]


def _table(rows: Sequence[Row]) -> tuple[list[Any], list[Any]]:
    return [row.inputs for row in rows], [row.target for row in rows]


class LogisticRegression(_Rival):
    name = "logistic_regression"

    def candidates(self) -> list[Any]:
        return [make_pipeline(StandardScaler(), Logistic(C=c, max_iter=1000)) for c in (0.01, 0.1, 1.0, 10.0)]


class GradientBoosting(_Rival):
    name = "gradient_boosting"

    def candidates(self) -> list[Any]:
        return [
            HistGradientBoostingClassifier(learning_rate=rate, min_samples_leaf=leaf, random_state=0)
            for rate in (0.05, 0.1)
            for leaf in (3, 10)
        ]
