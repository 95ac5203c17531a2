"""Losses: worked examples, torch's own functions, gradients, and that dividing a batch changes nothing."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.autograd import gradcheck
from torch.nn import functional

from core import losses, options
from core.components import Use
from core.contract import Row, Split
from core.errors import ContractError, DataError, RecipeError
from core.losses import Binary, CrossEntropy, Focal, Margin, Triplet, mean_absolute, mean_squared
from core.manager import Plugins

TOY = Path(__file__).parent / "toy.py"


def split(*targets, labels=("a", "b", "c")):
    """A train split with these targets; nothing of it is ever decoded but the rows."""
    return Split("train", [Row(i, target) for i, target in enumerate(targets)], (), {"labels": list(labels)})


def cross_entropy(**given):
    return CrossEntropy(options.CrossEntropy(**given))


def focal(**given):
    return Focal(options.Focal(**given))


def binary(**given):
    return Binary(options.Binary(**given))


def margin(**given):
    return Margin(options.Margin(**given))


def triplet(**given):
    return Triplet(options.Triplet(**given))


def fitted(loss, *targets, labels=("a", "b", "c")):
    loss.fit(split(*targets, labels=labels))
    return loss


def mean(loss, outputs, **batch):
    """What the loop divides out."""
    total, weight = loss(torch.as_tensor(outputs), {k: torch.as_tensor(v) for k, v in batch.items()})
    assert total.dim() == 0
    return float(total / weight)


def logits_of(*probabilities):
    """Logits (1, classes) whose softmax these are."""
    return torch.tensor([probabilities], dtype=torch.float64).log()


def draw(seed, examples=7, classes=3):
    """Logits (examples, classes) float64 and labels."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(examples, classes, generator=rng, dtype=torch.float64)
    return logits, torch.randint(classes, (examples,), generator=rng)


# --- worked examples ---------------------------------------------------------------------------------------


def test_cross_entropy_of_a_probability_of_four_fifths():
    """-ln 0.8 = 0.2231..., and for the class that has the rest -ln 0.2 = 1.6094..."""
    assert mean(cross_entropy(), logits_of(0.8, 0.2), labels=[0]) == pytest.approx(0.22314355131420976)
    assert mean(cross_entropy(), logits_of(0.8, 0.2), labels=[1]) == pytest.approx(1.6094379124341003)


def test_label_smoothing_by_hand():
    """A tenth of the target is spread over both classes: 0.95 · -ln 0.8 + 0.05 · -ln 0.2."""
    wanted = -0.95 * math.log(0.8) - 0.05 * math.log(0.2)
    assert mean(cross_entropy(label_smoothing=0.1), logits_of(0.8, 0.2), labels=[0]) == pytest.approx(wanted)


def test_weighted_cross_entropy_by_hand():
    """Divided by the weights: (3 · 0.2231 + 1 · 0.6931) / 4."""
    loss = fitted(cross_entropy(weights={"a": 3.0}), labels=("a", "b"))
    outputs = torch.cat([logits_of(0.8, 0.2), logits_of(0.5, 0.5)])
    wanted = (3 * -math.log(0.8) - math.log(0.5)) / 4
    assert mean(loss, outputs, labels=[0, 1]) == pytest.approx(wanted)


def test_focal_by_hand():
    """(1 - 0.8)² · -ln 0.8 = 0.0089...: a twenty-fifth of the cross-entropy."""
    assert mean(focal(gamma=2), logits_of(0.8, 0.2), labels=[0]) == pytest.approx(0.008925742052568391)


def test_binary_by_hand():
    """σ(ln 4) = 0.8: -ln 0.8 where the label is the second, -ln 0.2 where it is the first."""
    one = torch.tensor([math.log(4)], dtype=torch.float64)
    for outputs in (one, one[:, None]):
        assert mean(binary(), outputs, labels=[1]) == pytest.approx(0.22314355131420976)
        assert mean(binary(), outputs, labels=[0]) == pytest.approx(1.6094379124341003)
        assert mean(binary(pos_weight=3), outputs, labels=[1]) == pytest.approx(3 * 0.22314355131420976)
        assert mean(binary(pos_weight=3), outputs, labels=[0]) == pytest.approx(1.6094379124341003)


def test_binary_of_a_logit_a_class_by_hand():
    """The right class and the wrong ones, each for itself, and the mean over all logits."""
    outputs = torch.tensor([[math.log(4), math.log(4), 0.0]], dtype=torch.float64)
    wanted = (-math.log(0.8) - math.log(0.2) - math.log(0.5)) / 3
    assert mean(binary(), outputs, labels=[0]) == pytest.approx(wanted)
    several = (-math.log(0.8) - math.log(0.8) - math.log(0.5)) / 3
    assert mean(binary(), outputs, labels=[[1, 1, 0]]) == pytest.approx(several)


def test_margin_by_hand():
    """Right by 0.5 with a margin of 1 lacks 0.5; right by 2 lacks nothing; wrong by 1 lacks 2."""
    scores = [[1.5, 1.0, 0.0], [3.0, 1.0, 1.0], [0.0, 0.5, 1.0]]
    assert mean(margin(), scores, labels=[0, 0, 0]) == pytest.approx((0.5 + 0 + 2) / 3)
    assert mean(margin(margin=0.25), scores, labels=[0, 0, 0]) == pytest.approx((0 + 0 + 1.25) / 3)


# On a line: two of class 0 at 0 and 3, two of class 1 at 4 and 10.
EMBEDDINGS, CLASSES = [[0.0, 0.0], [3.0, 0.0], [4.0, 0.0], [10.0, 0.0]], [0, 0, 1, 1]


def test_triplet_of_each_hardest_by_hand():
    """Farthest relative less nearest stranger plus 1: 3-4+1, 3-1+1, 6-1+1, 6-7+1."""
    assert mean(triplet(mining="hard"), EMBEDDINGS, labels=CLASSES) == pytest.approx((0 + 3 + 6 + 0) / 4)


def test_triplet_of_all_by_hand():
    """Eight triplets, in order of the anchor: 3-4+1, 3-10+1; 3-1+1, 3-7+1; 6-4+1, 6-1+1; 6-10+1, 6-7+1."""
    wanted = (0 + 0 + 3 + 0 + 3 + 6 + 0 + 0) / 8
    assert mean(triplet(), EMBEDDINGS, labels=CLASSES) == pytest.approx(wanted)


def test_squared_and_absolute_error_by_hand():
    """Off by 1 and by 3."""
    outputs, targets = [[1.0], [5.0]], [2.0, 2.0]
    assert mean(mean_squared(), outputs, targets=targets) == pytest.approx(5.0)
    assert mean(mean_absolute(), outputs, targets=targets) == pytest.approx(2.0)


# --- torch's own functions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weights", [None, {"a": 0.5, "c": 7.0}])
def test_cross_entropy_is_torch_s(smoothing, weights):
    """With its weights and its smoothing, divided as torch divides."""
    logits, labels = draw(1)
    loss = fitted(cross_entropy(weights=weights, label_smoothing=smoothing))
    tensor = None if weights is None else torch.tensor([0.5, 1.0, 7.0], dtype=torch.float64)
    wanted = functional.cross_entropy(logits, labels, tensor, label_smoothing=smoothing)
    assert mean(loss, logits, labels=labels) == pytest.approx(float(wanted), rel=1e-12)


@pytest.mark.parametrize("weights", [None, {"b": 3.0}])
def test_focal_with_gamma_zero_is_cross_entropy(weights):
    """Weights and all."""
    logits, labels = draw(2)
    plain = mean(fitted(cross_entropy(weights=weights)), logits, labels=labels)
    assert mean(fitted(focal(gamma=0, weights=weights)), logits, labels=labels) == pytest.approx(
        plain, rel=1e-12
    )


def test_binary_is_torch_s():
    """One against all others, weighted by class."""
    logits, labels = draw(3)
    loss = fitted(binary(pos_weight={"b": 3.0}))
    wanted = functional.binary_cross_entropy_with_logits(
        logits, functional.one_hot(labels, 3).double(), pos_weight=torch.tensor([1.0, 3.0, 1.0])
    )
    assert mean(loss, logits, labels=labels) == pytest.approx(float(wanted), rel=1e-12)


def test_margin_of_two_classes_is_torch_s_but_for_its_divisor():
    """torch sums over all wrong classes and divides by the classes: of two, half of ours."""
    logits, labels = draw(4, classes=2)
    wanted = functional.multi_margin_loss(logits, labels)
    assert mean(margin(), logits, labels=labels) == pytest.approx(2 * float(wanted), rel=1e-12)


def test_triplet_of_one_triplet_an_anchor_is_torch_s():
    """Two of one class and one of another: torch is told the triplets that are found here."""
    points = draw(5, examples=3, classes=4)[0]
    anchors, relatives, strangers = points[[0, 1]], points[[1, 0]], points[[2, 2]]
    wanted = functional.triplet_margin_loss(anchors, relatives, strangers, margin=2.0, eps=0.0)
    for mining in ("all", "hard"):
        loss = triplet(margin=2.0, mining=mining)
        assert mean(loss, points, labels=[5, 5, 1]) == pytest.approx(float(wanted), rel=1e-9)


def test_errors_are_torch_s():
    """Of numbers, and of vectors."""
    outputs, targets = draw(6)[0], draw(7)[0]
    assert mean(mean_squared(), outputs, targets=targets) == pytest.approx(
        float(functional.mse_loss(outputs, targets))
    )
    assert mean(mean_absolute(), outputs, targets=targets) == pytest.approx(
        float(functional.l1_loss(outputs, targets))
    )


EVERY = {
    "cross_entropy": lambda: cross_entropy(weights={"a": 2.0, "b": 0.5}, label_smoothing=0.1),
    "focal": lambda: focal(weights={"c": 2.0}),
    "focal of gamma below one": lambda: focal(gamma=0.5),
    "binary": lambda: binary(pos_weight={"a": 2.0}),
    "margin": margin,
    "triplet, all": triplet,
    "triplet, hard": lambda: triplet(mining="hard"),
    "mse": mean_squared,
    "mae": mean_absolute,
}
OF_EXAMPLES = {name: made for name, made in EVERY.items() if not name.startswith("triplet")}


def made(name):
    loss = EVERY[name]()
    return fitted(loss) if hasattr(loss, "fit") else loss


def batch_for(seed, examples=7):
    """Outputs, and a batch that every loss can read."""
    logits, labels = draw(seed, examples)
    return logits, {"labels": labels, "targets": draw(seed + 1000, examples)[0]}


@pytest.mark.parametrize("name", EVERY)
def test_gradient_is_that_of_the_value(name):
    """Against finite differences, in float64."""
    loss, (outputs, batch) = made(name), batch_for(8)

    def value(outputs):
        total, weight = loss(outputs, batch)
        return total / weight

    assert gradcheck(value, outputs.requires_grad_())


@pytest.mark.parametrize("name", OF_EXAMPLES)
@given(seed=st.integers(0, 10_000), examples=st.integers(1, 9), cut=st.integers(0, 9))
def test_dividing_a_batch_changes_nothing(name, seed, examples, cut):
    """Sums and weights of two parts add up to those of the whole."""
    loss, (outputs, batch) = made(name), batch_for(seed, examples)
    cut = min(cut, examples)
    total, weight = loss(outputs, batch)
    parts = [
        loss(outputs[part], {key: value[part] for key, value in batch.items()})
        for part in (slice(0, cut), slice(cut, None))
        if len(outputs[part])
    ]
    assert float(sum(t for t, _ in parts)) == pytest.approx(float(total), rel=1e-12, abs=1e-12)
    assert float(sum(w for _, w in parts)) == pytest.approx(float(weight))


@pytest.mark.parametrize("mining", ["all", "hard"])
def test_triplets_are_a_property_of_the_batch(mining):
    """Two classes apart from each other have no triplet: dividing the batch does change it, as is said of it."""
    loss = triplet(mining=mining)
    assert mean(loss, EMBEDDINGS, labels=CLASSES) > 0
    for part in (slice(0, 2), slice(2, 4)):
        assert mean(loss, EMBEDDINGS[part], labels=CLASSES[part]) == 0
    assert mean(loss, EMBEDDINGS, labels=[0, 1, 2, 3]) == 0


@pytest.mark.parametrize("mining", ["all", "hard"])
def test_equal_embeddings_have_a_finite_gradient(mining):
    """The root of a distance of zero has none of its own; a base may well map two examples to one point."""
    outputs = torch.zeros(4, 2, requires_grad=True)
    total, weight = triplet(mining=mining)(outputs, {"labels": torch.tensor(CLASSES)})
    (total / weight).backward()
    assert float((total / weight).detach()) == 1.0
    assert outputs.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0, 0.01, 0.5, 1, 2])
def test_focal_of_a_certain_model_has_a_finite_gradient(gamma):
    """A probability that rounds to one, where a power below one has no gradient; and one that rounds to zero."""
    outputs = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    total, _ = focal(gamma=gamma)(outputs, {"labels": torch.tensor([0, 0])})
    total.backward()
    assert float(total.detach()) == pytest.approx(200.0)
    assert outputs.grad.isfinite().all()


@pytest.mark.parametrize("name", EVERY)
def test_outputs_that_are_no_numbers_are_not_hidden(name):
    """NaN in one output is NaN in the loss, which the loop refuses: no mask swallows it."""
    outputs, batch = batch_for(9)
    outputs[3, 1] = math.nan
    total, _ = made(name)(outputs, batch)
    assert total.isnan()


@pytest.mark.parametrize("name", EVERY)
def test_loss_is_of_the_outputs_type(name):
    """Weights are kept in double and handed out as the outputs are, one type after the other."""
    loss, (outputs, batch) = made(name), batch_for(10)
    for dtype in (torch.float32, torch.float64, torch.float32):
        total, _ = loss(outputs.to(dtype), batch)
        assert total.dtype == dtype


# --- weights by label --------------------------------------------------------------------------------------


def test_balanced_weights_are_scikit_learn_s():
    """rows / (classes · count) over train, and 1 for a label that train does not have."""
    from sklearn.utils.class_weight import compute_class_weight

    targets = ["a", "b", "b", "b", "a", "b"]
    loss = fitted(cross_entropy(weights="balanced"), *targets)
    logits, labels = draw(11)
    wanted = torch.ones(3, dtype=torch.float64)
    wanted[:2] = torch.tensor(compute_class_weight("balanced", classes=np.array(["a", "b"]), y=targets))
    assert wanted.tolist() == [1.5, 0.75, 1.0]
    assert mean(loss, logits, labels=labels) == pytest.approx(
        float(functional.cross_entropy(logits, labels, wanted)), rel=1e-12
    )


def test_balanced_classes_weigh_the_same_in_sum():
    """Nine of one and one of the other: errors on either half of the mass cost the same."""
    loss = fitted(cross_entropy(weights="balanced"), *["a"] * 9, "b", labels=("a", "b"))
    outputs = torch.tensor([[0.3, -0.3]], dtype=torch.float64)
    total_a, weight_a = loss(outputs.repeat(9, 1), {"labels": torch.zeros(9, dtype=torch.int64)})
    total_b, weight_b = loss(-outputs, {"labels": torch.tensor([1])})
    assert float(total_a) == pytest.approx(float(total_b))
    assert float(weight_a) == pytest.approx(float(weight_b))


def test_balanced_ones_weigh_what_zeros_do():
    """Three rows without the label for one with it; of several labels, each on its own."""
    one = torch.tensor([[math.log(4)]], dtype=torch.float64)
    loss = fitted(binary(pos_weight="balanced"), "a", "a", "a", "b", labels=("a", "b"))
    assert mean(loss, one, labels=[1]) == pytest.approx(-3 * math.log(0.8))
    several = fitted(binary(pos_weight="balanced"), ["a", "b"], ["a"], ["a"], [], labels=("a", "b"))
    outputs = torch.zeros(1, 2, dtype=torch.float64)
    total, _ = several(outputs, {"labels": torch.tensor([[1, 1]])})
    assert float(total) == pytest.approx((1 / 3 + 3) * math.log(2))


def test_weights_follow_the_order_of_the_task_s_labels():
    """By name and not by the order in which they are given, or the data have them."""
    logits, labels = draw(12)
    one = fitted(cross_entropy(weights={"c": 5.0, "a": 2.0}), "c", "a", "b")
    wanted = functional.cross_entropy(logits, labels, torch.tensor([2.0, 1.0, 5.0], dtype=torch.float64))
    assert mean(one, logits, labels=labels) == pytest.approx(float(wanted), rel=1e-12)


def test_numbers_as_labels_need_no_quotes():
    """YAML reads `{3: 2.0}` with a number as its key."""
    logits, labels = draw(13)
    loss = fitted(cross_entropy(weights={3: 2.0}), labels=("1", "2", "3"))
    wanted = functional.cross_entropy(logits, labels, torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64))
    assert mean(loss, logits, labels=labels) == pytest.approx(float(wanted), rel=1e-12)


@pytest.mark.parametrize("loss", [cross_entropy, focal])
def test_unknown_label_names_the_nearest(loss):
    """All that are unknown, and what the first was meant to be."""
    with pytest.raises(RecipeError, match="names labels that the data do not have") as caught:
        fitted(loss(weights={"hors": 2.0, "cat": 1.0, "dgo": 3.0}), labels=("cat", "dog", "horse"))
    assert caught.value.problems == ("'hors'", "'dgo'")
    assert caught.value.hint == "did you mean 'horse'?"


def test_weights_without_labels_are_refused():
    """Of a task that has none."""
    with pytest.raises(RecipeError, match=r"fine_tune.loss.weights: the task has no labels to weigh"):
        cross_entropy(weights="balanced").fit(Split("train", [], (), None))


def test_weights_before_the_data_are_a_mistake_that_says_what_to_call():
    """Without weights nothing needs to be fitted."""
    with pytest.raises(ContractError, match="before it was shown the train split"):
        mean(cross_entropy(weights="balanced"), [[0.0, 1.0]], labels=[0])
    mean(cross_entropy(), [[0.0, 1.0]], labels=[0])


def test_weights_of_another_number_of_classes_say_both():
    """Labels and outputs that do not belong together."""
    with pytest.raises(
        RecipeError, match=r"the task has 3 labels, and outputs \(1, 2\) tell 2 classes apart"
    ):
        mean(fitted(cross_entropy(weights={"a": 1.0})), [[0.0, 1.0]], labels=[0])


def test_one_logit_has_the_weight_of_the_second_label_alone():
    """A weight of the first label would go nowhere: it is refused."""
    one = torch.tensor([[math.log(4)]], dtype=torch.float64)
    loss = fitted(binary(pos_weight={"b": 2.0}), labels=("a", "b"))
    assert mean(loss, one, labels=[1]) == pytest.approx(-2 * math.log(0.8))
    with pytest.raises(RecipeError, match="the one logit is that of 'b', and 'a' has no weight"):
        mean(fitted(binary(pos_weight={"a": 2.0}), labels=("a", "b")), one, labels=[1])
    with pytest.raises(RecipeError, match="the task has 3 labels"):
        mean(fitted(binary(pos_weight={"b": 2.0})), one, labels=[1])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: cross_entropy(weights={"a": 0}),
        lambda: cross_entropy(weights={"a": math.inf}),
        lambda: cross_entropy(weights="balance"),
        lambda: cross_entropy(label_smoothing=1.0),
        lambda: focal(gamma=-1),
        lambda: binary(pos_weight=-1),
        lambda: margin(margin=0),
        lambda: triplet(mining="semi"),
    ],
)
def test_options_that_make_no_loss_are_refused(wrong):
    """Before anything is computed."""
    with pytest.raises(ValidationError):
        wrong()


# --- what does not fit -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "binary", "margin"])
@pytest.mark.parametrize("label", [-1, 3])
def test_label_that_is_no_class_is_refused(name, label):
    """-1 is the index of a label that the task does not know."""
    outputs, batch = batch_for(14)
    batch["labels"][2] = label
    with pytest.raises(
        DataError, match=rf"1 examples whose label is none of the model's 3 classes \(index {label}\)"
    ):
        made(name)(outputs, batch)


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "binary", "margin"])
def test_label_that_is_no_class_is_no_number_where_looking_would_wait(name, monkeypatch):
    """As on a device: the loop refuses the loss at the epoch's end, and no kernel reads past an end."""
    monkeypatch.setattr(losses, "_looks_now", lambda tensor: False)
    outputs, batch = batch_for(14)
    loss = made(name)
    before, _ = loss(outputs, batch)
    for label in (-1, 3):
        batch["labels"][2] = label
        total, _ = loss(outputs, batch)
        assert before.isfinite()
        assert total.isnan()


@pytest.mark.parametrize("mining", ["all", "hard"])
def test_unknown_labels_make_no_triplets(mining, monkeypatch):
    """They would all be relatives of each other."""
    with pytest.raises(DataError, match=r"2 examples whose label is none of the task's classes \(index -1\)"):
        mean(triplet(mining=mining), EMBEDDINGS, labels=[0, 0, -1, -1])
    monkeypatch.setattr(losses, "_looks_now", lambda tensor: False)
    assert math.isnan(mean(triplet(mining=mining), EMBEDDINGS, labels=[0, 0, -1, -1]))


@pytest.mark.parametrize("name", ["mse", "mae"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_targets_that_are_no_numbers_are_refused(name, value):
    """How many of the batch, and the first."""
    outputs, batch = batch_for(15)
    batch["targets"][2, 1] = value
    with pytest.raises(DataError, match=r"1 of 7 targets of a batch are no finite numbers"):
        made(name)(outputs, batch)


@pytest.mark.parametrize(
    ("name", "outputs", "batch", "says"),
    [
        ("cross_entropy", torch.zeros(2), {"labels": [0, 1]}, r"expected logits \(batch, classes\)"),
        ("cross_entropy", torch.zeros(2, 5, 3), {"labels": [0, 1]}, r"got torch.float32 \(2, 5, 3\)"),
        ("cross_entropy", torch.zeros(2, 0), {"labels": [0, 1]}, r"got torch.float32 \(2, 0\)"),
        (
            "cross_entropy",
            torch.zeros(2, 3),
            {"labels": [0]},
            r"one for each of the 2 outputs.* got torch.int64 \(1,\)",
        ),
        (
            "cross_entropy",
            torch.zeros(2, 3),
            {"labels": [0.0, 1.0]},
            r"expected whole numbers.* got torch.float32",
        ),
        (
            "cross_entropy",
            torch.zeros(2, 3),
            {"targets": [0, 1]},
            "takes a batch with 'labels', .* has 'targets'",
        ),
        ("cross_entropy", {"logits": 1}, {"labels": [0, 1]}, "this task's are a dict"),
        (
            "cross_entropy",
            torch.zeros(2, 3, dtype=torch.int64),
            {"labels": [0, 1]},
            r"are torch.int64 \(2, 3\)",
        ),
        (
            "binary",
            torch.zeros(2, 3, 1),
            {"labels": [0, 1]},
            r"expected logits \(batch,\) or \(batch, classes\)",
        ),
        ("binary", torch.zeros(2, 3), {"labels": [[0, 1], [1, 0]]}, r"got torch.int64 \(2, 2\)"),
        ("margin", torch.zeros(2, 1), {"labels": [0, 0]}, "the model's outputs have one"),
        ("triplet, all", torch.zeros(2), {"labels": [0, 0]}, r"expected embeddings \(batch, width\)"),
        (
            "mse",
            torch.zeros(3, 1),
            {"targets": [[0.0, 0.0, 0.0]]},
            r"expected the shape of the targets, \(1, 3\)",
        ),
        ("mse", torch.zeros(3, 2), {"targets": [0.0, 0.0, 0.0]}, r"got torch.float32 \(3, 2\)"),
        ("mae", torch.zeros(3), {"labels": [0, 0, 0]}, "takes a batch with 'targets'"),
    ],
)
def test_outputs_and_targets_that_do_not_fit_say_what_was_expected(name, outputs, batch, says):
    """Rather than being broadcast to some number."""
    with pytest.raises(RecipeError, match=says) as caught:
        made(name)(outputs, {key: torch.tensor(value) for key, value in batch.items()})
    assert caught.value.hint


def test_binary_labels_of_several_classes_are_zeros_and_ones():
    """An index among them is a mistake."""
    with pytest.raises(DataError, match="zeros and ones, and a batch has others"):
        mean(binary(), [[0.0, 0.0]], labels=[[0, 2]])


# --- as components -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "binary", "margin", "triplet", "mse", "mae"])
def test_every_loss_is_a_component_of_the_core(name):
    """By its short name, made without options."""
    made = Plugins.load([], [TOY]).components.make(Use.read("loss", name))
    outputs, batch = batch_for(16)
    total, weight = made(outputs, batch)
    assert (total / weight).isfinite()


@pytest.fixture
def labelled(plugin_file):
    """The toy's task with a batch that says `labels`."""
    lines = """
        import sys

        @hookimpl
        def taoke_register():
            return [Component("task", "acme.labelled", "labels", f"{__name__}:make")]

        def make():
            toy = sys.modules["taoke_plugin_file_toy"]

            class Labelled(toy.Quadrants):
                def collate(self, examples, rng):
                    batch = super().collate(examples, rng)
                    return {"x": batch["x"], "labels": batch["y"]}

                def loss(self, outputs, batch):
                    return super().loss(outputs, {"y": batch["labels"]})

            return Labelled()
        """
    return plugin_file("acme", lines)


def test_recipe_s_loss_trains_and_is_shown_the_train_split(stages, labelled):
    """The core's cross-entropy is the task's own to the bit, and with weights it is another."""

    def trained(**fine_tune):
        overrides = {"task": "labelled", "fine_tune.epochs": 2, "evaluate.scratch": False}
        overrides |= {f"fine_tune.{key}": value for key, value in fine_tune.items()}
        return stages(overrides, [labelled]).tuned.model.state_dict()["head.weight"]

    own = trained()
    assert torch.equal(trained(loss="cross_entropy"), own)
    weighted = trained(loss={"loss": "cross_entropy", "weights": "balanced"})
    assert weighted.isfinite().all()
    assert not torch.equal(weighted, own)


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (
            "{loss: cross_entropy, weights: {a: 2, dd: 1}}",
            "fine_tune.loss.weights names labels that the data do not",
        ),
        ("{loss: focal, gama: 1}", "gama"),
    ],
)
def test_loss_whose_options_do_not_fit_stops_the_run_before_it_begins(refused, labelled, loss, says):
    """With exit code 2, and nothing left behind."""
    error = refused("task=labelled", f"fine_tune.loss={loss}", plugins=[labelled])
    assert error["kind"] == "RecipeError"
    assert says in error["message"]


def test_loss_that_does_not_fit_the_task_stops_the_run(refused, labelled):
    """At the first step, before anything was trained: exit code 2, what the batch has, and nothing left behind."""
    error = refused("task=labelled", "fine_tune.loss=mse", plugins=[labelled])
    assert error["kind"] == "RecipeError"
    assert "loss mse takes a batch with 'targets', and this task's has 'x', 'labels'" in error["message"]
