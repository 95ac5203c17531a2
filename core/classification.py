"""What tasks that give each example one of several labels have in common: a plugin's task derives from it, and adds how
its examples look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional

from core.contract import JSON, TRAIN, Base, Contender, Metric, Row, Split
from core.edits import axis_size
from core.metrics import Accuracy

UNKNOWN = -1
"""The index of a label that the state does not list; such an example is predicted, never trained on."""


class Classification:
    """Labels, their places among the model's outputs, loss, predictions and metric.

    The state is `{"labels": [...]}`, in the order of the outputs; `"head": "new"` stands beside them where the base's
    outputs mean none of them. A batch has `labels` (batch,) int64, and `forward`, which the task adds, gives logits
    (batch, classes), the classes along the axis `classes` of the model's `structure`.
    """

    def __init__(self, base_labels: Literal["keep", "drop"] | None = None) -> None:
        self._base_labels = base_labels

    def fit(self, rows: Sequence[Row], brought: Mapping[str, JSON]) -> JSON:
        """The base's labels keep their places, and new ones follow, sorted. Where it does not say what its outputs
        mean, fewer than half of the rows' labels are among them, or they are dropped, those of the rows are all,
        sorted, of a new head."""
        known: list[str] = list(brought.get("labels", []))
        found = {row.target for row in rows}
        few = 2 * len(found & set(known)) < len(found)
        drops = few if self._base_labels is None else self._base_labels == "drop"
        if found and (drops or not known):
            return {"labels": sorted(found), "head": "new"}
        return {"labels": known + sorted(found - set(known))}

    def edits(self, model: nn.Module, state: JSON) -> list[Mapping[str, JSON]]:
        """Classes for the labels that are new, drawn at random: of equal start, they would learn apart more slowly."""
        wanted, there = len(state["labels"]), axis_size(model, "classes")
        if "head" in state and there:
            return [{"edit": "new_head", "axis": "classes", "to": wanted}]
        if there >= wanted:
            return []
        return [{"edit": "grow", "axis": "classes", "to": wanted, "init": "normal"}]

    def label(self, row: Row, state: JSON) -> int:
        """The index of the row's target, or `UNKNOWN`."""
        labels: list[str] = state["labels"]
        return labels.index(row.target) if row.target in labels else UNKNOWN

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        raise NotImplementedError

    def loss(self, outputs: Tensor, batch: Any) -> tuple[Tensor, float]:
        """Cross-entropy, in nats."""
        return functional.cross_entropy(outputs, batch["labels"], reduction="sum"), float(len(outputs))

    def predict(self, model: nn.Module, batch: Any, state: JSON) -> list[Mapping[str, JSON]]:
        """`{"label": ..., "probability": ...}`: the likeliest label and the model's probability for it. An output that
        no label is known for is "output I"; a model without any says None."""
        outputs = self.forward(model, batch)
        if not outputs.shape[1]:
            return [{"label": None, "probability": 0.0}] * len(outputs)
        labels = state["labels"]
        probability, index = outputs.softmax(1).max(1)
        return [
            {"label": labels[i] if i < len(labels) else f"output {i}", "probability": round(p, 6)}
            for i, p in zip(index.tolist(), probability.tolist(), strict=True)
        ]

    def metrics(self) -> list[Metric]:
        return [Accuracy()]

    def trivial(self, base: Base, splits: Mapping[str, Split]) -> list[Contender]:
        """The commonest label; a task adds what is cheap and strong for its data."""
        return [Majority(splits[TRAIN].rows)]


class Majority:
    """The label that most rows of `train` have, of equal ones the first by name."""

    name = "majority"

    def __init__(self, rows: Sequence[Row]) -> None:
        counts = Counter(row.target for row in rows)
        self._label = min(counts, key=lambda label: (-counts[label], label))

    def predict(self, rows: Sequence[Row]) -> list[dict[str, JSON]]:
        return [{"label": self._label} for _ in rows]
