"""The cheapest sane alternatives to fine-tuning, each fitted on the `train` rows in well under a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from core.contract import JSON, SELECT, TRAIN, Base, Contender, Row, Split

Features: TypeAlias = Callable[[Tensor], Tensor]
"""(rows, features) from images (rows, channels, height, width)."""

PENALTIES = (0.01, 0.1, 1.0, 10.0)
"""Inverse strengths of the L2 penalty that `select` chooses from."""


class Classifier:
    """A scikit-learn classifier on features of the images."""

    def __init__(self, name: str, estimator: Any, features: Features, rows: Sequence[Row]) -> None:
        self.name = name
        self._features = features
        self._estimator = estimator.fit(self._inputs(rows), [row.target for row in rows])

    def predict(self, rows: Sequence[Row]) -> list[Mapping[str, JSON]]:
        """As `Classify.predict`."""
        shares = self._estimator.predict_proba(self._inputs(rows))
        best = shares.argmax(1)
        labels = self._estimator.classes_[best].tolist()
        return [
            {"label": label, "probability": round(float(share), 6)}
            for label, share in zip(labels, shares.max(1), strict=True)
        ]

    def accuracy(self, rows: Sequence[Row]) -> float:
        return float(self._estimator.score(self._inputs(rows), [row.target for row in rows]))

    @torch.no_grad()
    def _inputs(self, rows: Sequence[Row]) -> NDArray[np.float64]:
        return self._features(torch.stack([row.inputs for row in rows])).double().numpy()


def trivial(base: Base, splits: Mapping[str, Split]) -> list[Contender]:
    """The most frequent label; the label of the nearest training image; logistic regression on the pixels,
    and on the frozen base's features (the linear probe, https://arxiv.org/abs/1610.01644)."""
    train, select = splits[TRAIN].rows, splits[SELECT].rows
    contenders: list[Contender] = [
        Classifier("majority", DummyClassifier(strategy="most_frequent"), pixels, train),
        Classifier("nearest_neighbour", KNeighborsClassifier(n_neighbors=1), pixels, train),
        regression("logistic_regression", pixels, train, select),
        regression("linear_probe", probed(cast("HasFeatures", base.model), train), train, select),
    ]
    return contenders


def regression(name: str, features: Features, train: Sequence[Row], select: Sequence[Row]) -> Classifier:
    """Logistic regression with the penalty, of `PENALTIES`, that is best on `select`; of equal ones the
    strongest."""
    fitted = [Classifier(name, LogisticRegression(C=c, max_iter=2000), features, train) for c in PENALTIES]
    return max(fitted, key=lambda classifier: classifier.accuracy(select))


def pixels(images: Tensor) -> Tensor:
    return images.flatten(1)


class HasFeatures(Protocol):
    """What a base must offer to be probed: what its head sees."""

    def features(self, images: Tensor) -> Tensor: ...


def probed(model: HasFeatures, train: Sequence[Row]) -> Features:
    """The model's features, centred and on one scale over `train`, so that a penalty means the same for every
    base."""
    with torch.no_grad():
        seen = model.features(torch.stack([row.inputs for row in train]))
    centre, scale = seen.mean(0), seen.std() + 1e-6
    return lambda images: (model.features(images) - centre) / scale
