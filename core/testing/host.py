"""The domain that the kit brings, as small as the contract allows: points in the plane, the quadrant as their class.

It is a plugin like any other (`taoke_register`), with `RECIPE` as its recipe. A plugin without a recipe of its own is
tried on it: its strategies, updaters and edits in the places of the recipe's, its hooks beside the core's. The base
knows two classes, left and right, and the new world has four.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from core.components import Options
from core.contract import JSON, Base, Component, Contender, Metric, Row, Split, Structure
from core.errors import DataError
from core.hookspecs import hookimpl

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

taoke_api = 1

RECIPE: Mapping[str, Any] = {
    "task": "host.quadrants",
    "plugins": [],
    "base": {"source": "host.halves"},
    "data": {"dataset": "host.points"},
    "preprocess": [{"transform": "host.centre"}, {"transform": "host.jitter"}],
    "fine_tune": {"lr": 0.05, "batch_size": 8, "epochs": 2},
    "evaluate": {"primary": "accuracy", "retain": True},
}


@hookimpl
def taoke_register() -> Iterable[Component]:
    def component(kind: Any, name: str, factory: str, options: str | None = None) -> Component:
        of_options = options and f"{__name__}:{options}"
        return Component(kind, f"host.{name}", f"the host's {name}", f"{__name__}:{factory}", of_options)

    return [
        component("task", "quadrants", "Quadrants"),
        component("dataset", "points", "Points"),
        component("base", "halves", "Halves"),
        component("transform", "centre", "Centre"),
        component("transform", "jitter", "Jitter", "JitterOptions"),
    ]


class JitterOptions(Options):
    sigma: float = Field(0.05, ge=0)


class Points:
    """A row's inputs are its two coordinates. Two rows a group, so that groups are met with."""

    def rows(self) -> Mapping[str, Sequence[Row]]:
        splits = {name: _points(name, 24, shift=0.5) for name in ("train", "select", "report")}
        halves = [replace(row, target="a" if row.target in "ab" else "b") for row in _points("retain", 48)]
        return {**splits, "retain": halves}


def _points(name: str, count: int, shift: float = 0.0) -> list[Row]:
    import torch

    from core.seeds import generator

    points = torch.randn(count, 2, generator=generator(0, f"host-{name}")).tolist()
    return [
        Row([x + shift, y], ("a", "b", "c", "d")[2 * (x > 0) + (y > 0)], group=f"pair {i // 2}")
        for i, (x, y) in enumerate(points)
    ]


class Halves:
    def load(self) -> Base:
        import torch

        from core.bases import digest

        model = make_model(2)
        with torch.no_grad():
            model.get_parameter("head.weight").copy_(
                torch.tensor([[-1.0, 0.0], [1.0, 0.0]]) @ torch.eye(2, 8)
            )
            model.get_parameter("body.weight").copy_(torch.eye(8, 2) * 2)
            model.get_parameter("body.bias").zero_()
            model.get_parameter("head.bias").zero_()
        brought = {"task": {"labels": ["a", "b"]}}
        return Base(model, digest(model.state_dict()), "Apache-2.0", "made by the kit", brought)


def make_model(classes: int) -> nn.Sequential:
    """Two dense layers, one of them the head, with dropout between."""
    import torch
    from torch import nn

    model = nn.Sequential()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.add_module("body", nn.Linear(2, 8))
        model.add_module("norm", nn.BatchNorm1d(8))
        model.add_module("drop", nn.Dropout(0.1))
        model.add_module("act", nn.Tanh())
        model.add_module("head", nn.Linear(8, classes))
    axes = {"classes": (("head.weight", 0), ("head.bias", 0))}
    model.structure = Structure(axes, ("head",))  # type: ignore[assignment]
    return model


class Centre:
    random = False

    def fit(self, rows: Sequence[Row]) -> JSON:
        return [sum(row.inputs[i] for row in rows) / len(rows) for i in range(2)]

    def apply(self, row: Row, state: JSON, rng: torch.Generator) -> Row:
        return row.with_inputs([value - mean for value, mean in zip(row.inputs, state, strict=True)])


class Jitter:
    random = True

    def __init__(self, options: JitterOptions) -> None:
        self.sigma = options.sigma

    def fit(self, rows: Sequence[Row]) -> JSON:
        return None

    def apply(self, row: Row, state: JSON, rng: torch.Generator) -> Row:
        import torch

        noise = torch.randn(2, generator=rng).tolist()
        return replace(
            row, inputs=[value + self.sigma * n for value, n in zip(row.inputs, noise, strict=True)]
        )


class Majority:
    """The label that `train` has most of."""

    name = "majority"

    def __init__(self, rows: Sequence[Row]) -> None:
        labels = [row.target for row in rows]
        self.label = max(sorted(set(labels)), key=labels.count)

    def predict(self, rows: Sequence[Row]) -> list[dict[str, JSON]]:
        return [{"label": self.label} for _ in rows]


class Quadrants:
    def fit(self, rows: Sequence[Row], brought: Mapping[str, JSON]) -> JSON:
        labels = list(brought.get("labels", []))
        return {"labels": labels + sorted({row.target for row in rows} - set(labels))}

    def edits(self, model: nn.Module, state: JSON) -> list[Mapping[str, JSON]]:
        wanted, has = len(state["labels"]), len(model.get_parameter("head.bias"))
        return [{"edit": "grow", "axis": "classes", "to": wanted}] if has < wanted else []

    def encode(self, row: Row, state: JSON) -> tuple[list[float], int]:
        labels = state["labels"]
        return row.inputs, labels.index(row.target) if row.target in labels else -1

    def collate(
        self, examples: Sequence[tuple[list[float], int]], rng: torch.Generator
    ) -> Mapping[str, Tensor]:
        import torch

        inputs, labels = zip(*examples, strict=True)
        return {"inputs": torch.tensor(inputs), "labels": torch.tensor(labels)}

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        logits: Tensor = model(batch["inputs"])
        return logits

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, float]:
        from torch.nn import functional

        return functional.cross_entropy(outputs, batch["labels"], reduction="sum"), float(len(outputs))

    def predict(self, model: nn.Module, batch: Mapping[str, Tensor], state: JSON) -> list[Mapping[str, JSON]]:
        places = self.forward(model, batch).argmax(1).tolist()
        return [{"label": state["labels"][place]} for place in places]

    def parse(self, inputs: Sequence[str], state: JSON) -> list[Row]:
        return [Row(_point(text)) for text in inputs]

    def metrics(self) -> list[Metric]:
        from core.metrics import Accuracy

        return [Accuracy()]

    def trivial(self, base: Base, splits: Mapping[str, Split]) -> list[Contender]:
        return [Majority(splits["train"].rows)]


def _point(text: str) -> list[float]:
    try:
        x, y = json.loads(text)
        return [float(x), float(y)]
    except (TypeError, ValueError) as error:
        raise DataError(f"{text!r} is no point", "write [x, y]") from error
