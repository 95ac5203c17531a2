"""What a run hands to plugins: a place for their own state, and a way to tell."""

from __future__ import annotations

import pytest

from core.context import Stash, StashKey


def test_stash_keys_are_compared_by_identity():
    """Two plugins never share a key by accident."""
    stash, one, other = Stash(), StashKey[int](), StashKey[int]()
    stash[one] = 1
    assert (stash[one], one in stash, other in stash, stash.get(other, 7)) == (1, True, False, 7)
    with pytest.raises(KeyError):
        stash[other]


def test_warning_is_told_and_recorded(stages, capsys):
    """On stderr although the run is quiet, and in the record."""
    toy = stages()
    toy.context.warn("take care")
    assert capsys.readouterr().err == "warning: take care\n"
    assert [event["message"] for event in toy.events("warning")] == ["take care"]
