"""What a run tells: one JSON document, and the table made of it for a terminal or a notebook."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from core.contract import ADAPTED, BASE
from core.evidence.paired import Interval
from core.evidence.verdict import SHIP

WIDTH = 140
"""Columns of text where there is no terminal: six metrics stand side by side."""


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
        return 3 if self.document["gate"] and self.verdict != SHIP else 0

    def __rich__(self) -> Group:
        return rendered(self.document)

    def _repr_html_(self) -> str:
        console = Console(record=True, file=io.StringIO(), width=WIDTH)
        console.print(self)
        return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=WIDTH, no_color=True)
        console.print(self)
        return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def rendered(run: Mapping[str, Any]) -> Group:
    """The table of a run's document, with the verdict, the seconds and the places below it."""
    primary = run["primary"]
    metrics = list(next(iter(run["contenders"].values())))
    better = "higher" if run["higher_is_better"] else "lower"
    # Text, since what stands in brackets in a string is markup to rich, and names may hold brackets
    title = Text(f"{run['recipe']}, report split: {primary} decides, {better} is better")
    table = Table(title=title, title_justify="left")
    table.add_column("contender", overflow="fold")
    for metric in metrics:
        table.add_column(Text(metric), justify="right", no_wrap=True)
    table.add_column(f"adapted is better by [{run['confidence']:.0%} paired]", justify="right", no_wrap=True)
    for name, scores in run["contenders"].items():
        shown = "" if name == ADAPTED else str(Interval(**run["gains"][name]))
        style = "bold" if name == ADAPTED else None
        table.add_row(Text(name), *(f"{scores[metric]:.4f}" for metric in metrics), shown, style=style)
    lines = [f"verdict   {run['verdict']}: the adapted model"]
    lines += [f"          {reason}" for reason in run["reasons"]]
    if run["retain"]:
        base, adapted = run["retain"][BASE][primary], run["retain"][ADAPTED][primary]
        lines.append(f"retain    {primary} on the base's own task: base {base:.4f}, adapted {adapted:.4f}")
    for metric, by_contender in run["breakdowns"].items():
        for contender in (BASE, ADAPTED):
            parts = ", ".join(
                f"{part} {value:.4f}" for part, value in by_contender.get(contender, {}).items()
            )
            lines += [f"parts     {metric}, {contender}: {parts}"] if parts else []
    for name, shown in run["illustrations"].items():
        lines.append(
            f"{name:<9} {shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)}"
        )
    if run["gate"] and run["verdict"] != SHIP:
        lines.append("exit      3: the recipe has a gate, and the verdict is not ship")
    lines.append("seconds   " + ", ".join(f"{name} {value:.1f}" for name, value in run["seconds"].items()))
    lines += [f"run       {run['run']}", f"shell     {run['shell']}"]
    return Group(table, *(Text(line) for line in lines))
