"""A complete plugin in one file, as small as the contract allows: points in the plane, the quadrant as their class.

The base knows two classes and the new world has four. Tests load it with --plugin-file, as a user would.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from core.components import Options
from core.contract import Component, Row, Structure
from core.data.rows import Lazy
from core.hookspecs import hookimpl

taoke_api = 1
HERE = __name__


@hookimpl
def taoke_register():
    def component(kind, name, factory, options=None):
        return Component(
            kind, f"toy.{name}", f"the toy's {name}", f"{HERE}:{factory}", options and f"{HERE}:{options}"
        )

    return [
        component("task", "quadrants", "Quadrants"),
        component("dataset", "points", "Points", "PointsOptions"),
        component("base", "halves", "Halves", "HalvesOptions"),
        component("transform", "centre", "Centre"),
        component("transform", "jitter", "Jitter", "JitterOptions"),
        component("loss", "squared", "squared"),
    ]


class PointsOptions(Options):
    train: int = Field(24, gt=0)
    report: int = Field(200, gt=0)
    shift: float = 0.5
    leak: bool = False
    streamed: bool = False
    retain: bool = True


class HalvesOptions(Options):
    folder: str = ""


class JitterOptions(Options):
    sigma: float = Field(0.05, ge=0)


class Points:
    def __init__(self, options: PointsOptions) -> None:
        self.options = options

    def rows(self) -> Mapping[str, Sequence[Row]]:
        import torch

        from core.seeds import generator

        def split(name: str, count: int, shift: float) -> list[Row]:
            points = torch.randn(count, 2, generator=generator(0, f"toy-{name}"))
            return [
                Row([float(x) + shift, float(y)], ("a", "b", "c", "d")[2 * (x > 0) + (y > 0)])
                for x, y in points
            ]

        o = self.options
        splits = {
            "train": split("train", o.train, o.shift),
            "select": split("select", 40, o.shift),
            "report": split("report", o.report, o.shift),
        }
        if o.leak:
            splits["report"] = [*splits["report"], splits["train"][0]]
        if o.retain:
            splits["retain"] = [
                replace(row, target="a" if row.target in "ab" else "b") for row in split("retain", 100, 0.0)
            ]
        return (
            {name: Lazy(len(rows), rows.__getitem__) for name, rows in splits.items()}
            if o.streamed
            else splits
        )


class Halves:
    """Weights and card lie in `folder`; without one, the base is made on the spot."""

    def __init__(self, options: HalvesOptions) -> None:
        self.folder = options.folder

    def load(self):
        import torch

        from core.bases import digest, load_base
        from core.contract import Base

        if self.folder:
            return load_base(Path(self.folder), "halves", lambda architecture: make_model(**architecture))
        model = make_model(2)
        with torch.no_grad():
            model.get_parameter("head.weight").copy_(
                torch.tensor([[-1.0, 0.0], [1.0, 0.0]]) @ torch.eye(2, 8)
            )
            model.get_parameter("body.weight").copy_(torch.eye(8, 2) * 2)
            model.get_parameter("body.bias").zero_()
            model.get_parameter("head.bias").zero_()
        return Base(
            model,
            digest(model.state_dict()),
            "Apache-2.0",
            "made by the toy",
            {"task": {"labels": ["a", "b"]}},
        )


def make_model(classes: int):
    import torch
    from torch import nn

    model = nn.Sequential()
    model.add_module("body", nn.Linear(2, 8))
    model.add_module("drop", nn.Dropout(0.1))
    model.add_module("act", nn.Tanh())
    model.add_module("head", nn.Linear(8, classes))
    model.structure = Structure({"classes": (("head.weight", 0), ("head.bias", 0))}, ("head",))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for layer in (model.body, model.head):
            layer.reset_parameters()
    return model


class Centre:
    random = False

    def fit(self, rows: Sequence[Row]) -> Any:
        return [sum(row.inputs[i] for row in rows) / len(rows) for i in range(2)]

    def apply(self, row: Row, state: Any, rng: Any) -> Row:
        return row.with_inputs([value - mean for value, mean in zip(row.inputs, state, strict=True)])


class Jitter:
    random = True

    def __init__(self, options: JitterOptions) -> None:
        self.sigma = options.sigma

    def fit(self, rows: Sequence[Row]) -> Any:
        return None

    def apply(self, row: Row, state: Any, rng: Any) -> Row:
        import torch

        noise = torch.randn(2, generator=rng).tolist()
        return replace(
            row, inputs=[value + self.sigma * n for value, n in zip(row.inputs, noise, strict=True)]
        )


class Accuracy:
    name, unit, higher_is_better = "accuracy", "share", True

    def score(self, row: Mapping[str, Any]) -> tuple[float, float]:
        return float(row["label"] == row["target"]), 1.0


class Majority:
    name = "majority"

    def __init__(self, rows: Sequence[Row]) -> None:
        labels = [row.target for row in rows]
        self.label = max(sorted(set(labels)), key=labels.count)

    def predict(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        return [{"label": self.label} for _ in rows]


class Quadrants:
    def fit(self, rows: Sequence[Row], brought: Mapping[str, Any]) -> Any:
        labels = list(brought.get("labels", []))
        return {"labels": labels + sorted({row.target for row in rows} - set(labels))}

    def edits(self, model: Any, state: Any) -> list[dict[str, Any]]:
        wanted = len(state["labels"])
        return (
            [{"edit": "grow", "axis": "classes", "to": wanted}] if model.head.weight.shape[0] < wanted else []
        )

    def encode(self, row: Row, state: Any) -> Any:
        target = state["labels"].index(row.target) if row.target in state["labels"] else -1
        return row.inputs, target

    def collate(self, examples: Sequence[Any], rng: Any) -> Any:
        import torch

        inputs, targets = zip(*examples, strict=True)
        return {"x": torch.tensor(inputs), "y": torch.tensor(targets)}

    def forward(self, model: Any, batch: Any) -> Any:
        return model(batch["x"])

    def loss(self, outputs: Any, batch: Any) -> Any:
        from torch.nn import functional

        return functional.cross_entropy(outputs, batch["y"], reduction="sum"), len(batch["y"])

    def predict(self, model: Any, batch: Any, state: Any) -> list[dict[str, Any]]:
        outputs = self.forward(model, batch)
        return [{"label": state["labels"][i]} for i in outputs.argmax(1).tolist()]

    def parse(self, inputs: Sequence[str], state: Any) -> list[Row]:
        return [Row(json.loads(text)) for text in inputs]

    def metrics(self) -> list[Any]:
        return [Accuracy()]

    def trivial(self, base: Any, splits: Mapping[str, Any]) -> list[Any]:
        return [Majority(splits["train"].rows)]


def squared():
    def loss(outputs: Any, batch: Any) -> Any:
        from torch.nn import functional

        wanted = functional.one_hot(batch["y"], outputs.shape[1]).float()
        return (outputs - wanted).square().sum(), len(batch["y"])

    return loss
