"""Tokenizers that a base brings, or that are learned: the `tokenizers` library's own JSON, packed into a state, and
unpacked where a process needs it.

A brought tokenizer travels whole, in the state and so in the shell (of a BERT's 460 kB, 190 kB are left): a base's
digest is over its weights alone, and another tokenizer beside the same weights would be another model.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers


def pack(tokenizer: Tokenizer) -> str:
    """The tokenizer as text for a state, without its truncation and padding, which are the task's."""
    bare = Tokenizer.from_str(tokenizer.to_str())
    bare.no_truncation()
    bare.no_padding()
    return base64.b85encode(zlib.compress(bare.to_str().encode(), 9)).decode()


@lru_cache(maxsize=8)
def unpack(packed: str, longest: int | None = None) -> Tokenizer:
    """The tokenizer of a state, which cuts at `longest` tokens, its own special ones included."""
    tokenizer = Tokenizer.from_str(zlib.decompress(base64.b85decode(packed)).decode())
    if longest is not None:
        tokenizer.enable_truncation(longest)
    return tokenizer


def learned(texts: Iterable[str], size: int) -> Tokenizer:
    """Byte-level BPE (https://arxiv.org/abs/1508.07909, on bytes as in GPT-2) of at most `size` tokens, 256 of them
    single bytes, so that any text can be written; the same texts give the same one. Texts become NFC."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


class Brought:
    """A base's own tokenizer, with what the language model's task asks of one: as `plugins.nlp.tokenizer.Tokenizer`.

    Args:
        packed: the tokenizer.
        bos: the token that begins a text.
    """

    def __init__(self, packed: str, bos: int) -> None:
        self._tokenizer, self.bos = unpack(packed), bos

    def encode(self, text: str) -> list[int]:
        """The tokens of `text`, without `bos`."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`; bytes that are no UTF-8 become U+FFFD."""
        return str(self._tokenizer.decode(list(tokens)))
