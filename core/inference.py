"""From rows to prediction rows with a model: what evaluating, predicting and the parity check share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import nn

from core.contract import JSON, Prediction, Row, Split, Task
from core.data.rows import is_streamed
from core.errors import ContractError
from core.loading import made
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
    task: Task,
    model: nn.Module,
    split: Split,
    device: torch.device,
    batch_size: int,
    workers: int | None = None,
) -> list[Prediction]:
    """One prediction an example of `split`, in its order; `model` is in eval mode and on `device`. Of streamed
    examples, `workers` processes make the batches."""
    of_length = example_lengths(task, split.examples)
    order = range(len(split.examples)) if of_length is None else by_length(of_length, batch_size)

    def batch(number: int) -> Any:
        i = number * batch_size
        examples = [split.examples[place] for place in order[i : i + batch_size]]
        return task.collate(examples, generator(0, "predict", i))

    predictions: list[Prediction] = []
    workers = workers or 0 if is_streamed(split.examples) else 0
    for ready in made(batch, -(-len(split.examples) // batch_size), workers):
        moved = to_device(ready, device)
        predictions += task.predict(model, moved, split.state)
    if of_length is None or len(predictions) != len(order):  # a wrong number is told by `complete`
        return predictions
    return [answer for _, answer in sorted(zip(order, predictions, strict=True), key=itemgetter(0))]


STRETCH = 256
"""Examples that are sorted by length together in prediction, at least."""


def stretch(batch_size: int) -> int:
    """How many examples, in whole batches, are sorted by length together. What is predicted of the first so many does
    not depend on what follows them: the parity check makes the same batches of them alone."""
    return -(-STRETCH // batch_size) * batch_size


def by_length(of_length: torch.Tensor, batch_size: int) -> list[int]:
    """The places of examples, each `stretch` of them sorted by length."""
    size = stretch(batch_size)
    return [
        start + place
        for start in range(0, len(of_length), size)
        for place in of_length[start : start + size].argsort(stable=True).tolist()
    ]


def example_lengths(task: Task, examples: Sequence[Any]) -> torch.Tensor | None:
    """(examples,) int64, where the task says how long its examples are; streamed ones are made once for that."""
    length: Callable[[Any], int] | None = getattr(task, "length", None)
    return None if length is None else torch.tensor([length(example) for example in examples])


def without_inputs(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows as `complete` needs them: held, and of streamed ones, which are read once for that, the inputs left
    aside."""
    return [row.with_inputs(None) for row in rows] if is_streamed(rows) else rows


def complete(predictions: Sequence[Prediction], rows: Sequence[Row], contender: str) -> list[dict[str, JSON]]:
    """Predictions as they are kept: JSON, with the `id`, `target` and `group` of their rows. Raises
    `ContractError` where there is not one JSON object a row."""
    mistake = (
        "`predict` returns one JSON object a row (.item() or .tolist() on numbers): tell the plugin's author"
    )
    try:
        answers = json.loads(json.dumps(list(predictions)))
    except (TypeError, ValueError) as error:
        raise ContractError(
            f"what contender {contender!r} predicted is not JSON: {error}", mistake
        ) from error
    if len(answers) != len(rows):
        raise ContractError(f"contender {contender!r} predicted {len(answers)} rows of {len(rows)}", mistake)
    completed = []
    for row, answer in zip(rows, answers, strict=True):
        if not isinstance(answer, dict):
            raise ContractError(f"contender {contender!r} predicted {answer!r} for row {row.id}", mistake)
        fixed: dict[str, JSON] = {"id": row.id, "target": row.target}
        if row.group is not None:
            fixed["group"] = row.group
        completed.append({**fixed, **answer, **fixed})  # its row's, whatever the plugin writes
    return completed
