"""Structural edits: applied in order, recorded, replayed, and refused where they do not fit."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from core.contract import Structure
from core.edits import replay
from core.edits.grow import Grow
from core.errors import EditError
from core.options import Grow as GrowOptions
from core.stages.modify import fresh_weights


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
