"""What variety costs: accuracy and the measures of diversity at several settings, as numbers and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import nn

from core.contract import ADAPTED, JSON, SELECT, Split
from core.evidence.scores import score
from core.inference import complete, predict, without_inputs
from plugins.recommendation.diversity import COVERAGE, DISTANCE, NOVELTY
from plugins.recommendation.link_prediction import LinkPrediction
from plugins.recommendation.options import LinkPrediction as Options
from plugins.recommendation.ranking import NDCG

if TYPE_CHECKING:
    from core.context import Context

SETTINGS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
SHOWN = (NDCG.name, COVERAGE.name, NOVELTY.name, DISTANCE.name)
WIDE, HIGH, EDGE = 220, 150, 34
"""Of a panel, in pixels."""


def tradeoff(context: Context, model: nn.Module, splits: Mapping[str, Split]) -> dict[str, JSON]:
    """The adapted model's scores on `select` at each of `SETTINGS`, by metric, and, in a run that has a folder, the
    file with their curves below it. A setting is chosen by it, so it is not of `report`."""
    split = splits[SELECT]
    rows = without_inputs(split.rows)
    found: dict[str, list[float]] = {name: [] for name in SHOWN}
    for setting in SETTINGS:
        task = LinkPrediction(Options(diversity=setting))
        size = context.recipe.evaluate.batch_size
        answers = complete(predict(task, model, split, context.device, size), rows, ADAPTED)
        for metric in task.metrics():
            if metric.name in found:
                found[metric.name].append(round(score(metric, answers), 4))
    shown: dict[str, JSON] = {"setting": list(SETTINGS), **found}
    if context.folder is not None:
        path = context.folder / "illustrations" / "diversity.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(chart(SETTINGS, found), encoding="utf-8")
        shown["chart"] = str(path.relative_to(context.folder))
    return shown


def chart(settings: Sequence[float], curves: Mapping[str, Sequence[float]]) -> str:
    """An SVG with a panel for each curve, side by side, over the settings, each on a scale of its own."""
    panels = "".join(
        f'<g transform="translate({i * WIDE},0)">{_panel(name, settings, values)}</g>'
        for i, (name, values) in enumerate(curves.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{len(curves) * WIDE}" height="{HIGH}"'
        f' font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>{panels}</svg>\n'
    )


def _panel(name: str, settings: Sequence[float], values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    spread = (high - low) or 1.0
    span = (max(settings) - min(settings)) or 1.0
    points = [
        (
            EDGE + (setting - min(settings)) / span * (WIDE - EDGE - 16),
            HIGH - EDGE - (value - low) / spread * (HIGH - 2 * EDGE),
        )
        for setting, value in zip(settings, values, strict=True)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="#1f5fa8"/>' for x, y in points)
    floor = HIGH - EDGE
    ticks = "".join(
        f'<text x="{x:.1f}" y="{floor + 14}" text-anchor="middle">{setting:g}</text>'
        for (x, _), setting in zip(points, settings, strict=True)
        if setting in (min(settings), max(settings), 0.5)
    )
    return (
        f'<text x="{WIDE / 2}" y="16" text-anchor="middle" font-weight="bold">{name}</text>'
        f'<path d="M{EDGE},{EDGE - 8} V{floor} H{WIDE - 12}" fill="none" stroke="#888"/>'
        f'<text x="{EDGE - 3}" y="{EDGE + 4}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{EDGE - 3}" y="{floor}" text-anchor="end">{low:.3g}</text>{ticks}'
        f'<text x="{WIDE / 2}" y="{HIGH - 5}" text-anchor="middle">diversity</text>'
        f'<polyline points="{line}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>{dots}'
    )
