"""What a run says on its way: texts that are cut, what a language model writes, and translations to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from torch import nn

from core.context import Context
from core.contract import ADAPTED, JSON, REPORT, SELECT, Prediction, Split
from core.data.rows import spread
from core.prepared import Prepared
from plugins.nlp.scores import bleu, chrf
from plugins.nlp.tasks import LanguageModelling

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
    context: Context, task: LanguageModelling, model: nn.Module, splits: Mapping[str, Split], when: str
) -> None:
    """Keep a text of the model's own in the record, and show it: where the task is asked for one, and of the model that
    is adapted. It goes on from the first line of `select`, with the same random numbers before and after."""
    if not context.recipe.task.options.get("sample") or context.contender != ADAPTED:
        return
    split = splits[SELECT]
    prompt = split.rows[0].inputs["text"].partition("\n")[0][:200] + "\n"
    modes = {module: module.training for module in model.modules()}
    text = task.sample(model.eval(), split.state, prompt, context.generator("sample"))
    for module, mode in modes.items():
        module.training = mode
    context.events.emit("sample", when=when, prompt=prompt, text=text)
    context.progress.note(f"{when} it writes, after {prompt.strip()!r}: {text!r}")


EXAMPLES = 3
"""Rows of `report` whose translations are shown, evenly spread."""


def translations(
    splits: Mapping[str, Split], predictions: Mapping[str, Sequence[Prediction]]
) -> Mapping[str, JSON]:
    """The signatures of the scores, and a few sources with their reference and what each contender makes of them."""
    places = spread(range(len(splits[REPORT].rows)), EXAMPLES)
    return {
        "signatures": {metric.name: metric.signature() for metric in (bleu(), chrf())},
        "examples": [
            {
                "source": splits[REPORT].rows[place].inputs["text"],
                "reference": predictions[ADAPTED][place]["target"],
                **{name: rows[place]["translation"] for name, rows in predictions.items()},
            }
            for place in places
        ],
    }
