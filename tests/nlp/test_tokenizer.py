"""Byte-level BPE."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plugins.nlp.tokenizer import Tokenizer, learn_merges

LEARNED = learn_merges("the cat sat on the mat, the cat\n    the end\n" * 3, 20)


@given(st.text())
def test_any_text_comes_back_exactly(text: str) -> None:
    """Whatever the text, in whatever script, decoding what was encoded gives it back."""
    tokenizer = Tokenizer(LEARNED)
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert all(0 <= token < tokenizer.bos for token in tokens)


def test_the_most_frequent_pair_is_merged_first_and_counted_anew() -> None:
    """In "aaab aaab": `aa` four times is first, then what stands with the new token."""
    a, b, space = b"ab "
    assert learn_merges("aaab aaab", 2) == [(a, a), (256, a)]
    assert Tokenizer([(a, a), (256, a)]).encode("aaab aaab") == [257, b, space, 257, b]


def test_learning_ends_where_every_piece_is_one_token() -> None:
    """Asking for more merges than a text has pairs is no error."""
    merges = learn_merges("ab ab", 100)
    assert len(merges) == 2
    assert Tokenizer(merges).encode("ab ab") == [256, 257]


def test_tokens_do_not_cross_words() -> None:
    """A merge is never learned across the border of two pieces, however often they meet."""
    merges = learn_merges("of the " * 100, 50)
    tokens = Tokenizer(merges).encode("of the")
    assert [Tokenizer(merges).decode([token]) for token in tokens] == ["of", " the"]
