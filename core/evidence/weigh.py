"""From the contenders' predictions to scores, paired differences and a verdict: a pure function, so that every
number can be recomputed from the predictions a run keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np

from core.contract import ADAPTED, BASE, JSON, REPORT, RETAIN, SCRATCH, Metric, Prediction
from core.evidence.paired import Interval, Resamples, interval
from core.evidence.scores import breakdown, is_of_corpus, parts, ratio, weighted
from core.evidence.verdict import Verdict, judge

Predictions: TypeAlias = Sequence[Prediction]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the contenders predicted and what follows from it.

    `scores` maps contender to metric to value, `differences` (contender minus base) likewise, on
    `report`. `gains` maps every other contender to how much better the adapted model is in the primary metric,
    positive being better; the verdict asks about the base, the best trivial contender and scratch. `retained`
    has the base's and the adapted model's scores on `retain`, `forgetting` the part of the base's score that
    was lost. `breakdowns` maps metric to contender to the score's parts, for metrics that have any.
    `illustrations` is what plugins show beside all that (`taoke_illustrate`).
    """

    primary: Metric
    metrics: Sequence[Metric]
    predictions: Mapping[tuple[str, str], Predictions]
    scores: Mapping[str, Mapping[str, float]]
    trivial: Sequence[str]
    differences: Mapping[str, Mapping[str, Interval]]
    best_trivial: str | None
    gains: Mapping[str, Interval]
    retained: Mapping[str, Mapping[str, float]]
    forgetting: Interval | None
    verdict: Verdict
    confidence: float
    breakdowns: Mapping[str, Mapping[str, Mapping[str, float]]]
    illustrations: Mapping[str, JSON] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        primary = self.primary.name
        return {
            "primary": primary,
            "higher_is_better": self.primary.higher_is_better,
            "metrics": {
                m.name: {"unit": m.unit, "higher_is_better": m.higher_is_better} for m in self.metrics
            },
            "contenders": self.scores,
            "trivial": list(self.trivial),
            "confidence": self.confidence,
            "difference": asdict(self.differences[ADAPTED][primary]),
            "differences": {
                name: {metric: asdict(difference) for metric, difference in by_metric.items()}
                for name, by_metric in self.differences.items()
            },
            "breakdowns": self.breakdowns,
            "best_trivial": self.best_trivial,
            "gains": {rival: asdict(gain) for rival, gain in self.gains.items()},
            "retain": self.retained or None,
            "forgetting": asdict(self.forgetting) if self.forgetting else None,
            "verdict": self.verdict.verdict,
            "reasons": list(self.verdict.reasons),
            "illustrations": self.illustrations,
        }


def weigh(
    predictions: Mapping[tuple[str, str], Predictions],
    metrics: Sequence[Metric],
    primary: Metric,
    trivial: Sequence[str],
    *,
    confidence: float,
    max_forgetting: float | None,
    resamples: int,
    seed: int,
) -> Evidence:
    """From predictions by (contender, split) to scores, paired differences and the verdict; a pure function
    of its arguments."""
    names = [contender for contender, split in predictions if split == REPORT]
    scores, resampled = _scores(predictions, names, REPORT, metrics, resamples, seed)
    index = {name: i for i, name in enumerate(names)}

    def difference(one: str, other: str, metric: Metric) -> Interval:
        drawn = resampled[metric.name]
        value = scores[one][metric.name] - scores[other][metric.name]
        return interval(value, drawn[index[one]] - drawn[index[other]], confidence)

    def gain_over(rival: str) -> Interval:
        found = difference(ADAPTED, rival, primary)
        return found if primary.higher_is_better else Interval(-found.value, -found.high, -found.low)

    sign = 1 if primary.higher_is_better else -1
    best_trivial = max(trivial, key=lambda name: sign * scores[name][primary.name], default=None)
    rivals = [rival for rival in (BASE, best_trivial, SCRATCH) if rival in names]
    gains = {name: gain_over(name) for name in names if name != ADAPTED}
    retained: dict[str, dict[str, float]] = {}
    forgetting = None
    if (ADAPTED, RETAIN) in predictions:
        retained, drawn = _scores(predictions, [BASE, ADAPTED], RETAIN, metrics, resamples, seed)
        before, after = drawn[primary.name]
        base_score = retained[BASE][primary.name]
        if base_score != 0:
            lost = sign * (base_score - retained[ADAPTED][primary.name]) / abs(base_score)
            forgetting = interval(lost, sign * (before - after) / np.abs(before), confidence)
    return Evidence(
        primary=primary,
        metrics=metrics,
        predictions=predictions,
        scores=scores,
        trivial=trivial,
        differences={
            name: {m.name: difference(name, BASE, m) for m in metrics} for name in names if name != BASE
        },
        best_trivial=best_trivial,
        gains=gains,
        retained=retained,
        forgetting=forgetting,
        verdict=judge({rival: gains[rival] for rival in rivals}, forgetting, max_forgetting),
        confidence=confidence,
        breakdowns={
            metric.name: by_contender
            for metric in metrics
            if (by_contender := _breakdown(metric, predictions, names))
        },
    )


def _breakdown(
    metric: Metric, predictions: Mapping[tuple[str, str], Predictions], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    found = {name: breakdown(metric, predictions[name, REPORT]) for name in names}
    return {name: parts for name, parts in found.items() if parts}


def _scores(
    predictions: Mapping[tuple[str, str], Predictions],
    names: Sequence[str],
    split: str,
    metrics: Sequence[Metric],
    resamples: int,
    seed: int,
) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Each contender's score by metric, and by metric an array (contenders, resamples) of resampled scores."""
    groups = [row.get("group") for row in predictions[names[0], split]]
    drawing = Resamples(groups, resamples, seed)
    scores: dict[str, dict[str, float]] = {name: {} for name in names}
    resampled = {}
    for metric in metrics:
        if is_of_corpus(metric):
            corpora = [weighted(metric, predictions[name, split]) for name in names]
            values = [value for value, _ in corpora]
            resampled[metric.name] = drawing.corpus_scores([corpus for _, corpus in corpora])
        else:
            stacked = np.stack([parts(metric, predictions[name, split]) for name in names])
            values = [ratio(one) for one in stacked]
            resampled[metric.name] = drawing.scores(stacked)
        for name, value in zip(names, values, strict=True):
            scores[name][metric.name] = value
    return scores, resampled
