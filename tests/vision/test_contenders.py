"""The trivial contenders: sane, cheap, and fitted without a look at what is reported."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

from core.contract import Base, Contender, Row, Split
from core.data.rows import Lazy
from core.errors import DataWarning
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


def test_streamed_rows_are_read_in_batches_and_give_the_same_answers(
    base: Base, ready: dict[str, list[Row]], task: Classify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row of the report once for all contenders together, a few at a time."""
    asked: list[int] = []

    def rows(name: str) -> Lazy[Row]:
        def make(index: int) -> Row:
            if name == "report":
                asked.append(index)
            return ready[name][index]

        return Lazy(len(ready[name]), make)

    state = task.fit([], base.preprocessing["task"])
    held = {name: Split(name, ready[name], [], state) for name in ("train", "select")}
    streamed = {name: Split(name, rows(name), [], state) for name in ("train", "select")}
    report = rows("report")
    expected = {c.name: c.predict(ready["report"]) for c in task.trivial(base, held)}
    monkeypatch.setattr(contenders, "NUMBERS", 64 * 50)
    for contender in task.trivial(base, streamed):
        for one, other in zip(contender.predict(report), expected[contender.name], strict=True):
            assert one["label"] == other["label"]
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-3)
    assert asked == list(range(len(report)))


def test_of_many_rows_some_spread_evenly_are_fitted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows stand class by class in folders: every class keeps its share."""
    rows = [Row(torch.full((1, 2, 2), float(label)), str(label)) for label in range(4) for _ in range(100)]
    some = contenders.spread(rows, 40)
    assert len(some) == 40
    assert Counter(row.target for row in some) == dict.fromkeys("0123", 10)
    assert contenders.spread(rows, 400) is rows


def test_large_images_are_compared_by_few_numbers() -> None:
    """Means of 16 x 16 parts; small ones as they are."""
    large = torch.rand(2, 3, 64, 64)
    assert contenders.pixels(large).shape == (2, 3 * 256)
    assert float(contenders.pixels(large)[0, 0]) == pytest.approx(float(large[0, 0, :4, :4].mean()))
    assert contenders.pixels(torch.rand(2, 1, 16, 16)).shape == (2, 256)


def test_a_base_that_does_not_say_what_its_head_is_is_not_probed(
    base: Base, ready: dict[str, list[Row]], task: Classify
) -> None:
    """With a word on it."""
    model = nn.Sequential(base.model)
    state = task.fit([], base.preprocessing["task"])
    splits = {name: Split(name, ready[name], [], state) for name in ("train", "select")}
    with pytest.warns(DataWarning, match="no linear probe: Sequential does not say"):
        found = task.trivial(replace(base, model=model), splits)
    assert [contender.name for contender in found] == ["majority", "nearest_neighbour", "logistic_regression"]


def test_a_contender_that_is_not_fitted_to_the_end_is_said(
    base: Base, ready: dict[str, list[Row]], task: Classify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On how many rows, and after how many iterations: it might flatter the adapted model."""
    monkeypatch.setattr(contenders, "MOST", 40)
    monkeypatch.setattr(contenders, "STEPS", 1)
    monkeypatch.setattr(contenders, "LEAST", 3)
    state = task.fit([], base.preprocessing["task"])
    splits = {name: Split(name, ready[name], [], state) for name in ("train", "select")}
    with pytest.warns(DataWarning) as caught:
        contenders.trivial(base, splits, lambda model, images: model(images))
    said = [str(one.message) for one in caught]
    assert (
        "nearest_neighbour, logistic_regression and linear_probe are fitted on 40 of 50 rows of train"
        in said[0]
    )
    assert any("the fitting of logistic_regression was ended after 3 iterations" in one for one in said)
