"""Worker processes: what they make and what they raise arrives as it was."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from core.errors import ContractError
from core.loading import made, spare


class OddError(Exception):
    """Pickle cannot bring it back: its class wants two arguments."""

    def __init__(self, row, why):
        super().__init__(f"{row}: {why}")


def test_items_keep_their_types():
    """A tuple is no list afterwards, an array no tensor."""
    items = list(made(lambda i: (i, np.arange(i), {"a": (i,)}), 4, 2))
    assert [type(item) for item in items] == [tuple] * 4
    assert all(isinstance(item[1], np.ndarray) for item in items)
    assert items[3][2] == {"a": (3,)}


@pytest.mark.parametrize("kind", ["not pickled", "not brought back"])
def test_an_exception_that_cannot_travel_is_quoted(kind):
    """It would otherwise be waited for, or arrive as another."""

    def fail(number):
        if kind == "not brought back":
            raise OddError(number, "broken")
        error = ValueError(f"row {number} is broken")
        error.lock = threading.Lock()
        raise error

    with pytest.raises(
        ContractError, match=r"a worker process failed with (OddError: 0: broken|ValueError: row 0)"
    ):
        list(made(fail, 4, 2))


def test_an_error_in_a_worker_names_the_plugin_it_came_out_of(toy, plugin_file):
    """With file and line, as without workers."""
    plugin = plugin_file(
        "broken",
        """
        class Broken:
            random = True

            def fit(self, rows):
                return None

            def apply(self, row, state, rng):
                raise RuntimeError("no such luck")

        @hookimpl
        def taoke_register():
            return [Component("transform", "broken.broken", "", f"{__name__}:Broken")]
        """,
    )
    for workers in (0, 2):
        outcome = toy("preprocess=[broken]", "--workers", workers, plugins=[plugin])
        assert outcome.code == 1
        assert "in plugin 'broken'" in outcome.error["message"] + outcome.err
        assert "broken.py:" in outcome.error["message"] + outcome.err


def test_processes_are_worth_their_start_for_many_things_alone():
    """A few are made sooner without."""
    assert spare(999) == 0
    assert spare(1000) >= 0
