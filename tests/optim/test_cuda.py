"""The kernels for NVIDIA GPUs, where there is one:

TAOKE_CUDA=1 pip install -e '.[test]' && python -m pytest tests/optim/test_cuda.py
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from core.optim import SGD, AdamW, cuda

pytestmark = pytest.mark.skipif(
    cuda.library() is None or not torch.cuda.is_available(),
    reason="needs a GPU, and an installation with TAOKE_CUDA=1",
)
SIZES = [1, 0, 7, 8, 9, 255, 256, 257, 4095, 4096, 4097, 100_003]
MAKES = {
    "adamw": lambda p, b, kept: AdamW(
        p, 0.1, weight_decay=0.1, anchor=0.3, ema_decay=0.9, state_dtype=kept, backend=b
    ),
    "sgd": lambda p, b, kept: SGD(p, 0.1, 0.9, 0.3, 0.1, state_dtype=kept, backend=b),
}


def values(seed, dtype, device):
    rng = torch.Generator().manual_seed(seed)
    wholes = [torch.randn(size + 9, generator=rng).to(dtype).to(device) for size in SIZES]
    return [whole[i % 9 : i % 9 + size] for i, (whole, size) in enumerate(zip(wholes, SIZES, strict=True))]


def moved(make, backend, dtype, device, kept, steps=3):
    leaves = [nn.Parameter(value) for value in values(0, dtype, device)]
    optimizer = make(leaves, backend, kept)
    for step in range(steps):
        for leaf, gradient in zip(leaves, values(1 + step, dtype, device), strict=True):
            leaf.grad = gradient
        optimizer.step()
    state = [v.cpu() for leaf in leaves for v in optimizer.state[leaf].values() if torch.is_tensor(v)]
    return [leaf.detach().cpu() for leaf in leaves] + state


@pytest.mark.parametrize("kept", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", MAKES)
def test_bits_are_those_of_the_reference_on_the_cpu(name, dtype, kept):
    """Without clipping, whose norm is summed in another order; aligned and not, whole vectors and tails."""
    there = moved(MAKES[name], "native", dtype, "cuda", kept)
    here = moved(MAKES[name], "reference", dtype, "cpu", kept)
    assert all(torch.equal(a, b) for a, b in zip(there, here, strict=True))


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


def test_norm_is_that_of_all_gradients():
    """And the clip factor what torch's would be; twice the same bits."""
    leaves = [nn.Parameter(value) for value in values(0, torch.float32, "cuda")]
    optimizer = AdamW(leaves, max_grad_norm=1.0, backend="native")
    norms = []
    for _ in range(2):
        for leaf, gradient in zip(leaves, values(1, torch.float32, "cuda"), strict=True):
            leaf.grad = gradient
        optimizer.step()
        norms.append(float(optimizer.grad_norm))
    wanted = math.sqrt(sum(float(g.double().square().sum()) for g in values(1, torch.float32, "cpu")))
    assert norms[0] == norms[1] == pytest.approx(wanted, rel=1e-12)
    assert float(optimizer.clip_factor) == pytest.approx(1 / (wanted + 1e-6), rel=1e-12)


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
