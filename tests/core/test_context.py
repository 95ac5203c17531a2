"""What a run hands to plugins: keyed randomness, the stash, and the record."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.context import Stash, StashKey
from core.errors import OutputError
from core.events import Events
from core.seeds import derive_seed, generator

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


def test_stash_keys_are_compared_by_identity():
    """Two plugins never share a key by accident."""
    stash, one, other = Stash(), StashKey[int](), StashKey[int]()
    stash[one] = 1
    assert (stash[one], one in stash, other in stash, stash.get(other, 7)) == (1, True, False, 7)
    with pytest.raises(KeyError):
        stash[other]


def test_events_of_before_the_file_was_opened_are_in_it(tmp_path):
    """The record begins with the run, not with its folder."""
    events = Events()
    events.emit("early", value=1)
    events.open(tmp_path / "events.jsonl")
    events.emit("late", value=torch.tensor(0.1))
    events.close()
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(line["event"], line["value"]) for line in lines] == [("early", 1), ("late", pytest.approx(0.1))]
    assert lines[0]["seconds"] <= lines[1]["seconds"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), torch.tensor(float("-inf"))])
def test_events_stay_json_where_a_number_is_not_finite(tmp_path, value):
    """JSON has no NaN: such numbers are written as text."""
    events = Events()
    events.open(tmp_path / "e")
    events.emit("step", loss=value)
    events.close()
    line = json.loads((tmp_path / "e").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert line["loss"] == str(float(value))


def test_small_numbers_keep_their_digits(tmp_path):
    """A learning rate of 1e-7 is not recorded as zero."""
    events = Events()
    events.open(tmp_path / "e")
    events.emit("step", lr=1.23456789e-7)
    events.close()
    assert json.loads((tmp_path / "e").read_text())["lr"] == pytest.approx(1.23456789e-7, rel=1e-5)


def test_many_events_reach_the_file_before_it_is_closed(tmp_path):
    """A run that is killed loses few lines."""
    events = Events()
    events.open(tmp_path / "e")
    for i in range(10 * Events.FLUSH_EVERY):
        events.emit("step", i=i)
    assert len((tmp_path / "e").read_text().splitlines()) == 10 * Events.FLUSH_EVERY
    events.close()


def test_record_that_cannot_be_opened_is_an_output_error(tmp_path):
    """A path below a regular file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/events\.jsonl"):
        Events().open(tmp_path / "file" / "events.jsonl")


def test_warning_is_told_and_recorded(stages, capsys):
    """On stderr although the run is quiet, and in the record."""
    toy = stages()
    toy.context.warn("take care")
    assert capsys.readouterr().err == "warning: take care\n"
    assert [event["message"] for event in toy.events("warning")] == ["take care"]
