"""The cheapest sane alternatives to adapting an encoder, each fitted on the `train` rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from torch import nn

from core.contract import JSON, SELECT, TRAIN, Base, Contender, Row, Split
from core.data.rows import spread
from core.errors import DataWarning
from core.features import features
from plugins.nlp.ragged import ragged
from plugins.nlp.tokens import unpack

COUNTED = 100_000
"""Rows that words are counted in at most, evenly spread over `train`, for naive Bayes: beyond it it gains little."""

MOST = 10_000
"""Rows that logistic regression on TF-IDF is fitted on at most, evenly spread; of `select` as many choose."""

PROBED = 6_000
"""Rows that the linear probe is fitted on at most; of `select` half as many choose. The encoder reads each of them: one
of 22 million parameters took 11 seconds for 5,000 questions of ten words, on two cores. Longer texts take longer."""

TERMS = 2**17
"""Words and pairs of words that are weighed, the most frequent: the fitting holds some twenty numbers for each, and for
each label."""

WORDS, FEATURES = (1.0, 10.0, 100.0, 1e3, 1e4), (1e-4, 1e-3, 0.01, 0.1, 1.0)
"""Inverse strengths of the L2 penalty that `select` chooses from, on TF-IDF and on the encoder's features. TREC
chooses 100 or 1000 and 0.001 or 0.01, SST-2 10 and 0.001: none at an edge."""

STEPS = 2_000
"""Iterations of a fitting, at most: TREC and SST-2 need fewer than 100."""

WORD = r"(?u)\b\w+\b|[^\w\s]"
"""A word, of one letter too, or a mark: a question mark tells more than most words."""

Matrix = Any  # NDArray, or a sparse matrix of scipy's, which has no types
Inputs = Callable[[Sequence[Row]], Matrix]
T = TypeVar("T")


class Rival:
    """A scikit-learn classifier on what `inputs` makes of rows."""

    def __init__(self, name: str, estimator: Any, inputs: Inputs) -> None:
        self.name = name
        self._estimator, self._inputs = estimator, inputs

    def predict(self, rows: Sequence[Row]) -> list[Mapping[str, JSON]]:
        """As `Classify.predict`."""
        shares = self._estimator.predict_proba(self._inputs(rows))
        labels = self._estimator.classes_[shares.argmax(1)].tolist()
        return [
            {"label": label, "probability": round(float(share), 6)}
            for label, share in zip(labels, shares.max(1), strict=True)
        ]


def trivial(base: Base, splits: Mapping[str, Split]) -> list[Contender]:
    """The most frequent label; naive Bayes on words and pairs of words; logistic regression on their TF-IDF
    (https://scikit-learn.org/stable/modules/feature_extraction.html#text-feature-extraction), and on the frozen
    encoder's features (the linear probe, https://arxiv.org/abs/1610.01644)."""
    rows = splits[TRAIN].rows
    bounds = {"naive_bayes": COUNTED, "tfidf": MOST, "linear_probe": PROBED}
    fewer = [f"{name} on {most:,}" for name, most in bounds.items() if len(rows) > most]
    if fewer:
        warnings.warn(
            f"train has {len(rows):,} rows, and contenders are fitted on fewer, evenly spread: {', '.join(fewer)}",
            DataWarning,
            stacklevel=2,
        )
    all_rows, train, select = spread(rows, COUNTED), spread(rows, MOST), spread(splits[SELECT].rows, MOST)
    labels = [row.target for row in all_rows]
    counts = CountVectorizer(token_pattern=WORD, ngram_range=(1, 2), binary=True)
    weights = TfidfVectorizer(token_pattern=WORD, ngram_range=(1, 2), sublinear_tf=True, max_features=TERMS)
    counted, weighted = counts.fit_transform(texts(all_rows)), weights.fit_transform(texts(train))
    rivals: list[Contender] = [
        Rival(
            "majority",
            DummyClassifier(strategy="most_frequent").fit(counted, labels),
            lambda rows: np.zeros((len(rows), 1)),
        ),
        Rival(
            "naive_bayes", MultinomialNB().fit(counted, labels), lambda rows: counts.transform(texts(rows))
        ),
        Rival(
            "tfidf",
            regression("tfidf", WORDS, weighted, train, weights.transform(texts(select)), select),
            lambda rows: weights.transform(texts(rows)),
        ),
    ]
    some = spread(rows, PROBED)
    probe = Probe(base.model, splits[TRAIN].state)
    inputs = probe(some)
    centre, scale = inputs.mean(0), inputs.std() + 1e-6  # so that a penalty means the same for every base

    def standard(rows: Sequence[Row]) -> NDArray[np.float64]:
        scaled: NDArray[np.float64] = (probe(rows) - centre) / scale
        return scaled

    chosen = spread(select, PROBED // 2)
    probed = regression("linear_probe", FEATURES, (inputs - centre) / scale, some, standard(chosen), chosen)
    rivals.append(Rival("linear_probe", probed, standard))
    return rivals


def regression(
    name: str,
    penalties: Sequence[float],
    inputs: Matrix,
    rows: Sequence[Row],
    held_out: Matrix,
    select: Sequence[Row],
) -> LogisticRegression:
    """Logistic regression with the penalty that is best on `select`; of equal ones the strongest. Each fitting begins
    where the one with the next stronger penalty ended. One that `STEPS` ended is said."""
    labels, expected = ([row.target for row in part] for part in (rows, select))
    fitted, one = [], LogisticRegression(max_iter=STEPS, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for penalty in penalties:
            fitted.append(deepcopy(one.set_params(C=penalty).fit(inputs, labels)))
    best = max(fitted, key=lambda made: made.score(held_out, expected))
    if best.n_iter_.max() >= STEPS:
        warnings.warn(
            f"the fitting of {name} was ended after {STEPS:,} iterations: it may be better than it looks",
            DataWarning,
            stacklevel=2,
        )
    return best


class Probe:
    """What the frozen base's head sees of each text."""

    def __init__(self, model: nn.Module, state: JSON, batch: int = 128) -> None:
        self._model, self._batch = model, batch
        self._tokenizer = unpack(state["tokenizer"], state["longest"])

    @torch.no_grad()
    def __call__(self, rows: Sequence[Row]) -> NDArray[np.float64]:
        """(rows, width). Texts of like length are read together."""
        tokens = [self._tokenizer.encode(text).ids or [0] for text in texts(rows)]
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        found: list[NDArray[np.float64]] = []
        for at in range(0, len(order), self._batch):
            part = ragged([tokens[i] for i in order[at : at + self._batch]])
            seen = features(self._model, lambda part=part: self._model(part))  # type: ignore[misc]
            seen = seen if seen.ndim == 2 else seen[:, 0]  # a head that sees every token: the first one's
            found.append(seen.double().numpy())
        sorted_back = np.empty_like(together := np.concatenate(found))
        sorted_back[order] = together
        return sorted_back


def texts(rows: Sequence[Row]) -> list[str]:
    return [row.inputs["text"] for row in rows]
