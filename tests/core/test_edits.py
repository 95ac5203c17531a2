"""Structural edits: applied in order, recorded, replayed, and refused where they do not fit."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from core.contract import Structure
from core.edits import replay
from core.edits.grow import Grow
from core.edits.new_head import NewHead
from core.errors import BaseError, EditError
from core.options import Grow as GrowOptions
from core.options import NewHead as NewHeadOptions
from core.stages.modify import fresh_weights, modify


def model() -> nn.Module:
    """An embedding, tied to nothing, before a layer whose inputs and outputs lie along two axes."""
    built = nn.Sequential()
    built.add_module("embed", nn.Embedding(5, 3))
    built.add_module("out", nn.Linear(3, 2))
    built.structure = Structure(
        {
            "items": (("embed.weight", 0),),
            "width": (("embed.weight", 1), ("out.weight", 1)),
            "classes": CLASSES,
        }
    )
    return built


CLASSES = (("out.weight", 0), ("out.bias", 0))


def grow(axis: str, to: int, init: str = "mean") -> Grow:
    """The edit, made from its options as a recipe would."""
    return Grow(GrowOptions(axis=axis, to=to, init=init))


@pytest.mark.parametrize("init", ["mean", "zero", "normal"])
def test_growing_keeps_old_outputs_to_the_bit(init):
    """Old classes score what they scored; that is what `preserves` promises."""
    before = model()
    inputs = torch.tensor([[0, 4], [2, 1]])
    old = before(inputs)
    edit = grow("classes", 6, init)
    edit.validate(before)
    grown = edit.apply(before)
    assert edit.preserves
    assert torch.equal(grown(inputs)[..., :2], old)
    assert grown(inputs).shape == (2, 2, 6)


def test_new_entries_are_the_mean_or_zero():
    """Of the old entries along the axis, weight and bias alike."""
    mean, zero = model(), model()
    wanted = mean.out.weight.detach().mean(0), mean.out.bias.detach().mean(0)
    grow("classes", 4).apply(mean)
    grow("classes", 4, "zero").apply(zero)
    for row in (2, 3):
        assert torch.equal(mean.out.weight[row], wanted[0])
        assert torch.equal(mean.out.bias[row], wanted[1])
        assert not zero.out.weight[row].any()
        assert not zero.out.bias[row].any()


def test_growing_tells_the_layers_their_new_sizes():
    """Modules that know their sizes know the new ones, and reset to them."""
    grown = model()
    grow("items", 7).apply(grown)
    grow("width", 4, "zero").apply(grown)
    grow("classes", 3).apply(grown)
    assert (grown.embed.num_embeddings, grown.embed.embedding_dim) == (7, 4)
    assert (grown.out.in_features, grown.out.out_features) == (4, 3)
    assert grown(torch.tensor([6])).shape == (1, 3)


def test_grown_parameters_are_parameters():
    """They are trained, saved, and frozen as the old ones were."""
    grown = model()
    grown.out.weight.requires_grad_(False)
    grow("classes", 3).apply(grown)
    assert dict(grown.named_parameters())["out.weight"].shape == (3, 3)
    assert not grown.out.weight.requires_grad
    assert grown.out.bias.requires_grad


def test_growing_to_the_size_it_has_changes_nothing():
    """A recipe may name the size that the base happens to have."""
    grown = model()
    before = {name: tensor.clone() for name, tensor in grown.state_dict().items()}
    edit = grow("classes", 2)
    edit.validate(grown)
    edit.apply(grown)
    assert all(torch.equal(before[name], tensor) for name, tensor in grown.state_dict().items())


def test_shrinking_is_refused_with_both_sizes():
    """What the base learned is not thrown away by an edit called grow."""
    with pytest.raises(EditError, match=r"axis 'items' has 5 entries already, and is to have 4"):
        grow("items", 4).validate(model())


def test_unknown_axis_lists_those_the_model_has():
    """And a model without a structure has none."""
    with pytest.raises(EditError, match="Sequential has no axis 'clases'") as caught:
        grow("clases", 4).validate(model())
    assert caught.value.hint == "axes it has: classes, items, width"
    with pytest.raises(EditError) as caught:
        grow("classes", 4).validate(nn.Linear(2, 2))
    assert caught.value.hint == "axes it has: none"


def test_replaying_the_record_gives_the_same_model(stages):
    """What is recorded of the edits is all that is needed to make G1 of G0 again."""
    toy = stages({"modify": [{"edit": "grow", "axis": "classes", "to": 3, "init": "zero"}]})
    specs = [applied.spec for applied in toy.modified.edits]
    assert [spec["to"] for spec in specs] == [3, 4]  # the recipe's, then what the task still asks for
    again, _ = replay(toy.context.plugins.components, toy.prepared.base.model, specs)
    assert again.head.weight.shape == (4, 8)
    for name, tensor in toy.modified.model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert [applied.preserves for applied in toy.modified.edits] == [True, True]
    assert [event["description"] for event in toy.events("edit")] == [
        "grow classes to 3 (zero)",
        "grow classes to 4 (mean)",
    ]


def test_modifying_leaves_the_base_as_it_is(stages):
    """θ0 is still there to be compared with."""
    toy = stages()
    assert toy.modified.model.head.weight.shape == (4, 8)
    assert toy.prepared.base.model.head.weight.shape == (2, 8)


def test_normal_entries_are_drawn_around_the_old_ones_and_always_the_same():
    """Replaying the edit draws the same numbers; another size draws others; the old entries stay."""

    def grown(to):
        return grow("classes", to, "normal").apply(deepcopy(start)).state_dict()

    start = model()

    first, again, larger = grown(40), grown(40), grown(41)
    name, dimension = CLASSES[0]
    old = start.state_dict()[name]
    assert torch.equal(first[name], again[name])
    new = first[name].narrow(dimension, old.shape[dimension], 40 - old.shape[dimension])
    others = larger[name].narrow(dimension, old.shape[dimension], 40 - old.shape[dimension])
    assert not torch.equal(new, others)
    assert torch.equal(first[name].narrow(dimension, 0, old.shape[dimension]), old)
    ratio = new.std(dimension) / old.std(dimension, correction=0)
    assert (ratio - 1).abs().max() < 0.6  # 38 draws: four standard errors of a deviation are 0.46


def headless() -> nn.Module:
    """An encoder's width before a head without a class."""
    built = nn.Sequential()
    built.add_module("out", nn.Linear(400, 0))
    built.structure = Structure({"classes": CLASSES})
    return built


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("init", ["mean", "zero"])
def test_empty_axis_grows_to_zeros_where_there_is_nothing_to_take_the_mean_of(init):
    """Not to NaN, which is what the mean of no entries is."""
    grown = grow("classes", 3, init).apply(headless())
    assert grown.out.weight.shape == (3, 400)
    assert not grown.out.weight.any()
    assert not grown.out.bias.any()
    assert grown(torch.ones(2, 400)).tolist() == [[0.0] * 3] * 2


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_normal_entries_of_an_empty_axis_are_those_of_a_new_layer():
    """Evenly from ±1/√400, as torch draws them, with biases zero; replaying draws the same."""
    grown, again, larger = (grow("classes", to, "normal").apply(headless()).out for to in (50, 50, 51))
    assert grown.weight.abs().max() <= 1 / math.sqrt(400)
    deviation = 1 / math.sqrt(3 * 400)
    assert float(grown.weight.detach().std()) == pytest.approx(deviation, rel=0.03)  # 20,000 draws
    assert not grown.bias.any()
    assert torch.equal(grown.weight, again.weight)
    assert not torch.equal(grown.weight, larger.weight[:50])
    assert (grown.in_features, grown.out_features) == (400, 50)


def test_tied_weights_stay_tied():
    """One parameter in two places, of which the structure names one."""
    tied = model()
    tied.add_module("again", nn.Linear(3, 5, bias=False))
    tied.again.weight = tied.embed.weight
    grow("items", 7).apply(tied)
    assert tied.again.weight is tied.embed.weight
    assert (tied.again.out_features, tied.embed.num_embeddings) == (7, 7)
    tied.structure = Structure({"items": (("embed.weight", 0), ("again.weight", 0))})
    grow("items", 9).apply(tied)
    assert tied.again.weight is tied.embed.weight
    assert tied.embed.weight.shape == (9, 3)


def test_convolution_grows_as_a_layer_does():
    """A head of 1x1 convolutions."""
    grown = nn.Sequential()
    grown.add_module("out", nn.Conv2d(3, 2, 1))
    grown.structure = Structure({"classes": CLASSES})
    grow("classes", 5, "normal").apply(grown)
    assert grown.out.out_channels == 5
    assert grown(torch.zeros(1, 3, 4, 4)).shape == (1, 5, 4, 4)
    grown.out.reset_parameters()


@pytest.mark.parametrize("to", [1, 2, 40])
def test_new_head_keeps_nothing_of_the_old_and_is_the_same_on_every_replay(to):
    """Fewer, as many and more entries than the base had; weights within a new layer's bound, biases zero."""

    def edited() -> nn.Module:
        edit = NewHead(NewHeadOptions(axis="classes", to=to))
        assert not edit.preserves
        edit.validate(start)
        return edit.apply(deepcopy(start))

    start = model()
    first, again = edited(), edited()
    assert first.out.weight.shape == (to, 3)
    assert first.out.out_features == to
    assert not set(first.out.weight.flatten().tolist()) & set(start.out.weight.flatten().tolist())
    assert first.out.weight.abs().max() <= 1 / math.sqrt(3)
    assert not first.out.bias.any()
    assert torch.equal(first.out.weight, again.out.weight)
    assert torch.equal(first.embed.weight, start.embed.weight)


def test_new_head_on_an_axis_that_is_not_there_lists_those_that_are():
    """As growing does."""
    with pytest.raises(EditError, match="has no axis 'clases'"):
        NewHead(NewHeadOptions(axis="clases", to=2)).validate(model())


def test_new_head_in_a_recipe_is_recorded_as_not_preserving(stages):
    """And its record replays to the same model, before the task asks for no more."""
    toy = stages({"modify": [{"edit": "new_head", "axis": "classes", "to": 4}]})
    assert [(applied.description, applied.preserves) for applied in toy.modified.edits] == [
        ("new head: 4 fresh entries along classes", False)
    ]
    again, _ = replay(
        toy.context.plugins.components,
        deepcopy(toy.prepared.base.model),
        [edit.spec for edit in toy.modified.edits],
    )
    for name, tensor in toy.modified.model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


def with_fresh(toy, fresh):
    """The toy's prepared value, with a base that can make a new model of itself."""
    return replace(toy.prepared, base=replace(toy.prepared.base, fresh=fresh))


def test_scratch_is_the_base_s_own_new_model_with_the_same_edits(stages):
    """The same for the same seed, others for another, and torch's global state untouched."""

    def fresh():
        new = deepcopy(toy.prepared.base.model)
        for layer in (new.body, new.head):
            nn.init.normal_(layer.weight, mean=7)  # as no reset_parameters would
        return new

    toy, other_seed = stages(), stages({"seed": 1})
    assert toy.prepared
    assert other_seed.prepared
    before = torch.get_rng_state()
    one, same = (modify(toy.context, with_fresh(toy, fresh)).scratch for _ in range(2))
    other = modify(other_seed.context, with_fresh(toy, fresh)).scratch
    assert torch.equal(before, torch.get_rng_state())
    assert one.head.weight.shape == (4, 8)
    assert float(one.body.weight.mean()) == pytest.approx(7, abs=1)
    assert torch.equal(one.body.weight, same.body.weight)
    assert not torch.equal(one.body.weight, other.body.weight)
    assert not one.training
    assert not any(parameter.requires_grad for parameter in one.parameters())


def test_fresh_model_of_another_structure_is_refused_with_the_first_difference(stages):
    """Rather than training a `scratch` that is not comparable."""
    toy = stages()

    def fresh():
        wider = deepcopy(toy.prepared.base.model)
        wider.body, wider.head = nn.Linear(2, 9), nn.Linear(9, 2)
        return wider

    with pytest.raises(BaseError, match=r"body.bias is \(9,\), in the base \(8,\)"):
        modify(toy.context, with_fresh(toy, fresh))


def test_scratch_has_the_structure_and_fresh_weights_by_seed(stages):
    """The same for the same seed, others for another, none of the base's, and torch's global state untouched."""
    toy, same, other = stages(), stages(), stages({"seed": 1})
    models = [(one.context, one.modified.model) for one in (toy, same, other)]
    before = torch.get_rng_state()
    fresh = [fresh_weights(context, model).state_dict() for context, model in models]
    assert torch.equal(before, torch.get_rng_state())
    for name, tensor in toy.modified.model.state_dict().items():
        assert fresh[0][name].shape == tensor.shape
        assert torch.equal(fresh[0][name], fresh[1][name])
        assert not torch.equal(fresh[0][name], fresh[2][name])
        assert not torch.equal(fresh[0][name], tensor)


def test_module_that_cannot_reset_is_named_before_anything_is_trained(stages):
    """A bare parameter in a module of one's own, found in the modify stage."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

    toy = stages()
    odd = nn.Sequential()
    odd.add_module("inner", Odd())
    with pytest.raises(
        EditError, match=r"module inner \(Odd\) has parameters but no reset_parameters"
    ) as caught:
        fresh_weights(toy.context, odd)
    assert "evaluate.scratch to false" in caught.value.hint


# --- as the command line tells it ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ("{edit: grow, axis: classes, to: 1}", "axis 'classes' has 2 entries already"),
        ("{edit: grow, axis: clases, to: 4}", "has no axis 'clases'"),
        ("{edit: grow, axis: classes}", "modify.0.to: missing; it is required"),
        (
            "{edit: grow, axis: classes, to: 4, init: ones}",
            "modify.0.init: input should be 'zero', 'mean' or 'normal'",
        ),
        ("{edit: shrink, to: 1}", "modify.0: no active plugin has a edit 'shrink'"),
    ],
)
def test_edit_that_does_not_fit_is_refused_and_leaves_nothing(refused, edit, says):
    """By its options, or by the base's structure."""
    assert says in refused(f"modify=[{edit}]")["message"]
