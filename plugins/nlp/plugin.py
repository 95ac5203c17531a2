"""The nlp plugin's entry point: its components. Imports no torch."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.contract import Choice, Component
from core.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import nn

    from core.context import Context
    from core.contract import JSON, Prediction, Split
    from core.prepared import Prepared
    from plugins.nlp.tasks import LanguageModelling

taoke_api = 1


@hookimpl
def taoke_register() -> Iterable[Component]:
    return [
        Component(
            "task",
            "nlp.language_model",
            "predict text, in bits per byte",
            "plugins.nlp.tasks:LanguageModelling",
            "plugins.nlp.options:LanguageModellingOptions",
        ),
        Component(
            "base",
            "nlp.builtin",
            "a language model of this plugin",
            "plugins.nlp.models:Builtin",
            "plugins.nlp.options:BuiltinOptions",
        ),
        Component(
            "dataset",
            "nlp.reference",
            "Python's language reference, with the library's docstrings to retain",
            "plugins.nlp.data:Reference",
            "plugins.nlp.options:ReferenceOptions",
        ),
        Component(
            "task",
            "nlp.classify",
            "tell texts apart: a label each",
            "plugins.nlp.classify:Classify",
            "plugins.nlp.options:Classify",
        ),
        Component(
            "base",
            "nlp.transformers",
            "a text encoder, classifier or encoder-decoder of the transformers library, from a folder or the hub",
            "plugins.nlp.encoders:Transformers",
            "plugins.nlp.options:Transformers",
        ),
        Component(
            "dataset",
            "nlp.texts",
            "your own texts with a label each: CSV, TSV, JSONL, Parquet, or lines of label and text",
            "plugins.nlp.texts:Texts",
            "plugins.nlp.options:Texts",
        ),
        Component(
            "dataset",
            "nlp.plain",
            "running text, a file or a folder of them, split by position",
            "plugins.nlp.texts:Plain",
            "plugins.nlp.options:Plain",
        ),
        Component(
            "task",
            "nlp.translate",
            "translate sentences, by an encoder with a new decoder, or by an encoder-decoder",
            "plugins.nlp.translate:Translate",
            "plugins.nlp.options:Translate",
        ),
        Component(
            "dataset",
            "nlp.pairs",
            "your own sentences with a translation each: two files line by line, or a table's columns",
            "plugins.nlp.pairs:Pairs",
            "plugins.nlp.options:Pairs",
        ),
        Component(
            "edit",
            "nlp.decoder",
            "a new transformer decoder behind an encoder, with cross-attention",
            "plugins.nlp.decoder:Decoder",
            "plugins.nlp.options:Decoder",
        ),
        Component(
            "base",
            "nlp.llama2c",
            "a small Llama in the names and with the vocabulary of llama2.c",
            "plugins.nlp.llama:Llama2c",
            "plugins.nlp.options:Llama2c",
        ),
        Component(
            "transform",
            "nlp.truncate",
            "the first or last words or characters of a text",
            "plugins.nlp.transforms:Truncate",
            "plugins.nlp.options:Truncate",
        ),
        Component(
            "transform",
            "nlp.casing",
            "letters in one case",
            "plugins.nlp.transforms:Casing",
            "plugins.nlp.options:Casing",
        ),
        Component(
            "transform",
            "nlp.normalise",
            "one form of Unicode, one space for white space",
            "plugins.nlp.transforms:Normalise",
            "plugins.nlp.options:Normalise",
        ),
    ]


@hookimpl
def taoke_complete(recipe: Mapping[str, Any]) -> Iterable[Choice]:
    from plugins.nlp.complete import choices

    return choices(recipe)


@hookimpl(wrapper=True)
def taoke_preprocess(context: Context) -> Generator[None, Prepared, Prepared]:
    """Says how many texts are longer than what is read of them."""
    prepared = yield
    if context.recipe.task.name in ("nlp.classify", "nlp.translate"):
        from plugins.nlp.watch import tell_cut

        tell_cut(context, prepared)
    return prepared


@hookimpl(wrapper=True)
def taoke_fine_tune(
    context: Context, task: LanguageModelling, model: nn.Module, splits: Mapping[str, Split]
) -> Generator[None, nn.Module, nn.Module]:
    """Lets a language model write, before and after."""
    if context.recipe.task.name != "nlp.language_model":
        return (yield)
    from plugins.nlp.watch import record_sample

    record_sample(context, task, model, splits, "before")
    tuned = yield
    record_sample(context, task, tuned, splits, "after")
    return tuned


@hookimpl
def taoke_illustrate(
    context: Context, splits: Mapping[str, Split], predictions: Mapping[str, Sequence[Prediction]]
) -> Mapping[str, JSON] | None:
    """Shows a few translations, and with what they were scored."""
    if context.recipe.task.name != "nlp.translate":
        return None
    from plugins.nlp.watch import translations

    return translations(splits, predictions)
