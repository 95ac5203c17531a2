"""What the plugin promises beyond the contract."""

from __future__ import annotations

import pytest
import torch
from taoke_medicine.data import Biopsies, rows_of_the_base
from taoke_medicine.model import Means
from taoke_medicine.task import Diagnose

from core.edits.grow import Grow
from core.errors import DataError
from core.options import Grow as GrowOptions


def test_the_base_has_seen_no_biopsy_of_the_new_task() -> None:
    """Not in any split."""
    seen = {tuple(row.inputs) for row in rows_of_the_base()}
    assert not any(tuple(row.inputs) in seen for rows in Biopsies().rows().values() for row in rows)


def test_a_wider_network_computes_what_the_base_computed() -> None:
    """What it reads beside the ten means weighs nothing at first."""
    base = Means().load()
    inputs = torch.randn(5, 30, generator=torch.Generator().manual_seed(0))
    before = base.model(inputs[:, :10])
    wider = Grow(GrowOptions(axis="features", to=30, init="zero")).apply(base.model)
    assert torch.equal(before, wider(inputs))


def test_a_typed_row_needs_all_thirty_numbers() -> None:
    """Fewer are refused, with how many there are."""
    task, brought = Diagnose(), Means().load().preprocessing["task"]
    state = task.fit(Biopsies().rows()["train"], brought)
    with pytest.raises(DataError, match="has 2 numbers"):
        task.parse(["1, 2"], state)
