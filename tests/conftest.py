"""What every test of the project shares."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

torch.set_num_threads(1)  # the models are small, and each core has tests of its own
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
settings.register_profile("taoke", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("taoke")


class Always(nn.Module):
    """Gives the same outputs, whatever the inputs."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.outputs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first, so that no core waits for another at the end."""
    items.sort(key=lambda item: item.path.name != "test_recipes.py")


@pytest.fixture(autouse=True)
def _no_settings_of_the_shell(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A user's environment changes no test, and no test a user's cache or asks a hub."""
    for name in ("TAOKE_PLUGINS", "TAOKE_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TAOKE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """The folder of a real data set or of published weights, which the project does not ship: below
    `TAOKE_TEST_DATA`, or beside the checkout in `shared/data`. The test is skipped where it is missing."""
    default = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get("TAOKE_TEST_DATA", default))

    def find(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(
                f"needs the data {name!r}, which is not in {root}; TAOKE_TEST_DATA names another folder"
            )
        return root / name

    return find


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Without the rights of root, if we have them: to root no file is forbidden."""
    if not hasattr(os, "geteuid"):
        pytest.skip("permissions are those of POSIX")
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)
