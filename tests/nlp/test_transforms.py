"""The transforms of texts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.contract import Row
from plugins.nlp import options
from plugins.nlp.transforms import Casing, Normalise, TextTransform, Truncate


def changed(transform: TextTransform, text: str) -> str:
    row = Row({"text": text, "other": 1}, "label", "group", "id")
    out = transform.apply(row, transform.fit([]), torch.Generator())
    assert row.inputs["text"] == text  # the row itself stays as it is
    assert (out.inputs["other"], out.target, out.group, out.id) == (1, "label", "group", "id")
    return str(out.inputs["text"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"to": 2, "of": "words"}, " one  two"),
        ({"to": 2, "of": "words", "keep": "last"}, "two\tthree "),
        ({"to": 5, "of": "characters"}, " one "),
        ({"to": 5, "of": "characters", "keep": "last"}, "hree "),
        ({"to": 9, "of": "words"}, " one  two\tthree "),
    ],
)
def test_truncating_keeps_one_end(given: dict[str, object], expected: str) -> None:
    """Words are what stands between white space, which stays as it is."""
    assert changed(Truncate(options.Truncate.model_validate(given)), " one  two\tthree ") == expected


@given(st.text(), st.integers(1, 20), st.sampled_from(["words", "characters"]))
def test_a_truncated_text_is_short_enough_and_truncating_again_changes_nothing(
    text: str, to: int, of: str
) -> None:
    """Whatever the text."""
    transform = Truncate(options.Truncate.model_validate({"to": to, "of": of}))
    once = changed(transform, text)
    assert len(once.split() if of == "words" else once) <= to
    assert text.startswith(once)
    assert changed(transform, once) == once


def test_casing_knows_letters_that_change_their_length() -> None:
    """ß folds to ss."""
    cases = {to: changed(Casing(options.Casing(to=to)), "Straße") for to in ("lower", "upper", "fold")}
    assert cases == {"lower": "straße", "upper": "STRASSE", "fold": "strasse"}


def test_normalising_makes_equal_what_looks_the_same() -> None:
    """A letter with its accent in one or two characters; a no-break space; a ligature where NFKC is asked for."""
    one = Normalise(options.Normalise())
    assert changed(one, " e\u0301\u00a0\n e") == changed(one, "\u00e9 e") == "\u00e9 e"
    assert changed(one, "\ufb01n") == "\ufb01n"
    assert changed(Normalise(options.Normalise(unicode="NFKC")), "\ufb01n") == "fin"
    assert changed(Normalise(options.Normalise(unicode=None, space=False)), " e\u0301 ") == " e\u0301 "
