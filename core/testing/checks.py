"""The checks, each with the clause of the contract that it enforces, and `check_plugin`, which makes them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from core.recipe import built_in, read
from core.recipe.files import override
from core.testing import behaviour, pieces, static
from core.testing.host import RECIPE
from core.testing.report import Outcome, Report, Result
from core.testing.static import Violation
from core.testing.trial import Blocked, Setting, Subject, Trial


@dataclass(frozen=True, slots=True)
class Check:
    """`id` names it, `clause` is what the contract says. `needs`: the checks without which it says nothing."""

    id: str
    clause: str
    call: Callable[[Subject], None]
    needs: tuple[str, ...] = ()


def _each(call: Callable[[Trial], None]) -> Callable[[Subject], None]:
    """A check of parts, in every setting."""

    def checked(subject: Subject) -> None:
        _in_settings(subject, lambda setting: call(subject.trial(setting)))

    return checked


def _each_run(call: Callable[[Subject, Setting], None]) -> Callable[[Subject], None]:
    def checked(subject: Subject) -> None:
        _in_settings(subject, lambda setting: call(subject, setting))

    return checked


def _in_settings(subject: Subject, call: Callable[[Setting], None]) -> None:
    """Blocked where it is in every setting."""
    blocked: list[Blocked] = []
    for setting in subject.settings:
        try:
            with torch.random.fork_rng(devices=[]):
                call(setting)
        except Blocked as reason:
            blocked.append(reason)
        except Violation as error:
            raise Violation(f"{setting.name}: {error}") from error
    if len(blocked) == len(subject.settings):
        raise blocked[0] if blocked else Blocked("there is no recipe to try it with")


READ = ("importable",)
LOADED = (
    "importable",
    "torch-free",
    "api",
    "hook-names",
    "hook-arguments",
    "hook-defaults",
    "hook-wrappers",
    "components",
    "loads",
)
CHECKS: Sequence[Check] = [
    Check("importable", "the entry module can be imported", static.imports),
    Check(
        "torch-free",
        "the entry module imports neither torch nor its like: lists and help do not wait for it",
        static.torch_free,
        READ,
    ),
    Check("api", "`taoke_api` says which version of the contract a plugin is written for", static.api, READ),
    Check("hook-names", "hooks are spelt as specified and marked with @hookimpl", static.hook_names, READ),
    Check("hook-arguments", "a hook takes the specified arguments, or fewer", static.hook_arguments, READ),
    Check("hook-defaults", "no hook gives an argument a default", static.hook_defaults, READ),
    Check("hook-wrappers", "a wrapper is marked `wrapper=True` and yields once", static.hook_wrappers, READ),
    Check(
        "components",
        "components are records with qualified names, a line of summary, and references that can be imported",
        static.components,
        ("importable", "hook-names"),
    ),
    Check(
        "options",
        "options forbid unknown keys, come back from JSON as they were, and import no torch",
        static.options,
        ("importable", "torch-free", "components"),
    ),
    Check(
        "loads",
        "loading twice, and in a fresh process, is harmless",
        static.loads,
        ("importable", "api", "hook-names", "hook-arguments", "hook-defaults", "hook-wrappers", "components"),
    ),
    Check(
        "current",
        "a plugin uses nothing of the contract that goes with its next version",
        static.current,
        LOADED,
    ),
    Check("recipes", "a plugin's recipes name what exists, and say what they are", static.recipes, LOADED),
    Check("data", "a dataset gives the same rows, of known splits, each time", _each(pieces.data), LOADED),
    Check(
        "base",
        "a base is pinned by the digest of its tensors, with licence and origin",
        _each(pieces.base),
        LOADED,
    ),
    Check(
        "transforms",
        "a transform makes a new row, from the row, its state and the generator alone",
        _each(pieces.transforms),
        LOADED,
    ),
    Check("state", "what the task learns is JSON, and the same each time", _each(pieces.state), LOADED),
    Check(
        "edits",
        "edits are valid, described, and replayed they give the same model; one that preserves does",
        _each(pieces.edits),
        LOADED,
    ),
    Check(
        "batches",
        "encode leaves the row alone, and a batch is made of tensors",
        _each(pieces.batches),
        LOADED,
    ),
    Check("phases", "a phase selects parameters of the model, each once", _each(pieces.phases), LOADED),
    Check(
        "loss",
        "the loss is a finite, differentiable scalar with a weight",
        _each(pieces.losses),
        (*LOADED, "phases"),
    ),
    Check(
        "predictions",
        "predict gives one JSON object an example, the same each time, and changes nothing",
        _each(pieces.predictions),
        LOADED,
    ),
    Check("parse", "parse gives a row for each input, or raises DataError", _each(pieces.parsing), LOADED),
    Check(
        "metrics",
        "metrics have names and units, and score every prediction",
        _each(pieces.metrics),
        (*LOADED, "predictions"),
    ),
    Check(
        "trivial", "trivial contenders predict every row, and see no target", _each(pieces.trivial), LOADED
    ),
    Check(
        "updater",
        "an updater whose state is saved and loaded goes on as if uninterrupted",
        _each(pieces.updaters),
        (*LOADED, "phases"),
    ),
]
PIECES = tuple(check.id for check in CHECKS if check.id not in ("recipes", "options", "current"))
RUNS = (*PIECES, "runs")
SAME = (*RUNS, "same-bits")
CHECKS = [
    *CHECKS,
    Check(
        "runs",
        "the recipe runs, and its shell passes parity in a fresh process",
        _each_run(behaviour.runs),
        PIECES,
    ),
    Check("same-bits", "the same seed gives the same bits", _each_run(behaviour.same_bits), RUNS),
    Check(
        "unselected", "what no phase selects stays bitwise unchanged", _each_run(behaviour.unselected), SAME
    ),
    Check("train-only", "whatever is fitted sees `train` alone", _each_run(behaviour.train_only), SAME),
    Check(
        "composes",
        "with the other plugins, in either order, the result is the same",
        _each_run(behaviour.composes),
        SAME,
    ),
    Check(
        "failures",
        "a failure in a hook comes out, names plugin and hook, and everything is torn down",
        _each_run(behaviour.failures),
        SAME,
    ),
    Check("observers", "what observes changes no bit", _each_run(behaviour.observers), SAME),
    Check("global-state", "no global state is touched", behaviour.global_state, SAME),
]


def check_plugin(
    plugin: str | Path,
    *,
    recipes: Sequence[str | Path | Mapping[str, Any]] | None = None,
    overrides: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> Report:
    """Try a plugin against the contract, clause by clause.

    Args:
        plugin: the name of an installed plugin, or the path of a file that is one.
        recipes: what to try it with: names, files or contents. Without any, its own recipes that need no data of a
            user's; where it has none, the kit's own, with its edits, strategies and updaters in their places.
        overrides: changes to these recipes, such as where data lie.
        expected_failures: check to reason: it has to fail.

    Returns:
        The report; `report.ok` where something was checked and nothing failed that was not expected to. An expected
        failure that passes, or that is not a check, is a failure.
    """
    file = Path(plugin) if isinstance(plugin, Path) or str(plugin).endswith(".py") else None
    name = file.stem if file else str(plugin)
    expected = dict(expected_failures or {})
    with tempfile.TemporaryDirectory() as scratch:
        subject = Subject(name, file, [], Path(scratch), behaviour.process_state())
        results: list[Result] = []
        for check in CHECKS:
            if check.needs and not subject.settings and subject.module is not None:
                subject.settings = settings(subject, recipes, overrides or {})
            results.append(_result(check, subject, results, expected))
        subject.close()
    unknown = sorted(set(expected) - {check.id for check in CHECKS})
    results += [
        Result(one, "expected failures are checks", "failed", "there is no such check") for one in unknown
    ]
    return Report(name, results)


def _result(check: Check, subject: Subject, before: Sequence[Result], expected: Mapping[str, str]) -> Result:
    failed = [result.check for result in before if result.outcome == "failed" and result.check in check.needs]
    if failed:
        return Result(check.id, check.clause, "skipped", f"needs {', '.join(failed)}")
    outcome: Outcome = "passed"
    message = ""
    try:
        check.call(subject)
    except Violation as error:
        outcome, message = "failed", str(error)
    except Blocked as reason:
        outcome, message = "skipped", str(reason)
    except Exception as error:
        outcome, message = "failed", f"{type(error).__name__}: {error}"
    if check.id in expected:
        if outcome == "failed":
            return Result(check.id, check.clause, "expected", f"{expected[check.id]} ({message})")
        return Result(
            check.id, check.clause, "failed", f"was expected to fail, and {outcome}: {expected[check.id]}"
        )
    return Result(check.id, check.clause, outcome, message)


def settings(
    subject: Subject, recipes: Sequence[str | Path | Mapping[str, Any]] | None, overrides: Mapping[str, Any]
) -> list[Setting]:
    """The recipes to try a plugin with."""
    if recipes is not None:
        return [_setting(recipe, overrides) for recipe in recipes]
    own = [name for name in built_in() if name.startswith(f"{subject.name}/")] if subject.file is None else []
    found = [one for name in own if _resolves(one := _setting(name, overrides), subject)]
    return found or _on_the_host(subject)


def _setting(recipe: str | Path | Mapping[str, Any], overrides: Mapping[str, Any]) -> Setting:
    from core.recipe import find

    if isinstance(recipe, Mapping):
        return Setting("the given recipe", override(dict(recipe), overrides))
    found = find(recipe)
    return Setting(found.name, override(read(found.path), overrides))


def _resolves(setting: Setting, subject: Subject) -> bool:
    try:
        subject.resolved(setting)
    except Exception:
        return False
    return True


PLACES = {"strategy": "fine_tune.strategy", "updater": "fine_tune.updater"}


def _on_the_host(subject: Subject) -> list[Setting]:
    """The kit's own recipe with the plugin beside it, and with each of its components that has a place there and needs
    no options."""
    content = dict(RECIPE)
    made = [Setting("the kit's recipe", content)]
    try:
        brought = static.components_of(subject)
    except Blocked:
        return made
    for component in brought:
        place = PLACES.get(component.kind)
        if place is not None:
            made.append(
                Setting(f"the kit's recipe with {component.name}", override(content, {place: component.name}))
            )
        elif component.kind == "edit":
            changed = {**content, "modify": [{"edit": component.name}]}
            made.append(Setting(f"the kit's recipe with {component.name}", changed))
    fitting = [setting for setting in made if _resolves(setting, subject)]
    return fitting or made[:1]
