"""Text classification, and runs of it from a file to a prediction."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertModel

import core
from core.contract import Base, Row, Split
from core.edits.grow import Grow
from core.errors import BaseError, DataError, DataWarning
from core.metrics import Accuracy
from core.options import Grow as GrowOptions
from plugins.nlp import options, rivals
from plugins.nlp.classify import Classify
from plugins.nlp.encoders import Transformers

RNG = torch.Generator()


@pytest.fixture
def base(encoder: Path) -> Base:
    loaded = Transformers(options.Transformers(name=str(encoder))).load()
    loaded.model.requires_grad_(False).eval()
    return loaded


def task(**given: object) -> Classify:
    return Classify(options.Classify.model_validate(given))


ROWS = [
    Row({"text": "a good film"}, "good"),
    Row({"text": "the soup was very very bad"}, "bad"),
    Row({"text": "late"}, "bad"),
    Row({"text": "this train is lovely"}, "good"),
    Row({"text": "not a bright film"}, "bad"),
]


def brought(base: Base, **changes: object) -> dict[str, Any]:
    return {**base.preprocessing["task"], **changes}


def test_the_base_s_labels_keep_their_places_and_new_ones_follow(base: Base) -> None:
    """Sorted, so that the order of the rows changes nothing."""
    state = task().fit(ROWS, brought(base, labels=["neutral", "good"]))
    assert state["labels"] == ["neutral", "good", "bad"]
    assert task().fit([], brought(base, labels=["neutral", "good"]))["labels"] == ["neutral", "good"]


def test_labels_of_the_base_that_are_dropped_get_a_new_head(base: Base) -> None:
    """The base itself still speaks of its own."""
    one = task(base_labels="drop")
    model = Grow(GrowOptions(axis="classes", to=2, init="normal")).apply(base.model)
    state = one.fit(ROWS, brought(base, labels=["x", "y"]))
    assert state["labels"] == ["bad", "good"]
    assert one.edits(model, state) == [{"edit": "new_head", "axis": "classes", "to": 2}]
    assert one.fit([], brought(base, labels=["x", "y"]))["labels"] == ["x", "y"]


def test_the_rest_of_a_batch_changes_no_logit(base: Base) -> None:
    """Logits come back in the order of the examples, as each has them alone."""
    one = task()
    state = one.fit(ROWS, brought(base))
    model = Grow(GrowOptions(axis="classes", to=2, init="normal")).apply(base.model)
    examples = [one.encode(row, state) for row in ROWS]
    batch = one.collate(examples, RNG)
    assert batch["labels"].tolist() == [1, 0, 0, 1, 0]
    alone = torch.cat([one.forward(model, one.collate([example], RNG)) for example in examples])
    assert torch.allclose(one.forward(model, batch), alone, atol=1e-6)


def test_the_loss_is_the_cross_entropy_of_the_label() -> None:
    """-ln 0.8, as logits of 0.8 and 0.2 give it."""
    outputs = torch.tensor([[0.8, 0.2], [0.2, 0.8]]).log()
    total, weight = task().loss(outputs, {"labels": torch.tensor([0, 1])})  # type: ignore[typeddict-item]
    assert float(total / weight) == pytest.approx(-math.log(0.8))


def test_a_text_longer_than_what_is_read_is_cut_and_marked(base: Base) -> None:
    """The tokenizer's own tokens stay at both ends."""
    one = task(longest=5)
    state = one.fit(ROWS, brought(base))
    long, short = one.encode(ROWS[1], state), one.encode(ROWS[2], state)
    assert (len(long["ids"]), long["ids"][0], long["ids"][-1], long["cut"]) == (5, 2, 3, True)
    assert not short["cut"]
    assert task(longest=500).fit(ROWS, brought(base))["longest"] == 24


def test_a_base_without_classes_predicts_no_label(base: Base) -> None:
    """And is never right."""
    one = task()
    state = one.fit([], brought(base))
    batch = one.collate([one.encode(row, state) for row in ROWS], RNG)
    predictions = one.predict(base.model, batch, state)
    assert predictions == [{"label": None, "probability": 0.0}] * 5
    assert Accuracy().score({**predictions[0], "target": "good"}) == (0.0, 1.0)


def test_a_base_without_a_tokenizer_is_refused() -> None:
    """The error names the field that is missing."""
    with pytest.raises(BaseError, match=r"task\.tokenizer"):
        task().fit([], {})


def test_an_input_is_a_text_or_a_file_after_an_at_sign(tmp_path: Path) -> None:
    """Empty ones and missing files are refused."""
    path = tmp_path / "a.txt"
    path.write_text("Grüße", encoding="utf-8")
    state = {"labels": [], "tokenizer": "", "longest": 8}
    rows = task().parse([f"@{path}", "a text"], state)  # type: ignore[arg-type]
    assert [row.inputs for row in rows] == [{"text": "Grüße"}, {"text": "a text"}]
    for wrong in ("", f"@{tmp_path}/no.txt"):
        with pytest.raises(DataError):
            task().parse([wrong], state)  # type: ignore[arg-type]


def prepared(base: Base, path: Path) -> tuple[dict[str, Split], list[Row]]:
    """Encoded `train` and `select` of a file, and the rows of `report`."""
    from plugins.nlp.texts import Texts

    rows = Texts(options.Texts(path=str(path))).rows()
    one = task()
    state = one.fit(rows["train"], brought(base))
    splits = {
        n: Split(n, rows[n], [one.encode(r, state) for r in rows[n]], state) for n in ("train", "select")
    }
    return splits, list(rows["report"])


def test_rivals_learn_what_words_tell(base: Base, reviews: Callable[..., Path]) -> None:
    """Each word alone tells good from bad: counting words must find it, the majority cannot."""
    splits, report = prepared(base, reviews(200))
    right = {}
    for rival in rivals.trivial(base, splits):
        predictions = rival.predict(report)
        assert len(predictions) == len(report)
        right[rival.name] = sum(p["label"] == row.target for p, row in zip(predictions, report, strict=True))
    assert set(right) == {"majority", "naive_bayes", "tfidf", "linear_probe"}
    assert right["tfidf"] > 0.9 * len(report)
    assert right["naive_bayes"] > 0.8 * len(report) > 0.7 * len(report) > right["majority"]
    assert right["linear_probe"] > right["majority"]


def test_a_rival_that_is_fitted_on_fewer_rows_is_told(
    base: Base, reviews: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its number of rows; those that see all of them are not named."""
    splits, _ = prepared(base, reviews(200))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rivals.trivial(base, splits)
    monkeypatch.setattr(rivals, "MOST", 50)
    monkeypatch.setattr(rivals, "PROBED", 40)
    with pytest.warns(DataWarning, match=r"train has 140 rows.*: tfidf on 50, linear_probe on 40$"):
        rivals.trivial(base, splits)


def test_a_fitting_that_was_ended_is_told(
    base: Base, reviews: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rival that could be better must not look as good as it gets."""
    splits, _ = prepared(base, reviews(200))
    monkeypatch.setattr(rivals, "STEPS", 1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        rivals.trivial(base, splits)
    assert [warning.category for warning in told] == [DataWarning, DataWarning]
    assert "linear_probe was ended after 1 iterations" in str(told[1].message)


def test_rows_are_spread_evenly_where_they_are_too_many() -> None:
    """First and last parts alike, never more than asked for."""
    rows = [Row({"text": str(i)}) for i in range(10)]
    assert [row.inputs["text"] for row in rivals.spread(rows, 4)] == ["0", "2", "5", "7"]
    assert rivals.spread(rows, 10) == rows


def adapted(encoder: Path, data: Path, out: Path, **rest: Any) -> core.Run:
    """A run of the recipe `nlp/sentences` on little data; the encoder's word vectors are random, and have to move."""
    overrides = {
        "base.name": str(encoder),
        "data.path": str(data),
        "data.splits": {"how": "stratified", "select": 0.2, "report": 0.3},
        "fine_tune.strategy": "full",
        "fine_tune.lr": 0.01,
        "fine_tune.epochs": 12,
        "fine_tune.batch_size": 16,
        "evaluate.resamples": 100,
        **rest,
    }
    return core.run("nlp/sentences", out=out, quiet=True, **overrides)


def test_a_file_of_texts_becomes_a_sealed_model_that_predicts(
    encoder: Path, reviews: Callable[..., Path], tmp_path: Path
) -> None:
    """The whole way, with parity in a fresh process; the tokenizer and the labels travel in the shell."""
    run = adapted(encoder, reviews(240), tmp_path / "runs")
    scores = run.document["contenders"]
    assert scores["adapted"]["accuracy"] > 0.9 > scores["majority"]["accuracy"]
    shell = core.load(run.shell)
    predictions = shell.predict(["a lovely film", "the soup was awful"])
    assert [row["label"] for row in predictions] == ["good", "bad"]
    assert shell.evaluate()["accuracy"] == scores["adapted"]["accuracy"]


def test_an_encoder_saved_in_half_precision_is_adapted_and_beside_it_one_from_scratch(
    encoder: Path, reviews: Callable[..., Path], tmp_path: Path
) -> None:
    """Both are trained in float32."""
    half = tmp_path / "half"
    shutil.copytree(encoder, half)
    BertModel.from_pretrained(half).half().save_pretrained(half)
    rest = {"evaluate.scratch": True, "fine_tune.epochs": 1}
    scores = adapted(half, reviews(), tmp_path / "runs", **rest).document["contenders"]
    assert {"adapted", "scratch"} <= set(scores)


def test_a_run_tells_and_records_texts_that_are_cut(
    encoder: Path, reviews: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counted in each split."""
    run = adapted(encoder, reviews(), tmp_path / "runs", **{"task.longest": 6, "fine_tune.epochs": 1})
    assert "train: 40 of 40 texts are longer than 6 tokens" in capsys.readouterr().err
    events = [json.loads(line) for line in Path(run.folder, "events.jsonl").read_text().splitlines()]
    assert sum("longer than 6 tokens" in event.get("message", "") for event in events) == 3


def test_wrong_data_leave_nothing_behind(encoder: Path, tmp_path: Path) -> None:
    """One class: the run is refused before anything is written."""
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"film {i},good\n" for i in range(20)))
    with pytest.raises(DataError, match="one class alone") as caught:
        adapted(encoder, path, tmp_path / "runs")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "runs").exists()
