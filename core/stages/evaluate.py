"""Evaluate: every contender on the same examples, differences with paired intervals, and the verdict."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from torch import nn

from core.context import Context
from core.contract import ADAPTED, BASE, JSON, REPORT, RETAIN, SCRATCH, SELECT, TRAIN, Split
from core.errors import ContractError
from core.evidence.scores import metric_named, score
from core.evidence.weigh import Evidence, Predictions, weigh
from core.inference import complete, without_inputs
from core.recipe.model import Gate
from core.seeds import derive_seed
from core.stages.fine_tune import Tuned, trained


def evaluate(context: Context, tuned: Tuned) -> Evidence:
    """Let every contender predict `report` (the base and the adapted model `retain` too), keep the
    predictions in the run's folder, and judge."""
    prepared = tuned.modified.prepared
    task, recipe = prepared.task, context.recipe
    metrics = list(task.metrics())
    primary = metric_named(task, recipe.evaluate.primary)
    base_model = deepcopy(prepared.base.model).to(context.device)

    def ask(model: nn.Module, split: Split) -> Predictions:
        answer: Predictions = context.plugins.hook.taoke_evaluate(
            context=context, task=task, model=model, split=split
        )
        return answer

    predictions: dict[tuple[str, str], Predictions] = {}
    rows = {
        name: without_inputs(prepared.splits[name].rows)
        for name in (REPORT, RETAIN)
        if name in prepared.splits
    }

    def keep(contender: str, split: str, answer: Predictions) -> None:
        completed = complete(answer, rows[split], contender)
        predictions[contender, split] = completed
        brief = ", ".join(f"{metric.name} {score(metric, completed):.4f}" for metric in metrics)
        context.progress.note(f"{contender} on {split}: {brief}")

    report = prepared.splits[REPORT]
    keep(BASE, REPORT, ask(base_model, prepared.for_base(REPORT)))
    fitted_on = {name: prepared.for_base(name) for name in (TRAIN, SELECT)}
    trivial: list[str] = []
    for contender in task.trivial(prepared.base, fitted_on):
        _refuse_name(contender.name, [*trivial, BASE, ADAPTED, SCRATCH])
        trivial.append(contender.name)
        keep(contender.name, REPORT, contender.predict(report.rows))
    if tuned.modified.scratch is not None:
        keep(SCRATCH, REPORT, ask(trained(context, tuned.modified, tuned.modified.scratch, SCRATCH), report))
    keep(ADAPTED, REPORT, ask(tuned.model, report))
    if RETAIN in prepared.splits:
        keep(BASE, RETAIN, ask(base_model, prepared.for_base(RETAIN)))
        keep(ADAPTED, RETAIN, ask(tuned.model, prepared.splits[RETAIN]))
    if context.folder is not None:
        save(predictions, context.folder / "predictions")
    gate = recipe.gate or Gate()
    evidence = weigh(
        predictions,
        metrics,
        primary,
        trivial,
        confidence=gate.confidence,
        max_forgetting=gate.max_forgetting,
        resamples=recipe.evaluate.resamples,
        seed=derive_seed(context.seed, "bootstrap"),
    )
    shown = context.plugins.hook.taoke_illustrate(
        context=context,
        task=task,
        model=tuned.model,
        splits=prepared.splits,
        predictions={name: rows for (name, split), rows in predictions.items() if split == REPORT},
    )
    return replace(evidence, illustrations=_merged(shown))


def _merged(shown: Sequence[Mapping[str, JSON]]) -> dict[str, JSON]:
    """What all plugins illustrate. Raises `ContractError` where two use one name, or something is no JSON."""
    merged: dict[str, JSON] = {}
    for one in shown:
        taken = sorted(set(merged).intersection(one))
        if taken:
            raise ContractError(
                f"two plugins illustrate the run with {taken[0]!r}",
                "rename one: `taoke_illustrate` returns it",
            )
        try:
            merged |= json.loads(json.dumps(dict(one), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ContractError(
                f"what `taoke_illustrate` returned is not JSON: {error}",
                "return dicts, lists, strings and finite numbers; files go below `context.folder`",
            ) from error
    return merged


def _refuse_name(name: str, taken: Sequence[str]) -> None:
    """A contender's name is a folder's name too. Raises `ContractError` where it is taken, or cannot be one."""
    if name in taken or not re.fullmatch(r"[\w@+][\w@+. -]*", name):
        raise ContractError(
            f"a trivial contender is called {name!r}",
            f"use letters and digits, and none of {', '.join(taken)}",
        )


def save(predictions: Mapping[tuple[str, str], Predictions], folder: Path) -> None:
    """Write `folder/<contender>/<split>.jsonl`, one prediction row a line."""
    for (contender, split), rows in predictions.items():
        path = folder / contender / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
