"""What every test of the project shares."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)  # the models are small, and the machine is shared
settings.register_profile("taoke", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("taoke")


@pytest.fixture(autouse=True)
def _no_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's environment changes no test."""
    for name in ("TAOKE_PLUGINS", "TAOKE_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
