"""What a report amounts to: something was checked, what was expected to fail did, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from core.testing import checks
from core.testing.checks import Check, check_plugin
from core.testing.report import Report, Result
from core.testing.static import Violation
from core.testing.trial import Blocked


def passing(subject: object) -> None:
    """Nothing is wrong."""


def failing(subject: object) -> None:
    raise Violation("it is wrong")


def blocked(subject: object) -> None:
    raise Blocked("nothing to look at")


def crashing(subject: object) -> None:
    raise KeyError("what")


Checked = Callable[[Mapping[str, Callable[[object], None]], Mapping[str, str]], Report]


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checked:
    """The report of made-up checks on a plugin that does not matter."""
    plugin = tmp_path / "any.py"
    plugin.write_text("taoke_api = 1\n")

    def check(calls: Mapping[str, Callable[[object], None]], expected: Mapping[str, str]) -> Report:
        monkeypatch.setattr(checks, "CHECKS", [Check(name, "a clause", call) for name, call in calls.items()])
        return check_plugin(plugin, expected_failures=expected)

    return check


@pytest.mark.parametrize(
    ("calls", "expected", "outcomes", "ok"),
    [
        ({"a": passing, "b": blocked}, {}, ["passed", "skipped"], True),
        ({"a": passing, "b": failing}, {}, ["passed", "failed"], False),
        ({"a": passing, "b": crashing}, {}, ["passed", "failed"], False),
        ({"a": passing, "b": failing}, {"b": "known"}, ["passed", "expected"], True),
        ({"a": passing, "b": passing}, {"b": "known"}, ["passed", "failed"], False),
        ({"a": passing, "b": blocked}, {"b": "known"}, ["passed", "failed"], False),
        ({"a": blocked, "b": blocked}, {}, ["skipped", "skipped"], False),
        ({"a": passing}, {"z": "no such check"}, ["passed", "failed"], False),
    ],
)
def test_outcomes_and_what_they_amount_to(
    checked: Checked,
    calls: Mapping[str, Callable[[object], None]],
    expected: Mapping[str, str],
    outcomes: list[str],
    ok: bool,
) -> None:
    """None ran is a failure, and so is an expected failure that passes, is skipped, or is no check."""
    report = checked(calls, expected)
    assert [result.outcome for result in report.results] == outcomes
    assert report.ok is ok
    assert report.counts["ran"] == len(outcomes) - outcomes.count("skipped")
    assert report.to_json()["ok"] is ok


def test_a_report_says_which_clause_was_broken_and_how() -> None:
    """For a person, with the counts in its last line."""
    results = [Result("a", "a clause", "passed"), Result("b", "another", "failed", "it is wrong")]
    lines = str(Report("acme", results)).splitlines()
    assert lines[1:3] == ["failed    b: it is wrong", "          another"]
    assert lines[-1] == "acme: does not conform (2 ran, 1 passed, 1 failed, 0 expected, 0 skipped)"
