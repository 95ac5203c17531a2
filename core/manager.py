"""The active plugins: registered all or nothing, called in the recipe's order, and named when something goes
wrong.

A plugin is found, imported, its contract version checked, validated and registered; where one fails,
`PluginError` says which, where it comes from and what to do, and there is no manager: `Plugins.load`
gives all of them or none.
"""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from core import hookspecs
from core.components import Registry
from core.contract import API, Component
from core.errors import ContractWarning, PluginError, describe, nearest
from core.loader import Active, find
from core.version import version

CORE = "core"
"""The name under which the core's own defaults are registered; they behave like a plugin's, and answer last."""


@dataclass(frozen=True, slots=True)
class Calls:
    """Who implements a hook, each list in call order.

    Of a hook with `one_answer` the plugin in `called` answers. In `shadowed` are the core's own answer, which counts
    where the plugin's is None, and plugins that the recipe's `answers` overrule.
    """

    one_answer: bool
    wrapped_by: list[str]
    called: list[str]
    shadowed: list[str]

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "first result" if self.one_answer else "collect",
            "wrapped_by": self.wrapped_by,
            "called": self.called,
            "shadowed": self.shadowed,
        }

    def role(self, plugin: str) -> str | None:
        """What the plugin does there, in a word; None where it does not implement the hook."""
        if plugin in self.wrapped_by:
            return "wraps"
        if plugin in self.called:
            return "answers" if self.one_answer else "is called"
        return "is shadowed" if plugin in self.shadowed else None


class Plugins:
    """The active plugins, in their call order, with the hooks and the components they bring. Made by `load`."""

    def __init__(self, *, strict: bool) -> None:
        self.active: list[Active] = []
        self.components = Registry()
        self._strict = strict
        self._overruled: set[tuple[str, str]] = set()
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.hook: Any = self._manager.hook

    @classmethod
    def load(
        cls,
        names: Sequence[str],
        files: Sequence[Path] = (),
        *,
        answers: Mapping[str, str] | None = None,
        strict: bool = False,
    ) -> Plugins:
        """Load the plugins named, in that call order, then those of `files` that are not named; the core's
        defaults answer last.

        Args:
            names: files' stems, or installed plugins'.
            files: Python files that are plugins.
            answers: where two plugins answer one hook, which of them does: hook (without `taoke_`) to plugin.
            strict: an observer that fails ends the run, instead of being switched off.

        Raises:
            PluginError: one of them cannot be loaded, or two answer one hook.
        """
        from core import defaults

        self = cls(strict=strict)
        # pluggy calls the last registered first; the core's own are marked `trylast`.
        self._activate(Active(CORE, defaults, "taoke", version(), API))
        for importer in reversed(find(names, files)):
            self._activate(importer())
        self.active.reverse()
        self._settle(answers or {})
        return self

    def _activate(self, plugin: Active) -> None:
        origin = f"plugin {plugin.name!r} ({plugin.distribution} {plugin.version}, {plugin.file})"
        if any(other.name == plugin.name for other in self.active):
            raise PluginError(f"{origin} is loaded twice", "name it once")
        if plugin.api not in (API, API - 1):
            raise PluginError(
                f"{origin} is written for version {plugin.api} of the plugin contract; this core has {API} and"
                f" accepts {API - 1}",
                "install a version of the plugin, or of taoke, that fits",
            )
        if plugin.api == API - 1:
            _warn_of_version(plugin, origin)
        _check_hooks(plugin.module, origin)
        try:
            with warnings.catch_warnings():
                if plugin.name == CORE:  # which answers a hook for as long as there is one
                    warnings.simplefilter("ignore", ContractWarning)
                self._manager.register(plugin.module, plugin.name)
            self._manager.check_pending()
            components = list(getattr(plugin.module, "taoke_register", tuple)())
        except Exception as error:
            frames = reversed(traceback.extract_tb(error.__traceback__))
            place = next((f" ({f.filename}:{f.lineno})" for f in frames if plugin.owns(f.filename)), "")
            raise PluginError(
                f"{origin} breaks the contract: {type(error).__name__}: {error}{place}",
                "tell the plugin's author",
            ) from error
        for component in components:
            if not isinstance(component, Component):
                raise PluginError(
                    f"{origin}: taoke_register yields {component!r}", "yield core.contract.Component records"
                )
            self.components.add(component, plugin.name)
        for caller in self._manager.get_hookcallers(plugin.module) or ():
            for implementation in caller.get_hookimpls():
                if (
                    implementation.plugin is plugin.module
                    and plugin.name != CORE
                    and caller.name != "taoke_register"
                ):
                    self._attribute_implementation(implementation, caller.name, plugin)
        self.active.append(plugin)

    def _attribute_implementation(self, implementation: Any, hook: str, plugin: Active) -> None:
        """Replace an implementation once, so that calls cost no more than they must: what it raises is
        attributed, and an observer that fails is switched off."""
        function = implementation.function
        observes = hook == "taoke_after_step" and not self._strict
        # One argument more than the plugin asked for: the context, which says at which step it failed.
        implementation.argnames = (*implementation.argnames, "context")

        @wraps(function)
        def call(*arguments: Any) -> Any:
            try:
                return function(*arguments[:-1])
            except Exception as error:
                context = arguments[-1]
                self.attribute(error, plugin=plugin, hook=hook, context=context)
                if not observes:
                    raise
                implementation.function = _ignore
                context.warn(f"observer switched off: {describe(error)}")

        @wraps(function)
        def wrap(*arguments: Any) -> Generator[None, Any, Any]:
            *own, context = arguments
            try:
                return (yield from function(*own))
            except Exception as error:
                self.attribute(error, plugin=plugin, hook=hook, context=context)
                raise

        implementation.function = wrap if inspect.isgeneratorfunction(function) else call

    def _settle(self, answers: Mapping[str, str]) -> None:
        """One answer a firstresult hook. Raises `PluginError` that names both plugins, unless `answers` says
        which."""
        callers = {
            name: caller for name, caller in self._callers().items() if caller.spec.opts["firstresult"]
        }
        unknown = sorted(set(answers) - {name.removeprefix("taoke_") for name in callers})
        if unknown:
            known = nearest(unknown[0], (name.removeprefix("taoke_") for name in callers))
            raise PluginError(f"answers.{unknown[0]}: there is no such hook with one answer", known)
        for name, caller in callers.items():
            short = name.removeprefix("taoke_")
            answering = {
                implementation.plugin_name: implementation
                for implementation in caller.get_hookimpls()
                if not implementation.wrapper and implementation.plugin_name != CORE
            }
            wanted = answers.get(short)
            if wanted is not None and wanted not in (*answering, CORE):
                raise PluginError(
                    f"answers.{short}: plugin {wanted!r} does not answer the hook {name}",
                    nearest(wanted, (*answering, CORE)),
                )
            if wanted is None and len(answering) > 1:
                raise PluginError(
                    f"plugins {' and '.join(map(repr, sorted(answering)))} both answer the hook {name}",
                    f"write `answers: {{{short}: {sorted(answering)[0]}}}` in the recipe, or leave one out: -p no:NAME",
                )
            for plugin, implementation in answering.items():
                if wanted not in (None, plugin):
                    implementation.function = _ignore
                    self._overruled.add((name, plugin))

    def _callers(self) -> dict[str, Any]:
        return {name: getattr(self.hook, name) for name in _hooks()}

    def caller(self, hook: str, own: Callable[..., Any]) -> Callable[..., Any]:
        """What calls a hook with its arguments by name, for a hot loop: the core's `own` answer where no plugin
        implements the hook, so that it then costs what a function costs."""
        caller: Callable[..., Any] = getattr(self.hook, hook)
        return own if len(caller.get_hookimpls()) == 1 else caller  # type: ignore[attr-defined]

    def hooks(self) -> dict[str, Calls]:
        """Who implements each hook, by name."""
        made = {}
        for name, caller in self._callers().items():
            each = caller.get_hookimpls()  # pluggy calls the last first
            if name != "taoke_teardown":  # which goes the other way
                each = each[::-1]
            wraps = [one.plugin_name for one in each if one.wrapper]
            plain = [one.plugin_name for one in each if not one.wrapper]
            if caller.spec.opts["firstresult"]:
                overruled = [plugin for plugin in plain if (name, plugin) in self._overruled]
                first, *behind = [plugin for plugin in plain if plugin not in overruled]
                made[name] = Calls(True, wraps, [first], [*behind, *overruled])
            else:
                made[name] = Calls(False, wraps, plain, [])
        return made

    def attribute(
        self, error: BaseException, *, plugin: Active | None = None, hook: str = "", context: Any = None
    ) -> None:
        """Add, once, a note to an exception: which plugin, version, file and line it came out of, in which
        hook or stage, at which step. The plugin is the one whose file stands innermost in the traceback,
        or else the one whose hook was called."""
        if getattr(error, "taoke_attributed", False):
            return
        frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        frames += getattr(error, "taoke_frames", [])  # of the worker process that raised it
        for filename, line in reversed(frames):
            owner = next((p for p in self.active if p.name != CORE and p.owns(filename)), None)
            if owner is not None:
                place = f"{owner.file.parent.name}/{Path(filename).relative_to(owner.file.parent)}:{line}"
                plugin = owner
                break
        else:
            if plugin is None or plugin.name == CORE:
                return
            place = str(plugin.file)
        where = [f"in plugin {plugin.name!r} {plugin.version} ({place})"]
        if hook:
            where.append(f"hook {hook}")
        elif context is not None and context.stage:
            where.append(f"stage {context.stage}")
        if context is not None and context.step:
            where.append(f"step {context.step}")
        error.add_note("  " + ", ".join(where))
        error.taoke_attributed = True  # type: ignore[attr-defined]

    @contextmanager
    def attributing(self, context: Any) -> Iterator[None]:
        """What a plugin raises inside gets its note, also where no hook was called."""
        try:
            yield
        except Exception as error:
            self.attribute(error, context=context)
            raise

    def teardown(self, context: Any) -> None:
        """Call every plugin's teardown in reverse order; what one raises is reported and keeps no other from
        its turn."""
        for implementation in self.hook.taoke_teardown.get_hookimpls():
            try:
                implementation.function(*[context for _ in implementation.argnames])
            except Exception as error:
                context.warn(f"teardown failed: {describe(error)}")

    def record(self) -> list[dict[str, Any]]:
        """The active plugins as a run's record keeps them."""
        return [
            {
                "name": p.name,
                "distribution": p.distribution,
                "version": p.version,
                "module": p.module.__name__,
                "api": p.api,
            }
            for p in self.active
        ]


def plugin_info(name: str) -> dict[str, Any]:
    """What one installed plugin brings, as JSON. Raises `PluginError`."""
    loaded = Plugins.load([name])
    plugin = next(active for active in loaded.active if active.name == name)
    return {
        "name": name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "api": plugin.api,
        "file": str(plugin.file),
        "hooks": [
            {"hook": hook, "role": role, "order": [*calls.wrapped_by, *calls.called, *calls.shadowed]}
            for hook, calls in loaded.hooks().items()
            if (role := calls.role(name))
        ],
        "components": [
            {
                "kind": component.kind,
                "name": component.name,
                "summary": component.summary,
                "options": loaded.components.describe_options(component),
            }
            for component, owner in loaded.components
            if owner == name
        ],
    }


def _warn_of_version(plugin: Active, origin: str) -> None:
    """`ContractWarning` at the line that says for which version a plugin is written."""
    lines = plugin.file.read_text(encoding="utf-8").splitlines()
    line = max((number for number, text in enumerate(lines, 1) if text.startswith("taoke_api")), default=1)
    warnings.warn_explicit(
        f"{origin} is written for version {plugin.api} of the plugin contract; this core has {API}, and the next"
        f" version will not accept {plugin.api}: docs/contract/versions.md says what has changed",
        ContractWarning,
        str(plugin.file),
        line,
    )


def _ignore(*arguments: Any) -> None:
    """In the place of an implementation that no longer answers."""


def _hooks() -> list[str]:
    return [name for name in dir(hookspecs) if name.startswith("taoke_")]


def _check_hooks(module: ModuleType, origin: str) -> None:
    """Hooks are spelt as specified, decorated, and give their parameters no defaults (pluggy would pass the
    default, never the value)."""
    known = _hooks()
    for name, function in vars(module).items():
        if not name.startswith("taoke_") or not inspect.isfunction(function):
            continue
        line = f"{module.__name__}:{function.__code__.co_firstlineno}"
        if name not in known:
            raise PluginError(f"{origin}: {name} ({line}) is not a hook", nearest(name, known))
        marks = getattr(function, f"{hookspecs.PROJECT}_impl", None)
        if marks is None:
            raise PluginError(
                f"{origin}: {name} ({line}) is not marked as a hook",
                "decorate it with @core.hookspecs.hookimpl",
            )
        if marks["hookwrapper"]:
            raise PluginError(
                f"{origin}: {name} ({line}) is an old-style wrapper", "write @hookimpl(wrapper=True)"
            )
        for parameter in inspect.signature(function).parameters.values():
            if parameter.default is not parameter.empty:
                raise PluginError(
                    f"{origin}: {name} ({line}) gives {parameter.name!r} a default, which every call would use",
                    "remove the default",
                )
