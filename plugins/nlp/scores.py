"""Scores of translations, by sacrebleu: BLEU and chrF of a corpus, and of its resamples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from core.contract import Prediction


class Corpus:
    """A metric of sacrebleu over `translation` and `target`. What it counts of a sentence is counted once; a resample
    is scored from the weighted sums of these counts.

    sacrebleu has no public function for that in chrF: these are the two that its own paired tests use
    (sacrebleu/significance.py).
    """

    unit, higher_is_better = "of 100", True

    def __init__(self, name: str, metric: Any) -> None:
        self.name, self._metric = name, metric

    def corpus(self, rows: Sequence[Prediction]) -> Callable[[NDArray[np.float64]], float]:
        metric = self._metric
        written, wanted = [row["translation"] for row in rows], [row["target"] for row in rows]
        counts = np.array(metric._extract_corpus_statistics(written, [wanted]), np.float64)

        def score(weights: NDArray[np.float64]) -> float:
            if not weights.any():
                return math.nan
            return float(metric._compute_score_from_stats((weights @ counts).tolist()).score)

        return score

    def signature(self) -> str:
        """What sacrebleu wants to stand beside a score."""
        self.corpus([{"translation": "", "target": ""}])  # one reference a sentence, which it then knows
        return str(self._metric.get_signature())


def bleu() -> Corpus:
    """BLEU (https://aclanthology.org/P02-1040) with sacrebleu's defaults (https://aclanthology.org/W18-6319)."""
    return Corpus("bleu", BLEU())


def chrf() -> Corpus:
    """chrF (https://aclanthology.org/W15-3049) with sacrebleu's defaults: characters up to 6, beta 2."""
    return Corpus("chrf", CHRF())
