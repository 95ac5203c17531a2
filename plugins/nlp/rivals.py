"""The cheapest sane alternatives to adapting an encoder, each fitted on the `train` rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from torch import nn

from core.contract import JSON, SELECT, TRAIN, Base, Contender, Row, Split
from core.data.rows import spread
from core.features import features
from plugins.nlp.ragged import ragged
from plugins.nlp.tokens import unpack

MOST = 100_000
"""Rows that the word models are fitted on at most, evenly spread over `train`: beyond it they gain little, and memory
stays bounded."""

PROBED = 3_000
"""Rows that the linear probe is fitted on at most: the encoder reads each once."""

WORDS, FEATURES = (1.0, 10.0, 100.0), (0.01, 0.1, 1.0)
"""Inverse strengths of the L2 penalty that `select` chooses from, on TF-IDF and on the encoder's features."""

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
    train, select = spread(splits[TRAIN].rows, MOST), spread(splits[SELECT].rows, MOST)
    labels = [row.target for row in train]
    counts = CountVectorizer(token_pattern=WORD, ngram_range=(1, 2), binary=True)
    weights = TfidfVectorizer(token_pattern=WORD, ngram_range=(1, 2), sublinear_tf=True, min_df=1)
    counted, weighted = counts.fit_transform(texts(train)), weights.fit_transform(texts(train))
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
            regression(WORDS, weighted, labels, weights.transform(texts(select)), select),
            lambda rows: weights.transform(texts(rows)),
        ),
    ]
    some = spread(train, PROBED)
    probe = Probe(base.model, splits[TRAIN].state)
    inputs = probe(some)
    centre, scale = inputs.mean(0), inputs.std() + 1e-6  # so that a penalty means the same for every base

    def standard(rows: Sequence[Row]) -> NDArray[np.float64]:
        scaled: NDArray[np.float64] = (probe(rows) - centre) / scale
        return scaled

    chosen = spread(select, PROBED)
    probed = regression(
        FEATURES, (inputs - centre) / scale, [row.target for row in some], standard(chosen), chosen
    )
    rivals.append(Rival("linear_probe", probed, standard))
    return rivals


def regression(
    penalties: Sequence[float], inputs: Matrix, labels: Sequence[str], held_out: Matrix, select: Sequence[Row]
) -> LogisticRegression:
    """Logistic regression with the penalty that is best on `select`; of equal ones the strongest."""
    fitted = [LogisticRegression(C=c, max_iter=300, tol=1e-3).fit(inputs, labels) for c in penalties]
    expected = [row.target for row in select]
    return max(fitted, key=lambda one: one.score(held_out, expected))


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
