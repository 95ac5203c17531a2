"""BLEU and chrF of a corpus and of its resamples, as sacrebleu computes them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sacrebleu

from plugins.nlp.scores import Corpus, bleu, chrf

WRITTEN = [
    "Ein Mann schläft auf einem grünen Sofa.",
    "Eine Gruppe von Männern",
    "",
    "Zwei Hunde spielen im Schnee .",
]
WANTED = [
    "Ein Mann schläft in einem grünen Raum auf einem Sofa.",
    "Eine Gruppe von Männern lädt Baumwolle auf einen Lastwagen",
    "Ein Kind lacht.",
    "Zwei Hunde spielen im Schnee.",
]
ROWS = [{"translation": one, "target": other} for one, other in zip(WRITTEN, WANTED, strict=True)]
BY_NAME = {"bleu": (bleu, sacrebleu.corpus_bleu), "chrf": (chrf, sacrebleu.corpus_chrf)}


@pytest.mark.parametrize("name", BY_NAME)
def test_a_score_is_that_of_sacrebleu(name: str) -> None:
    """Each sentence counted once."""
    ours, theirs = BY_NAME[name]
    assert ours().corpus(ROWS)(np.ones(4)) == theirs(WRITTEN, [WANTED]).score > 10


@pytest.mark.parametrize("name", BY_NAME)
def test_a_sentence_that_counts_twice_stands_twice_in_the_corpus(name: str) -> None:
    """And one that counts nothing is not there: what a resample is."""
    ours, theirs = BY_NAME[name]
    places = [0, 1, 1, 3, 3, 3]
    written, wanted = ([texts[place] for place in places] for texts in (WRITTEN, WANTED))
    assert ours().corpus(ROWS)(np.array([1.0, 2.0, 0.0, 3.0])) == theirs(written, [wanted]).score


@pytest.mark.parametrize("metric", [bleu(), chrf()])
def test_nothing_scores_nothing(metric: Corpus) -> None:
    """No sentence is no score; empty translations score zero."""
    assert math.isnan(metric.corpus(ROWS)(np.zeros(4)))
    assert metric.corpus([{**row, "translation": ""} for row in ROWS])(np.ones(4)) == 0


def test_signatures_say_what_was_computed() -> None:
    """As sacrebleu prints them: one reference, its tokenizer, its version."""
    version = f"version:{sacrebleu.__version__}"
    assert bleu().signature() == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|{version}"
    assert chrf().signature() == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|{version}"
