"""Byte-level BPE (https://arxiv.org/abs/1508.07909, on bytes instead of characters): training, encoding, decoding.

Any text can be encoded and comes back exactly; tokens never cross the borders of `PIECE`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

PIECE = re.compile(r" ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")
"""A word, a number, a run of marks, each with the space before it, or white space. Every character is in one."""

Pair = tuple[int, int]


class Tokenizer:
    """Token 0 to 255 is that byte, each merge makes the next one, and the last is `bos`, which begins a text.

    Args:
        merges: pairs of tokens, in the order in which they were learned.
    """

    def __init__(self, merges: Sequence[Sequence[int]]) -> None:
        self._made: dict[Pair, int] = {(a, b): 256 + i for i, (a, b) in enumerate(merges)}
        self._bytes = [bytes([i]) for i in range(256)]
        for a, b in self._made:
            self._bytes.append(self._bytes[a] + self._bytes[b])
        self._bytes.append(b"")
        self._cache: dict[str, list[int]] = {}

    @property
    def bos(self) -> int:
        return len(self._bytes) - 1

    @property
    def size(self) -> int:
        """How many tokens there are, `bos` included."""
        return len(self._bytes)

    def encode(self, text: str) -> list[int]:
        """The tokens of `text`, without `bos`."""
        tokens: list[int] = []
        for piece in PIECE.findall(text):
            if piece not in self._cache:
                self._cache[piece] = self._encode_piece(piece)
            tokens += self._cache[piece]
        return tokens

    def _encode_piece(self, piece: str) -> list[int]:
        tokens = list(piece.encode())
        while True:
            made = min((self._made.get(pair, self.bos) for pair in _pairs(tokens)), default=self.bos)
            if made == self.bos:
                return tokens
            pair = next(pair for pair in _pairs(tokens) if self._made.get(pair) == made)
            tokens = _merged(tokens, pair, made)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self._bytes[token] for token in tokens).decode("utf-8", errors="replace")


def learn_merges(text: str, count: int) -> list[Pair]:
    """Up to `count` merges, each of the pair most frequent in `text` after those before it; of equally frequent ones
    the greatest. It ends early where every piece has become one token."""
    words = [(list(piece.encode()), n) for piece, n in Counter(PIECE.findall(text)).items()]
    frequency: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for i, (word, n) in enumerate(words):
        for pair in _pairs(word):
            frequency[pair] += n
            places[pair].add(i)
    merges: list[Pair] = []
    while len(merges) < count and frequency:
        best = max(frequency, key=lambda pair: (frequency[pair], pair))
        for i in places.pop(best):
            word, n = words[i]
            for pair in _pairs(word):
                frequency[pair] -= n
            word = _merged(word, best, 256 + len(merges))
            for pair in _pairs(word):
                frequency[pair] += n
                places[pair].add(i)
            words[i] = (word, n)
        merges.append(best)
        frequency = +frequency
    return merges


def _pairs(tokens: Sequence[int]) -> list[Pair]:
    return list(pairwise(tokens))


def _merged(tokens: Sequence[int], pair: Pair, made: int) -> list[int]:
    out: list[int] = []
    i = 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            out.append(made)
            i += 2
        else:
            out.append(tokens[i])
            i += 1
    return out
