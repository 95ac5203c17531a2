"""Language modelling: text in, bits per byte out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.contract import JSON, Base, Contender, Metric, Row, Split
from core.errors import BaseError
from plugins.nlp.classify import given_text
from plugins.nlp.contenders import contenders
from plugins.nlp.data import windows
from plugins.nlp.options import LanguageModellingOptions
from plugins.nlp.tokenizer import Tokenizer
from plugins.nlp.tokens import Brought

IGNORED = -100
"""The target where there is none: behind the end of a window."""

LONGEST = 65_536
"""Bytes of a text that a user gives, at most."""


class BitsPerByte:
    """What a lossless coder would need with this model, whatever its tokens are."""

    name, unit, higher_is_better = "bits_per_byte", "bits/byte", False

    def score(self, row: Mapping[str, JSON]) -> tuple[float, float]:
        return row["bits"], row["bytes"]


class NatsPerCharacter:
    """As others print it: the natural logarithm of one over a character's probability."""

    name, unit, higher_is_better = "nats_per_character", "nats/character", False

    def score(self, row: Mapping[str, JSON]) -> tuple[float, float]:
        return row["bits"] * math.log(2), row["characters"]


class LanguageModelling:
    """Predict each token of a text from those before it, the first one from `bos`.

    A row's `inputs` is `{"text": ...}`. A text longer than `window` bytes is coded in windows, each on its own. The
    state is the base's tokenizer: `{"merges": ...}` of byte-level BPE, or `{"tokenizer": ..., "bos": ...}`, packed. An
    example is its windows as lists of tokens, its bytes and characters, and how many tokens to continue it with; a
    batch is

        tokens    (windows, time) int64, beginning with `bos`
        targets   (windows, time) int64, the token that follows each, `IGNORED` behind the end
        example   (windows,) int64, whose window it is
        bytes     (examples,) int64, and characters
        continue  (examples,) int64

    and its outputs are logits (windows, time, vocabulary).
    """

    def __init__(self, options: LanguageModellingOptions) -> None:
        self._options = options
        self._tokenizer: tuple[JSON, Tokenizer | Brought] | None = None

    def fit(self, rows: Sequence[Row], brought: Mapping[str, JSON]) -> JSON:
        if "merges" in brought:
            return {"merges": brought["merges"]}
        if "tokenizer" in brought and "bos" in brought:
            return {"tokenizer": brought["tokenizer"], "bos": brought["bos"]}
        raise BaseError(
            "the base brings no language model's tokenizer: its preprocessing has neither task.merges nor"
            " task.tokenizer with task.bos",
            "use a base of this plugin, nlp.llama2c, or one whose card has the merges",
        )

    def edits(self, model: nn.Module, state: JSON) -> Sequence[Mapping[str, JSON]]:
        return []

    def encode(self, row: Row, state: JSON) -> dict[str, Any]:
        tokenizer = self._tokenizer_of(state)
        text = row.inputs["text"]
        pieces = [[tokenizer.bos, *tokenizer.encode(piece)] for piece in windows(text, self._options.window)]
        return {
            "windows": pieces,
            "bytes": len(text.encode()),
            "characters": len(text),
            "continue": row.inputs.get("continue", 0),
        }

    def collate(self, examples: Sequence[Mapping[str, Any]], rng: torch.Generator) -> dict[str, Tensor]:
        pieces = [(i, piece) for i, example in enumerate(examples) for piece in example["windows"]]
        tokens = torch.zeros(len(pieces), max(len(piece) for _, piece in pieces), dtype=torch.int64)
        targets = torch.full_like(tokens, IGNORED)
        for row, (_, piece) in enumerate(pieces):
            tokens[row, : len(piece)] = torch.tensor(piece)
            targets[row, : len(piece) - 1] = tokens[row, 1 : len(piece)]
        return {
            "tokens": tokens,
            "targets": targets,
            "example": torch.tensor([i for i, _ in pieces]),
            "bytes": torch.tensor([example["bytes"] for example in examples]),
            "characters": torch.tensor([example["characters"] for example in examples]),
            "continue": torch.tensor([example["continue"] for example in examples]),
        }

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        logits: Tensor = model(batch["tokens"])
        return logits

    def loss(self, outputs: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Nats, summed over the tokens, and their number."""
        return _nats(outputs, batch).sum(), (batch["targets"] != IGNORED).sum()

    def predict(self, model: nn.Module, batch: Mapping[str, Tensor], state: JSON) -> list[dict[str, JSON]]:
        """`bits`, `bytes` and `characters` of each text; where it is to be continued, also `bits_per_byte` and
        `continuation`."""
        nats = torch.zeros(len(batch["bytes"]), dtype=torch.float64, device=batch["bytes"].device)
        nats.index_add_(
            0, batch["example"], _nats(self.forward(model, batch), batch).sum(1, dtype=torch.float64)
        )
        rows: list[dict[str, JSON]] = [
            {"bits": bits, "bytes": size, "characters": letters}
            for bits, size, letters in zip(
                (nats / math.log(2)).tolist(),
                batch["bytes"].tolist(),
                batch["characters"].tolist(),
                strict=True,
            )
        ]
        for i in batch["continue"].nonzero()[:, 0].tolist():
            last = int((batch["example"] == i).nonzero()[-1])
            known = batch["tokens"][last][: int((batch["targets"][last] != IGNORED).sum()) + 1]
            tokens = continued(model, known, int(batch["continue"][i]))
            rows[i]["bits_per_byte"] = rows[i]["bits"] / rows[i]["bytes"]
            rows[i]["continuation"] = self._tokenizer_of(state).decode(tokens)
        return rows

    def parse(self, inputs: Sequence[str], state: JSON) -> list[Row]:
        """Each input is a text, or `@PATH`, a UTF-8 text file."""
        return [
            Row({"text": given_text(given, LONGEST), "continue": self._options.continuation})
            for given in inputs
        ]

    def metrics(self) -> Sequence[Metric]:
        return [BitsPerByte(), NatsPerCharacter()]

    def trivial(self, base: Base, splits: Mapping[str, Split]) -> Sequence[Contender]:
        return contenders(splits["train"].rows)

    def sample(self, model: nn.Module, state: JSON, prompt: str, rng: torch.Generator) -> str:
        """What the model writes after `prompt`: as many tokens as the option `sample` says, each drawn by its
        probability."""
        tokenizer = self._tokenizer_of(state)
        device = next(model.parameters()).device
        tokens = torch.tensor([tokenizer.bos, *tokenizer.encode(prompt)], device=device)
        start = len(tokens)
        with torch.no_grad():
            for _ in range(self._options.sample):
                shares = model(tokens[None])[0, -1].softmax(0).cpu()
                tokens = torch.cat((tokens, torch.multinomial(shares, 1, generator=rng).to(device)))
        return tokenizer.decode(tokens[start:].tolist())

    def _tokenizer_of(self, state: JSON) -> Tokenizer | Brought:
        if self._tokenizer is None or self._tokenizer[0] is not state:
            made = (
                Tokenizer(state["merges"]) if "merges" in state else Brought(state["tokenizer"], state["bos"])
            )
            self._tokenizer = state, made
        return self._tokenizer[1]


@torch.no_grad()
def continued(model: nn.Module, tokens: Tensor, count: int) -> list[int]:
    """The `count` tokens that follow `tokens` (time,), each the likeliest after those before it."""
    start = len(tokens)
    for _ in range(count):
        tokens = torch.cat((tokens, model(tokens[None])[0, -1:].argmax(-1)))
    return tokens[start:].tolist()


def _nats(logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """(windows, time), zero where there is no target."""
    return functional.cross_entropy(
        logits.transpose(1, 2), batch["targets"], ignore_index=IGNORED, reduction="none"
    )
