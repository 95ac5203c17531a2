"""Metrics that tasks of several domains share."""

from __future__ import annotations

from core.contract import Prediction


class Accuracy:
    """The share of examples whose `label` is the target."""

    name, unit, higher_is_better = "accuracy", "share", True

    def score(self, row: Prediction) -> tuple[float, float]:
        return float(row["label"] == row["target"]), 1.0
