"""The kit as tests: derive a class from `PluginContract`, and each check is a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from core.testing.checks import CHECKS, check_plugin
from core.testing.report import Report


class PluginContract:
    """`plugin` is the name of an installed plugin or a file's path; the others are as for `check_plugin`."""

    plugin: ClassVar[str | Path]
    recipes: ClassVar[Sequence[str | Path | Mapping[str, Any]] | None] = None
    overrides: ClassVar[Mapping[str, Any]] = {}
    expected_failures: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def report(cls) -> Report:
        return check_plugin(
            cls.plugin,
            recipes=cls.recipes,
            overrides=cls.overrides,
            expected_failures=cls.expected_failures,
        )

    @pytest.mark.parametrize("check", [check.id for check in CHECKS])
    def test_contract(self, report: Report, check: str) -> None:
        """One clause of the contract."""
        result = report[check]
        if result.outcome == "failed":
            pytest.fail(f"{result.message}\n{result.clause}", pytrace=False)
        if result.outcome == "skipped":
            pytest.skip(result.message)

    def test_something_was_checked(self, report: Report) -> None:
        """A report in which nothing ran says nothing."""
        assert report.ok, str(report)  # noqa: S101 (a test)
