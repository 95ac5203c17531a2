"""What the kit found: a result for each check, and what they amount to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Outcome = Literal["passed", "failed", "expected", "skipped"]


@dataclass(frozen=True, slots=True)
class Result:
    """One check's outcome. `message` says what broke the clause, or why nothing was checked; `clause` is what the
    contract says."""

    check: str
    clause: str
    outcome: Outcome
    message: str = ""


@dataclass(frozen=True)
class Report:
    """All results for one plugin, in the checks' order."""

    plugin: str
    results: Sequence[Result]

    def __getitem__(self, check: str) -> Result:
        return next(result for result in self.results if result.check == check)

    def of(self, outcome: Outcome) -> list[Result]:
        return [result for result in self.results if result.outcome == outcome]

    @property
    def ok(self) -> bool:
        """Something was checked, and nothing failed that was not expected to."""
        return not self.of("failed") and bool(self.of("passed"))

    @property
    def counts(self) -> dict[str, int]:
        ran = len(self.results) - len(self.of("skipped"))
        return {
            "ran": ran,
            "passed": len(self.of("passed")),
            "failed": len(self.of("failed")),
            "expected": len(self.of("expected")),
            "skipped": len(self.of("skipped")),
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "plugin": self.plugin,
            "ok": self.ok,
            **self.counts,
            "results": [asdict(result) for result in self.results],
        }

    def __str__(self) -> str:
        lines = []
        for result in self.results:
            lines.append(
                f"{result.outcome:<9} {result.check}" + (f": {result.message}" if result.message else "")
            )
            if result.outcome == "failed":
                lines.append(f"{'':<9} {result.clause}")
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        lines.append(f"{self.plugin}: {'conforms' if self.ok else 'does not conform'} ({counts})")
        return "\n".join(lines)
