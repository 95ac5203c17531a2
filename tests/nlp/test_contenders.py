"""The byte models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from core.contract import Row
from plugins.nlp.contenders import ContextModel, Counts, contenders

TEXTS = ["the cat sat on the mat\n", "the end\n"]


def coded(model: ContextModel, texts: Sequence[str]) -> list[float]:
    return [row["bits"] for row in model.predict([Row({"text": text}) for text in texts])]


@pytest.mark.parametrize("context", [b"", b"t", b"the c", b"nothing like it"])
@pytest.mark.parametrize("order", [1, 5, 7])
def test_probabilities_add_up_to_one(order: int, context: bytes) -> None:
    """After any context, met or not, over all 256 bytes; also with what was met in the text itself."""
    model = ContextModel("m", order, weight=2).fit(TEXTS)
    context = context[-order:]
    met = Counts()
    for byte in b"xyx":
        model._count(met, context, byte, 2)
    for local in (Counts(), met):
        assert sum(model._probability(local, context, byte) for byte in range(256)) == pytest.approx(1)


def test_a_text_is_forgotten_after_it_was_coded() -> None:
    """Rows are coded each on their own, in whatever order."""
    model = ContextModel("ppm", 7, weight=2).fit(TEXTS)
    one, other = "a new word, a new word", "the mat"
    assert coded(model, [one, other, one]) == [*coded(model, [one, other]), *coded(model, [one])]


def test_counting_on_while_coding_pays_where_a_text_repeats_itself() -> None:
    """The second time costs far less with `weight`, and as much as the first without."""
    once, twice = "quixotic zephyr ", "quixotic zephyr " * 2
    learns, does_not = (ContextModel("m", 7, weight).fit(TEXTS) for weight in (2, 0))
    first, both = coded(learns, [once, twice])
    assert both - first < first / 2
    first, both = coded(does_not, [once, twice])
    assert both - first == pytest.approx(first, rel=0.3)


def test_a_lower_context_counts_a_byte_only_once_for_each_longer_one() -> None:
    """The counts of Kneser and Ney: in `xa xa ya`, `a` follows three times, after two different bytes."""
    model = ContextModel("m", 1).fit(["xaxaya"])
    assert model._counts[b"x"] == {ord("a"): 2}
    assert model._counts[b""][ord("a")] == 2


def test_the_strongest_rival_is_no_straw_man(splits: Mapping[str, Sequence[Row]]) -> None:
    """PPM beats the 6-gram, which beats the bigram, on held-out topics, and is near what PPMd needs."""
    rivals = contenders(splits["train"])
    rows = splits["select"][:40]
    size = sum(len(row.inputs["text"].encode()) for row in rows)
    bigram, kneser_ney, ppm = (sum(coded(m, [r.inputs["text"] for r in rows])) / size for m in rivals)
    assert ppm < kneser_ney < bigram
