"""Text classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor, nn

from core.classification import Classification
from core.contract import JSON, Base, Contender, Row, Split
from core.edits import axis_size
from core.errors import BaseError, DataError
from plugins.nlp import options, rivals
from plugins.nlp.ragged import Ragged, ragged
from plugins.nlp.tokens import unpack

LONGEST = 1_000_000
"""Bytes of a text that a user gives, at most."""


class State(TypedDict):
    """The labels in the order of the model's outputs, the packed tokenizer, and how many tokens are read of a text."""

    labels: list[str]
    tokenizer: str
    longest: int


class Example(TypedDict):
    """A text's tokens, its label's index, and whether the text was cut."""

    ids: list[int]
    label: int
    cut: bool


class Batch(TypedDict):
    """The texts, end to end, and label indices (batch,) int64."""

    texts: Ragged
    labels: Tensor


class Classify(Classification):
    """The task `classify`: a text in, one of the labels out. A row's `inputs` is `{"text": ...}`, its `target` the
    label's name."""

    def __init__(self, options: options.Classify) -> None:
        super().__init__(options.base_labels)
        self._options = options

    def fit(self, rows: Sequence[Row], brought: Mapping[str, JSON]) -> State:
        """The base's labels keep their places, unless they are dropped; new ones follow, sorted."""
        if "tokenizer" not in brought:
            raise BaseError(
                "the base brings no tokenizer: its preprocessing has no task.tokenizer",
                "use an encoder of nlp.transformers",
            )
        if "decoder" in brought:
            raise BaseError(
                "the base is an encoder-decoder, whose encoder alone cannot be asked here for a label",
                "use an encoder, such as BERT, MiniLM or RoBERTa; nlp.translate takes encoder-decoders",
            )
        known = list(brought.get("labels", []))
        if rows and self._options.base_labels == "drop":
            known = []
        return {
            "labels": known + sorted({row.target for row in rows} - set(known)),
            "tokenizer": brought["tokenizer"],
            "longest": min(self._options.longest, brought["longest"]),
        }

    def edits(self, model: nn.Module, state: State) -> list[Mapping[str, JSON]]:
        """Classes for the labels that are new."""
        wanted = len(state["labels"])
        if self._options.base_labels == "drop" and axis_size(model, "classes") > 0:
            return [{"edit": "new_head", "axis": "classes", "to": wanted}]
        if axis_size(model, "classes") >= wanted:
            return []
        return [{"edit": "grow", "axis": "classes", "to": wanted, "init": "normal"}]

    def encode(self, row: Row, state: State) -> Example:
        encoding = unpack(state["tokenizer"], state["longest"]).encode(row.inputs["text"])
        return {
            "ids": encoding.ids or [0],
            "label": self.label(row, state),
            "cut": bool(encoding.overflowing),
        }

    def collate(self, examples: Sequence[Example], rng: torch.Generator) -> Batch:
        return {
            "texts": ragged([example["ids"] for example in examples]),
            "labels": torch.tensor([example["label"] for example in examples]),
        }

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """(batch, classes) logits."""
        logits: Tensor = model(batch["texts"])
        return logits

    def parse(self, inputs: Sequence[str], state: State) -> list[Row]:
        """Each input is a text, or `@PATH`, a UTF-8 file with one text. Raises `DataError`."""
        return [Row({"text": given_text(given, LONGEST)}) for given in inputs]

    def trivial(self, base: Base, splits: Mapping[str, Split]) -> list[Contender]:
        return rivals.trivial(base, splits)


def given_text(given: str, longest: int) -> str:
    """What a user typed, or the text in the file that `@PATH` names. Raises `DataError` where there is none, it is no
    UTF-8, or longer than `longest` bytes."""
    text = given
    if given.startswith("@"):
        path = Path(given[1:])
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = (
                error.strerror if isinstance(error, OSError) else f"byte {error.start} is of another encoding"
            )
            raise DataError(
                f"{given}: expected a UTF-8 text file at {path}: {why}",
                "give @PATH of a text file (`iconv -t UTF-8` converts one); a text that begins with @ goes into a file,"
                " too",
            ) from error
    size = len(text.encode(errors="surrogateescape"))
    if not 0 < size <= longest:
        raise DataError(
            f"{given[:60]!r}: expected 1 to {longest} bytes of text, got {size}",
            "give a text, or @PATH of a text file",
        )
    return text
