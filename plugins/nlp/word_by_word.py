"""The cheapest translations: the source as it is, and each word by itself, from a dictionary that is learned from
pairs of sentences."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.contract import SELECT, TRAIN, Contender, Prediction, Row, Split
from core.data.rows import spread
from core.errors import DataWarning
from plugins.nlp.scores import bleu

MOST = 50_000
"""Pairs that the dictionary is learned from at most, evenly spread; of `select` a tenth as many choose. The table has
an entry for each two words that stand in one pair: 29,000 pairs of some 12 words have 1.5 million, and take ten
seconds."""

ROUNDS = (5, 10, 20)
SURE = (0.0, 0.1, 0.2, 0.3)
"""What `select` chooses from: rounds of EM, and how likely a word's translation has to be; otherwise it is left out."""

WORD = re.compile(r"\w+(?:[-'\u2019]\w+)*|[^\w\s]")


class Copy:
    """The source as it is."""

    name = "copy"

    def predict(self, rows: Sequence[Row]) -> list[Prediction]:
        return [{"translation": row.inputs["text"]} for row in rows]


@dataclass
class WordByWord:
    """Each word's likeliest translation, in the source's order; an empty one leaves the word out, and one that is not
    in the dictionary stays as it is."""

    dictionary: Mapping[str, str]
    name: str = "word_by_word"

    def predict(self, rows: Sequence[Row]) -> list[Prediction]:
        return [{"translation": self._translated(row.inputs["text"])} for row in rows]

    def _translated(self, text: str) -> str:
        words = [self.dictionary.get(word.lower(), word) for word in WORD.findall(text)]
        said = re.sub(r" (?=[.,;:!?)\]])|(?<=[(\[]) ", "", " ".join(filter(None, words)))
        return said[:1].upper() + said[1:]


def trivial(splits: Mapping[str, Split]) -> list[Contender]:
    """`copy`, and `word_by_word` with the dictionary that has the best BLEU on `select`."""
    rows = splits[TRAIN].rows
    if len(rows) > MOST:
        warnings.warn(
            f"train has {len(rows):,} rows, and word_by_word learns from {MOST:,}, evenly spread",
            DataWarning,
            stacklevel=2,
        )
    chosen, metric = spread(splits[SELECT].rows, MOST // 10), bleu()

    def quality(contender: WordByWord) -> float:
        predictions = [
            {**made, "target": row.target}
            for made, row in zip(contender.predict(chosen), chosen, strict=True)
        ]
        return metric.corpus(predictions)(np.ones(len(predictions)))

    return [Copy(), max(map(WordByWord, dictionaries(spread(rows, MOST))), key=quality)]


def dictionaries(rows: Sequence[Row]) -> Iterator[dict[str, str]]:
    """From lower-cased words to words, once for each choice: of `ROUNDS`, of `SURE`, and whether p(target | source)
    alone says which translation is best, or its product with p(source | target)."""
    sources, known = numbered(WORD.findall(row.inputs["text"].lower()) for row in rows)
    targets, wanted = numbered(WORD.findall(row.target) for row in rows)
    there, back = Model1(sources, targets), Model1(targets, sources)
    mirrored = there.mirrored(back)
    for before, rounds in zip((0, *ROUNDS), ROUNDS, strict=False):
        for model in (there, back):
            model.learn(rounds - before)
        for score in (there.probability, there.probability * back.probability[mirrored]):
            best = there.best(score)
            for sure in SURE:
                certain = there.probability[best] >= sure
                yield {
                    known[source]: wanted[target] if is_certain else ""
                    for source, target, is_certain in zip(
                        there.source[best], there.target[best], certain, strict=True
                    )
                    if source != NOTHING
                }


NOTHING = 0
"""The number of the empty word, which stands in every source."""


def numbered(texts: Iterable[Sequence[str]]) -> tuple[list[NDArray[np.int64]], list[str]]:
    """Each text's words as numbers from 1, in the order in which they appear, and the words by number."""
    number: dict[str, int] = {"": NOTHING}
    made = [np.array([number.setdefault(word, len(number)) for word in text], np.int64) for text in texts]
    return made, list(number)


class Model1:
    """IBM model 1 (Brown et al. 1993, https://aclanthology.org/J93-2003, section 4.1): how likely a source word, or the
    empty one, is to be translated by a target word, for each two words that stand in one pair.

    Args:
        sources, targets: the words of each pair's sides, as `numbered` gives them.

    Attributes:
        source, target: (entries,) int64, the two words, in ascending order.
        probability: (entries,) float64, p(target | source); those of one source add up to 1 once it has learned.
    """

    def __init__(self, sources: Sequence[NDArray[np.int64]], targets: Sequence[NDArray[np.int64]]) -> None:
        self._span = 1 + max((int(target.max(initial=0)) for target in targets), default=0)
        keys = [
            (np.append(source, NOTHING)[:, None] * self._span + target).ravel()
            for source, target in zip(sources, targets, strict=True)
        ]
        ends = np.cumsum([len(target) for target in targets])
        places = [
            np.tile(np.arange(end - len(target), end), len(source) + 1)
            for source, target, end in zip(sources, targets, ends, strict=True)
        ]
        self._keys, cells = np.unique(np.concatenate(keys), return_inverse=True)
        self._cell, self._place = cells.astype(np.int32), np.concatenate(places).astype(np.int32)
        self.source, self.target = np.divmod(self._keys, self._span)
        self.probability = np.ones(len(self._keys))

    def learn(self, rounds: int) -> None:
        """So many rounds of expectation and maximisation."""
        for _ in range(rounds):
            each = self.probability[self._cell]
            each /= np.bincount(self._place, each)[self._place]
            counts = np.bincount(self._cell, each, len(self._keys))
            self.probability = counts / np.bincount(self.source, counts)[self.source]

    def mirrored(self, back: Model1) -> NDArray[np.int64]:
        """(entries,) for each entry the place of the one with the same words in the model of the other direction; of
        the empty word's, which has none, any."""
        wanted = self.target * back._span + self.source
        return np.minimum(np.searchsorted(back._keys, wanted), len(back._keys) - 1)

    def best(self, score: NDArray[np.float64]) -> NDArray[np.int64]:
        """(sources,) the entry of each source word with the highest score; of equal ones the first."""
        order = np.lexsort((-score, self.source))
        return order[np.flatnonzero(np.diff(self.source[order], prepend=-1))]
