"""The conformance kit: it lets through what keeps the contract, and each broken plugin fails the check meant for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.recipe.files import override
from core.testing import CHECKS, check_plugin
from core.testing.host import RECIPE
from tests.contract import broken


def written(folder: Path, name: str) -> tuple[Path, dict[str, Any]]:
    """A broken plugin's file, and the recipe to try it with."""
    case = broken.BROKEN[name]
    path = folder / "broken.py"
    path.write_text((broken.HEAD if case.head else "") + case.lines + "\n", encoding="utf-8")
    return path, override(dict(RECIPE), case.changes)


@pytest.mark.filterwarnings("ignore::core.errors.ContractWarning")  # one of them is of the version before
@pytest.mark.parametrize("name", broken.BROKEN)
def test_a_broken_plugin_fails_the_check_meant_for_it_and_no_other(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What needs that check is skipped, and says so; nothing fails by another crash."""
    monkeypatch.setenv("BROKEN_WAS_HERE", "")  # what one of them sets is gone afterwards
    path, recipe = written(tmp_path, name)
    report = check_plugin(path, recipes=[recipe])
    assert [result.check for result in report.of("failed")] == [broken.BROKEN[name].check], str(report)
    assert not report.ok


def test_every_check_has_a_plugin_that_fails_it() -> None:
    """But for one that speaks of an installed plugin's recipes, which has its own test."""
    assert {check.id for check in CHECKS} - {case.check for case in broken.BROKEN.values()} == {"recipes"}
    assert len(broken.BROKEN) >= 30
