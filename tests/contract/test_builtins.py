"""The built-in plugins keep the contract that they ask of others."""

from __future__ import annotations

import pytest

from core.testing import CHECKS, check_plugin


@pytest.mark.parametrize("name", ["vision", "nlp", "recommendation"])
def test_a_built_in_plugin_conforms_with_no_expected_failure(name: str) -> None:
    """Every check runs, and passes."""
    report = check_plugin(name)
    assert len(report.of("passed")) == len(report.results) == len(CHECKS), str(report)
