"""The same cases under pytest-benchmark, smaller: `python -m pytest benchmarks/update -n 0`."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.update.cases import Case, cases
from benchmarks.update.run import contenders, verify

CASES = {case.name: case for case in cases(8, "cpu")}
PAIRS = [(case, name) for case in CASES for name in contenders(CASES[case], compiled=False)]


@pytest.mark.parametrize(("case", "contender"), PAIRS)
def test_update(benchmark: Any, case: str, contender: str) -> None:
    """One step of a contender, after it has computed what the others do."""
    timed: Case = CASES[case]
    modules = contenders(timed, compiled=False)
    verify(timed, modules)
    parameters = timed.parameters()
    benchmark.group = case
    starts = timed.starts(parameters) if timed.more else []
    benchmark(modules[contender].build(timed, parameters, starts).step)
    assert all(bool(parameter.isfinite().all()) for parameter in parameters)
