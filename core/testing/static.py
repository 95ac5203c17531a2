"""Checks of what a plugin says of itself, before anything is computed with it."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from core import hookspecs
from core.components import import_attribute
from core.contract import API, KINDS, Component
from core.errors import ContractWarning, PluginError, RecipeError, TaokeError, nearest
from core.loader import import_file, import_installed, installed
from core.manager import Plugins
from core.testing.trial import Blocked, Subject

HEAVY = (
    "torch",
    "torchvision",
    "torchaudio",
    "timm",
    "transformers",
    "tensorflow",
    "jax",
    "sklearn",
    "pandas",
)
"""Packages that take long to import: a list of plugins, or a check of a recipe, does not wait for them."""
MARK = f"{hookspecs.PROJECT}_impl"


class Violation(Exception):  # noqa: N818 (an answer that unwinds, not an error a user sees)
    """A clause of the contract is broken; the message says how."""


def imports(subject: Subject) -> None:
    try:
        subject.module = _module(subject.name, subject.file)
    except TaokeError as error:
        raise Violation(error.message) from error


def _module(name: str, file: Path | None) -> ModuleType:
    if file is not None:
        return import_file(file)
    known = installed()
    if name not in known:
        raise PluginError(f"plugin {name!r} is not installed", nearest(name, known))
    return import_installed(known[name])


def torch_free(subject: Subject) -> None:
    _refuse_heavy(subject, ())


def _refuse_heavy(subject: Subject, modules: tuple[str, ...]) -> None:
    """Raises `Violation` where importing the plugin, then `modules`, imports what takes long."""
    code = (
        "import importlib, json, pathlib, sys;"
        "from core.loader import import_file, import_installed, installed;"
        "name, file, modules, heavy = json.loads(sys.argv[1]);"
        "before = set(sys.modules);"
        "import_file(pathlib.Path(file)) if file else import_installed(installed()[name]);"
        "[importlib.import_module(module) for module in modules if not module.startswith('taoke_plugin_file')];"
        "print(json.dumps([module for module in heavy if module in sys.modules and module not in before]))"
    )
    found = _in_process(code, subject, modules)
    if found:
        raise Violation(
            f"importing it imports {', '.join(found)}: import it inside the functions that need it"
        )


def _in_process(code: str, subject: Subject, modules: tuple[str, ...] = ()) -> Any:
    """What `code` prints, as JSON, in a fresh process."""
    argument = json.dumps([subject.name, str(subject.file) if subject.file else None, modules, HEAVY])
    path = f"import sys; sys.path[:0] = {list(filter(None, sys.path))!r};"
    done = subprocess.run(
        [sys.executable, "-c", path + code, argument], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Violation(f"in a fresh process it fails: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def api(subject: Subject) -> None:
    found = getattr(_imported(subject), "taoke_api", None)
    if not isinstance(found, int):
        raise Violation(f"its taoke_api is {found!r}: write `taoke_api = {API}` in the entry module")
    if found not in (API, API - 1):
        raise Violation(f"its taoke_api is {found}; this core has {API} and accepts {API - 1}")


def _imported(subject: Subject) -> Any:
    if subject.module is None:
        raise Blocked("the entry module cannot be imported")
    return subject.module


def _specified() -> dict[str, Callable[..., Any]]:
    return {
        name: f for name, f in vars(hookspecs).items() if name.startswith("taoke_") and inspect.isfunction(f)
    }


def _written(subject: Subject) -> Iterator[tuple[str, Any]]:
    """The functions of the entry module that are hooks, or look like some."""
    for name, function in vars(_imported(subject)).items():
        if inspect.isfunction(function) and (name.startswith("taoke_") or hasattr(function, MARK)):
            yield name, function


def hook_names(subject: Subject) -> None:
    known = _specified()
    for name, function in _written(subject):
        if name not in known:
            raise Violation(f"{name} (line {_line(function)}) is no hook; {nearest(name, known)}")
        if not hasattr(function, MARK):
            raise Violation(f"{name} (line {_line(function)}) is not marked: decorate it with @hookimpl")


def _line(function: Any) -> int:
    return int(function.__code__.co_firstlineno)


def _hooks(subject: Subject) -> Iterator[tuple[str, Any, Callable[..., Any]]]:
    known = _specified()
    for name, function in _written(subject):
        if name in known and hasattr(function, MARK):
            yield name, function, known[name]


def hook_arguments(subject: Subject) -> None:
    for name, function, specified in _hooks(subject):
        allowed = list(inspect.signature(specified).parameters)
        for argument in inspect.signature(function).parameters:
            if argument not in allowed:
                given = ", ".join(allowed) or "nothing"
                raise Violation(f"{name} (line {_line(function)}) takes {argument!r}; the hook gives {given}")


def hook_defaults(subject: Subject) -> None:
    for name, function, _ in _hooks(subject):
        for argument in inspect.signature(function).parameters.values():
            if argument.default is not argument.empty:
                raise Violation(
                    f"{name} (line {_line(function)}) gives {argument.name!r} a default: pluggy would always pass it"
                )


def hook_wrappers(subject: Subject) -> None:
    for name, function, _ in _hooks(subject):
        marks, yields = getattr(function, MARK), inspect.isgeneratorfunction(function)
        if marks["hookwrapper"]:
            raise Violation(
                f"{name} (line {_line(function)}) is an old-style wrapper: write @hookimpl(wrapper=True)"
            )
        if marks["wrapper"] and not yields:
            raise Violation(
                f"{name} (line {_line(function)}) wraps and never yields: call the answer with `yield`"
            )
        if yields and not marks["wrapper"] and name != "taoke_register":
            raise Violation(
                f"{name} (line {_line(function)}) yields and is no wrapper: write @hookimpl(wrapper=True)"
            )


def components_of(subject: Subject) -> list[Component]:
    """What `taoke_register` gives. Raises `Blocked` where it cannot be asked."""
    register = getattr(_imported(subject), "taoke_register", None)
    try:
        return list(register()) if register else []
    except Exception as error:
        raise Blocked(f"taoke_register fails: {error}") from error


def components(subject: Subject) -> None:
    register = getattr(_imported(subject), "taoke_register", None)
    try:
        found = list(register()) if register else []
    except Exception as error:
        raise Violation(f"taoke_register fails: {type(error).__name__}: {error}") from error
    if not found and not any(name != "taoke_register" for name, _, _ in _hooks(subject)):
        raise Violation("it brings neither a component nor a hook")
    names = []
    for one in found:
        if not isinstance(one, Component) or one.kind not in KINDS:
            raise Violation(
                f"taoke_register yields {one!r}: yield core.contract.Component of {', '.join(KINDS)}"
            )
        names.append((one.kind, one.name))
        if not re.fullmatch(r"[\w-]+\.[\w-]+", one.name):
            raise Violation(f"the {one.kind} {one.name!r}: a name is qualified, as in {subject.name}.thing")
        if not one.summary.strip() or "\n" in one.summary:
            raise Violation(f"the {one.kind} {one.name!r}: its summary is no line of text")
        for reference in filter(None, (one.factory, one.options)):
            try:
                import_attribute(reference, f"the {one.kind} {one.name!r}")
            except TaokeError as error:
                raise Violation(error.message) from error
    twice = sorted(name for kind, name in set(names) if names.count((kind, name)) > 1)
    if twice:
        raise Violation(f"the component {twice[0]!r} is registered twice")


def options(subject: Subject) -> None:
    """Forbids unknown keys, gives a JSON schema, keeps its values through JSON, and imports nothing that takes long."""
    for component in components_of(subject):
        if component.options is None:
            continue
        model = _options_model(component)
        what = f"the options of {component.kind} {component.name!r}"
        if model.model_config.get("extra") != "forbid":
            raise Violation(f"{what} accept unknown keys: derive them from core.components.Options")
        try:
            json.dumps(model.model_json_schema())
        except Exception as error:
            raise Violation(f"{what} have no JSON schema: {error}") from error
        for given in _given(subject, component):
            try:
                once = model.model_validate(given).model_dump(mode="json")
                again = model.model_validate(once).model_dump(mode="json")
            except ValidationError as error:
                raise Violation(f"{what} do not come back from JSON: {error.errors()[0]['msg']}") from error
            if once != again:
                raise Violation(f"{what} change on the way through JSON: {once} becomes {again}")
    modules = {c.options.partition(":")[0] for c in components_of(subject) if c.options}
    entry = _imported(subject).__name__
    try:
        _refuse_heavy(subject, tuple(sorted(modules - {entry})))
    except Violation as error:
        raise Violation(f"its options' modules: {error}") from error


def _options_model(component: Component) -> type[BaseModel]:
    model = import_attribute(component.options or "", component.name)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise Violation(f"the options of {component.kind} {component.name!r} are no pydantic model")
    return model


def _given(subject: Subject, component: Component) -> Iterator[dict[str, Any]]:
    """The options with which the settings use a component, and the defaults where it needs none."""
    from core.recipe.resolve import _uses

    short = component.name.partition(".")[2]
    model = _options_model(component)
    with suppress(ValidationError):  # some need a choice
        model.model_validate({})
        yield {}
    for setting in subject.settings:
        for _, _, _, use in _uses(setting.content):
            if use.kind == component.kind and use.name in (component.name, short):
                yield {key: value for key, value in use.options.items() if value != "auto"}


def loads(subject: Subject) -> None:
    """Twice here, and in a fresh process, with the same components each time."""
    try:
        once, again = (_listed(subject.name, subject.file) for _ in range(2))
    except TaokeError as error:
        raise Violation(str(error)) from error
    if once != again:
        raise Violation("loaded again, it registers other components")
    code = (
        "import json, sys; from pathlib import Path; from core.manager import Plugins;"
        "name, file, _, _ = json.loads(sys.argv[1]);"
        "plugins = Plugins.load([name], [Path(file)] if file else []);"
        "print(json.dumps([(c.kind, c.name, c.summary) for c, owner in plugins.components if owner == name]))"
    )
    if once != [tuple(one) for one in _in_process(code, subject)]:
        raise Violation("in a fresh process it registers other components")


def _listed(name: str, file: Path | None) -> list[tuple[str, str, str]]:
    plugins = Plugins.load([name], [file] if file else [])
    return [(c.kind, c.name, c.summary) for c, owner in plugins.components if owner == name]


def current(subject: Subject) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ContractWarning)
        try:
            Plugins.load([subject.name], [subject.file] if subject.file else [])
        except TaokeError as error:
            raise Blocked(error.message) from error
    found = [one for one in caught if issubclass(one.category, ContractWarning)]
    if found:
        raise Violation(f"{Path(found[0].filename).name}:{found[0].lineno}: {found[0].message}")


def recipes(subject: Subject) -> None:
    """Each of its own recipes is read, and what it names exists; options that need a user's data are left open."""
    from core.recipe import built_in, read, resolve_content

    own = {name: found for name, found in built_in().items() if name.startswith(f"{subject.name}/")}
    if subject.file is not None or not own:
        raise Blocked("it ships no recipe")
    for name, found in own.items():
        if not found.summary():
            raise Violation(
                f"the recipe {name} says nothing of itself: its first line is a comment that does"
            )
        try:
            resolve_content(read(found.path), name, str(found.path))
        except TaokeError as error:  # what it leaves open, or `auto`, waits for a user's data
            problems = error.problems if isinstance(error, RecipeError) else ()
            wrong = [line for line in problems if not line.endswith("it is required")]
            if wrong:
                raise Violation(f"the recipe {name}: {wrong[0]}") from error
