"""Recommendation from what a user has: rank all items that the user does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from core.contract import JSON, Base, Contender, Metric, Row, Split
from core.edits import axis_size
from core.errors import DataError, nearest
from plugins.recommendation import contenders
from plugins.recommendation.imports import imported
from plugins.recommendation.ranking import MRR, NDCG, RECALL, catalogue, histories, recommend

Example = tuple[Tensor, int]
NONE = -1
"""The index of a target that is not given, or that the state does not list."""


class State(TypedDict):
    """The items, in the order of the model's outputs."""

    items: list[str]


class Batch(TypedDict):
    """Histories (batch, items), float32 of ones and zeros, and target indices (batch,), int64."""

    histories: Tensor
    targets: Tensor


class Recommend:
    """The task `recommend`: a user's history in, all other items out, ranked.

    It trains on whole histories: a model with a zero diagonal predicts each item from the others.
    """

    def fit(self, rows: Sequence[Row], brought: Mapping[str, JSON]) -> State:
        """The base's items keep their places; those that only `train` has follow, sorted."""
        return {"items": catalogue(rows, brought.get("items", []))}

    def edits(self, model: nn.Module, state: State) -> list[Mapping[str, JSON]]:
        """New items begin with zeros, the score of an item that nobody has."""
        wanted, has = len(state["items"]), axis_size(model, "items")
        return [{"edit": "grow", "axis": "items", "to": wanted, "init": "zero"}] if has < wanted else []

    def encode(self, row: Row, state: State) -> Example:
        """What the state does not list is left out of the history."""
        items = state["items"]
        history = torch.from_numpy(histories([row], items)[0].astype(np.float32))
        return history, items.index(row.target) if row.target in items else NONE

    def collate(self, examples: Sequence[Example], rng: torch.Generator) -> Batch:
        rows, targets = zip(*examples, strict=True)
        return {"histories": torch.stack(rows), "targets": torch.tensor(targets)}

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        scores: Tensor = model(batch["histories"])
        return scores

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, float]:
        """The squared error of each item's score, summed over the items: the loss of EASE
        (https://arxiv.org/abs/1905.03375)."""
        return (outputs - batch["histories"]).square().sum(), float(len(outputs))

    def predict(self, outputs: Tensor, batch: Batch, state: State) -> list[dict[str, JSON]]:
        """As `ranking.recommend`."""
        targets = [None if index == NONE else index for index in batch["targets"].tolist()]
        has = batch["histories"].cpu().numpy()
        return recommend(outputs.cpu().numpy(), has, targets, state["items"])

    def parse(self, inputs: Sequence[str], state: State) -> list[Row]:
        """Python files, or modules separated by commas, as in `os,sys`; nothing at all is an empty history. What a
        file imports and the model does not know is left out; a module that is typed is refused. Raises
        `DataError`."""
        return [Row({"user": text, "history": _history(text, state["items"])}) for text in inputs]

    def metrics(self) -> list[Metric]:
        return [NDCG, RECALL, MRR]

    def trivial(self, base: Base, splits: Mapping[str, Split]) -> list[Contender]:
        return contenders.trivial(base, splits)


def _history(text: str, items: Sequence[str]) -> list[str]:
    if text.endswith(".py"):
        return sorted(_imports(Path(text)).intersection(items))
    typed = {name.strip() for name in text.split(",")} - {""}
    unknown = sorted(typed.difference(items))
    if unknown:
        raise DataError(
            f"{text!r}: expected a path that ends in .py, or modules the model knows, separated by commas;"
            f" it does not know {', '.join(map(repr, unknown))}",
            "\n  ".join(f"{name!r}: {nearest(name, items)}" for name in unknown),
        )
    return sorted(typed)


def _imports(path: Path) -> set[str]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file", "check the path")
    try:
        return imported(path.read_bytes(), path.name)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"{path}: expected Python source: {error}", "give a file that Python can compile"
        ) from error
