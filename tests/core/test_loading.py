"""Worker processes: what they make and what they raise arrives as it was."""

from __future__ import annotations

import threading
from collections import namedtuple

import numpy as np
import pytest

from core.errors import ContractError
from core.loading import ROOM, beside, made, spare


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


def test_one_worker_augments_where_the_user_says_nothing(monkeypatch):
    """Beside the model, which would wait for it; but not where a process takes longer, or where batches would not fit
    into the memory that processes share, as in most containers."""
    used = namedtuple("usage", "free")
    monkeypatch.setattr("core.loading.sys.platform", "linux")
    monkeypatch.setattr("core.loading.Path.is_dir", lambda self: True)
    monkeypatch.setattr("core.loading.shutil.disk_usage", lambda path: used(ROOM))
    assert (beside(None, 999), beside(None, 1000)) == (0, 1)
    assert (beside(0, 1000), beside(3, 1)) == (0, 3)
    monkeypatch.setattr("core.loading.shutil.disk_usage", lambda path: used(64 * 2**20))
    assert beside(None, 1000) == 0
    monkeypatch.setattr("core.loading.sys.platform", "darwin")
    assert (beside(None, 1000), beside(2, 1000)) == (0, 2)
