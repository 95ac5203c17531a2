"""What a hook call with three active plugins costs beyond the calls themselves.

    python -m benchmarks.hooks.calls [ROUNDS]

`taoke_after_step` is called as the loop calls it, beside the functions of the three plugins and of the core called one
after the other, in turn. Checked first: each plugin hears every call, in the recipe's order, with the arguments that
were given.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import timeit
from pathlib import Path

import torch

from benchmarks import keep, setting_of_this_run
from core import defaults
from core.context import Context
from core.contract import API, StepResult
from core.progress import Progress
from core.recipe import resolve

PLUGINS = ("first", "second", "third")
CALLS = 20_000
BOUND = 5.0
"""Microseconds that a call may cost."""

LINES = f"""
from core.hookspecs import hookimpl

taoke_api = {API}
heard = None

@hookimpl
def taoke_after_step(context, result):
    if heard is not None:
        heard.append((__name__, context, result))
"""


def main(rounds: int = 31) -> int:
    """Print and keep the figures; 1 where the median is beyond the bound."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{name}.py") for name in PLUGINS]
        for file in files:
            file.write_text(LINES, encoding="utf-8")
        resolved = resolve("vision/digits", plugin_files=files)
    context, plugins = Context(resolved, torch.device("cpu"), Progress(quiet=True)), resolved.plugins
    context.contender, result = "adapted", StepResult(torch.tensor(0.5), 1)
    call = plugins.caller("taoke_after_step", defaults.taoke_after_step)
    modules = [plugin.module for plugin in plugins.active if plugin.name in PLUGINS]
    heard: list[object] = []
    for module in modules:
        module.heard = heard  # type: ignore[attr-defined]
    call(context=context, result=result)
    if heard != [(module.__name__, context, result) for module in modules] or len(heard) != len(PLUGINS):
        raise AssertionError(f"a call was heard as {heard}")
    for module in modules:
        module.heard = None  # type: ignore[attr-defined]

    functions = [*(module.taoke_after_step for module in modules), defaults.taoke_after_step]

    def directly() -> None:
        for function in functions:
            function(context, result)

    hook, direct = [], []
    for _ in range(rounds):
        hook.append(timeit.timeit(lambda: call(context=context, result=result), number=CALLS) / CALLS * 1e6)
        direct.append(timeit.timeit(directly, number=CALLS) / CALLS * 1e6)
    beyond = [one - other for one, other in zip(hook, direct, strict=True)]
    figures = {
        name: {"median_us": statistics.median(each), "min_us": min(each), "max_us": max(each)}
        for name, each in (("hook", hook), ("direct", direct), ("beyond", beyond))
    }
    for name, row in figures.items():
        print(f"{name:<8} {row['median_us']:.2f} us [{row['min_us']:.2f}, {row['max_us']:.2f}]")
    keep("hooks", {**setting_of_this_run(), "rounds": rounds, "bound_us": BOUND, **figures})
    return int(figures["beyond"]["median_us"] > BOUND)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
