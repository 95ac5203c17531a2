"""The trivial contenders: sane, cheap, and fitted without a look at what is reported."""

from __future__ import annotations

import pytest

from core.contract import Base, Contender, Row, Split
from plugins.vision import contenders
from plugins.vision.tasks import Classify


@pytest.fixture
def fitted(base: Base, ready: dict[str, list[Row]], task: Classify) -> dict[str, Contender]:
    """Fitted as the core asks for it: on `train` and `select`, encoded for the base."""
    state = task.fit([], base.preprocessing["task"])
    splits = {
        name: Split(name, ready[name], [task.encode(row, state) for row in ready[name]], state)
        for name in ("train", "select")
    }
    return {contender.name: contender for contender in task.trivial(base, splits)}


def accuracy(contender: Contender, rows: list[Row]) -> float:
    predictions = contender.predict(rows)
    return sum(p["label"] == row.target for p, row in zip(predictions, rows, strict=True)) / len(rows)


def test_the_contenders_are_as_good_as_such_methods_are(
    fitted: dict[str, Contender], ready: dict[str, list[Row]]
) -> None:
    """A contender that is broken would flatter the adapted model."""
    scores = {name: accuracy(contender, ready["report"]) for name, contender in fitted.items()}
    assert list(scores) == ["majority", "nearest_neighbour", "logistic_regression", "linear_probe"]
    assert 0.08 < scores["majority"] < 0.12
    assert scores["nearest_neighbour"] > 0.62
    assert scores["logistic_regression"] > 0.68
    assert scores["linear_probe"] > 0.70


def test_contenders_predict_in_the_tasks_form(
    fitted: dict[str, Contender], ready: dict[str, list[Row]]
) -> None:
    """A label and a probability each, new classes included."""
    for contender in fitted.values():
        predictions = contender.predict(ready["report"][:20])
        assert all(set(p) == {"label", "probability"} for p in predictions)
        assert all(0 < p["probability"] <= 1 for p in predictions)
    assert {p["label"] for p in fitted["linear_probe"].predict(ready["report"])} == set("0123456789")


def test_the_penalty_is_the_one_best_on_select(ready: dict[str, list[Row]]) -> None:
    """`select` chooses: no other penalty does better there."""
    reader = contenders.Reader({"pixels": contenders.pixels})
    train, select = reader.read(ready["train"]), reader.read(ready["select"])
    chosen = contenders.regression("any", "pixels", train, select)

    def right(classifier: contenders.Classifier) -> int:
        answers = classifier.answer(select)
        return sum(a["label"] == label for a, label in zip(answers, select.labels, strict=True))

    for penalty in contenders.PENALTIES:
        estimator = contenders.LogisticRegression(C=penalty, max_iter=2000)
        other = contenders.Classifier("other", estimator.fit(train.views["pixels"], train.labels), "pixels")
        assert right(chosen) >= right(other)


def test_probing_leaves_the_base_as_it_was(base: Base, fitted: dict[str, Contender]) -> None:
    """Frozen means frozen."""
    assert fitted
    assert all(not p.requires_grad and p.grad is None for p in base.model.parameters())
