"""Preprocessing: fitted on `train` alone, random transforms on `train` alone, every example keyed."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from core.contract import Row
from core.prepared import Fitted, Pipeline
from core.seeds import generator

RECORDING = """
class Recorder:
    random = False
    seen = []

    def fit(self, rows):
        Recorder.seen.append([row.inputs for row in rows])
        return len(rows)

    def apply(self, row, state, rng):
        return row

@hookimpl
def taoke_register():
    return [Component("transform", "recording.recorder", "", f"{__name__}:Recorder")]
"""


class Add:
    """A deterministic transform that adds its state."""

    random = False

    def fit(self, rows):
        return 1

    def apply(self, row, state, rng):
        return row.with_inputs(row.inputs + state)


class Noise(Add):
    """A random one."""

    random: ClassVar[bool] = True

    def apply(self, row, state, rng):
        return row.with_inputs(row.inputs + 1000 * float(torch.rand(1, generator=rng)))


def test_pipeline_applies_deterministic_transforms_in_order_and_leaves_the_random_out():
    """Evaluation sees no augmentation; the given rows stay as they are."""
    rows = [Row(1.0), Row(2.0)]
    pipeline = Pipeline([Fitted("add", Add(), 10), Fitted("noise", Noise(), None), Fitted("add", Add(), 100)])
    assert [row.inputs for row in pipeline.apply(rows)] == [111.0, 112.0]
    assert [row.inputs for row in rows] == [1.0, 2.0]
    assert pipeline.augments
    assert pipeline.states() == {"0.add": 10, "1.noise": None, "2.add": 100}


def test_augmenting_applies_all_transforms_in_order():
    """The random one stands between the other two, as in the recipe."""
    pipeline = Pipeline([Fitted("add", Add(), 10), Fitted("noise", Noise(), None)])
    drawn = float(torch.rand(1, generator=generator(0, "x")))
    assert pipeline.augment(Row(1.0), generator(0, "x")).inputs == 11.0 + 1000 * drawn


def test_transforms_are_fitted_on_train_as_the_ones_before_leave_it(stages, plugin_file):
    """A transform behind `centre` sees centred rows, those of `train` and no others, once."""
    toy = stages({"preprocess": ["centre", "recorder"]}, plugins=[plugin_file("recording", RECORDING)])
    prepared = toy.prepared
    (seen,) = prepared.pipeline.steps[1].transform.seen
    assert seen == [row.inputs for row in prepared.splits["train"].rows]
    means = torch.tensor(seen).mean(0)
    assert torch.allclose(means, torch.zeros(2), atol=1e-6)  # the mean of 24 numbers of size 1


def test_a_transform_sees_no_augmented_rows_when_fitted(stages, plugin_file):
    """A random transform before it is left out of the rows it learns from."""
    plugin = plugin_file("recording", RECORDING)
    overrides = {"preprocess": [{"transform": "jitter", "sigma": 50.0}, "recorder"]}
    prepared = stages(overrides, plugins=[plugin]).prepared
    (seen,) = prepared.pipeline.steps[1].transform.seen
    assert max(abs(value) for inputs in seen for value in inputs) < 10


@pytest.mark.parametrize("other", [{"data.report": 37}, {"evaluate.retain": False}])
def test_what_is_reported_changes_neither_states_nor_weights(stages, other):
    """Other rows in `report`, or no `retain`: the same fitted states and bitwise the same model."""
    one, two = stages(), stages(other)
    assert one.prepared.pipeline.states() == two.prepared.pipeline.states()
    assert one.prepared.state == two.prepared.state
    for name, tensor in one.tuned.model.state_dict().items():
        assert torch.equal(tensor, two.tuned.model.state_dict()[name]), name
    assert len(one.prepared.splits["report"].rows) == 200


def test_task_learns_its_labels_from_train_alone(stages, plugin_file):
    """A class that only `report` has is not known, and no output is grown for it."""
    plugin = plugin_file(
        "late",
        """
        import taoke_plugin_file_toy as toy

        @hookimpl
        def taoke_register():
            return [Component("dataset", "late.points", "", f"{__name__}:Late")]

        class Late:
            def rows(self):
                splits = dict(toy.Points(toy.PointsOptions()).rows())
                return {**splits, "report": [*splits["report"], Row([9.0, 9.0], "late")]}
        """,
    )
    late = stages({"data": {"dataset": "late.points"}}, plugins=[plugin])
    assert late.prepared.splits["report"].rows[-1].target == "late"
    assert late.prepared.state == {"labels": ["a", "b", "c", "d"]}
    assert late.modified.model.head.weight.shape == (4, 8)


def test_other_train_rows_change_the_states(stages):
    """The counterpart: what is fitted does depend on `train`."""
    one, two = stages(), stages({"data.train": 23})
    assert one.prepared.pipeline.states() != two.prepared.pipeline.states()


def test_state_that_the_base_brings_is_used_instead_of_fitting(stages, halves):
    """Under the transform's qualified name; a transform it does not name is fitted."""
    brought = {"task": {"labels": ["b", "a"]}, "toy.centre": [3.0, -4.0]}
    prepared = stages({"base.folder": str(halves(preprocessing=brought))}).prepared
    assert prepared.pipeline.states()["0.toy.centre"] == [3.0, -4.0]
    assert prepared.base_state == {"labels": ["b", "a"]}
    assert prepared.state == {"labels": ["b", "a", "c", "d"]}
    raw = stages({"preprocess": []}).prepared.splits["report"].rows[0].inputs
    assert prepared.splits["report"].rows[0].inputs == [raw[0] - 3.0, raw[1] + 4.0]


def test_only_train_is_augmented(stages):
    """The other splits have one example a row, and train keeps its plain ones beside the augmented."""
    prepared = stages().prepared
    assert [name for name, split in prepared.splits.items() if split.augment is not None] == ["train"]
    train = prepared.splits["train"]
    assert len(train.examples) == len(train.rows)
    assert train.augment(0, 0) != train.examples[0]
    assert stages({"preprocess": ["centre"]}).prepared.splits["train"].augment is None


def test_augmented_example_depends_on_seed_epoch_and_row_alone(stages):
    """Asked in any order, or again, or by another run: the same example."""
    train = stages().prepared.splits["train"]
    first = {(i, e): train.augment(i, e) for e in range(3) for i in range(5)}
    again = {(i, e): train.augment(i, e) for e in reversed(range(3)) for i in reversed(range(5))}
    assert first == again
    assert {key: stages().prepared.splits["train"].augment(*key) for key in [(4, 2), (0, 0)]} == {
        key: first[key] for key in [(4, 2), (0, 0)]
    }
    assert len({str(example) for example in first.values()}) == len(first)
    assert stages({"seed": 1}).prepared.splits["train"].augment(0, 0) != first[0, 0]


def test_augmented_example_follows_its_row_and_not_its_place(stages, plugin_file):
    """A row that stands elsewhere in `train` is augmented alike: the key is its id."""
    turned = plugin_file(
        "turned",
        """
        import taoke_plugin_file_toy as toy

        @hookimpl
        def taoke_register():
            return [Component("dataset", "turned.points", "", f"{__name__}:Turned")]

        class Turned:
            def rows(self):
                splits = dict(toy.Points(toy.PointsOptions()).rows())
                return {**splits, "train": splits["train"][::-1]}
        """,
    )
    plain = stages({"preprocess": ["jitter"]}).prepared.splits["train"]
    overrides = {"preprocess": ["jitter"], "data": {"dataset": "turned.points"}}
    reverse = stages(overrides, plugins=[turned]).prepared.splits["train"]
    last = len(plain.rows) - 1
    assert plain.rows[0].inputs == reverse.rows[last].inputs
    assert plain.augment(0, 1) == reverse.augment(last, 1)


def test_base_reads_rows_with_what_it_knew(stages):
    """For the base, a class it never saw has no label; for the adapted model it has."""
    prepared = stages().prepared
    for name in ("report", "retain"):
        assert prepared.for_base(name).state == {"labels": ["a", "b"]}
        assert prepared.splits[name].state == {"labels": ["a", "b", "c", "d"]}
    assert {target for _, target in prepared.for_base("report").examples} == {-1, 0, 1}


def test_training_sees_neither_report_nor_retain(stages):
    """What is looked at once is not handed to the fine-tune stage."""
    assert sorted(stages().prepared.for_training()) == ["select", "train"]


def test_retain_is_halved_and_the_reporting_half_is_kept(stages, toy_run):
    """The same half in every run."""
    prepared = stages().prepared
    assert 0 < len(prepared.splits["retain"].rows) < 100
    assert all(int(row.id[:2], 16) % 2 == 0 for row in prepared.splits["retain"].rows)


def test_plugin_may_answer_preprocess(stages, plugin_file):
    """The whole step is a hook; what a wrapper returns is what the run uses."""
    wrapper = plugin_file(
        "fewer",
        """
        @hookimpl(wrapper=True)
        def taoke_preprocess(context, base, task, splits):
            prepared = yield
            train = prepared.splits["train"]
            short = replace(train, rows=train.rows[:4], examples=train.examples[:4])
            return replace(prepared, splits={**prepared.splits, "train": short})
        """,
    )
    toy = stages({"fine_tune.epochs": 1}, plugins=[wrapper])
    assert len(toy.prepared.splits["train"].examples) == 4
    assert toy.tuned
    assert toy.context.steps == 1
