"""The built-in plugins keep the contract that they ask of others."""

from __future__ import annotations

import pytest

from core.testing import CHECKS, check_plugin

OF_OTHERS = {"composes", "observers", "failures"}


@pytest.mark.parametrize("name", ["vision", "nlp", "recommendation"])
def test_a_built_in_plugin_conforms_with_no_expected_failure(name: str) -> None:
    """Every check runs, but for hooks that it does not implement."""
    report = check_plugin(name)
    assert report.ok, str(report)
    assert not report.of("expected")
    print(report)
    assert {result.check for result in report.of("skipped")} <= OF_OTHERS, str(report)
    assert len(report.results) == len(CHECKS)
