"""The contract, clause by clause: with the recipe itself, on tones."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.testing import PluginContract


@pytest.fixture(scope="class", autouse=True)
def _data(request: pytest.FixtureRequest, folder: Path, base: Path) -> None:
    """What the recipe leaves to a user. `report`, which runs the kit, is asked for later."""
    request.cls.overrides = {
        "data.path": str(folder),
        "data.speaker": "cleo",
        "base.path": str(base),
        "fine_tune.epochs": 2,
    }


class TestContract(PluginContract):
    plugin = "speech"
    recipes = ("speech/speaker",)
