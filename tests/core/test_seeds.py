"""Keyed randomness: the same use draws the same numbers, whoever asks, and nothing global moves."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from core.seeds import derive_seed, deterministic, generator

keys = st.lists(st.integers(0, 10**6) | st.text("abc-0123", max_size=4), max_size=3)


@given(st.integers(0, 2**31), st.text("abc", max_size=3), keys)
def test_derived_seed_fits_a_generator_and_depends_on_nothing_else(seed, stream, others):
    """63 bits, the same for the same arguments."""
    derived = derive_seed(seed, stream, *others)
    assert 0 <= derived < 2**63
    assert derive_seed(seed, stream, *others) == derived
    torch.Generator().manual_seed(derived)


def test_derived_seeds_of_neighbouring_uses_differ():
    """Seed, stream, epoch and row each matter, and none runs into its neighbour."""
    uses = [
        (s, stream, *k) for s in (0, 1) for stream in ("a", "ab") for k in ((), (1,), (11,), (1, 1), ("b",))
    ]
    assert len({derive_seed(*use) for use in uses}) == len(uses)


def test_derived_seed_is_the_same_in_every_version():
    """Shells and records depend on these numbers: a change of them is a change of every run."""
    assert derive_seed(0, "order", 3) == 8682038268397892103


def test_generators_ignore_the_order_in_which_they_are_asked_for():
    """Drawing from one changes no other."""
    first = torch.rand(3, generator=generator(0, "a", 1))
    torch.rand(5, generator=generator(0, "b", 1))
    assert torch.equal(first, torch.rand(3, generator=generator(0, "a", 1)))
    assert not torch.equal(first, torch.rand(3, generator=generator(0, "a", 2)))


def test_generator_leaves_torch_s_global_state_alone():
    """Keyed randomness is no global randomness."""
    before = torch.get_rng_state()
    torch.rand(3, generator=generator(1, "a"))
    assert torch.equal(before, torch.get_rng_state())


def test_deterministic_gives_back_the_generator_and_the_flag():
    """Whatever happens inside, and also where kernels only warned before."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    before = torch.get_rng_state()
    try:
        with deterministic():
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
            torch.manual_seed(7)
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.equal(before, torch.get_rng_state())
    finally:
        torch.use_deterministic_algorithms(False)
