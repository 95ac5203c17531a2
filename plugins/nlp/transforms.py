"""What may be done to texts before a tokenizer reads them. Nothing here is learned or random."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import torch

from core.contract import JSON, Row
from plugins.nlp import options


class TextTransform:
    """Changes the text in a row's `inputs`, `{"text": ...}`, and nothing else of the row."""

    random = False

    def fit(self, rows: Sequence[Row]) -> JSON:
        return None

    def apply(self, row: Row, state: JSON, rng: torch.Generator) -> Row:
        return row.with_inputs({**row.inputs, "text": self.changed(row.inputs["text"])})

    def changed(self, text: str) -> str:
        raise NotImplementedError


class Truncate(TextTransform):
    """The first, or last, so many characters or words. White space between the words that stay is left as it is."""

    def __init__(self, options: options.Truncate) -> None:
        self._to, self._words, self._first = options.to, options.of == "words", options.keep == "first"

    def changed(self, text: str) -> str:
        if not self._words:
            return text[: self._to] if self._first else text[-self._to :]
        words = [match.span() for match in re.finditer(r"\S+", text)]
        if len(words) <= self._to:
            return text
        return text[: words[self._to - 1][1]] if self._first else text[words[-self._to][0] :]


class Casing(TextTransform):
    """Every letter in one case."""

    def __init__(self, options: options.Casing) -> None:
        self._change = {"lower": str.lower, "upper": str.upper, "fold": str.casefold}[options.to]

    def changed(self, text: str) -> str:
        return self._change(text)


class Normalise(TextTransform):
    """One form of Unicode, then one space wherever there is white space."""

    def __init__(self, options: options.Normalise) -> None:
        self._form, self._space = options.unicode, options.space

    def changed(self, text: str) -> str:
        text = text if self._form is None else unicodedata.normalize(self._form, text)
        return " ".join(text.split()) if self._space else text
