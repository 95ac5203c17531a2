"""Evaluate: every contender on the same examples, differences with paired intervals, and the verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from core.context import Context, derive_seed
from core.contract import JSON, REPORT, RETAIN, SELECT, TRAIN, Metric, Split
from core.errors import DataError, EditError
from core.evidence.paired import Interval, Resamples, interval
from core.evidence.scores import parts
from core.evidence.verdict import Verdict, judge
from core.inference import complete, metric_named
from core.stages.fine_tune import Tuned, trained

Predictions = Sequence[Mapping[str, JSON]]


@dataclass(frozen=True)
class Evidence:
    """What the contenders predicted and what follows from it.

    `scores` maps contender to metric to value, `differences` (contender minus base) likewise, on `report`; `retained` has the base's and the
    adapted model's scores on `retain`. `gain` is over the best trivial contender.
    """

    primary: Metric
    metrics: Sequence[Metric]
    predictions: Mapping[tuple[str, str], Predictions]
    scores: Mapping[str, Mapping[str, float]]
    trivial: Sequence[str]
    differences: Mapping[str, Mapping[str, Interval]]
    best_trivial: str | None
    gain: Interval | None
    retained: Mapping[str, Mapping[str, float]]
    forgetting: Interval | None
    verdict: Verdict
    confidence: float

    def to_json(self) -> dict[str, Any]:
        return {
            "primary": self.primary.name,
            "higher_is_better": self.primary.higher_is_better,
            "metrics": {
                m.name: {"unit": m.unit, "higher_is_better": m.higher_is_better} for m in self.metrics
            },
            "confidence": self.confidence,
            "contenders": self.scores,
            "trivial": list(self.trivial),
            "differences": {
                name: {metric: asdict(difference) for metric, difference in by_metric.items()}
                for name, by_metric in self.differences.items()
            },
            "best_trivial": self.best_trivial,
            "gain_over_best_trivial": asdict(self.gain) if self.gain else None,
            "retain": self.retained or None,
            "forgetting": asdict(self.forgetting) if self.forgetting else None,
            "verdict": self.verdict.verdict,
            "reasons": list(self.verdict.reasons),
        }


def evaluate(context: Context, tuned: Tuned) -> Evidence:
    """Let every contender predict `report` (the base and the adapted model `retain` too), keep the predictions in the run's folder, and judge."""
    prepared = tuned.modified.prepared
    task, recipe = prepared.task, context.recipe
    metrics = list(task.metrics())
    primary = metric_named(task, recipe.evaluate.primary)
    base_model = deepcopy(prepared.base.model).to(context.device)

    def ask(model: nn.Module, split: Split) -> Predictions:
        answer: Predictions = context.plugins.hook.taoke_evaluate(context=context, task=task, model=model, split=split)
        return answer

    predictions: dict[tuple[str, str], Predictions] = {}

    def keep(contender: str, split: str, answer: Predictions) -> None:
        completed = complete(answer, prepared.splits[split].rows, contender)
        predictions[contender, split] = completed
        context.progress.note(f"{contender} on {split}: {_brief(metrics, completed)}")

    report = prepared.splits[REPORT]
    keep("base", REPORT, ask(base_model, prepared.for_base(REPORT)))
    fitted_on = {name: prepared.for_base(name) for name in (TRAIN, SELECT)}
    trivial = []
    for contender in task.trivial(prepared.base, fitted_on):
        trivial.append(contender.name)
        keep(contender.name, REPORT, contender.predict(report.rows))
    if recipe.evaluate.scratch:
        fresh = fresh_weights(context, tuned.modified.model)
        keep("scratch", REPORT, ask(trained(context, tuned.modified, fresh, "scratch"), report))
    keep("adapted", REPORT, ask(tuned.model, report))
    if RETAIN in prepared.splits:
        keep("base", RETAIN, ask(base_model, prepared.for_base(RETAIN)))
        keep("adapted", RETAIN, ask(tuned.model, prepared.splits[RETAIN]))
    if context.folder is not None:
        save(predictions, context.folder / "predictions")
    return weigh(
        predictions,
        metrics,
        primary,
        trivial,
        confidence=recipe.gate.confidence if recipe.gate else 0.95,
        max_forgetting=recipe.gate.max_forgetting if recipe.gate else None,
        resamples=recipe.evaluate.resamples,
        seed=derive_seed(context.seed, "bootstrap"),
    )


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
    """From predictions by (contender, split) to scores, paired differences and the verdict; a pure function of its arguments."""
    names = [contender for contender, split in predictions if split == REPORT]
    scores, resampled = _scores(predictions, names, REPORT, metrics, resamples, seed)
    index = {name: i for i, name in enumerate(names)}

    def difference(one: str, other: str, metric: Metric) -> Interval:
        drawn = resampled[metric.name]
        value = scores[one][metric.name] - scores[other][metric.name]
        return interval(value, drawn[index[one]] - drawn[index[other]], confidence)

    def gain_over(rival: str) -> Interval:
        found = difference("adapted", rival, primary)
        return found if primary.higher_is_better else Interval(-found.value, -found.high, -found.low)

    sign = 1 if primary.higher_is_better else -1
    best_trivial = max(trivial, key=lambda name: sign * scores[name][primary.name], default=None)
    gains = {rival: gain_over(rival) for rival in ("base", best_trivial) if rival is not None}
    retained: dict[str, dict[str, float]] = {}
    forgetting = None
    if ("adapted", RETAIN) in predictions:
        retained, drawn = _scores(predictions, ["base", "adapted"], RETAIN, metrics, resamples, seed)
        before, after = drawn[primary.name]
        base_score = retained["base"][primary.name]
        lost = sign * (base_score - retained["adapted"][primary.name]) / abs(base_score)
        forgetting = interval(lost, sign * (before - after) / np.abs(before), confidence)
    return Evidence(
        primary,
        metrics,
        predictions,
        scores,
        trivial,
        {name: {m.name: difference(name, "base", m) for m in metrics} for name in names if name != "base"},
        best_trivial,
        gains.get(best_trivial) if best_trivial else None,
        retained,
        forgetting,
        judge(gains, forgetting, max_forgetting),
        confidence,
    )


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
        stacked = np.stack([parts(metric, predictions[name, split]) for name in names])
        totals = stacked.sum(axis=1)
        if not totals[:, 1].all():
            raise DataError(f"{metric.name} on {split}: the rows weigh nothing", "check the split and the metric")
        for name, (numerator, denominator) in zip(names, totals, strict=True):
            scores[name][metric.name] = float(numerator / denominator)
        resampled[metric.name] = drawing.scores(stacked)
    return scores, resampled


def fresh_weights(context: Context, model: nn.Module) -> nn.Module:
    """The same structure with newly drawn weights, by each module's own `reset_parameters`. Raises `EditError` where a module
    holds parameters and cannot reset them."""
    fresh = deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(context.seed, "scratch"))
        for name, module in fresh.named_modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            elif next(module.parameters(recurse=False), None) is not None:
                raise EditError(
                    f"module {name or '(the model)'} ({type(module).__name__}) has parameters but no reset_parameters, so it cannot start afresh",
                    "give it one, or set evaluate.scratch to false",
                )
    return fresh


def save(predictions: Mapping[tuple[str, str], Predictions], folder: Path) -> None:
    """Write `folder/<contender>/<split>.jsonl`, one prediction row a line."""
    for (contender, split), rows in predictions.items():
        path = folder / contender / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _brief(metrics: Sequence[Metric], predictions: Predictions) -> str:
    totals = ((metric, parts(metric, predictions).sum(axis=0)) for metric in metrics)
    return ", ".join(f"{metric.name} {numerator / denominator:.4f}" for metric, (numerator, denominator) in totals)
