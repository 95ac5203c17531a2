"""What a run tells: one JSON document, and the table made of it for a terminal or a notebook."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from core.evidence.weigh import Evidence
from core.recipe import Resolved


def document(
    resolved: Resolved, evidence: Evidence, folder: Path, shell: Path, seconds: Mapping[str, float]
) -> dict[str, Any]:
    """A finished run as JSON."""
    primary = evidence.primary.name
    return {
        "recipe": resolved.name,
        "run": str(folder),
        "shell": str(shell),
        "domain": resolved.recipe.task.name.partition(".")[0],
        "seed": resolved.recipe.seed,
        "primary": primary,
        "higher_is_better": evidence.primary.higher_is_better,
        "contenders": {name: dict(scores) for name, scores in evidence.scores.items()},
        "difference": asdict(evidence.differences["adapted"][primary]),
        "differences": {
            name: {metric: asdict(value) for metric, value in by_metric.items()}
            for name, by_metric in evidence.differences.items()
        },
        "best_trivial": evidence.best_trivial,
        "gains": {rival: asdict(gain) for rival, gain in evidence.gains.items()},
        "retain": dict(evidence.retained) or None,
        "forgetting": asdict(evidence.forgetting) if evidence.forgetting else None,
        "confidence": evidence.confidence,
        "gate": resolved.recipe.gate is not None,
        "verdict": evidence.verdict.verdict,
        "reasons": list(evidence.verdict.reasons),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }


@dataclass(frozen=True)
class Run:
    """A finished run. In a notebook it shows itself as its table."""

    document: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        return Path(self.document["run"])

    @property
    def shell(self) -> Path:
        return Path(self.document["shell"])

    @property
    def verdict(self) -> str:
        return str(self.document["verdict"])

    @property
    def contenders(self) -> Mapping[str, Mapping[str, float]]:
        """Contender to metric to value, on `report`."""
        return self.document["contenders"]  # type: ignore[no-any-return]

    @property
    def difference(self) -> Mapping[str, float]:
        """Adapted minus base in the primary metric: value, low, high."""
        return self.document["difference"]  # type: ignore[no-any-return]

    @property
    def seconds(self) -> Mapping[str, float]:
        return self.document["seconds"]  # type: ignore[no-any-return]

    @property
    def exit_code(self) -> int:
        """What the command line exits with: 3 where the recipe has a gate and the verdict is not `ship`."""
        return 3 if self.document["gate"] and self.verdict != "ship" else 0

    def __rich__(self) -> Group:
        return rendered(self.document)

    def _repr_html_(self) -> str:
        console = Console(record=True, file=io.StringIO(), width=120)
        console.print(self)
        return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=120, no_color=True)
        console.print(self)
        return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def rendered(run: Mapping[str, Any]) -> Group:
    """The table of a run's document, with the verdict, the seconds and the places below it."""
    primary = run["primary"]
    metrics = list(next(iter(run["contenders"].values())))
    better = "higher" if run["higher_is_better"] else "lower"
    table = Table(
        title=f"{run['recipe']}, report split: {primary} decides, {better} is better", title_justify="left"
    )
    table.add_column("contender", overflow="fold")
    for metric in metrics:
        table.add_column(metric, justify="right", no_wrap=True)
    table.add_column(f"minus base [{run['confidence']:.0%} paired]", justify="right", no_wrap=True)
    for name, scores in run["contenders"].items():
        shown = "" if name == "base" else _interval(run["differences"][name][primary])
        style = "bold" if name == "adapted" else None
        table.add_row(name, *(f"{scores[metric]:.4f}" for metric in metrics), shown, style=style)
    lines = [f"verdict   {run['verdict']}: the adapted model"]
    lines += [f"          {reason}" for reason in run["reasons"]]
    if run["retain"]:
        base, adapted = run["retain"]["base"][primary], run["retain"]["adapted"][primary]
        lines.append(f"retain    {primary} on the base's own task: base {base:.4f}, adapted {adapted:.4f}")
    lines.append("seconds   " + ", ".join(f"{name} {value:.1f}" for name, value in run["seconds"].items()))
    lines += [f"run       {run['run']}", f"shell     {run['shell']}"]
    return Group(table, *(Text(line) for line in lines))


def _interval(difference: Mapping[str, float]) -> str:
    return f"{difference['value']:+.4f} [{difference['low']:+.4f}, {difference['high']:+.4f}]"
