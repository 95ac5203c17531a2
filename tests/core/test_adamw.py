"""AdamW against torch's own, against the formula in double precision, and in what it refuses."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from core.optim import AdamW, AdamWUpdater
from core.options import AdamW as AdamWOptions

SHAPES = [(5, 3), (7,), (1,), (2, 3, 2)]
STEPS = 25


def parameters(dtype=torch.float32, seed=0):
    """A few parameters of size 1."""
    rng = torch.Generator().manual_seed(seed)
    return [
        nn.Parameter(torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)) for shape in SHAPES
    ]


def gradients(step, scale=1.0):
    """The gradients of a step, in double precision; their size changes from step to step."""
    rng = torch.Generator().manual_seed(1000 + step)
    return [
        scale * (1 + step % 3) * torch.randn(shape, generator=rng, dtype=torch.float64) for shape in SHAPES
    ]


def run(optimizer, moving, steps=range(STEPS), scale=1.0):
    """Take the steps, each with its gradients."""
    for step in steps:
        for parameter, gradient in zip(moving, gradients(step, scale), strict=True):
            parameter.grad = gradient.to(parameter.dtype)
        optimizer.step()


def formula(
    start, *, lr, betas, eps, wd, anchor, max_norm, ema, anchor_to=None, steps=range(STEPS), scale=1.0
):
    """The formula of the module's docstring, one number at a time as it were: double precision, no in-place
    operation, no state object. Returns the parameters and their averages."""
    values = [value.detach().double() for value in start]
    towards = [value.clone() for value in (anchor_to or values)]
    mean = [torch.zeros_like(value) for value in values]
    square = [torch.zeros_like(value) for value in values]
    average = [value.clone() for value in values]
    for t, step in enumerate(steps, 1):
        grads = gradients(step, scale)
        norm = math.sqrt(sum(float((g * g).sum()) for g in grads))
        clip = min(1.0, max_norm / (norm + 1e-6)) if max_norm is not None else 1.0
        for i, gradient in enumerate(grads):
            g = clip * gradient
            mean[i] = betas[0] * mean[i] + (1 - betas[0]) * g
            square[i] = betas[1] * square[i] + (1 - betas[1]) * g * g
            first = mean[i] / (1 - betas[0] ** t)
            second = (square[i] / (1 - betas[1] ** t)).sqrt()
            old = values[i]
            values[i] = old - lr * wd * old - lr * anchor * (old - towards[i]) - lr * first / (second + eps)
            if ema is not None:
                average[i] = ema * average[i] + (1 - ema) * values[i]
    return values, average


def tolerance(lr):
    """fp32 rounds each of a step's some ten operations by at most 2^-24 of values of size up to 4 (the parameters
    themselves, and their updates of size lr); errors of 25 steps add up at worst."""
    return STEPS * 10 * 2**-24 * 4 * max(1.0, lr)


@pytest.mark.parametrize(
    "settings", [{}, {"weight_decay": 0.3}, {"betas": (0.3, 0.5), "eps": 1e-3}, {"lr": 1.0}]
)
def test_without_an_anchor_it_is_torch_s_adamw(settings):
    """In single precision up to rounding, in double to 1e-12: both take the same steps of size lr = 0.1 or 1."""
    settings = {"lr": 0.1, "weight_decay": 0.0, **settings}
    for dtype, allowed in ((torch.float32, tolerance(settings["lr"])), (torch.float64, 1e-12)):
        ours, torchs, start = parameters(dtype), parameters(dtype), parameters(dtype)
        run(AdamW(ours, **settings), ours)
        run(torch.optim.AdamW(torchs, **settings), torchs)
        for one, other, before in zip(ours, torchs, start, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=allowed)
            assert (
                one - before
            ).abs().max() > 1000 * allowed  # the updates are large against what is allowed


def test_defaults_are_torch_s():
    """A drop-in has the same rate, betas, eps and decay."""
    ours, torchs = AdamW(parameters()).defaults, torch.optim.AdamW(parameters()).defaults
    for name in ("lr", "betas", "eps", "weight_decay"):
        assert ours[name] == torchs[name]


@pytest.mark.parametrize("anchor", [0.0, 0.4])
@pytest.mark.parametrize("wd", [0.0, 0.3])
@pytest.mark.parametrize("max_norm", [None, 0.5, 1e6])
@pytest.mark.parametrize("ema", [None, 0.8])
def test_it_is_the_formula_in_double_precision(anchor, wd, max_norm, ema):
    """Every combination of its terms, at rates at which each of them shows."""
    settings = {"lr": 0.3, "betas": (0.6, 0.9), "eps": 1e-2}
    towards = [value.detach() + 1 for value in parameters(torch.float64)]
    for dtype, allowed in ((torch.float32, tolerance(0.3)), (torch.float64, 1e-12)):
        ours = parameters(dtype)
        groups = [{"params": ours, "anchor_to": [value.to(dtype) for value in towards]}]
        optimizer = AdamW(
            groups, weight_decay=wd, anchor=anchor, max_grad_norm=max_norm, ema_decay=ema, **settings
        )
        run(optimizer, ours)
        wanted, average = formula(
            parameters(dtype), wd=wd, anchor=anchor, max_norm=max_norm, ema=ema, anchor_to=towards, **settings
        )
        with optimizer.averaged():
            kept = [parameter.detach().clone() for parameter in ours]
        for one, other, mean, smooth in zip(ours, wanted, kept, average, strict=True):
            torch.testing.assert_close(one.detach().double(), other, rtol=0, atol=allowed)
            torch.testing.assert_close(mean.double(), other if ema is None else smooth, rtol=0, atol=allowed)


@pytest.mark.parametrize("term", ["wd", "anchor", "max_norm", "ema"])
def test_each_term_shows_at_these_rates(term):
    """The counterpart: leaving a term out of the formula moves it by a thousand times what is allowed."""
    settings = {
        "lr": 0.3,
        "betas": (0.6, 0.9),
        "eps": 1e-2,
        "wd": 0.3,
        "anchor": 0.4,
        "max_norm": 0.5,
        "ema": 0.8,
    }
    towards = [value.detach() + 1 for value in parameters(torch.float64)]
    without = {**settings, term: None if term in ("max_norm", "ema") else 0.0}
    which = 1 if term == "ema" else 0
    one = formula(parameters(torch.float64), anchor_to=towards, **settings)[which]
    other = formula(parameters(torch.float64), anchor_to=towards, **without)[which]
    assert max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True)) > 1000 * tolerance(0.3)


def test_anchor_is_where_the_parameters_were_at_construction():
    """Unless `anchor_to` says otherwise; pulling alone, without a gradient's push, comes nearer by lr·λ a step."""
    (weight,) = (nn.Parameter(torch.tensor([2.0])),)
    optimizer = AdamW([weight], lr=0.5, weight_decay=0.0, anchor=0.1)
    with torch.no_grad():
        weight.fill_(12.0)
    weight.grad = torch.zeros(1)
    optimizer.step()
    assert weight.item() == pytest.approx(12 - 0.5 * 0.1 * 10)
    to = nn.Parameter(torch.tensor([12.0]))
    optimizer = AdamW([to], lr=0.5, weight_decay=0.0, anchor=0.1, anchor_to=[torch.zeros(1)])
    to.grad = torch.zeros(1)
    optimizer.step()
    assert to.item() == pytest.approx(12 - 0.5 * 0.1 * 12)


def test_anchor_does_not_follow_the_tensors_it_was_given():
    """θ0' is copied: changing the tensor afterwards changes no step."""
    start = torch.zeros(1)
    weight = nn.Parameter(torch.ones(1))
    optimizer = AdamW([{"params": [weight], "anchor_to": [start]}], lr=0.5, weight_decay=0.0, anchor=0.1)
    start.fill_(100.0)
    weight.grad = torch.zeros(1)
    optimizer.step()
    assert weight.item() == pytest.approx(0.95)


def test_clipping_scales_all_groups_by_one_norm():
    """The norm is over all gradients; below the bound nothing is scaled, not even by rounding."""
    free, bound = parameters(), parameters()
    run(AdamW(free, lr=0.1), free)
    run(AdamW(bound, lr=0.1, max_grad_norm=1e6), bound)
    assert all(torch.equal(one, other) for one, other in zip(free, bound, strict=True))
    parted, whole = parameters(), parameters()
    run(AdamW([{"params": parted[:2]}, {"params": parted[2:]}], lr=0.1, max_grad_norm=0.5), parted)
    run(AdamW(whole, lr=0.1, max_grad_norm=0.5), whole)
    assert all(torch.equal(one, other) for one, other in zip(parted, whole, strict=True))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 2, -1])
def test_step_with_a_gradient_that_is_not_finite_changes_nothing(bad, place):
    """Not one bit of parameters, moments, average or step count, wherever the bad number stands; counted."""
    ours = parameters()
    optimizer = AdamW(ours, lr=0.1, anchor=0.1, ema_decay=0.9, max_grad_norm=1.0)
    run(optimizer, ours, range(3))
    before = copy.deepcopy((ours, optimizer.state_dict()))
    for parameter in ours:
        parameter.grad = torch.ones_like(parameter)
    ours[place].grad.view(-1)[-1] = bad
    optimizer.step()
    assert optimizer.skipped_steps == 1
    assert all(torch.equal(one, other) for one, other in zip(ours, before[0], strict=True))
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            kept = before[1]["state"][index][name]
            assert torch.equal(value, kept) if isinstance(value, torch.Tensor) else value == kept, name


def test_steps_after_a_skipped_one_are_those_of_a_run_that_never_had_it():
    """The first step of all is skipped here, so that no state begins with it."""
    one, other = parameters(), parameters()
    skipping, plain = AdamW(one, lr=0.1), AdamW(other, lr=0.1)
    for parameter in one:
        parameter.grad = torch.full_like(parameter, math.nan)
    skipping.step()
    run(skipping, one)
    run(plain, other)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert (skipping.skipped_steps, plain.skipped_steps) == (1, 0)


def test_parameter_without_a_gradient_stays_as_it_is():
    """None means not part of this step, as for torch: no decay, no pull."""
    ours = parameters()
    before = ours[0].detach().clone()
    optimizer = AdamW(ours, lr=0.1, weight_decay=0.5, anchor=0.5)
    ours[1].grad = torch.ones_like(ours[1])
    optimizer.step()
    assert torch.equal(ours[0], before)
    assert not torch.equal(ours[1], parameters()[1])
    AdamW(parameters()).step()  # and without any gradient, nothing happens


def test_averages_stand_in_only_inside_the_context():
    """The parameters are their own again after, also where something raises inside."""
    ours = parameters()
    optimizer = AdamW(ours, lr=0.1, ema_decay=0.5)
    run(optimizer, ours, range(4))
    own = [parameter.detach().clone() for parameter in ours]

    def raise_inside():
        with optimizer.averaged():
            assert not any(torch.equal(one, other) for one, other in zip(ours, own, strict=True))
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        raise_inside()
    assert all(torch.equal(one, other) for one, other in zip(ours, own, strict=True))


def test_group_overrides_every_option_of_its_own():
    """Two groups in one optimizer move as two optimizers would."""
    one = {"lr": 0.1, "betas": (0.5, 0.6), "eps": 1e-3, "weight_decay": 0.2, "anchor": 0.3, "ema_decay": 0.7}
    two = {
        "lr": 0.2,
        "betas": (0.9, 0.99),
        "eps": 1e-6,
        "weight_decay": 0.0,
        "anchor": 0.0,
        "ema_decay": None,
    }
    both, apart = parameters(), parameters()
    together = AdamW([{"params": both[:2], **one}, {"params": both[2:], **two}])
    first, second = AdamW(apart[:2], **one), AdamW(apart[2:], **two)
    for step in range(5):
        for mine, other, gradient in zip(both, apart, gradients(step), strict=True):
            mine.grad, other.grad = gradient.float(), gradient.float()
        for optimizer in (together, first, second):
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(both, apart, strict=True))
    with together.averaged(), first.averaged():
        assert all(torch.equal(a, b) for a, b in zip(both, apart, strict=True))


def test_parameters_may_be_added_later():
    """`add_param_group` is part of every torch optimizer."""
    ours, later = parameters(), parameters(seed=1)
    optimizer = AdamW(ours, lr=0.1)
    optimizer.add_param_group({"params": later, "lr": 0.2, "anchor": 0.1})
    alone = parameters(seed=1)
    other = AdamW(alone, lr=0.2, anchor=0.1)
    run(optimizer, later, range(3))
    run(other, alone, range(3))
    assert all(torch.equal(a, b) for a, b in zip(later, alone, strict=True))


def test_state_goes_through_a_state_dict_to_the_bit():
    """Half the steps, a new optimizer with the state of the old, the other half: as if nothing had happened."""
    settings = {"lr": 0.1, "weight_decay": 0.1, "anchor": 0.2, "ema_decay": 0.9, "max_grad_norm": 1.0}
    whole, halved = parameters(), parameters()
    straight, first = AdamW(whole, **settings), AdamW(halved, **settings)
    run(straight, whole, range(8))
    run(first, halved, range(4))
    second = AdamW(halved, **settings)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    run(second, halved, range(4, 8))
    assert all(torch.equal(a, b) for a, b in zip(whole, halved, strict=True))
    with straight.averaged(), second.averaged():
        assert all(torch.equal(a, b) for a, b in zip(whole, halved, strict=True))


@pytest.mark.parametrize("how", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])  # noqa: S301 (our own bytes)
def test_optimizer_can_be_copied(how):
    """With its bound on the norm and its count."""
    optimizer = AdamW(parameters(), lr=0.1, max_grad_norm=0.5)
    optimizer.skipped_steps = 3
    again = how(optimizer)
    assert (again.max_grad_norm, again.skipped_steps) == (0.5, 3)
    again.step()


def test_schedulers_of_torch_change_its_rate():
    """The rate is read from the group at every step."""
    ours = parameters()
    optimizer = AdamW(ours, lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0 if step else 1.0)
    run(optimizer, ours, range(1))
    scheduler.step()
    before = [parameter.detach().clone() for parameter in ours]
    run(optimizer, ours, range(1, 3))
    assert all(torch.equal(a, b) for a, b in zip(ours, before, strict=True))


def test_closure_is_called_with_gradients_and_its_loss_returned():
    """As torch's optimizers do."""
    weight = nn.Parameter(torch.ones(1))
    optimizer = AdamW([weight], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (weight * 3).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3.0
    assert weight.item() < 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": -1.0},
        {"betas": (1.0, 0.9)},
        {"betas": (0.9, -0.1)},
        {"eps": 0.0},
        {"weight_decay": -0.1},
        {"anchor": -0.1},
        {"max_grad_norm": 0.0},
        {"ema_decay": 1.0},
        {"ema_decay": 0.0},
    ],
)
def test_option_out_of_range_is_named_with_its_value(wrong):
    """A ValueError, as torch raises."""
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"AdamW: {name} must be ") as caught:
        AdamW(parameters(), **wrong)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_anchor_of_other_shapes_is_refused(count):
    """One tensor a parameter, of its shape."""
    with pytest.raises(ValueError, match="one tensor of the same shape for each parameter"):
        AdamW(
            [
                {
                    "params": parameters()[:2],
                    "anchor_to": [torch.zeros(5, 3), torch.zeros(7), torch.zeros(1)][:count],
                }
            ]
        )


def test_updater_hands_every_option_on():
    """What a recipe says is what the optimizer has."""
    options = AdamWOptions(
        betas=(0.5, 0.6), eps=1e-4, weight_decay=0.1, anchor=0.2, max_grad_norm=3.0, ema_decay=0.4
    )
    leaves = parameters()
    groups = [{"params": leaves, "lr": 0.7, "anchor_to": [leaf.detach().clone() for leaf in leaves]}]
    optimizer = AdamWUpdater(options).build(groups)
    (group,) = optimizer.param_groups
    given = {
        "betas": (0.5, 0.6),
        "eps": 1e-4,
        "weight_decay": 0.1,
        "anchor": 0.2,
        "ema_decay": 0.4,
        "lr": 0.7,
    }
    assert {name: group[name] for name in given} == given
    assert optimizer.max_grad_norm == 3.0


def test_updater_anchors_no_group_without_a_start():
    """Weights that start at random, as scratch's do, are not pulled back there."""
    (group,) = (
        AdamWUpdater(AdamWOptions(anchor=0.2)).build([{"params": parameters(), "lr": 0.7}]).param_groups
    )
    assert group["anchor"] == 0.0


def test_anchor_that_is_raised_later_is_refused():
    """There is no start to be pulled to."""
    leaves = parameters()
    optimizer = AdamW(leaves)
    optimizer.param_groups[0]["anchor"] = 0.1
    for leaf in leaves:
        leaf.grad = torch.ones_like(leaf)
    with pytest.raises(ValueError, match="raised from 0 after construction"):
        optimizer.step()
