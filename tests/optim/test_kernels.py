"""The kernels against the formula in double precision, against the reference to the bit, and broken on purpose to see
that these tests would notice."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from core.optim import SGD, AdamW, codes, cpu

ROOT = Path(__file__).parents[2]
SIZES = [
    0,
    1,
    7,
    8,
    9,
    15,
    16,
    17,
    31,
    32,
    33,
    0,
    63,
    64,
    65,
    127,
    128,
    129,
    255,
    256,
    257,
    1000,
    4095,
    4096,
    4097,
    0,
]
LARGE = 100_003
STEPS = [
    {
        "lr": 1e-2,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "wd": 0.1,
        "anchor": 0.3,
        "d": 0.9,
        "step": 1,
        "max_norm": 1.0,
    },
    {
        "lr": 1.0,
        "betas": (0.1, 0.25),
        "eps": 1e-3,
        "wd": 0.3,
        "anchor": 0.2,
        "d": 0.5,
        "step": 2,
        "max_norm": 3.0,
    },
    {
        "lr": 0.1,
        "betas": (0.0, 0.9),
        "eps": 1e-5,
        "wd": 0.0,
        "anchor": 0.0,
        "d": None,
        "step": 1000,
        "max_norm": None,
    },
    {
        "lr": 0.3,
        "betas": (0.95, 0.99),
        "eps": 1e-8,
        "wd": 0.5,
        "anchor": 0.7,
        "d": 0.8,
        "step": 10**6,
        "max_norm": 1e9,
    },
]
BUILT = cpu.module()
ISAS = BUILT.usable() if BUILT else []

pytestmark = pytest.mark.skipif(BUILT is None, reason="the kernels were not built")


@pytest.fixture(autouse=True)
def _threads():
    """As many threads afterwards as before."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def use_isa(monkeypatch):
    """Have the kernels of one instruction set run."""
    return lambda isa: monkeypatch.setenv("TAOKE_ISA", isa)


def numbers(sizes, seed, dtype=torch.float32):
    """Tensors of these sizes, each starting at another offset in a larger one."""
    rng = torch.Generator().manual_seed(seed)
    made = []
    for i, size in enumerate(sizes):
        whole = torch.randn(size + 16, generator=rng).to(dtype)
        made.append(whole[i % 16 : i % 16 + size])
    return made


def at_step(optimizer, step, seed=5):
    """Put the optimizer where it has taken all steps but the last, with moments that are not zero."""
    rng = torch.Generator().manual_seed(seed)
    for state in optimizer.state.values():
        state["step"] = step - 1
        for name in ("exp_avg", "momentum_buffer"):
            if name in state:
                state[name].copy_(torch.randn(state[name].shape, generator=rng))
        if "exp_avg_sq" in state:
            state["exp_avg_sq"].copy_(torch.rand(state["exp_avg_sq"].shape, generator=rng) + 1e-3)
        if "ema" in state:
            state["ema"].copy_(torch.randn(state["ema"].shape, generator=rng))


def wide(tensor):
    return tensor.detach().double().numpy()


def close(name, got, wanted, old, size):
    """Within two units in the last place of the value, and of the size of what was added to it."""
    got, wanted, size = (np.asarray(x, dtype=np.float64) for x in (got, wanted, size))
    allowed = 2 * np.spacing(np.abs(wanted).astype(np.float32)).astype(np.float64) + 8 * 2.0**-24 * size
    worst = np.abs(got - wanted) / allowed
    assert not len(worst) or worst.max() <= 1, (
        f"{name}: element {worst.argmax()} is {worst.max()} times what is allowed"
    )
    moved = wanted - np.asarray(old, dtype=np.float64)
    if len(moved) > 100:
        rounding = np.spacing(np.abs(wanted).astype(np.float32)).astype(np.float64)
        assert np.square(got - wanted).sum() < 1e-10 * np.square(moved).sum() + np.square(rounding).sum(), (
            name
        )


def check_formula(given, sizes=SIZES):
    """One step of AdamW from random moments, on the differences it makes."""
    leaves = [nn.Parameter(values) for values in numbers(sizes, 1)]
    starts = numbers(sizes, 2)
    optimizer = AdamW(
        [{"params": leaves, "anchor_to": starts}],
        lr=given["lr"],
        betas=given["betas"],
        eps=given["eps"],
        weight_decay=given["wd"],
        anchor=given["anchor"],
        ema_decay=given["d"],
        max_grad_norm=given["max_norm"],
        zero_grads=True,
        backend="native",
    )
    at_step(optimizer, given["step"])
    for leaf, gradient in zip(leaves, numbers(sizes, 3), strict=True):
        leaf.grad = gradient
    before = [
        (
            wide(leaf).copy(),
            wide(leaf.grad).copy(),
            {k: wide(v).copy() for k, v in state.items() if k != "step"},
        )
        for leaf, state in optimizer.state.items()
    ]
    optimizer.step()

    norm = math.sqrt(sum(float(np.square(gradient).sum()) for _, gradient, _ in before))
    assert optimizer.grad_norm == pytest.approx(norm, rel=1e-13)
    clip = 1.0 if given["max_norm"] is None else min(1.0, given["max_norm"] / (norm + 1e-6))
    assert optimizer.clip_factor == pytest.approx(clip, rel=1e-13)
    (beta1, beta2), t, lr = given["betas"], given["step"], given["lr"]
    for leaf, (old, gradient, state) in zip(leaves, before, strict=True):
        new = optimizer.state[leaf]
        g, m, v = gradient * clip, state["exp_avg"], state["exp_avg_sq"]
        mean, square = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        close("mean", wide(new["exp_avg"]), mean, m, (1 - beta1) * (abs(g) + abs(m)))
        close("square", wide(new["exp_avg_sq"]), square, v, (1 - beta2) * (g * g + v))
        below = np.sqrt(square / (1 - beta2**t)) + given["eps"]
        terms = [lr / (1 - beta1**t) * mean / below, lr * given["wd"] * old]
        sizes_of = [lr / (1 - beta1**t) * (abs(m) + abs(g)) / below, abs(terms[1])]
        if given["anchor"]:
            terms.append(lr * given["anchor"] * (old - state["anchor_to"]))
            sizes_of.append(abs(terms[2]))
        value = old - sum(terms)
        close("parameter", wide(leaf), value, old, sum(sizes_of))
        if given["d"] is not None:
            e = state["ema"]
            close(
                "average",
                wide(new["ema"]),
                given["d"] * e + (1 - given["d"]) * value,
                e,
                sum(sizes_of) + abs(old) + abs(e),
            )
        assert new["step"] == t
        assert not leaf.grad.any()


def check_momentum(nesterov=True):
    """Three steps of SGD with Nesterov's momentum."""
    (leaf,) = (nn.Parameter(values) for values in numbers([1000], 1))
    optimizer = SGD([leaf], lr=0.5, momentum=0.9, nesterov=nesterov, weight_decay=0.1, backend="native")
    value, mean = wide(leaf).copy(), np.zeros(1000)
    for seed in range(3):
        leaf.grad = numbers([1000], 10 + seed)[0]
        g = wide(leaf.grad) + 0.1 * value
        optimizer.step()
        mean = 0.9 * mean + g
        value = value - 0.5 * (g + 0.9 * mean if nesterov else mean)
        np.testing.assert_allclose(wide(leaf), value, rtol=1e-5, atol=1e-5)


def check_narrow():
    """bfloat16 with the bits it lacks moves as float32 does."""
    start = numbers([300], 1)[0].bfloat16()
    narrow, full = nn.Parameter(start.clone()), nn.Parameter(start.float())
    one, other = (AdamW([leaf], lr=1e-4, backend="native") for leaf in (narrow, full))
    for seed in range(5):
        gradient = numbers([300], 10 + seed)[0].bfloat16()
        narrow.grad, full.grad = gradient, gradient.float()
        one.step()
        other.step()
    assert torch.equal(codes.join(narrow.detach(), one.state[narrow]["remainder"]), full.detach())


def check_codes():
    """A mean square that is positive is none that is 0, however small it is beside its neighbours'."""
    leaf = nn.Parameter(torch.zeros(4096))
    optimizer = AdamW([leaf], state_dtype="int8", backend="native")
    leaf.grad = torch.full((4096,), 1e-6)
    leaf.grad[::256] = 1.0
    optimizer.step()
    assert (optimizer.state[leaf]["exp_avg_sq"] > 0).all()


def check_atomic(value=math.nan, place=-1):
    """A gradient that is not finite, even in the last element of all, changes nothing."""
    leaves = [nn.Parameter(values) for values in numbers([5000, 33], 1)]
    optimizer = AdamW(leaves, anchor=0.1, ema_decay=0.9, backend="native")
    for leaf in leaves:
        leaf.grad = torch.ones_like(leaf)
    optimizer.step()
    before = [leaf.detach().clone() for leaf in leaves]
    kept = [
        {k: v.clone() if torch.is_tensor(v) else v for k, v in s.items()} for s in optimizer.state.values()
    ]
    leaves[place].grad.view(-1)[place] = value
    optimizer.step()
    assert optimizer.skipped_steps == 1
    assert all(torch.equal(leaf, old) for leaf, old in zip(leaves, before, strict=True))
    for state, old in zip(optimizer.state.values(), kept, strict=True):
        assert all(torch.equal(v, old[k]) if torch.is_tensor(v) else v == old[k] for k, v in state.items())


def everything():
    """What each broken kernel has to fall over."""
    for given in STEPS:
        check_formula(given)
    check_momentum()
    check_narrow()
    check_codes()
    check_atomic()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("given", STEPS, ids=lambda given: f"step {given['step']}")
def test_step_is_the_formula_in_double_precision(use_isa, isa, given):
    """Parameters, both moments and the average; every size and offset, and none at the beginning, in between and at the
    end."""
    use_isa(isa)
    check_formula(given)
    check_formula(given, [LARGE])


@pytest.mark.parametrize("isa", ISAS)
def test_other_rules_and_narrow_numbers_are_right_on_every_instruction_set(use_isa, isa):
    """Momentum, bfloat16 with its remainder, codes, and steps that are left out."""
    use_isa(isa)
    check_momentum(nesterov=True)
    check_momentum(nesterov=False)
    check_narrow()
    check_codes()
    for value in (math.nan, math.inf, -math.inf):
        for place in (0, -1):
            check_atomic(value, place)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """The kernels with a switch for what is broken."""
    compiler = os.environ.get("CXX") or next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
    pybind11 = pytest.importorskip("pybind11")
    if compiler is None:
        pytest.skip("no C++ compiler")
    target = tmp_path_factory.mktemp("mutants") / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    sources = [ROOT / "csrc" / f"{name}.cpp" for name in ("bindings", "cpu/run", "cpu/threads", "cpu/scalar")]
    includes = [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_paths()['include']}"]
    flags = [
        "-std=c++17",
        "-O1",
        "-fPIC",
        "-shared",
        "-fvisibility=hidden",
        "-ffp-contract=off",
        "-Wno-psabi",
    ]
    flags += ["-DTAOKE_MUTANTS"]
    undefined = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-ldl"]
    subprocess.run(
        [compiler, *flags, *includes, *map(str, sources), "-o", str(target), *undefined], check=True
    )
    spec = importlib.util.spec_from_file_location("_native", target)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MUTANTS = {
    1: "nothing moves",
    2: "the tail of each stretch is missing",
    3: "nothing but the tail moves",
    4: "decay after the update",
    5: "no clip factor",
    6: "average of the old weights",
    7: "anchor on the new weights",
    8: "bias correction off by one",
    9: "no eps",
    10: "mean square of gradients before clipping",
    11: "beta1 for 1 - beta1",
    12: "no bias correction of the root",
    13: "gradients stay",
    14: "the norm lacks the tails",
    15: "away from the anchor",
    16: "no look ahead",
    17: "momentum is not kept",
    18: "no remainder",
    19: "codes round to 0",
    20: "the norm lacks the last stretch",
}


@pytest.mark.parametrize("number", [0, *MUTANTS], ids=lambda number: MUTANTS.get(number, "intact"))
def test_broken_kernel_is_caught(broken, monkeypatch, number):
    """Each way of being wrong makes a check above fail; the same build with nothing broken passes them all."""
    monkeypatch.setattr(cpu, "module", lambda: broken)
    monkeypatch.setenv("TAOKE_ISA", "scalar")
    broken.set_mutant(number)
    if number == 0:
        everything()
        return
    with pytest.raises(AssertionError):
        everything()


def test_every_mutant_of_the_source_has_a_name():
    """None is built and not tried."""
    import re

    text = "".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "csrc").rglob("*")
        if path.suffix in (".h", ".cpp")
    )
    assert {int(found) for found in re.findall(r"MUTANT\((\d+)\)", text)} == set(MUTANTS)


def trained(backend, make, dtype, sizes, steps=3, scale=1.0):
    """All that an optimizer moves and keeps, after some steps."""
    leaves = [nn.Parameter(values) for values in numbers(sizes, 1, dtype)]
    optimizer = make(leaves, backend)
    for step in range(steps):
        for leaf, gradient in zip(leaves, numbers(sizes, 10 + step, dtype), strict=True):
            leaf.grad = gradient * scale
        optimizer.step()
    state = [value for leaf in leaves for value in optimizer.state[leaf].values() if torch.is_tensor(value)]
    return [leaf.detach() for leaf in leaves] + state


OPTIMIZERS = {
    "adamw": lambda kept: (
        lambda p, b: AdamW(
            p,
            0.1,
            weight_decay=0.1,
            anchor=0.3,
            ema_decay=0.9,
            max_grad_norm=1.0,
            state_dtype=kept,
            backend=b,
        )
    ),
    "sgd": lambda kept: lambda p, b: SGD(p, 0.1, 0.9, 0.0, 0.1, True, state_dtype=kept, backend=b),
    "plain": lambda kept: lambda p, b: SGD(p, 0.1, anchor=0.2, state_dtype=kept, backend=b),
}


@pytest.mark.parametrize("kept", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_kernels_and_reference_agree_to_the_bit(use_isa, name, dtype, kept):
    """On every instruction set, in every precision that states and parameters are kept in."""
    make, sizes = OPTIMIZERS[name](kept), [5, 0, 257, 4096, 5000, 10_001]
    wanted = trained("reference", make, dtype, sizes)
    for isa in ISAS:
        use_isa(isa)
        got = trained("native", make, dtype, sizes)
        assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True)), isa


@pytest.mark.parametrize("kept", ["float32", "int8"])
def test_bits_do_not_depend_on_threads(use_isa, kept):
    """Nor on the order in which threads come to their work: large enough that several do."""
    make, sizes = OPTIMIZERS["adamw"](kept), [200_003, 17, 300_001]
    results = []
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        for isa in ISAS:
            use_isa(isa)
            results.append(trained("native", make, torch.float32, sizes, steps=2))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("isa", ISAS)
def test_norm_counts_each_gradient_once_wherever_chunks_end(use_isa, isa):
    """Whole chunks are read several at a time, not across tensors of two types, missing gradients, or odd ends."""
    use_isa(isa)
    sizes = [4096 * 11, 4096, 4096 * 3, 4097, 4096 * 2, 5, 4096]
    narrow = [False, True, True, False, False, False, False]
    dtypes = [torch.bfloat16 if one else torch.float32 for one in narrow]
    values = [numbers([size], i, dtype)[0] for i, (size, dtype) in enumerate(zip(sizes, dtypes, strict=True))]
    leaves = [nn.Parameter(torch.zeros_like(value)) for value in values]
    for i, (leaf, value) in enumerate(zip(leaves, values, strict=True)):
        leaf.grad = None if i == 4 else value
    optimizer = AdamW(leaves, backend="native")
    optimizer.step()
    given = torch.cat([leaf.grad.double().flatten() for leaf in leaves if leaf.grad is not None])
    assert optimizer.grad_norm == pytest.approx(float(given.norm()), rel=1e-12)


@pytest.mark.parametrize("isa", ISAS)
def test_equal_elements_have_equal_results(use_isa, isa):
    """Wherever in a vector or in what is left over after the last one they stand."""
    use_isa(isa)
    for size in [*range(1, 70), 257, 1000]:
        leaf = nn.Parameter(torch.full((size,), 0.7))
        optimizer = AdamW([leaf], 0.1, weight_decay=0.1, anchor=0.3, ema_decay=0.9, backend="native")
        for value in (0.3, -1.7):
            leaf.grad = torch.full((size,), value)
            optimizer.step()
        for tensor in (leaf.detach(), *(optimizer.state[leaf][k] for k in ("exp_avg", "exp_avg_sq", "ema"))):
            assert (tensor == tensor[0]).all(), size


def test_order_of_the_parameters_changes_no_bit_of_theirs():
    """One arithmetic for all, wherever a tensor stands in the list; without clipping, which sums over all."""

    def run(order):
        leaves = {
            size: nn.Parameter(values)
            for size, values in zip((33, 5000, 7), numbers([33, 5000, 7], 1), strict=True)
        }
        optimizer = AdamW([leaves[size] for size in order], 0.1, anchor=0.1, backend="native")
        for leaf in leaves.values():
            leaf.grad = torch.linspace(-1, 1, len(leaf))
        optimizer.step()
        return leaves

    one, other = run((33, 5000, 7)), run((7, 33, 5000))
    assert all(torch.equal(one[size], other[size]) for size in one)


def test_two_threads_do_not_step_one_optimizer_at_once():
    """The second is told; addresses that change under the first would be written to where nothing is."""
    leaf = nn.Parameter(torch.zeros(20_000_000))
    leaf.grad = torch.ones_like(leaf)
    optimizer = AdamW([leaf], backend="native")
    optimizer.step()
    with ThreadPoolExecutor(2) as pool:
        steps = [pool.submit(optimizer.step) for _ in range(20)]
    failed = [step.exception() for step in steps if step.exception() is not None]
    assert failed
    assert all("two threads step one optimizer at once" in str(error) for error in failed)
    assert float(optimizer.state_dict()["state"][0]["step"]) == 21 - len(failed)


def test_process_has_one_openmp_runtime():
    """Torch's: the kernels bring none, whichever was imported first, and use its threads."""
    script = """
import {first}
import torch, core.optim._native as native
from core.optim import AdamW
leaf = torch.nn.Parameter(torch.ones(1 << 18)); leaf.grad = torch.ones(1 << 18)
torch.set_num_threads(2)
AdamW([leaf], backend="native").step()
names = ("libgomp", "libomp", "libiomp")
found = {{line.split()[-1] for line in open("/proc/self/maps") if any(name in line for name in names)}}
assert found == {{native.openmp()}}, (found, native.openmp())
assert "torch" in native.openmp(), native.openmp()
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    for first in ("torch", "core.optim"):
        subprocess.run([sys.executable, "-c", script.format(first=first)], check=True, cwd=ROOT)


def test_environment_chooses_the_instruction_set(use_isa):
    """And a name that cannot run is an error, not another set."""
    for isa in ISAS:
        use_isa(isa)
        assert cpu.isa() == isa
    use_isa("quantum")
    with pytest.raises(ValueError, match="TAOKE_ISA=quantum cannot run here"):
        cpu.isa()


# ------------------------------------------------------------------------------------------- narrow numbers


def test_codes_go_there_and_back():
    """All 256 of a mean and of a mean square, in order, zero at zero; the numbers they stand for are exact."""
    for scale in (1.0, 2.0**-100, 2.0**60):
        scales = torch.tensor([scale])
        for chance in (0, 0x8000, 0xFFFF):
            words = torch.full((256,), chance)
            squares = codes.decode_square(torch.arange(256).to(torch.uint8), scales)
            again, its = codes.encode_square(squares, words)
            assert torch.equal(again.long(), torch.arange(256))
            assert torch.equal(its, scales)
            assert (squares.diff() > 0).all()
            assert squares[0] == 0
            signed = torch.arange(-127, 128)
            means = codes.decode_mean(signed.to(torch.int8), scales)
            again, its = codes.encode_mean(means, words[:255])
            assert torch.equal(again.long(), signed)
            assert (means.diff() > 0).all()
            assert torch.equal(means, -means.flip(0))


def test_codes_of_odd_blocks():
    """Nothing but zeros, one outlier, subnormal numbers, and the largest float32 has: no code of them is not finite."""
    blocks = torch.zeros(5, 256)
    blocks[1, 7] = 3e30
    blocks[2] = 1e-42
    blocks[3] = torch.finfo(torch.float32).max / 2
    blocks[4] = torch.rand(256, generator=torch.Generator().manual_seed(0))
    flat, chance = (
        blocks.view(-1),
        torch.randint(65536, (5 * 256,), generator=torch.Generator().manual_seed(1)),
    )
    for encode, decode in (
        (codes.encode_mean, codes.decode_mean),
        (codes.encode_square, codes.decode_square),
    ):
        back = decode(*encode(flat, chance)).view(5, 256)
        assert back.isfinite().all()
        assert not back[0].any()
        assert back[1, 7] == pytest.approx(3e30, rel=1 / 16)
        assert not back[2].any()
        assert (back[3:] / blocks[3:].clamp_min(1e-30) - 1).abs().median() < 1 / 16


@pytest.mark.parametrize("kept", ["bfloat16", "int8", "square"])
def test_chance_is_exact_on_average(kept):
    """The mean of many roundings is the number: within five standard errors; numbers that fit are left as they are."""
    values = torch.tensor([0.3, 0.0123, 1.0, -0.77, 1e-3, 0.9])
    values = values.abs() if kept == "square" else values
    draws = 4000
    total = torch.zeros(len(values), dtype=torch.float64)
    for step in range(draws):
        chance = codes.random(len(values), 3, step, 1) & 0xFFFF
        if kept == "bfloat16":
            rounded = codes.to_bfloat16(values, chance).float()
        elif kept == "int8":
            rounded = codes.decode_mean(*codes.encode_mean(values, chance))
        else:
            rounded = codes.decode_square(*codes.encode_square(values, chance))
        assert kept != "bfloat16" or rounded[2] == 1.0
        total += rounded.double()
    gap = {"bfloat16": 2**-8, "int8": 2**-4, "square": 2**-4}[kept] * values.abs().clamp_min(2**-6).double()
    assert ((total / draws - values.double()).abs() <= 5 * gap / 2 / draws**0.5).all()


def test_rounding_by_chance_knows_the_edges():
    """Zeros keep their sign, the largest finite number does not become infinite, and what is no number stays none."""
    edges = torch.tensor([0.0, -0.0, torch.finfo(torch.float32).max, math.inf, -math.inf, math.nan, 1e-40])
    for chance in (0, 0x7FFF, 0xFFFF):
        rounded = codes.to_bfloat16(edges, torch.full((7,), chance)).float()
        assert rounded[:2].tolist() == [0.0, 0.0]
        assert torch.signbit(rounded[:2]).tolist() == [False, True]
        assert rounded[2].isfinite()
        assert rounded[3:5].tolist() == [math.inf, -math.inf]
        assert rounded[5].isnan()


def test_bfloat16_and_its_remainder_are_float32():
    """To the bit, for numbers of all sizes; and the bfloat16 is the nearest."""
    bits = torch.randint(-(2**31), 2**31, (200_000,), generator=torch.Generator().manual_seed(0)).to(
        torch.int32
    )
    values = bits.view(torch.float32)
    values = values[values.abs() < 3e38]
    near, remainder = codes.split(values)
    assert torch.equal(codes.join(near, remainder), values)
    assert ((near.float() - values).abs() <= (values.bfloat16().float() - values).abs()).all()


@pytest.mark.parametrize(("kept", "allowed"), [("bfloat16", 0.01), ("int8", 0.02)])
def test_compressed_moments_lead_where_full_ones_do(kept, allowed):
    """A hundred steps down a noisy bowl: the way differs by less than a hundredth or two of its square, and another
    optimizer's by more."""

    def way(make):
        rng = torch.Generator().manual_seed(0)
        leaf = nn.Parameter(torch.randn(8192, generator=rng))
        start, curve = leaf.detach().clone(), torch.rand(8192, generator=rng) + 0.1
        optimizer = make([leaf])
        for _ in range(100):
            leaf.grad = curve * leaf.detach() + 0.3 * torch.randn(8192, generator=rng)
            optimizer.step()
        return leaf.detach() - start

    full = way(lambda p: AdamW(p, 0.01))
    small = way(lambda p: AdamW(p, 0.01, state_dtype=kept, backend="native"))
    other = way(lambda p: SGD(p, 0.01))
    assert (small - full).square().sum() / full.square().sum() < allowed
    assert (other - full).square().sum() / full.square().sum() > 5 * allowed


@pytest.mark.slow
def test_tensor_of_more_than_2_to_the_31_elements_moves_to_its_end():
    """8.6 GB, in whose places 32 bits do not count; and the last element decides whether there is a step."""
    size = 2**31 + 4097
    parameter = nn.Parameter(torch.ones(size, dtype=torch.bfloat16))
    parameter.grad = torch.ones(size, dtype=torch.bfloat16)
    parameter.grad[-1] = math.inf
    optimizer = SGD([parameter], lr=0.5, master=False, backend="native")
    optimizer.step()
    assert optimizer.skipped_steps == 1
    assert parameter.detach()[-1] == 1
    parameter.grad[-1] = 1
    optimizer.step()
    assert optimizer.grad_norm == pytest.approx(math.sqrt(size), rel=1e-12)
    assert all(bool((part == 0.5).all()) for part in parameter.detach().split(2**28))
