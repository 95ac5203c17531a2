"""Translation: a sentence in, a sentence of another language out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.contract import JSON, Base, Contender, Metric, Row, Split
from core.data.rows import spread
from core.errors import BaseError, DataError, DataWarning
from plugins.nlp import options, word_by_word
from plugins.nlp.classify import given_text
from plugins.nlp.ragged import Ragged, ragged
from plugins.nlp.scores import bleu, chrf
from plugins.nlp.seq2seq import Seq2Seq
from plugins.nlp.tokens import learned, pack, unpack

LONGEST = 65_536
"""Bytes of a text that a user gives, at most."""

LEARNED = 200_000
"""Translations that the target's tokens are learned from at most, evenly spread."""

OF_A_NEW_DECODER = ("vocabulary", "layers", "heads", "dropout")
"""Options that a base with a decoder of its own leaves nothing to say for."""

BEYOND = 10
"""A translation has at most twice as many tokens as the longest source of its batch, and so many more: a model that
writes on repeats itself."""


class State(TypedDict):
    """The packed tokenizers of both sides, `target` None where there is none yet, and how many tokens of a text are
    read. What the decoder reads begins with the token `start` and is filled up with `pad`; `end` ends what it writes,
    and is None where the tokenizer itself sets an end."""

    source: str
    target: str | None
    longest: int
    start: int
    end: int | None
    pad: int


class Example(TypedDict):
    """The source's tokens; the translation's, from the start to the end; whether either was cut."""

    source: list[int]
    target: list[int]
    cut: bool


class Batch(TypedDict):
    """The sources; the translations without their last token, which the decoder reads; and labels (tokens,) int64, what
    follows each token that it reads."""

    sources: Ragged
    targets: Ragged
    labels: Tensor


class Translate:
    """The task `translate`. A row's `inputs` is `{"text": ...}`, its `target` the translation.

    An encoder gets a new decoder (`nlp.decoder`), whose tokens are learned from the translations in `train`. An
    encoder-decoder is used as it is, with its own tokenizer on both sides. The outputs are logits (tokens, vocabulary),
    so that the core's `cross_entropy`, which can smooth labels, may take the place of the task's loss.
    """

    def __init__(self, options: options.Translate) -> None:
        self._options = options

    def fit(self, rows: Sequence[Row], brought: Mapping[str, JSON]) -> State:
        """The target's tokens, where the base brings none. Their numbers end where those of the three special ones
        begin, so that no text can hold these. Options that the base leaves no use for are told (`DataWarning`)."""
        if "tokenizer" not in brought:
            raise BaseError(
                "the base brings no tokenizer: its preprocessing has no task.tokenizer",
                "use an encoder or an encoder-decoder of nlp.transformers",
            )
        source, longest = brought["tokenizer"], min(self._options.longest, brought["longest"])
        if "decoder" in brought:
            if rows:
                self._tell_idle_options()
            start, pad = brought["decoder"]["start"], brought["decoder"]["pad"]
            return {
                "source": source,
                "target": source,
                "longest": longest,
                "start": start,
                "end": None,
                "pad": pad,
            }
        size, target = 0, None
        if rows:
            tokenizer = learned((row.target for row in spread(rows, LEARNED)), self._options.vocabulary)
            size, target = tokenizer.get_vocab_size(), pack(tokenizer)
        return {
            "source": source,
            "target": target,
            "longest": longest,
            "start": size + 1,
            "end": size + 2,
            "pad": size,
        }

    def _tell_idle_options(self) -> None:
        fields = options.Translate.model_fields
        idle = [n for n in OF_A_NEW_DECODER if getattr(self._options, n) != fields[n].default]
        if idle:
            warnings.warn(
                f"the base has a decoder of its own, so that {', '.join(f'task.{n}' for n in idle)} changes nothing",
                DataWarning,
                stacklevel=3,
            )

    def edits(self, model: nn.Module, state: State) -> list[Mapping[str, JSON]]:
        """A decoder, where the model has none."""
        if isinstance(model, Seq2Seq) or state["end"] is None:
            return []
        o = self._options
        made: dict[str, JSON] = {
            "edit": "nlp.decoder",
            "vocabulary": state["end"] + 1,
            "pad": state["pad"],
            "start": state["start"],
            "end": state["end"],
            "positions": state["longest"] + 1,
            "layers": o.layers,
            "dropout": o.dropout,
        }
        return [made if o.heads is None else {**made, "heads": o.heads}]

    def encode(self, row: Row, state: State) -> Example:
        source = unpack(state["source"], state["longest"]).encode(self._options.prefix + row.inputs["text"])
        target, cut = [state["start"]], bool(source.overflowing)
        if row.target is not None and state["target"] is not None:
            written = unpack(state["target"], state["longest"]).encode(row.target)
            target += written.ids
            if written.overflowing:  # a sentence that goes on does not end here
                cut = True
                while target[1:] and written.special_tokens_mask[len(target) - 2]:
                    target.pop()
            elif state["end"] is not None:
                target.append(state["end"])
        return {"source": source.ids or [0], "target": target, "cut": cut}

    def length(self, example: Example) -> int:
        """A key to sort by: the source's tokens first, and among sources of one length those of the translation."""
        return len(example["source"]) << 16 | len(example["target"])

    def collate(self, examples: Sequence[Example], rng: torch.Generator) -> Batch:
        targets = [example["target"] for example in examples]
        return {
            "sources": ragged([example["source"] for example in examples]),
            "targets": ragged([target[:-1] for target in targets]),
            "labels": ragged([target[1:] for target in targets]).tokens,
        }

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """(tokens, vocabulary) float32 logits, one row a label."""
        with self._precision(batch):
            logits: Tensor = model(batch["sources"], batch["targets"])
        return logits.float()

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, float]:
        """Cross-entropy, in nats, summed over the tokens, and their number."""
        return functional.cross_entropy(outputs, batch["labels"], reduction="sum"), float(len(outputs))

    def predict(self, model: nn.Module, batch: Batch, state: State) -> list[Mapping[str, JSON]]:
        """`{"translation": ...}`; of a base that cannot write, an empty one."""
        lengths = batch["sources"].lengths
        if state["target"] is None:
            return [{"translation": ""}] * len(lengths)
        most = min(state["longest"], 2 * int(lengths.max()) + BEYOND)
        with self._precision(batch):
            written: Tensor = model.generate(batch["sources"], self._options.beams, most)  # type: ignore[operator]
        tokenizer, special = unpack(state["target"]), {state["start"], state["end"], state["pad"]}
        texts = [[token for token in one if token not in special] for one in written.tolist()]
        return [{"translation": tokenizer.decode(one, skip_special_tokens=True).strip()} for one in texts]

    def parse(self, inputs: Sequence[str], state: State) -> list[Row]:
        """Each input is a sentence, or `@PATH`, a UTF-8 file with one. One that is cut is told. Raises `DataError`."""
        rows = [Row({"text": given_text(given, LONGEST).strip()}) for given in inputs]
        for given, row in zip(inputs, rows, strict=True):
            if not row.inputs["text"]:
                raise DataError(f"{given!r} is no sentence: nothing is in it", "give one, or leave it out")
            if self.encode(row, state)["cut"]:
                warnings.warn(
                    f"{given[:60]!r} is longer than {state['longest']} tokens, and only so much of it is translated",
                    DataWarning,
                    stacklevel=2,
                )
        return rows

    def metrics(self) -> list[Metric]:
        return [bleu(), chrf()]

    def trivial(self, base: Base, splits: Mapping[str, Split]) -> list[Contender]:
        return word_by_word.trivial(splits)

    def _precision(self, batch: Batch) -> torch.autocast:
        return torch.autocast(
            batch["labels"].device.type, torch.bfloat16, enabled=self._options.precision == "bfloat16"
        )
