"""What a run says on its way: texts that are cut, and what a language model writes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from torch import nn

from core.context import Context
from core.contract import Split, Task
from core.prepared import Prepared

LOOKED_AT = 10_000
"""Examples of a split that are looked at for texts that are cut; a streamed one is tokenized for it."""


def tell_cut(context: Context, prepared: Prepared) -> None:
    """Warn of each split that has texts longer than what is read of them."""
    read = prepared.state["longest"]
    for name, split in prepared.splits.items():
        looked = min(len(split.examples), LOOKED_AT)
        cut = sum(example["cut"] for example in islice(split.examples, looked))
        if cut:
            of = f"{looked}" if looked == len(split.examples) else f"the first {looked}"
            context.warn(
                f"{name}: {cut} of {of} texts are longer than {read} tokens, and only so much of them is read;"
                " task.longest reads more, where the base can"
            )


def record_sample(
    context: Context, task: Task, model: nn.Module, splits: Mapping[str, Split], when: str
) -> None:
    """Keep a text of the model's own in the record, and show it: where the task is asked for one, and of the model
    that is adapted. It begins as a text of `select` does, and draws the same random numbers before and after."""
    return
