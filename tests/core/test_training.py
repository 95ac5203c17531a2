"""The fine-tuning loop: what moves and what does not, in which order, at which rate, and when it gives up."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest
import torch
from torch import nn

from core.contract import Group, Phase, Structure
from core.errors import RecipeError, TrainingError
from core.evidence.scores import metric_named, score
from core.inference import complete, predict
from core.stages.fine_tune import trained
from core.strategies import head_parameters
from core.training import phase_epochs, schedule, shuffled, unfreeze

WATCH = """
@hookimpl(wrapper=True)
def taoke_step(context, task, model, updater, batch):
    result = yield
    context.events.emit(
        "watched",
        moving=[name for name, parameter in model.named_parameters() if parameter.requires_grad],
        training=[name for name, module in model.named_modules() if name and module.training],
        rates=[group["lr"] for group in updater.param_groups],
        updater=id(updater),
        inputs=batch["x"].tolist(),
        random=torch.rand(1),
        bias=model.head.bias.tolist(),
    )
    return result

import torch
"""

BODY, HEAD = ["body.weight", "body.bias"], ["head.weight", "head.bias"]


def weights(model):
    """Copies of a model's tensors by name."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def moved(toy):
    """The names of tensors that are not, to the bit, those before training."""
    before, after = weights(toy.modified.model), weights(toy.tuned.model)
    return {name for name in after if not torch.equal(before[name], after[name])}


# --- same seed, same bits ----------------------------------------------------------------------------------


def test_same_seed_gives_the_same_bits_and_another_seed_others(stages):
    """Whatever torch's global generator was at before."""
    torch.manual_seed(1)
    one = weights(stages().tuned.model)
    torch.manual_seed(2)
    two = weights(stages().tuned.model)
    other = weights(stages({"seed": 1}).tuned.model)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert all(not torch.equal(one[name], other[name]) for name in one)


def test_a_plugin_that_draws_from_the_global_generator_changes_one_epoch_at_most(stages, plugin_file):
    """Each epoch seeds anew, so that what one epoch drew does not reach the next."""
    plugin = plugin_file("watch", WATCH)
    thirsty = plugin_file(
        "thirsty",
        "import torch\n@hookimpl\ndef taoke_after_step(context):\n    if context.step == 1: torch.rand(7)\n",
    )
    drawn = [
        [event["random"] for event in toy.events("watched")]
        for toy in (stages(plugins=[plugin]), stages(plugins=[plugin, thirsty]))
        if toy.tuned
    ]
    assert drawn[0][:3] != drawn[1][:3]
    assert drawn[0][:3] != drawn[0][3:6]
    assert drawn[0][3:] == drawn[1][3:]


# --- what moves --------------------------------------------------------------------------------------------


def test_every_parameter_moves_under_full(stages):
    """The default strategy leaves nothing out."""
    assert moved(stages()) == {*BODY, *HEAD}


def test_unselected_parameters_stay_bitwise_unchanged_under_head(stages, plugin_file):
    """Weight decay and anchor do not reach them, and their modules stay in eval mode."""
    overrides = {"fine_tune.strategy": "head", "fine_tune.updater": {"weight_decay": 0.5, "anchor": 0.5}}
    toy = stages(overrides, plugins=[plugin_file("watch", WATCH)])
    assert moved(toy) == set(HEAD)
    for event in toy.events("watched"):
        assert event["moving"] == HEAD
        assert "head" in event["training"]
        assert "body" not in event["training"]


def test_lp_ft_moves_the_head_first_and_then_everything(stages, plugin_file):
    """Four epochs of the head, the other six of all; each phase has an updater of its own."""
    overrides = {"fine_tune.strategy": {"strategy": "lp_ft", "head_epochs": 4}}
    toy = stages(overrides, plugins=[plugin_file("watch", WATCH)])
    assert moved(toy) == {*BODY, *HEAD}
    events = toy.events("watched")
    assert [event["moving"] for event in events[:12]] == [HEAD] * 12
    assert [event["moving"] for event in events[12:]] == [[*BODY, *HEAD]] * 18
    assert Counter(event["updater"] for event in events).most_common() == [
        (events[12]["updater"], 18),
        (events[0]["updater"], 12),
    ]


def test_schedule_begins_anew_in_each_phase(stages, plugin_file):
    """At the full rate, both times."""
    overrides = {
        "fine_tune.strategy": {"strategy": "lp_ft", "head_epochs": 4},
        "fine_tune.schedule": "linear",
    }
    toy = stages(overrides, plugins=[plugin_file("watch", WATCH)])
    assert toy.tuned
    rates = [event["rates"] for event in toy.events("watched")]
    assert (rates[0], rates[12]) == ([0.05], [0.05, 0.05])
    assert rates[11] == [pytest.approx(0.05 / 12)]
    assert rates[29] == [pytest.approx(0.05 / 18)] * 2
    assert [event["lr"] for event in toy.events("step")] == [
        pytest.approx(rate[0], rel=1e-5)
        for rate in rates  # the record keeps six digits
    ]


def test_groups_move_at_their_share_of_the_rate(stages, plugin_file):
    """A plugin that selects two groups, one of them at a tenth; what no group names stays."""
    plugin = plugin_file(
        "layers",
        """
        from core.contract import Group, Phase

        @hookimpl
        def taoke_select_parameters(context, model):
            return [Phase((Group(("body.weight",), 0.1), Group(("head.weight", "head.bias"))))]
        """,
    )
    toy = stages({"fine_tune.schedule": "constant"}, plugins=[plugin, plugin_file("watch", WATCH)])
    assert moved(toy) == {"body.weight", *HEAD}
    assert {tuple(event["rates"]) for event in toy.events("watched")} == {(0.05 * 0.1, 0.05)}


def test_head_is_what_the_structure_names_and_nothing_that_begins_alike():
    """A module with all that is in it, or a single parameter; `header` is no part of `head`."""
    model = nn.Module()
    model.head = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model.header = nn.Linear(2, 2)
    model.scale = nn.Parameter(torch.ones(1))
    model.scales = nn.Parameter(torch.ones(1))
    model.structure = Structure(head=("head", "scale"))
    assert set(head_parameters(model)) == {
        "scale",
        *(f"head.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")),
    }


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("body.weight", "nose.weight"), "parameters that the model does not have, or twice: nose.weight"),
        (("body.weight", "body.weight"), "or twice: body.weight"),
        ((), "a phase selects no parameter"),
    ],
)
def test_wrong_selection_names_the_parameters(names, says):
    """A strategy's mistake, told before the first step."""
    model = nn.Sequential()
    model.add_module("body", nn.Linear(2, 2))
    with pytest.raises(TrainingError, match=says):
        unfreeze(model, Phase((Group(names),)))


def test_modules_without_selected_parameters_keep_their_buffers(stages):
    """Frozen normalisation keeps its running statistics; one that is selected updates them."""

    def norms():
        model = nn.Sequential()
        model.add_module("first", nn.BatchNorm1d(2))
        model.add_module("bare", nn.BatchNorm1d(2, affine=False))
        model.add_module("drop", nn.Dropout(0.5))
        model.add_module("last", nn.BatchNorm1d(2))
        return model

    frozen, free = norms(), norms()
    unfreeze(frozen, Phase((Group(("last.weight", "last.bias")),)))
    unfreeze(free, Phase((Group(tuple(name for name, _ in free.named_parameters())),)))
    for model in (frozen, free):
        model(torch.randn(8, 2) + 3)
    assert not frozen.first.running_mean.any()
    assert not frozen.bare.running_mean.any()
    assert frozen.first.num_batches_tracked == 0
    assert frozen.last.num_batches_tracked == 1
    assert [module.num_batches_tracked for module in (free.first, free.bare, free.last)] == [1, 1, 1]
    assert (frozen.drop.training, free.drop.training) == (True, True)


def test_trained_model_is_frozen_and_in_eval_mode(stages):
    """Nothing that comes after trains it by accident, and θ0' is as it was."""
    toy = stages()
    before = weights(toy.modified.model)
    assert not any(module.training for module in toy.tuned.model.modules())
    assert not any(parameter.requires_grad for parameter in toy.tuned.model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(toy.modified.model).items())


# --- batches -----------------------------------------------------------------------------------------------


def test_every_epoch_visits_every_row_once_in_an_order_of_its_own(stages, plugin_file):
    """With a last batch that is smaller, and none left out."""
    overrides = {"preprocess": [], "fine_tune.batch_size": 7, "fine_tune.epochs": 3}
    toy = stages(overrides, plugins=[plugin_file("watch", WATCH)])
    assert toy.tuned
    sizes = [len(event["inputs"]) for event in toy.events("watched")]
    assert sizes == [7, 7, 7, 3] * 3
    seen = [tuple(row) for event in toy.events("watched") for row in event["inputs"]]
    epochs = [seen[i : i + 24] for i in range(0, 72, 24)]
    rows = torch.tensor([row.inputs for row in toy.prepared.splits["train"].rows])
    for epoch in epochs:
        assert sorted(epoch) == sorted(map(tuple, rows.tolist()))
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_random_transforms_are_drawn_anew_in_each_epoch(stages, plugin_file):
    """And are those that the split's `augment` gives for (row, epoch)."""
    toy = stages({"fine_tune.epochs": 2}, plugins=[plugin_file("watch", WATCH)])
    assert toy.tuned
    seen = [tuple(row) for event in toy.events("watched") for row in event["inputs"]]
    augment = toy.prepared.splits["train"].augment
    for epoch in (0, 1):
        wanted = torch.tensor([augment(i, epoch)[0] for i in range(24)]).tolist()
        assert sorted(map(tuple, wanted)) == sorted(seen[24 * epoch : 24 * epoch + 24])


# --- rate --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "start", "middle", "end"),
    [
        ("constant", 1.0, 1.0, 1.0),
        ("linear", 1.0, 0.5, 0.0),
        ("cosine", 1.0, 0.5, 0.0),
    ],
)
def test_schedules_at_start_middle_and_end(name, start, middle, end):
    """Over 100 steps: before the first, half way, and where the 101st would be."""
    assert schedule(name, 0.0, 0, 100) == start
    assert schedule(name, 0.0, 50, 100) == pytest.approx(middle, abs=1e-12)
    assert schedule(name, 0.0, 100, 100) == pytest.approx(end, abs=1e-12)
    assert schedule(name, 0.0, 25, 100) == pytest.approx(
        {"linear": 0.75, "cosine": 0.5 + math.sqrt(1 / 8)}.get(name, 1.0)
    )


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_warm_up_rises_from_above_zero_and_then_only_falls(name):
    """A fifth of 50 steps rises in equal parts to the highest rate; no step is wasted at zero."""
    factors = [schedule(name, 0.2, step, 50) for step in range(50)]
    assert factors[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert factors[10] == 1.0
    assert all(later <= earlier for earlier, later in pairwise(factors[10:]))
    assert min(factors) > 0


def test_warm_up_of_one_step_works():
    """A phase of one step, all of it in the warm-up."""
    assert 0 < schedule("cosine", 0.9, 0, 1) <= 1


# --- phases ------------------------------------------------------------------------------------------------


def test_open_phase_takes_the_epochs_that_are_left():
    """In whatever place it stands."""
    group = (Group(("a",)),)
    assert phase_epochs([Phase(group, 3), Phase(group)], 10) == [3, 7]
    assert phase_epochs([Phase(group), Phase(group, 9)], 10) == [1, 9]
    assert phase_epochs([Phase(group, 2), Phase(group, 5)], 10) == [2, 5]


@pytest.mark.parametrize("phases", [[10, None], [12, None], [0, 5], [None, None]])
def test_phase_without_epochs_is_refused(phases):
    """Too few epochs, a phase of none, and two phases that want the rest."""
    with pytest.raises(RecipeError):
        phase_epochs([Phase((Group(("a",)),), epochs) for epochs in phases], 10)


def test_too_few_epochs_for_lp_ft_are_a_wrong_recipe(refused):
    """Exit code 2 and nothing left, with the number that would do."""
    error = refused("fine_tune.strategy={strategy: lp_ft, head_epochs: 10}")
    assert error["kind"] == "RecipeError"
    assert "fine_tune.epochs is 10" in error["message"]
    assert error["hint"] == "set fine_tune.epochs to more than 10"


def test_head_of_a_model_without_one_is_refused(refused, plugin_file):
    """The strategy says what the model lacks, and what to choose instead."""
    plugin = plugin_file(
        "headless",
        """
        import taoke_plugin_file_toy as toy
        from core.contract import Structure

        @hookimpl
        def taoke_register():
            return [Component("base", "headless.halves", "", f"{__name__}:Halves")]

        class Halves:
            def load(self):
                base = toy.Halves(toy.HalvesOptions()).load()
                base.model.structure = Structure(base.model.structure.axes)
                return base
        """,
    )
    error = refused("fine_tune.strategy=head", "base.source=headless.halves", plugins=[plugin])
    assert error["kind"] == "EditError"
    assert "Sequential does not say which of its parameters are the head" in error["message"]
    assert "strategy `full`" in error["hint"]


# --- loss --------------------------------------------------------------------------------------------------

LOSS = """
@hookimpl
def taoke_register():
    return [Component("loss", "own.loss", "", f"{{__name__}}:make")]

def make():
    def loss(outputs, batch):
        return {formula}, len(batch["y"])
    return loss
"""


def test_loss_of_the_recipe_replaces_the_task_s(stages, plugin_file):
    """A constant of 42 an example is what every step reports, and nothing moves."""
    plugin = plugin_file("own", LOSS.format(formula="0 * outputs.sum() + 42 * len(batch['y'])"))
    toy = stages({"fine_tune.loss": "own.loss"}, plugins=[plugin])
    assert moved(toy) == set()
    assert {event["loss"] for event in toy.events("step")} == {42.0}


def test_loss_that_learns_sees_the_train_split_once_before_training(stages, plugin_file):
    """Whose examples are encoded and whose state names the labels."""
    plugin = plugin_file(
        "learner",
        """
        class Learner:
            seen = []

            def fit(self, split):
                Learner.seen.append((split.name, split.state["labels"], len(split.examples)))

            def __call__(self, outputs, batch):
                assert Learner.seen
                return outputs.square().sum(), len(outputs)

        @hookimpl
        def taoke_register():
            return [Component("loss", "learner.loss", "", f"{__name__}:Learner")]
        """,
    )
    toy = stages({"fine_tune.loss": "learner.loss"}, plugins=[plugin])
    toy.tuned  # noqa: B018
    learner = next(p.module for p in toy.context.plugins.active if p.name == "learner")
    assert learner.Learner.seen == [("train", ["a", "b", "c", "d"], 24)]


def test_loss_is_the_sum_over_the_weight(stages, plugin_file):
    """Doubling sum and weight changes no bit; doubling the sum alone doubles the loss."""
    plain = stages({"fine_tune.loss": "squared"})
    text = "import torch\n" + LOSS.format(
        formula="2 * (outputs - torch.nn.functional.one_hot(batch['y'], 4).float()).square().sum()"
    )
    doubled = stages(
        {"fine_tune.loss": "own.loss"},
        plugins=[plugin_file("own", text.replace("len(batch", "2 * len(batch"))],
    )
    for name, tensor in weights(plain.tuned.model).items():
        assert torch.equal(tensor, weights(doubled.tuned.model)[name]), name
    twice = stages({"fine_tune.loss": "own.loss"}, plugins=[plugin_file("own", text)])
    assert twice.tuned
    first, second = (toy.events("step")[0]["loss"] for toy in (plain, twice))
    assert second == pytest.approx(2 * first, rel=1e-5)  # the record keeps six digits


@pytest.mark.parametrize("formula", ["outputs.sum() / 0", "outputs.sum() * float('nan')"])
def test_loss_that_is_not_finite_ends_the_run(toy, plugin_file, tmp_path, formula):
    """Exit code 1, with the step and what to do; the record stays and says how it ended."""
    outcome = toy("fine_tune.loss=own.loss", plugins=[plugin_file("own", LOSS.format(formula=formula))])
    assert outcome.code == 1
    error = outcome.error
    assert error["kind"] == "TrainingError"
    assert "adapted: the loss is " in error["message"]
    assert "at step 3 of 30" in error["message"]
    assert "fine_tune.lr" in error["hint"]
    (record,) = (tmp_path / "out").rglob("events.jsonl")
    assert str(record.parent) in error["message"]


def test_steps_left_out_for_a_gradient_that_is_not_finite_are_told(stages, plugin_file):
    """A finite loss with a NaN gradient must not end as a model that silently never moved."""
    formula = "torch.where(outputs > 1e9, outputs, (0 * outputs).sqrt()).sum()"
    plugin = plugin_file("own", "import torch\n" + LOSS.format(formula=formula))
    toy = stages({"fine_tune.loss": "own.loss", "fine_tune.updater.max_grad_norm": 1.0}, plugins=[plugin])
    assert moved(toy) == set()
    (warning,) = [event["message"] for event in toy.events("warning")]
    assert "30 of 30 steps" in warning
    assert "not finite" in warning
    assert [event["skipped"] for event in toy.events("step")] == [True] * 30


def test_record_has_the_norm_of_every_step_s_gradients(stages):
    """And what they were clipped by."""
    toy = stages({"fine_tune.updater.max_grad_norm": 0.01})
    assert toy.tuned
    steps = toy.events("step")
    assert len(steps) == 30
    for event in steps:
        assert event["clip"] == pytest.approx(min(1.0, 0.01 / (event["grad_norm"] + 1e-6)))
        assert "skipped" not in event
    assert any(event["clip"] < 1 for event in steps)


# --- keep --------------------------------------------------------------------------------------------------


def on_select(toy):
    """The tuned model's score on `select`."""
    split = toy.prepared.splits["select"]
    rows = predict(toy.prepared.task, toy.tuned.model, split, torch.device("cpu"), 256)
    return score(metric_named(toy.prepared.task, "accuracy"), complete(rows, split.rows, "adapted"))


def test_keep_best_ends_with_the_epoch_that_is_best_on_select(stages):
    """At a rate at which the last epoch is not the best."""
    rough = {"fine_tune.lr": 5.0, "fine_tune.schedule": "constant", "fine_tune.epochs": 12}
    toy = stages({**rough, "fine_tune.keep": "best"})
    assert toy.tuned
    values = [event["value"] for event in toy.events("select")]
    assert [event["epoch"] for event in toy.events("select")] == list(range(1, 13))
    assert max(values) > values[-1]
    assert on_select(toy) == pytest.approx(max(values), rel=1e-5)
    assert on_select(stages(rough)) == pytest.approx(values[-1], rel=1e-5)


def test_keep_best_takes_the_first_of_equal_epochs(stages):
    """At a rate that changes no prediction: what it keeps is what a run of one epoch ends with."""
    tiny = {"fine_tune.lr": 1e-6, "fine_tune.schedule": "constant"}
    best, one = stages({**tiny, "fine_tune.keep": "best"}), stages({**tiny, "fine_tune.epochs": 1})
    assert best.tuned
    assert len({event["value"] for event in best.events("select")}) == 1
    for name, tensor in weights(one.tuned.model).items():
        assert torch.equal(tensor, weights(best.tuned.model)[name]), name


def test_looking_at_select_changes_no_step(stages):
    """It draws no random number and leaves the model in the mode it was in."""
    looking, not_looking = stages({"fine_tune.keep": "best"}), stages()
    assert looking.tuned
    assert not_looking.tuned
    losses = [[event["loss"] for event in toy.events("step")] for toy in (looking, not_looking)]
    assert losses[0] == losses[1]


def test_average_of_the_weights_is_what_is_kept(stages, plugin_file):
    """With `ema_decay` the steps are the same, and the run ends with the average of what they left."""
    watch = plugin_file("watch", WATCH)
    plain = stages(plugins=[watch])
    averaged = stages({"fine_tune.updater.ema_decay": 0.9}, plugins=[watch])
    assert plain.tuned
    assert averaged.tuned
    biases = [[event["bias"] for event in toy.events("watched")] for toy in (plain, averaged)]
    assert biases[0] == biases[1]
    average = weights(averaged.modified.model)["head.bias"].double()
    for bias in biases[0]:
        average = 0.9 * average + 0.1 * torch.tensor(bias, dtype=torch.float64)
    kept = weights(averaged.tuned.model)["head.bias"].double()
    torch.testing.assert_close(kept, average, rtol=0, atol=30 * 2**-22)  # 30 roundings of numbers below 1
    assert not torch.allclose(kept, torch.tensor(biases[0][-1], dtype=torch.float64), atol=1e-2)


def test_anchor_keeps_the_weights_nearer_to_the_start_and_leaves_scratch_alone(stages):
    """A pull towards random weights would only handicap scratch."""
    plain, pulled = stages(), stages({"fine_tune.updater.anchor": 1.0})

    def distance(toy):
        before, after = weights(toy.modified.model), weights(toy.tuned.model)
        return sum(float((after[name] - before[name]).square().sum()) for name in after)

    assert distance(pulled) < distance(plain)
    scratch = [
        weights(trained(toy.context, toy.modified, toy.modified.scratch, "scratch"))
        for toy in (plain, pulled)
    ]
    assert all(torch.equal(scratch[0][name], scratch[1][name]) for name in scratch[0])


# --- plugins in the loop -----------------------------------------------------------------------------------


def test_plugin_may_bring_any_torch_optimizer(stages, plugin_file):
    """SGD at rate 0.05 moves by the gradient, at no rate by nothing."""
    text = """
    import torch

    @hookimpl
    def taoke_build_updater(context, groups):
        return torch.optim.SGD([dict(group) for group in groups], lr={lr})
    """
    toy = stages(plugins=[plugin_file("sgd", text.format(lr=1.0))])
    assert moved(toy) == {*BODY, *HEAD}
    assert {event["lr"] for event in toy.events("step")}  # the recipe's rate reaches it through the groups


def test_fine_tuning_that_returns_no_model_is_named(toy, plugin_file):
    """A plugin that answers the whole stage returns the trained module."""
    plugin = plugin_file("lost", "@hookimpl\ndef taoke_fine_tune(context):\n    return 'done'\n")
    outcome = toy(plugins=[plugin])
    assert outcome.code == 1
    assert outcome.error["kind"] == "ContractError"
    assert "taoke_fine_tune returned a str" in outcome.error["message"]


# --- batches by length -------------------------------------------------------------------------------------


def test_batches_by_length_hold_every_example_once_and_little_padding():
    """Each pool is sorted, so that a batch's examples differ little; the batches then come in any order."""
    of_length = torch.randint(1, 100, (1003,), generator=torch.Generator().manual_seed(0))
    order = shuffled(1003, 10, of_length, torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(1003))
    batches = [of_length[batch] for batch in order.split(10)]
    assert max(int(batch.max() - batch.min()) for batch in batches[:-1]) < 15
    longest = [int(batch.max()) for batch in batches]
    assert longest != sorted(longest)
    assert len(batches[-1]) == 3
    again = shuffled(1003, 10, of_length, torch.Generator().manual_seed(0))
    assert torch.equal(order, again)
    assert not torch.equal(order, shuffled(1003, 10, of_length, torch.Generator().manual_seed(1)))


def test_one_batch_can_be_all_there_is():
    """Nothing is left to shuffle."""
    order = shuffled(3, 10, torch.tensor([3, 1, 2]), torch.Generator())
    assert order.tolist() == [1, 2, 0]
