"""From rows to prediction rows with a model: what evaluating, predicting and the parity check share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from core.contract import JSON, Prediction, Row, Split, Task
from core.errors import TaokeError
from core.seeds import generator


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch of tensors, dicts, lists and tuples on `device`; the same object where it is the CPU."""
    if device.type == "cpu":
        return batch
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


@torch.no_grad()
def predict(
    task: Task, model: nn.Module, split: Split, device: torch.device, batch_size: int
) -> list[Prediction]:
    """One prediction an example of `split`, in its order; `model` is in eval mode and on `device`."""
    predictions: list[Prediction] = []
    for i in range(0, len(split.examples), batch_size):
        batch = to_device(
            task.collate(split.examples[i : i + batch_size], generator(0, "predict", i)), device
        )
        predictions += task.predict(task.forward(model, batch), batch, split.state)
    return predictions


def complete(predictions: Sequence[Prediction], rows: Sequence[Row], contender: str) -> list[dict[str, JSON]]:
    """Predictions with the `id`, `target` and `group` of their rows. Raises `TaokeError` where their numbers
    differ."""
    if len(predictions) != len(rows):
        raise TaokeError(
            f"contender {contender!r} predicted {len(predictions)} rows of {len(rows)}",
            "a task's or contender's `predict` returns one row an example: this is a mistake in the plugin",
        )
    completed = []
    for row, prediction in zip(rows, predictions, strict=True):
        fixed: dict[str, JSON] = {"id": row.id, "target": row.target}
        if row.group is not None:
            fixed["group"] = row.group
        completed.append({**fixed, **prediction, **fixed})  # its row's, whatever the plugin writes
    return completed
