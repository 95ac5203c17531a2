"""From rows to prediction rows: what evaluating, predicting and the parity check share."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch

from core.contract import Row
from core.errors import ContractError, RecipeError
from core.evidence.scores import metric_named
from core.inference import by_length, complete, predict, stretch, to_device
from core.stages.evaluate import evaluate

CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [1, 7, 200, 1000])
def test_size_of_the_batches_changes_no_prediction_and_no_order(stages, size):
    """200 rows in 200 batches, in batches with a smaller last one, and in one."""
    toy = stages()
    split = toy.prepared.splits["report"]
    whole = predict(toy.prepared.task, toy.modified.model, split, CPU, 256)
    assert predict(toy.prepared.task, toy.modified.model, split, CPU, size) == whole
    inputs = torch.tensor([row.inputs for row in split.rows])
    wanted = [split.state["labels"][i] for i in toy.modified.model(inputs).argmax(1).tolist()]
    assert [row["label"] for row in whole] == wanted


def test_predicting_keeps_no_gradients(stages):
    """Even where the model's parameters would."""
    toy = stages()
    toy.modified.model.requires_grad_(True)
    task = toy.prepared.task
    seen = []
    forward = task.forward
    task.forward = lambda model, batch: seen.append(forward(model, batch)) or seen[-1]
    predict(task, toy.modified.model, toy.prepared.splits["select"], CPU, 256)
    assert not any(outputs.requires_grad for outputs in seen)


def test_base_is_asked_with_what_it_knew_and_the_others_with_what_train_taught(stages, plugin_file):
    """Each contender of the evaluate stage, on each split, in order."""
    plugin = plugin_file(
        "ear",
        """
        @hookimpl(wrapper=True)
        def taoke_evaluate(context, model, split):
            asked = {"split": split.name, "labels": len(split.state["labels"]), "outputs": len(model.head.bias)}
            context.events.emit("asked", **asked)
            return (yield)
        """,
    )
    toy = stages({"fine_tune.epochs": 1}, plugins=[plugin])
    evidence = evaluate(toy.context, toy.tuned)
    asked = [(event["split"], event["labels"], event["outputs"]) for event in toy.events("asked")]
    assert asked == [("report", 2, 2), ("report", 4, 4), ("report", 4, 4), ("retain", 2, 2), ("retain", 4, 4)]
    assert list(evidence.scores) == ["base", "majority", "scratch", "adapted"]


def test_predictions_get_the_id_target_and_group_of_their_rows():
    """The core adds them; a plugin's own fields come after and may say more."""
    rows = [Row("x", "t", group="g", id="1-0"), Row("y", id="2-0")]
    assert complete([{"label": 1}, {"label": 2, "score": 0.5}], rows, "me") == [
        {"id": "1-0", "target": "t", "group": "g", "label": 1},
        {"id": "2-0", "target": None, "label": 2, "score": 0.5},
    ]


def test_contender_that_predicts_too_few_rows_is_named():
    """With both numbers, and whose mistake it is."""
    with pytest.raises(ContractError, match="contender 'majority' predicted 1 rows of 2") as caught:
        complete([{}], [Row("x"), Row("y")], "majority")
    assert "plugin" in caught.value.hint


def test_task_that_predicts_too_few_rows_fails_the_run(toy, plugin_file):
    """Exit code 1, before a wrong pairing could be scored."""
    plugin = plugin_file(
        "short",
        "@hookimpl(wrapper=True)\ndef taoke_evaluate(context):\n    return (yield)[1:]\n",
    )
    outcome = toy("fine_tune.epochs=1", plugins=[plugin])
    assert outcome.code == 1
    assert "contender 'base' predicted 199 rows of 200" in outcome.error["message"]


def test_unknown_metric_names_the_nearest(stages):
    """As a recipe's error, since the recipe named it."""
    with pytest.raises(RecipeError, match="the task has no metric 'accurcy'"):
        metric_named(stages().prepared.task, "accurcy")


def test_batch_on_the_cpu_is_handed_on_as_it_is():
    """No copy is made where none is needed."""
    batch = {"x": torch.ones(2), "more": [torch.ones(1)]}
    assert to_device(batch, CPU) is batch


def test_batch_of_any_nesting_moves_with_its_structure():
    """Dicts, lists, tuples and named tuples; what is no tensor stays (`meta` stands in for another device)."""
    pair = namedtuple("pair", "x y")
    batch = {"a": [torch.ones(2), (torch.ones(1), "text")], "b": pair(torch.ones(3), 4)}
    moved = to_device(batch, torch.device("meta"))
    assert moved["a"][0].device.type == moved["a"][1][0].device.type == moved["b"].x.device.type == "meta"
    assert moved["a"][1][1] == "text"
    assert type(moved["b"]) is pair
    assert moved["b"].y == 4
    assert batch["a"][0].device == CPU


def test_examples_of_about_one_length_share_a_batch_and_predictions_keep_their_order(stages):
    """Where the task says how long examples are; a row's prediction is then what it is without."""
    toy = stages()
    task, split = toy.prepared.task, toy.prepared.splits["select"]
    plain = predict(task, toy.modified.model, split, CPU, 4)
    task.length = lambda example: int(1000 * example[0][0])
    lengths = []
    collate = task.collate
    task.collate = lambda examples, rng: (
        lengths.append([*map(task.length, examples)]) or collate(examples, rng)
    )
    assert predict(task, toy.modified.model, split, CPU, 4) == plain
    together = [length for batch in lengths for length in batch]
    assert together == sorted(together)
    assert len(set(together)) > 4


def test_batches_of_the_first_examples_do_not_depend_on_those_that_follow():
    """So that the parity check, which reads the first ones alone, makes the run's own batches of them."""
    of_length = torch.randint(1, 100, (1003,), generator=torch.Generator().manual_seed(0))
    for size in (1, 7, 64, 300):
        first = stretch(size)
        assert first >= 256
        assert first % size == 0
        order = by_length(of_length, size)
        assert sorted(order) == list(range(1003))
        assert order[:first] == by_length(of_length[:first], size)
        assert of_length[order[:first]].tolist() == sorted(of_length[:first].tolist())
    assert by_length(of_length[:0], 7) == []
