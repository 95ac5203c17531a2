"""The optimizers as users of torch use them: instead of its own, with its schedulers, scalers and state dicts, on
both backends."""

from __future__ import annotations

import copy
import io
import math
import pickle
import re
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._pytree import tree_map

from core.optim import SGD, Adam, AdamW, cpu, kernels

PAIRS = {
    "adamw": (AdamW, torch.optim.AdamW, {"lr": 0.05, "weight_decay": 0.1, "betas": (0.8, 0.95)}),
    "adam": (Adam, torch.optim.Adam, {"lr": 0.05, "weight_decay": 0.1}),
    "sgd": (SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    "damped": (SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "dampening": 0.5}),
    "plain": (SGD, torch.optim.SGD, {"lr": 0.05, "weight_decay": 0.1}),
}
BACKENDS = ["reference", *(["native"] if cpu.module() else [])]

needs_kernels = pytest.mark.skipif(cpu.module() is None, reason="the kernels were not built")


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


def leaves(dtype=torch.float32, seed=0, sizes=((33, 5), (7,), (), (300, 20))):
    rng = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(size, generator=rng).to(dtype)) for size in sizes]


def walk(optimizer, moving, steps):
    """Take these steps, each with gradients of its own."""
    for step in steps:
        rng = torch.Generator().manual_seed(1000 + step)
        for leaf in moving:
            leaf.grad = torch.randn(leaf.shape, generator=rng).to(leaf.dtype)
        optimizer.step()


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", PAIRS)
def test_it_moves_as_torch_s_does(name, backend):
    """Twenty steps of a twentieth each: up to rounding."""
    ours, torchs, options = PAIRS[name]
    mine, theirs = leaves(), leaves()
    walk(ours(mine, **options, backend=backend), mine, range(20))
    walk(torchs(theirs, **options), theirs, range(20))
    for one, other, start in zip(mine, theirs, leaves(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
        assert (one - start).abs().max() > 0.1


@pytest.mark.parametrize("name", PAIRS)
def test_torch_s_state_goes_on_here_and_back_again(name, backend):
    """Torch, ours, torch: ten steps each are thirty of torch's, up to rounding."""
    ours, torchs, options = PAIRS[name]
    moving, straight = leaves(), leaves()
    walk(torchs(straight, **options), straight, range(30))
    first = torchs(moving, **options)
    walk(first, moving, range(10))
    second = ours(moving, **options, backend=backend)
    second.load_state_dict(first.state_dict())
    walk(second, moving, range(10, 20))
    third = torchs(moving, **options)
    third.load_state_dict(second.state_dict())
    walk(third, moving, range(20, 30))
    for one, other in zip(moving, straight, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_our_state_survives_a_stay_with_torch_s_to_the_bit(name, backend):
    """With what torch's does not know: the anchor, the average, options."""
    ours, torchs, options = PAIRS[name]
    more = {"anchor": 0.2, "ema_decay": 0.9, "max_grad_norm": 1.0, "backend": backend}
    moving, straight = leaves(), leaves()
    through, whole = ours(moving, **options, **more), ours(straight, **options, **more)
    walk(through, moving, range(5))
    walk(whole, straight, range(5))
    stay = torchs(moving, **options)
    stay.load_state_dict(through.state_dict())
    with torch.no_grad():
        for leaf in moving:
            leaf.add_(0.0)
    after = ours(moving, **options, **more)
    after.load_state_dict(stay.state_dict())
    walk(after, moving, range(5, 8))
    walk(whole, straight, range(5, 8))
    assert same(moving, straight)
    with after.averaged(), whole.averaged():
        assert same(moving, straight)


def test_state_of_torch_s_without_a_step_is_taken():
    """An optimizer that has taken no step has no state."""
    moving = leaves()
    optimizer = AdamW(moving)
    walk(optimizer, moving, range(3))
    optimizer.load_state_dict(torch.optim.AdamW(moving).state_dict())
    assert all(state["step"] == 0 and not state["exp_avg"].any() for state in optimizer.state.values())


@pytest.mark.parametrize("option", ["amsgrad", "maximize"])
def test_state_of_an_optimizer_that_does_something_else_is_refused(option):
    """It would go on as another one, silently."""
    moving = leaves()
    state = torch.optim.AdamW(moving, **{option: True}).state_dict()
    with pytest.raises(ValueError, match=f"AdamW: .*{option}"):
        AdamW(moving).load_state_dict(state)


@pytest.mark.parametrize("kept", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_state_goes_through_a_file_to_the_bit(backend, dtype, kept):
    """Saved, and loaded as tensors alone; whatever precision there is."""
    options = {"state_dtype": kept, "ema_decay": 0.9, "anchor": 0.1, "backend": backend}
    moving, straight = leaves(dtype), leaves(dtype)
    one, whole = AdamW(moving, 0.05, **options), AdamW(straight, 0.05, **options)
    walk(one, moving, range(4))
    walk(whole, straight, range(7))
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    other = AdamW(moving, 0.05, **options)
    other.load_state_dict(torch.load(file, weights_only=True))
    walk(other, moving, range(4, 7))
    assert same(moving, straight)


@pytest.mark.parametrize("kept", ["bfloat16", "int8"])
def test_compressed_state_goes_to_torch_s_in_float32(kept):
    """`format="torch"`; and comes back near where it was."""
    moving = leaves()
    optimizer = AdamW(moving, 0.05, state_dtype=kept)
    walk(optimizer, moving, range(3))
    state = optimizer.state_dict(format="torch")
    torchs = torch.optim.AdamW(moving, 0.05)
    torchs.load_state_dict(copy.deepcopy(state))
    assert all(s["exp_avg"].dtype == torch.float32 for s in torchs.state.values())
    walk(torchs, moving, range(3, 5))
    again = AdamW(moving, 0.05, state_dtype=kept)
    again.load_state_dict(state)
    for index, leaf in enumerate(moving):
        torch.testing.assert_close(
            again.state_dict(format="torch")["state"][index]["exp_avg"],
            state["state"][index]["exp_avg"],
            rtol=0.07,
            atol=2e-3,
        )
        assert again.state[leaf]["step"] == 3


@pytest.mark.parametrize("how", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])  # noqa: S301 (our own)
@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_copy_goes_on_by_itself(backend, how, kind):
    """With its options, and without moving what the original moves."""
    ours, _, options = PAIRS[kind]
    moving = leaves()
    optimizer = ours(moving, **options, backend=backend, zero_grads=True, ema_decay=0.9)
    walk(optimizer, moving, range(2))
    again = how(optimizer)
    before = [leaf.detach().clone() for leaf in moving]
    own = again.param_groups[0]["params"]
    walk(again, own, range(2, 4))
    assert same(moving, before)
    walk(optimizer, moving, range(2, 4))
    assert same(moving, own)
    assert not any(leaf.grad.any() for leaf in own)


def test_parameters_that_moved_elsewhere_are_found(backend):
    """`.data` may be another tensor after loading, or after a step on another device."""
    moving, straight = leaves(), leaves()
    one, other = (AdamW(p, 0.05, anchor=0.1, backend=backend) for p in (moving, straight))
    walk(one, moving, range(2))
    for leaf in moving:
        leaf.data = leaf.data.clone()
    walk(one, moving, range(2, 4))
    walk(other, straight, range(4))
    assert same(moving, straight)


def test_steps_are_counted_for_each_parameter(backend):
    """One without a gradient stays as it is, and its bias correction waits with it."""
    moving, (alone,) = leaves(), leaves(sizes=((33, 5),))
    one, other = AdamW(moving, 0.05, backend=backend), AdamW([alone], 0.05, backend=backend)
    rng = torch.Generator().manual_seed(0)
    for step in range(6):
        gradient = torch.randn(33, 5, generator=rng)
        for leaf in moving:
            leaf.grad = torch.ones_like(leaf)
        moving[0].grad = gradient if step % 2 else None
        alone.grad = gradient if step % 2 else None
        before = moving[0].detach().clone()
        one.step()
        if step % 2:
            other.step()
        assert step % 2 or torch.equal(moving[0], before)
    assert torch.equal(moving[0], alone)
    assert [one.state[leaf]["step"] for leaf in moving] == [3, 6, 6, 6]


@pytest.mark.parametrize("layout", ["gradient turned", "parameter turned", "both turned", "channels last"])
def test_elements_meet_their_gradients_however_both_lie_in_memory(backend, layout):
    """The order of the elements is the tensor's, not the memory's."""
    rng = torch.Generator().manual_seed(0)
    values, gradient = torch.randn(4, 6, 3, 3, generator=rng), torch.randn(4, 6, 3, 3, generator=rng)
    plain = nn.Parameter(values.clone())
    plain.grad = gradient.clone()
    turn = lambda x: x.transpose(0, 1).contiguous().transpose(0, 1)  # noqa: E731
    if layout == "channels last":
        turn = lambda x: x.contiguous(memory_format=torch.channels_last)  # noqa: E731
    turned = nn.Parameter(values.clone() if layout == "gradient turned" else turn(values))
    turned.grad = gradient.clone() if layout == "parameter turned" else turn(gradient)
    for leaf in (plain, turned):
        AdamW([leaf], 0.1, anchor=0.1, ema_decay=0.9, zero_grads=True, backend=backend).step()
        assert not leaf.grad.any()
    torch.testing.assert_close(turned, plain, rtol=0, atol=1e-7)


def test_gradients_are_left_at_zero_also_after_a_step_that_was_left_out(backend):
    """Otherwise the next ones would be added to what is no number."""
    moving = leaves()
    optimizer = AdamW(moving, zero_grads=True, backend=backend)
    for leaf in moving:
        leaf.grad = torch.full_like(leaf, math.nan)
    optimizer.step()
    assert optimizer.skipped_steps == 1
    assert not any(leaf.grad.any() for leaf in moving)


def test_without_the_check_it_is_as_blind_as_torch_s(backend):
    """What is not finite goes through, for the price of a pass less."""
    moving = leaves()
    optimizer = AdamW(moving, check=False, backend=backend)
    for leaf in moving:
        leaf.grad = torch.full_like(leaf, math.nan)
    optimizer.step()
    assert (optimizer.skipped_steps, optimizer.grad_norm) == (0, None)
    assert all(leaf.isnan().all() for leaf in moving)


def test_gradscaler_hands_its_scale_over(backend):
    """The step is that of the gradients without the scale, clipped by their own norm; an overflow leaves it out."""
    moving, plain = leaves(), leaves()
    scaled = AdamW(moving, 0.1, max_grad_norm=0.5, backend=backend)
    unscaled = AdamW(plain, 0.1, max_grad_norm=0.5, backend=backend)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for poison in (False, True, False):
        for leaf, other in zip(moving, plain, strict=True):
            loss = (leaf * leaf).sum() + (math.inf * leaf.sum() if poison else 0.0)
            leaf.grad = other.grad = None
            scaler.scale(loss).backward()
            (other * other).sum().backward()
        scaler.step(scaled)
        scaler.update()
        if not poison:
            unscaled.step()
            assert scaled.grad_norm == pytest.approx(unscaled.grad_norm, rel=1e-6)
    assert scaled.skipped_steps == 1
    assert scaler.get_scale() == 512.0
    for one, other in zip(moving, plain, strict=True):
        torch.testing.assert_close(one, other)


def test_backward_notices_that_a_parameter_was_moved(backend):
    """A graph from before the step must not be used after it."""
    leaf = nn.Parameter(torch.ones(3))
    optimizer = AdamW([leaf], backend=backend)
    loss = (leaf * leaf).sum()
    leaf.grad = torch.ones(3)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_empty_gradient_in_another_layout_stops_no_other_parameter(backend):
    """Its strides say nothing, and the gradients of the step before are not used again."""
    empty, leaf = nn.Parameter(torch.zeros(0, 3)), nn.Parameter(torch.zeros(4))
    optimizer = SGD([empty, leaf], 1.0, backend=backend)
    for size in (1.0, 100.0):
        empty.grad = torch.empty(3, 0).t() if size > 1 else torch.zeros_like(empty)
        leaf.grad = torch.full((4,), size)
        optimizer.step()
    assert (leaf == -101).all()


def test_step_that_clips_is_left_out_without_the_check_too(backend):
    """The norm is there anyway."""
    (leaf,) = leaves()[:1]
    before = leaf.detach().clone()
    optimizer = AdamW([leaf], max_grad_norm=1.0, check=False, backend=backend)
    leaf.grad = torch.full_like(leaf, math.inf)
    optimizer.step()
    assert torch.equal(leaf.detach(), before)
    assert optimizer.skipped_steps == 1


def test_copies_of_gradients_are_given_up_after_the_step(backend):
    """Whether they are cleared or not, and after a step that was left out."""
    leaf = nn.Parameter(torch.zeros(40, 50))
    optimizer = AdamW([leaf], backend=backend)
    for value in (1.0, math.nan):
        leaf.grad = torch.full((50, 40), value).t()
        optimizer.step()
        assert optimizer._cpu is None or not optimizer._cpu._copies
    assert optimizer.skipped_steps == 1


@needs_kernels
def test_gradients_whose_numbers_are_not_in_memory_are_read_as_torch_reads_them(backend):
    """One that is held negated, as autograd leaves it behind `conj`, and one whose memory was given up."""
    real, imaginary = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = SGD([real, imaginary], 1.0, backend=backend)
    number = torch.complex(real, imaginary).conj()
    (number.real + number.imag).sum().backward()
    assert imaginary.grad.is_neg()
    optimizer.step()
    assert [float(real.detach()), float(imaginary.detach())] == [0.0, 2.0]
    if backend == "native":
        real.grad.untyped_storage().resize_(0)
        with pytest.raises(RuntimeError, match="memory was given up"):
            optimizer.step()


def test_gradient_that_wraps_another_tensor_is_a_gradient(backend):
    """It has no memory of its own, as what collective operations return has none."""

    class Wrapped(torch.Tensor):
        @staticmethod
        def __new__(cls, inner):
            made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
            made.inner = inner
            return made

        @classmethod
        def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
            plain = tree_map(lambda each: each.inner if isinstance(each, cls) else each, (args, kwargs or {}))
            return function(*plain[0], **plain[1])

    leaf = nn.Parameter(torch.zeros(4))
    optimizer = SGD([leaf], 1.0, backend=backend)
    leaf.grad = Wrapped(torch.arange(4.0))
    optimizer.step()
    assert torch.equal(leaf.detach(), -torch.arange(4.0))


def test_gradient_of_two_parameters_is_cleared_once_both_have_used_it(backend):
    """Also where another gradient had to be copied, whose copy lies where the last one did."""
    moving = [nn.Parameter(torch.zeros(20, 32)) for _ in range(3)]
    optimizer = SGD(moving, 1.0, zero_grads=True, backend=backend)
    for step in range(3):
        moving[0].grad = torch.ones(20, 32)
        moving[1].grad = moving[0].grad if step else torch.ones(20, 32)
        moving[2].grad = torch.ones(32, 20).t()
        optimizer.step()
        assert all(bool((leaf == -step - 1).all()) for leaf in moving)


@needs_kernels
@pytest.mark.parametrize("change", ["mixed", "missing", "none", "scale"])
def test_state_that_the_kernels_would_misread_is_refused(change):
    """Moments of two kinds or none, and codes without their scales."""
    leaf = nn.Parameter(torch.zeros(5000))
    optimizer = AdamW([leaf], state_dtype="int8" if change == "scale" else "float32", backend="native")
    state = optimizer.state[leaf]
    if change == "mixed":
        state["exp_avg_sq"] = state["exp_avg_sq"].bfloat16()
    elif change == "missing":
        del state["exp_avg"]
    elif change == "none":
        state["exp_avg_sq"] = None
    else:
        del state["exp_avg_sq_scale"]
    leaf.grad = torch.zeros_like(leaf)
    with pytest.raises(ValueError, match=r"moments are|'exp_avg_sq_scale' is missing"):
        optimizer.step()


def test_bfloat16_parameters_that_are_set_from_outside_go_on_from_there(backend):
    """Zeros too, whose remainder from before would make a NaN of them."""
    leaf = nn.Parameter(torch.randn(4096, generator=torch.Generator().manual_seed(0)).bfloat16())
    optimizer = AdamW([leaf], 0.01, ema_decay=0.9, backend=backend)
    for step in range(40):
        if step == 3:
            leaf.data.mul_(torch.arange(4096) % 2)
        leaf.grad = leaf.detach().sign() if step < 3 else torch.ones_like(leaf)
        optimizer.step()
    assert (leaf[::2] < -0.25).all()
    assert optimizer.state[leaf]["ema"].isfinite().all()
    leaf.grad[0] = math.nan
    optimizer.check = False
    optimizer.step()
    assert leaf[0].isnan()


def test_infinite_parameter_stays_where_nothing_decays(backend):
    """As with torch: a decay of 0 is none."""
    for make in (
        lambda p: AdamW(p, 0.1, weight_decay=0.0, backend=backend),
        lambda p: SGD(p, 0.1, backend=backend),
    ):
        leaf = nn.Parameter(torch.tensor([1.0, -math.inf, 2.0]))
        leaf.grad = torch.tensor([0.1, 0.0, 0.3])
        make([leaf]).step()
        assert leaf[1] == -math.inf
        assert leaf[[0, 2]].isfinite().all()


def test_model_that_is_converted_between_steps_has_the_bits_it_lacks(backend):
    """To bfloat16 they begin at none, and from it none are left."""
    leaf = nn.Parameter(torch.ones(300))
    optimizer = AdamW([leaf], 1e-4, backend=backend)
    for dtype in (torch.bfloat16, torch.float32):
        leaf.data = leaf.data.to(dtype)
        for _ in range(10):
            leaf.grad = torch.ones_like(leaf)
            optimizer.step()
        assert ("remainder" in optimizer.state[leaf]) == (dtype == torch.bfloat16)
    assert float(leaf.detach()[0]) == pytest.approx(1 - 20e-4, abs=2.0**-8)


def test_default_dtype_of_torch_is_not_that_of_the_state(backend):
    """Scales and step counts are float32 whatever it is."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        leaf = nn.Parameter(torch.zeros(5000, dtype=torch.float32))
        optimizer = AdamW([leaf], state_dtype="int8", backend=backend)
        leaf.grad = torch.ones_like(leaf)
        optimizer.step()
        optimizer.state[leaf]["step"] = 1003
        state = optimizer.state_dict(format="torch")["state"][0]
    finally:
        torch.set_default_dtype(before)
    assert int(state["step"]) == 1003
    assert state["exp_avg"].dtype == torch.float32


def test_state_of_another_model_is_refused_and_nothing_has_changed(backend):
    """Though its shape would broadcast."""
    one, other = (
        AdamW([nn.Parameter(torch.ones(10))]),
        AdamW([nn.Parameter(torch.ones(5, 10))], backend=backend),
    )
    for leaf in (one.param_groups[0]["params"][0], other.param_groups[0]["params"][0]):
        leaf.grad = torch.ones_like(leaf)
    one.step()
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(
        ValueError, match=r"'exp_avg' of parameter 0 is \(10,\), and the parameter is \(5, 10\)"
    ):
        other.load_state_dict(one.state_dict())
    after = other.state_dict()["state"][0]
    assert all(torch.equal(after[name], value) for name, value in before["state"][0].items())


def test_hook_before_loading_changes_what_is_loaded(backend):
    """The state as well as the groups."""
    (leaf,) = leaves()[:1]
    optimizer = AdamW([leaf], backend=backend)

    def sevens(_, state_dict):
        changed = copy.deepcopy(state_dict)
        changed["state"][0]["exp_avg"].fill_(7.0)
        changed["param_groups"][0]["lr"] = 0.5
        return changed

    optimizer.register_load_state_dict_pre_hook(sevens)
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert (optimizer.state[leaf]["exp_avg"] == 7.0).all()


def test_wrapper_that_takes_the_class_and_forwards_the_rest_finds_the_state():
    """As Lightning's do."""

    class Wrapper:
        def __init__(self, optimizer):
            self._optimizer = optimizer
            self.__class__ = type("Wrapped", (Wrapper, AdamW), {})

        def __getattr__(self, name):
            return getattr(self._optimizer, name)

    (leaf,) = leaves()[:1]
    wrapper = Wrapper(AdamW([leaf]))
    assert wrapper.state[leaf]["step"] == 0


@needs_kernels
def test_parameters_that_overlap_are_left_to_the_reference():
    """Also where they begin at different places."""
    whole = torch.zeros(100)
    with pytest.raises(ValueError, match="two share theirs"):
        AdamW([nn.Parameter(whole[:60]), nn.Parameter(whole[50:])], backend="native").step()


def test_graph_that_saved_a_gradient_says_that_it_was_cleared(backend):
    """As torch does after its own `zero_grad(set_to_none=False)`."""
    leaf, weight = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = SGD([leaf], 1.0, zero_grads=True, backend=backend)
    leaf.grad = torch.ones(3)
    loss = (weight * leaf.grad).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_refused_step_is_not_counted(backend):
    """A group's rate that is no number is found before anything is written."""
    moving = leaves()[:2]
    optimizer = AdamW(moving, backend=backend)
    for leaf in moving:
        leaf.grad = torch.ones_like(leaf)
    optimizer.step()
    before = [leaf.detach().clone() for leaf in moving]
    optimizer.param_groups[0]["lr"] = "fast"
    with pytest.raises(ValueError, match="fast"):
        optimizer.step()
    assert [float(state["step"]) for state in optimizer.state_dict()["state"].values()] == [1.0, 1.0]
    assert same(moving, before)


def test_steps_may_be_taken_in_inference_mode(backend):
    """And outside again."""
    (leaf,) = leaves()[:1]
    optimizer = AdamW([leaf], backend=backend)
    leaf.grad = torch.ones_like(leaf)
    with torch.inference_mode():
        optimizer.step()
    optimizer.step()
    assert float(optimizer.state_dict()["state"][0]["step"]) == 2.0


def test_hooks_of_a_subclass_with_its_own_step_run_once():
    """Torch wraps that step for them, and ours below it does not once more."""
    seen = []

    class Mine(SGD):
        def step(self, closure=None):
            return super().step(closure)

    leaf = nn.Parameter(torch.zeros(2))
    optimizer = Mine([leaf], 1.0)
    optimizer.register_step_post_hook(lambda *given: seen.append(given))
    leaf.grad = torch.ones(2)
    optimizer.step()
    assert len(seen) == 1
    assert (leaf == -1).all()


def test_hooks_and_profilers_see_a_step_as_they_see_torchs():
    """Pre-hooks may change the arguments, post-hooks come after; of one optimizer, and of all."""
    (leaf,) = leaves()[:1]
    optimizer = SGD([leaf], 1.0)
    seen = []

    def before(its, args, kwargs):
        seen.append(
            ("before", its is optimizer, args[0] is optimizer, args[1:], kwargs, float(leaf.detach().sum()))
        )

    def after(its, args, kwargs):
        seen.append(
            ("after", its is optimizer, args[0] is optimizer, args[1:], kwargs, float(leaf.detach().sum()))
        )

    started = float(leaf.detach().sum())
    handles = [optimizer.register_step_pre_hook(before), register_optimizer_step_post_hook(after)]
    leaf.grad = torch.ones_like(leaf)
    optimizer.step()
    for handle in handles:
        handle.remove()
    moved = float(leaf.detach().sum())
    assert seen == [("before", True, True, (), {}, started), ("after", True, True, (), {}, moved)]
    assert moved < started
    with torch.profiler.profile() as profile:
        assert optimizer.step(lambda: 3.0) == 3.0
    assert "Optimizer.step#SGD.step" in {event.key for event in profile.key_averages()}
    assert len(seen) == 2


def test_counted_steps_are_there_whenever_somebody_looks(backend):
    """In the state, in `state_dict`, after a step in which one parameter had no gradient, and after a copy."""
    moving = leaves()[:2]
    optimizer = AdamW(moving, backend=backend)
    for both in (True, True, False, True):
        moving[0].grad = torch.ones_like(moving[0])
        moving[1].grad = torch.ones_like(moving[1]) if both else None
        optimizer.step()
    copied = copy.deepcopy(optimizer)
    found = [entry["step"] for entry in copied.state_dict()["state"].values()]
    assert [float(step) for step in found] == [4.0, 3.0]
    assert [optimizer.state[leaf]["step"] for leaf in moving] == [4, 3]
    optimizer.state[moving[0]]["step"] = 10
    optimizer.step()
    assert [optimizer.state[leaf]["step"] for leaf in moving] == [11, 4]


def with_gradients_in(dtype, leaf):
    """The leaf with a gradient that only float32 holds, in this type."""
    leaf.grad_dtype = dtype
    leaf.grad = torch.linspace(1e-3, 2e-3, leaf.numel()).to(dtype)
    return leaf


def test_gradients_of_a_finer_type_are_not_rounded():
    """`grad_dtype` float32 beside a bfloat16 parameter: plain torch moves it; what comes too late is refused."""
    kept = []
    for backend in ("auto", "reference"):
        leaf = with_gradients_in(torch.float32, nn.Parameter(torch.ones(64, dtype=torch.bfloat16)))
        optimizer = SGD([leaf], 1.0, momentum=0.9, backend=backend)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            optimizer.step()
        assert optimizer.grad_norm == pytest.approx(float(leaf.grad.double().norm()), rel=1e-12)
        kept.append([leaf, optimizer.state[leaf]["remainder"], optimizer.state[leaf]["momentum_buffer"]])
        assert torch.equal(kept[-1][2], leaf.grad)
    assert all(torch.equal(one, other) for one, other in zip(*kept, strict=True))
    if cpu.module() is not None:
        late = nn.Parameter(torch.ones(64, dtype=torch.bfloat16))
        late.grad = torch.ones_like(late)
        optimizer = SGD([late], 1.0, backend="native")
        optimizer.step()
        late.grad = None
        with_gradients_in(torch.float32, late)
        with pytest.raises(RuntimeError, match="finer than its parameter"):
            optimizer.step()


@needs_kernels
def test_kernels_take_gradients_of_a_coarser_type():
    """bfloat16 beside float32 parameters: nothing is rounded, and the bits are the reference's."""
    moved = []
    for backend in ("native", "reference"):
        moved.append(with_gradients_in(torch.bfloat16, nn.Parameter(torch.ones(64))))
        AdamW(moved[-1:], 0.1, backend=backend).step()
    assert same(moved[:1], moved[1:])


def test_parameters_that_are_no_leaves_move(backend):
    """torch lets an optimizer hold tensors that keep their gradients."""
    moving = (torch.ones(10, requires_grad=True) * 2).requires_grad_()
    moving.retain_grad()
    moving.sum().backward()
    SGD([moving], 0.5, backend=backend).step()
    assert torch.equal(moving, torch.full((10,), 1.5))


def test_sparse_gradients_and_complex_parameters_are_refused(backend):
    """By the optimizer's name, not by a crash."""
    table = nn.Embedding(5, 3, sparse=True)
    optimizer = AdamW(table.parameters(), backend=backend)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="gradients must be dense"):
        optimizer.step()
    with pytest.raises(ValueError, match="dense and real"):
        AdamW([nn.Parameter(torch.zeros(2, dtype=torch.complex64))], backend=backend)


def test_memory_of_bfloat16_with_codes_is_below_seven_bytes_a_parameter():
    """Weights, gradients and state together."""
    leaf = nn.Parameter(torch.zeros(1 << 16, dtype=torch.bfloat16))
    optimizer = AdamW([leaf], state_dtype="int8")
    walk(optimizer, [leaf], range(2))
    state = [value for value in optimizer.state[leaf].values() if torch.is_tensor(value)]
    assert sum(t.numel() * t.element_size() for t in (leaf, leaf.grad, *state)) <= 7 * leaf.numel()


@pytest.mark.parametrize("wrong", [{"state_dtype": "float8"}, {"backend": "gpu"}, {"anchor": -1.0}])
def test_option_that_does_not_exist_is_refused(wrong):
    """With its name and value."""
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"AdamW: {name} must be .*, and is {value!r}"):
        AdamW(leaves(), **wrong)


def test_sgd_refuses_what_does_not_go_together():
    """Nesterov's momentum without momentum; and momentum for one group of an optimizer that keeps none."""
    with pytest.raises(ValueError, match="nesterov"):
        SGD(leaves(), nesterov=True)
    with pytest.raises(ValueError, match="a group has momentum"):
        SGD([{"params": leaves(), "momentum": 0.9}])


@needs_kernels
def test_kernels_are_the_default_for_what_they_can_move():
    """float32 and bfloat16 on the CPU; float64 goes the other way, and says so where the kernels were asked for."""
    for dtype, taken in ((torch.float32, True), (torch.bfloat16, True), (torch.float64, False)):
        moving = leaves(dtype)
        optimizer = AdamW(moving)
        walk(optimizer, moving, range(1))
        assert (optimizer._cpu is not None) == taken
    with pytest.raises(ValueError, match="backend='native', but the kernels move float32 and bfloat16"):
        walk(AdamW(moving, backend="native"), moving, range(1))


@needs_kernels
def test_kernels_leave_tensors_alone_that_keep_their_numbers_elsewhere():
    """A subclass may be a shard, or have no memory of its own; the reference goes through its operations."""

    class Odd(torch.Tensor):
        pass

    leaf = torch.ones(3).as_subclass(Odd).requires_grad_()
    leaf.grad = torch.ones(3).as_subclass(Odd)
    optimizer = AdamW([leaf], 0.1)
    kernels.warn_once.cache_clear()
    with pytest.warns(RuntimeWarning, match="not Odd"):
        optimizer.step()
    assert optimizer._cpu is None
    assert (leaf < 1).all()
    with pytest.raises(ValueError, match="not Odd"):
        AdamW([leaf], backend="native").step()


@needs_kernels
def test_step_goes_on_after_its_state_was_replaced(backend):
    """As tools for sharded training do: what is in `state` counts."""
    moving, straight = leaves(), leaves()
    one, other = AdamW(moving, 0.05, backend=backend), AdamW(straight, 0.05, backend=backend)
    walk(one, moving, range(2))
    for leaf in moving:
        one.state[leaf] = {k: v.clone() if torch.is_tensor(v) else v for k, v in one.state[leaf].items()}
    walk(one, moving, range(2, 4))
    walk(other, straight, range(4))
    assert same(moving, straight)
    assert all(
        torch.equal(one.state[a]["exp_avg"], other.state[b]["exp_avg"])
        for a, b in zip(moving, straight, strict=True)
    )


@pytest.mark.parametrize("what", ["one state", "one tensor", "memory", "all"])
def test_step_sees_state_that_somebody_changed(what, backend):
    """As a user puts another moment in the place of one, another process shares the memory, or a state is thrown away:
    the next step works with what is there."""
    moving, straight = leaves(), leaves()
    one, other = AdamW(moving, 0.05, backend=backend), AdamW(straight, 0.05, backend="reference")
    walk(one, moving, range(2))
    walk(other, straight, range(2))
    for optimizer, last in ((one, moving[-1]), (other, straight[-1])):
        if what == "one state":
            kept = optimizer.state[last]
            optimizer.state[last] = {**kept, "exp_avg": torch.ones_like(kept["exp_avg"])}
        elif what == "one tensor":
            optimizer.state[last]["exp_avg"] = torch.ones_like(last.detach())
        elif what == "memory":
            optimizer.state[last]["exp_avg"].share_memory_()
        else:
            optimizer.state.clear()
    walk(one, moving, range(2, 4))
    walk(other, straight, range(2, 4))
    for a, b in zip(moving, straight, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
        assert torch.equal(one.state[a]["exp_avg"], other.state[b]["exp_avg"])


def test_parameter_that_took_another_s_place_moves(backend):
    """In its group and with its state, as tools do that cut or grow a parameter."""
    moving = leaves()
    optimizer = AdamW([{"params": [leaf]} for leaf in moving], 0.05, backend=backend)
    walk(optimizer, moving, range(1))
    old = moving[2]
    moving[2] = nn.Parameter(old.detach().clone())
    optimizer.state[moving[2]] = optimizer.state.pop(old)
    optimizer.param_groups[2]["params"][0] = moving[2]
    before = moving[2].detach().clone()
    walk(optimizer, moving, range(1, 2))
    assert not torch.equal(before, moving[2])
    assert len(optimizer.state_dict()["state"]) == len(moving)


@needs_kernels
def test_parameter_that_was_cut_where_it_lies_is_no_longer_the_one_that_was_given():
    """Its address is the same; its state is too large for it."""
    leaf = nn.Parameter(torch.ones(30, 4))
    optimizer = AdamW([leaf], 0.05, backend="native")
    walk(optimizer, [leaf], range(1))
    whole = leaf.detach()
    leaf.data = leaf.data[:10]
    leaf.grad = None
    before = whole.clone()
    with pytest.raises(ValueError, match=r"state 'exp_avg' is .*30, 4.* build the optimizer after"):
        walk(optimizer, [leaf], range(1))
    assert torch.equal(whole, before)


@needs_kernels
@pytest.mark.parametrize("change", ["dtype", "layout"])
def test_state_that_no_longer_fits_is_refused(change):
    """The kernels would read it as something else."""
    model = nn.Conv2d(3, 4, 3, bias=False, dtype=torch.bfloat16)
    optimizer = AdamW(model.parameters(), anchor=0.1, backend="native")
    model.float() if change == "dtype" else model.to(memory_format=torch.channels_last)
    model.weight.grad = torch.ones_like(model.weight)
    for _ in range(2):  # the second step, too
        with pytest.raises(ValueError, match="build the optimizer after the model was converted"):
            optimizer.step()


def test_average_from_torch_s_state_is_kept_in_full_precision(backend):
    """Torch rounds it to the parameter's type on its way."""
    moving = leaves(torch.bfloat16)
    first = AdamW(moving, 0.05, ema_decay=0.9, backend=backend)
    walk(first, moving, range(2))
    torchs = torch.optim.AdamW(moving)
    torchs.load_state_dict(first.state_dict())
    last = AdamW(moving, 0.05, backend=backend)
    last.load_state_dict(torchs.state_dict())
    walk(last, moving, range(2, 4))
    assert all(last.state[leaf]["ema"].dtype == torch.float32 for leaf in moving)
    assert all(bool(leaf.isfinite().all()) for leaf in moving)


def test_codes_meet_their_own_blocks_in_another_layout(backend):
    """Blocks lie in the order of memory, which differs between the one who saved and the one who loads."""
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(64, 64, 3, 3, generator=rng) * torch.logspace(-3, 3, 64)[:, None, None, None]
    saved = nn.Parameter(values.clone(memory_format=torch.channels_last))
    loaded = nn.Parameter(values.clone())
    one = AdamW([saved], state_dtype="int8", backend=backend)
    saved.grad = saved.detach().clone()
    one.step()
    other = AdamW([loaded], state_dtype="int8", backend=backend)
    other.load_state_dict(one.state_dict())
    read = [o.state_dict(format="torch")["state"][0]["exp_avg"] for o in (one, other)]
    torch.testing.assert_close(read[0].contiguous(), read[1].contiguous(), rtol=0.2, atol=1e-4)


def test_start_of_the_first_parameters_is_not_that_of_later_ones(backend):
    """A group that comes later starts where it is."""
    first, later = leaves()[0], leaves(seed=1)[0]
    optimizer = AdamW([first], anchor=0.1, anchor_to=[torch.zeros_like(first)], backend=backend)
    optimizer.add_param_group({"params": [later]})
    assert torch.equal(optimizer.state[later]["anchor_to"], later)
    with pytest.raises(ValueError, match="each has its own anchor_to"):
        AdamW([{"params": [first]}, {"params": [later]}], anchor=0.1, anchor_to=[first])
    with pytest.raises(ValueError, match="one tensor of the same shape"):
        optimizer.add_param_group({"params": [leaves(seed=2)[0]], "anchor_to": []})
    assert len(optimizer.param_groups) == 2


def test_momentum_that_comes_later_is_refused(backend):
    """It would be left out without a word."""
    (leaf, *_) = leaves()
    optimizer = SGD([leaf], 0.1, backend=backend)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10)
    leaf.grad = torch.ones_like(leaf)
    with pytest.raises(ValueError, match="momentum was raised from 0 after construction"):
        optimizer.step()


def test_group_without_momentum_is_not_dampened(backend):
    """As in torch."""
    mine, theirs = leaves(), leaves()
    for optimizer, moving in ((SGD, mine), (torch.optim.SGD, theirs)):
        groups = [{"params": moving[:2], "momentum": 0.0}, {"params": moving[2:]}]
        more = {"backend": backend} if optimizer is SGD else {}
        walk(optimizer(groups, 0.05, momentum=0.9, dampening=0.5, **more), moving, range(4))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_gradient_of_two_parameters_is_cleared_after_both(backend):
    """Not between them."""
    one, other = (nn.Parameter(torch.ones(50)) for _ in range(2))
    one.grad = other.grad = torch.ones(50)
    AdamW([one, other], 0.1, zero_grads=True, backend=backend).step()
    assert torch.equal(one, other)
    assert not one.grad.any()


@needs_kernels
def test_parameters_that_share_memory_are_left_to_the_reference():
    """Two threads would write to the same place."""
    one = nn.Parameter(torch.ones(50))
    optimizer = AdamW([one, nn.Parameter(one.data)], backend="native")
    one.grad = torch.ones(50)
    with pytest.raises(ValueError, match="two share theirs"):
        optimizer.step()


def test_step_without_any_gradient_changes_nothing(backend):
    """Nor does it fail where gradients are to be cleared."""
    moving = leaves()
    AdamW(moving, zero_grads=True, backend=backend).step()
    assert same(moving, leaves())


def test_page_for_users_works_as_it_is():
    """Its example runs, and its names exist."""
    page = (Path(__file__).parents[2] / "docs" / "guide" / "optimizers.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(example, names)  # noqa: S102 (our own page)
    assert names["optimizer"].skipped_steps == 0


def test_without_kernels_it_works_and_says_so_once(monkeypatch):
    """A warning at the first step, none after; and who asks for the kernels is told how to get them."""
    monkeypatch.setattr(cpu, "module", lambda: None)
    kernels.warn_once.cache_clear()
    moving = leaves()
    optimizer = AdamW(moving, backend="auto")
    with pytest.warns(RuntimeWarning, match="not built.*plain torch") as caught:
        walk(optimizer, moving, range(1))
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        walk(optimizer, moving, range(1))
        other = leaves()
        walk(AdamW(other), other, range(1))
    kernels.warn_once.cache_clear()
    with pytest.raises(ValueError, match="with a C\\+\\+ compiler on the path"):
        walk(AdamW(moving, backend="native"), moving, range(1))
    assert "reference only" in cpu.available()
