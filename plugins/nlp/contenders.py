"""The cheapest sane rivals: byte models that count what followed the last few bytes, from bigrams to PPM."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from core.contract import Row

Counts = dict[bytes, dict[int, int]]  # context -> next byte -> count


class ContextModel:
    """Predicts each byte from its context, the `order` bytes before it, and codes every text on its own.

    The probability after a context is interpolated with the one after the context shorter by a byte, down to a
    uniform one, with the discounts of Huang and Renals' power law
    (https://doi.org/10.1109/ICASSP.2010.5495007), an approximation of the hierarchical Pitman-Yor process:

        p_k(x) = (c(x) - d_k·c(x)^0.4 + Σ_y d_k·c(y)^0.4 · p_{k-1}(x)) / Σ_y c(y)        d_k from 0.6 to 0.9

    with c from counting in the manner of Kneser and Ney, which is also PPM's update exclusion
    (https://en.wikipedia.org/wiki/Prediction_by_partial_matching): a context counts a byte only while the
    longer contexts had not met it. With `weight`, the model goes on counting while it codes a text, each byte for
    `weight`, and forgets that again after the text: a PPM that is primed with the train split.
    """

    POWER = 0.4

    def __init__(self, name: str, order: int, weight: int = 0) -> None:
        self.name = name
        self._order, self._weight = order, weight
        self._discounts = [0.6 + 0.3 * k / order for k in range(order + 1)]
        self._counts: Counts = {}

    def fit(self, texts: Iterable[str]) -> ContextModel:
        for text in texts:
            data = text.encode()
            for i, byte in enumerate(data):
                self._count(self._counts, self._context(data, i), byte, 1)
        return self

    def predict(self, rows: Sequence[Row]) -> Sequence[Mapping[str, float]]:
        """`bits`, `bytes` and `characters` of each row's text."""
        coded = ((text, text.encode()) for text in _texts(rows))
        return [
            {"bits": self._bits(data), "bytes": len(data), "characters": len(text)} for text, data in coded
        ]

    def _bits(self, data: bytes) -> float:
        bits, met = 0.0, Counts()
        for i, byte in enumerate(data):
            context = self._context(data, i)
            bits -= math.log2(self._probability(met, context, byte))
            if self._weight:
                self._count(met, context, byte, self._weight)
        return bits

    def _context(self, data: bytes, i: int) -> bytes:
        return data[max(0, i - self._order) : i]

    def _count(self, counts: Counts, context: bytes, byte: int, weight: int) -> None:
        for k in range(len(context) + 1):
            shorter = context[k:]
            if shorter not in counts:
                counts[shorter] = self._counts.get(shorter, {}).copy()
            before = counts[shorter].get(byte, 0)
            counts[shorter][byte] = before + weight
            if before:
                return

    def _probability(self, met: Counts, context: bytes, byte: int) -> float:
        probability = 1 / 256
        for k in range(len(context), -1, -1):
            counts = met.get(context[k:]) or self._counts.get(context[k:])
            if counts is None:
                break  # a context never met has no longer one that was
            discount = self._discounts[len(context) - k]
            count = counts.get(byte, 0)
            freed = discount * sum([c**self.POWER for c in counts.values()])
            kept = count - discount * count**self.POWER if count else 0.0
            probability = (kept + freed * probability) / sum(counts.values())
        return probability


def contenders(rows: Sequence[Row]) -> list[ContextModel]:
    """The rivals, fitted on the rows' texts."""
    return [
        ContextModel("bigram", order=1).fit(_texts(rows)),
        ContextModel("kneser_ney", order=5).fit(_texts(rows)),
        ContextModel("ppm", order=7, weight=2).fit(_texts(rows)),
    ]


def _texts(rows: Sequence[Row]) -> Iterator[str]:
    return (row.inputs["text"] for row in rows)
