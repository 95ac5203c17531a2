"""The cheapest sane alternatives to fine-tuning, each fitted on the `train` rows.

They hold no images. Rows are read in batches, once for all of them, and of each is kept: its pixels, shrunk where
they are many, and what the frozen base's head sees of it. Of a large split, `MOST` rows spread evenly over it are
fitted on; all rows of a split are predicted.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from torch.nn import functional

from core.contract import JSON, SELECT, TRAIN, Base, Contender, Row, Split
from core.data.rows import spread
from core.errors import DataWarning, EditError
from core.features import features
from plugins.vision.geometry import image_of
from plugins.vision.pictures import as_float

Array = NDArray[np.float64]
View = Callable[[Tensor], Tensor]
"""(rows, numbers) from images (rows, channels, height, width)."""

PENALTIES = (0.01, 0.1, 1.0, 10.0)
"""Inverse strengths of the L2 penalty that `select` chooses from."""
MOST = 10_000
"""Rows of `train` that are fitted on; of `select` half as many choose."""
SIDE = 16
"""Images with more pixels than this squared are shrunk to so many before they are compared."""
NUMBERS = 2**24
"""How many pixels' values are held at a time."""
LEAST = 50
"""Iterations that a logistic regression gets in any case."""
STEPS = 2**32
"""Multiplications that a logistic regression may take, about: 4 seconds."""


@dataclass(frozen=True)
class Seen:
    """What is kept of rows: for each view (rows, numbers), and the labels."""

    views: Mapping[str, Array]
    labels: Sequence[Any]


class Reader:
    """Reads rows in batches and keeps what the views make of them."""

    def __init__(self, views: Mapping[str, View]) -> None:
        self.views = dict(views)

    @torch.no_grad()
    def batches(self, rows: Sequence[Row]) -> Iterator[Seen]:
        """The rows, a batch after the other."""
        held: list[Tensor] = []
        labels: list[Any] = []
        for row in rows:
            held.append(as_float(image_of(row, "a contender")))
            labels.append(row.target)
            if len(held) * held[0].numel() >= NUMBERS:
                yield self._seen(held, labels)
                held, labels = [], []
        if held:
            yield self._seen(held, labels)

    def read(self, rows: Sequence[Row]) -> Seen:
        """All of the rows."""
        parts = list(self.batches(rows))
        views = {name: np.concatenate([part.views[name] for part in parts]) for name in self.views}
        return Seen(views, [label for part in parts for label in part.labels])

    def _seen(self, images: list[Tensor], labels: list[Any]) -> Seen:
        stacked = torch.stack(images)
        return Seen({name: view(stacked).double().numpy() for name, view in self.views.items()}, labels)


class Classifier:
    """A fitted scikit-learn classifier on one view of the images."""

    def __init__(self, name: str, estimator: Any, view: str) -> None:
        self.name, self.view = name, view
        self._estimator = estimator

    def answer(self, seen: Seen) -> list[Mapping[str, JSON]]:
        """As `Classify.predict`."""
        shares = self._estimator.predict_proba(seen.views[self.view])
        best = shares.argmax(1)
        labels = self._estimator.classes_[best].tolist()
        return [
            {"label": label, "probability": round(float(share), 6)}
            for label, share in zip(labels, shares.max(1), strict=True)
        ]


class Rivals:
    """All contenders of a run: they read the rows together, once."""

    def __init__(self, reader: Reader, classifiers: Sequence[Classifier]) -> None:
        self._reader, self._classifiers = reader, classifiers
        self._last: tuple[Sequence[Row], dict[str, list[Mapping[str, JSON]]]] | None = None

    def answers(self, rows: Sequence[Row]) -> dict[str, list[Mapping[str, JSON]]]:
        """What each says of the rows."""
        if self._last is None or self._last[0] is not rows:
            said: dict[str, list[Mapping[str, JSON]]] = {c.name: [] for c in self._classifiers}
            for seen in self._reader.batches(rows):
                for classifier in self._classifiers:
                    said[classifier.name] += classifier.answer(seen)
            self._last = (rows, said)
        return self._last[1]


@dataclass
class Rival:
    """One of them."""

    name: str
    rivals: Rivals

    def predict(self, rows: Sequence[Row]) -> list[Mapping[str, JSON]]:
        return self.rivals.answers(rows)[self.name]


def trivial(
    base: Base, splits: Mapping[str, Split], forward: Callable[[nn.Module, Tensor], Tensor]
) -> list[Contender]:
    """The most frequent label; the label of the nearest training image; logistic regression on the pixels,
    and on the frozen base's features (the linear probe, https://arxiv.org/abs/1610.01644), where the base says
    what its head is."""
    reader = Reader({"pixels": pixels, "features": lambda images: seen_by_head(base.model, images, forward)})
    train_rows = spread(splits[TRAIN].rows, MOST)
    if len(train_rows) < len(splits[TRAIN].rows):
        warnings.warn(
            f"nearest_neighbour, logistic_regression and linear_probe are fitted on {MOST:,} of"
            f" {len(splits[TRAIN].rows):,} rows of train, evenly spread",
            DataWarning,
            stacklevel=2,
        )
    try:
        train = reader.read(train_rows)
    except EditError as error:
        warnings.warn(f"no linear probe: {error.message}", DataWarning, stacklevel=2)
        del reader.views["features"]
        train = reader.read(train_rows)
    if "features" in reader.views:
        train = _scaled(reader, train)
    select = reader.read(spread(splits[SELECT].rows, MOST // 2))
    classifiers = [
        Classifier(
            "majority",
            DummyClassifier(strategy="most_frequent").fit(train.views["pixels"], train.labels),
            "pixels",
        ),
        Classifier(
            "nearest_neighbour",
            KNeighborsClassifier(n_neighbors=1).fit(train.views["pixels"], train.labels),
            "pixels",
        ),
        regression("logistic_regression", "pixels", train, select),
    ]
    if "features" in reader.views:
        classifiers.append(regression("linear_probe", "features", train, select))
    rivals = Rivals(reader, classifiers)
    return [Rival(classifier.name, rivals) for classifier in classifiers]


def regression(name: str, view: str, train: Seen, select: Seen) -> Classifier:
    """Logistic regression with the penalty, of `PENALTIES`, that is best on `select`; of equal ones the
    strongest. Where they are many, its iterations may end early, which is said."""
    inputs = train.views[view]
    most = max(LEAST, min(2000, STEPS // (inputs.size * len(set(train.labels)) * 4)))
    fitted = []
    with warnings.catch_warnings():
        if most < 2000:
            warnings.simplefilter("ignore", ConvergenceWarning)
        for penalty in PENALTIES:
            fitted.append(LogisticRegression(C=penalty, max_iter=most).fit(inputs, train.labels))
    best = max(fitted, key=lambda estimator: float(estimator.score(select.views[view], select.labels)))
    if best.n_iter_.max() >= most:
        warnings.warn(
            f"the fitting of {name} was ended after {most} iterations: it may be better than it looks",
            DataWarning,
            stacklevel=2,
        )
    return Classifier(name, best, view)


def pixels(images: Tensor) -> Tensor:
    """(rows, channels · pixels), of images with more than `SIDE` · `SIDE` pixels the means of so many parts."""
    if images.shape[-2] * images.shape[-1] > SIDE * SIDE:
        images = functional.adaptive_avg_pool2d(images, SIDE)
    return images.flatten(1)


def seen_by_head(model: nn.Module, images: Tensor, forward: Callable[[nn.Module, Tensor], Tensor]) -> Tensor:
    """(rows, features). The model sees a few images at a time."""
    size = len(images) if images[0].numel() <= SIDE * SIDE else max(1, 2**22 // images[0].numel())
    seen = []
    for i in range(0, len(images), size):
        part = images[i : i + size]
        seen.append(features(model, partial(forward, model, part)).flatten(1))
    return torch.cat(seen)


def _scaled(reader: Reader, train: Seen) -> Seen:
    """The features centred and on one scale over `train`, so that a penalty means the same for every base; from
    now on the reader makes them so."""
    raw = reader.views["features"]
    found = torch.from_numpy(train.views["features"]).float()
    centre, scale = found.mean(0), found.std() + 1e-6
    reader.views["features"] = lambda images: (raw(images) - centre) / scale
    scaled = ((found - centre) / scale).double().numpy()
    return Seen({**train.views, "features": scaled}, train.labels)
