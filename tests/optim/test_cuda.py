"""The kernels for NVIDIA GPUs, where there is one:

pip install -e '.[test]' && python -m pytest tests/optim/test_cuda.py
"""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from core.optim import SGD, AdamW, cuda

pytestmark = pytest.mark.skipif(
    cuda.library() is None or not torch.cuda.is_available(),
    reason="needs a GPU, and the kernels for it, which are built where nvcc is on the path",
)
SIZES = [1, 0, 7, 8, 9, 255, 256, 257, 4095, 4096, 4097, 100_003]
MAKES = {
    "adamw": lambda p, b, kept: AdamW(
        p, 0.1, weight_decay=0.1, anchor=0.3, ema_decay=0.9, state_dtype=kept, backend=b
    ),
    "sgd": lambda p, b, kept: SGD(p, 0.1, 0.9, 0.3, 0.1, state_dtype=kept, backend=b),
    "plain": lambda p, b, kept: SGD(
        p, 0.1, weight_decay=0.1, anchor=0.3, ema_decay=0.9, state_dtype=kept, backend=b
    ),
}


def values(seed, dtype, device):
    rng = torch.Generator().manual_seed(seed)
    wholes = [torch.randn(size + 9, generator=rng).to(dtype).to(device) for size in SIZES]
    return [whole[i % 9 : i % 9 + size] for i, (whole, size) in enumerate(zip(wholes, SIZES, strict=True))]


def moved(make, backend, dtype, device, kept, steps=3):
    leaves = [nn.Parameter(value) for value in values(0, dtype, device)]
    optimizer = make(leaves, backend, kept)
    for step in range(steps):
        for i, (leaf, gradient) in enumerate(zip(leaves, values(1 + step, dtype, device), strict=True)):
            leaf.grad = None if step == 1 and i in (1, 4) else gradient
        optimizer.step()
    state = optimizer.state_dict()["state"]
    everything = [value.cpu() for i in range(len(leaves)) for value in state[i].values()]
    return [leaf.detach().cpu() for leaf in leaves] + everything


@pytest.mark.parametrize("kept", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", MAKES)
def test_bits_are_those_of_the_reference_on_the_cpu(name, dtype, kept):
    """State and step counts too. Without clipping, whose norm is summed in another order; aligned and not, whole
    vectors and tails, and some without a gradient in one step."""
    there = moved(MAKES[name], "auto", dtype, "cuda", kept)
    here = moved(MAKES[name], "reference", dtype, "cpu", kept)
    assert len(there) == len(here)
    assert all(torch.equal(a, b) for a, b in zip(there, here, strict=True))


def test_kernels_are_what_runs_by_default():
    """For parameters on a GPU, in any dense layout; the message says why where they cannot."""
    weight = nn.Parameter(torch.ones(2, 3, 4, 5, device="cuda").to(memory_format=torch.channels_last))
    optimizer = AdamW([weight])
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert optimizer._cuda is not None
    with pytest.raises(ValueError, match="float64"):
        AdamW([nn.Parameter(torch.ones(3, device="cuda").double())], backend="native").step()


def test_gradient_in_another_layout_and_one_for_two_parameters():
    """Give what the reference gives, and are cleared afterwards, not before both have been used."""
    found = []
    for backend in ("native", "reference"):
        one, two = (nn.Parameter(torch.ones(64, 48, device="cuda")) for _ in range(2))
        optimizer = AdamW([one, two], 0.1, zero_grads=True, backend=backend)
        one.grad = torch.randn(48, 64, generator=torch.Generator().manual_seed(0)).cuda().t()
        optimizer.step()
        assert not one.grad.any()
        one.grad = two.grad = torch.linspace(-1, 1, 64 * 48, device="cuda").reshape(64, 48)
        optimizer.step()
        assert not one.grad.any()
        found.append((one.detach(), two.detach()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_sparse_gradient_is_refused():
    """By name, and nothing has moved."""
    table = nn.Embedding(10, 4, sparse=True, device="cuda")
    before = table.weight.detach().clone()
    optimizer = AdamW(table.parameters())
    table(torch.tensor([1, 2], device="cuda")).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    assert torch.equal(before, table.weight.detach())


def test_model_that_moves_to_the_gpu_takes_its_optimizer_along():
    """Built on the CPU, one step there, the next on the GPU: the bits of two steps on the CPU."""
    found = []
    for device in ("cpu", "cuda"):
        model = nn.Linear(70, 70, bias=False)
        nn.init.constant_(model.weight, 0.5)
        optimizer = AdamW(model.parameters(), 0.1, anchor=0.5, ema_decay=0.9, check=False)
        for place in ("cpu", device):
            model.to(place)
            model.weight.grad = torch.linspace(-1, 1, 4900).reshape(70, 70).to(place)
            optimizer.step()
        found.append(model.weight.detach().cpu())
    assert torch.equal(*found)


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "state_dict", "torch"])
def test_copy_goes_on_as_the_original_does(how):
    """After steps whose counts were still the device's; by way of torch's own AdamW too."""
    leaf = nn.Parameter(torch.linspace(-1, 1, 5000, device="cuda"))
    optimizer = AdamW([leaf], 0.1, ema_decay=0.9)
    for _ in range(2):
        leaf.grad = leaf.detach().cos()
        optimizer.step()
    if how in ("deepcopy", "pickle"):
        other = copy.deepcopy(optimizer) if how == "deepcopy" else pickle.loads(pickle.dumps(optimizer))  # noqa: S301
        its = other.param_groups[0]["params"][0]
    else:
        its = nn.Parameter(leaf.detach().clone())
        state = optimizer.state_dict()
        if how == "torch":
            between = torch.optim.AdamW([nn.Parameter(leaf.detach().clone())], fused=True)
            between.load_state_dict(state)
            state = between.state_dict()
        other = AdamW([its], 0.1, ema_decay=0.9)
        other.load_state_dict(state)
    for p, o in ((leaf, optimizer), (its, other)):
        p.grad = p.detach().sin()
        o.step()
    assert torch.equal(leaf, its)
    assert torch.equal(optimizer.state[leaf]["ema"], other.state[its]["ema"])
    assert float(other.state_dict()["state"][0]["step"]) == 3.0


def test_grad_scaler_unscales_and_leaves_out_steps():
    """Its scale and its verdict are read on the device; the moves are those of gradients that were never scaled."""
    found = []
    for scaled in (True, False):
        leaf = nn.Parameter(torch.linspace(-1, 1, 5000, device="cuda"))
        optimizer = AdamW([leaf], 0.1, max_grad_norm=1.0)
        scaler = torch.amp.GradScaler("cuda", init_scale=1024.0, enabled=scaled)
        for step in range(3):
            leaf.grad = None
            loss = (leaf * leaf).sum() * (math.inf if scaled and step == 1 else 1.0)
            if scaled or step != 1:
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
        assert optimizer.skipped_steps == scaled
        found.append(leaf.detach())
    assert torch.equal(*found)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_step_with_a_gradient_that_is_not_finite_changes_nothing(bad):
    """Decided on the device; the counts are right once they are asked for."""
    leaf = nn.Parameter(torch.ones(5000, device="cuda"))
    optimizer = AdamW([leaf], 0.1, max_grad_norm=1.0, zero_grads=True, backend="native")
    leaf.grad = torch.ones_like(leaf)
    optimizer.step()
    before = leaf.detach().clone()
    leaf.grad = torch.ones_like(leaf)
    leaf.grad[-1] = bad
    optimizer.step()
    assert torch.equal(leaf.detach(), before)
    assert not leaf.grad.any()
    assert optimizer.skipped_steps == 1
    assert float(optimizer.clip_factor) == 0.0
    assert float(optimizer.state_dict()["state"][0]["step"]) == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_norm_is_that_of_all_gradients(dtype):
    """And the clip factor what torch's would be; twice the same bits."""
    leaves = [nn.Parameter(value) for value in values(0, dtype, "cuda")]
    optimizer = AdamW(leaves, max_grad_norm=1.0, backend="native")
    norms = []
    for _ in range(2):
        for leaf, gradient in zip(leaves, values(1, dtype, "cuda"), strict=True):
            leaf.grad = gradient
        optimizer.step()
        norms.append(float(optimizer.grad_norm))
    wanted = math.sqrt(sum(float(g.double().square().sum()) for g in values(1, dtype, "cpu")))
    assert norms[0] == norms[1] == pytest.approx(wanted, rel=1e-12)
    assert float(optimizer.clip_factor) == pytest.approx(1 / (wanted + 1e-6), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_element_of_a_tensor_beyond_two_to_the_31_moves(dtype):
    """By as much as the first."""
    free = torch.cuda.mem_get_info()[0]
    if free < 40 * 2**30:
        pytest.skip(f"needs 40 GiB of the GPU's memory, and {free >> 30} are free")
    leaf = nn.Parameter(torch.zeros(2**31 + 4099, dtype=dtype, device="cuda"))
    leaf.grad = torch.ones_like(leaf)
    optimizer = AdamW([leaf], 0.5, max_grad_norm=1.0, zero_grads=True, backend="native")
    optimizer.step()
    assert float(optimizer.grad_norm) == pytest.approx(math.sqrt(leaf.numel()), rel=1e-12)
    low, high = torch.aminmax(leaf.detach())
    assert float(low) == float(high) == pytest.approx(-0.5, rel=1e-3)
    assert not leaf.grad.any()


def test_graph_replays_the_step():
    """Captured once, replayed thrice: the bits of four steps; the host reads nothing on the way."""
    gradients = [value.clone() for value in values(1, torch.float32, "cuda")]
    results = []
    for captured in (True, False):
        leaves = [nn.Parameter(value.clone()) for value in values(0, torch.float32, "cuda")]
        optimizer = AdamW(leaves, 0.1, max_grad_norm=1.0, backend="native")
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = gradient
        optimizer.step()
        if captured:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                optimizer.step()
            for _ in range(3):
                graph.replay()
        else:
            for _ in range(3):
                optimizer.step()
        results.append([leaf.detach().clone() for leaf in leaves])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_step_waits_for_its_own_stream():
    """A gradient that comes late on another stream is the one that is used."""
    leaf = nn.Parameter(torch.zeros(1 << 20, device="cuda"))
    optimizer = SGD([leaf], 1.0, backend="native")
    leaf.grad = torch.zeros_like(leaf)
    optimizer.step()
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)
        leaf.grad.fill_(1.0)
        optimizer.step()
    torch.cuda.synchronize()
    assert (leaf == -1.0).all()
