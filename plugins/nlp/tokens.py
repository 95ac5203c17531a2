"""Tokenizers that a base brings: the `tokenizers` library's own JSON, packed into a state, and unpacked where a process
needs it.

The tokenizer travels whole, in the state and so in the shell (of a BERT's 460 kB, 190 kB are left): a base's digest is
over its weights alone, and another tokenizer beside the same weights would be another model.
"""

from __future__ import annotations

import base64
import zlib
from functools import lru_cache

from tokenizers import Tokenizer


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
