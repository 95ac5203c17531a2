"""Finding, loading and naming plugins. Installed is not active: only what a recipe or the command line names
is loaded.

Loading is transactional: a plugin is found, its contract version checked, imported, validated and
registered, or all of it is undone and `PluginError` says which plugin failed, where it comes from and
what to do.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from core import hookspecs
from core.components import Registry
from core.contract import API, Component
from core.errors import PluginError, TaokeError, describe, nearest
from core.version import version

GROUP = "taoke.plugins"
ENVIRONMENT = "TAOKE_PLUGINS"
CORE = "core"
"""The name under which the core's own defaults are registered; they behave like a plugin's, and answer last."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A plugin that is installed, as its metadata tell: nothing of it is imported."""

    name: str
    module: str
    distribution: str
    version: str

    def folder(self) -> Path | None:
        """Where the plugin's module lies, found without importing it or its parent packages."""
        first, *rest = self.module.split(".")[:-1] or [self.module]
        try:
            spec = importlib.util.find_spec(first)
        except (ImportError, ValueError):
            return None
        for location in (spec.submodule_search_locations or ()) if spec else ():
            folder = Path(location, *rest)
            if folder.is_dir():
                return folder
        return None


@dataclass(frozen=True, slots=True)
class Active:
    """A plugin that is loaded."""

    name: str
    module: ModuleType
    distribution: str
    version: str
    api: int

    @property
    def file(self) -> Path:
        return Path(self.module.__file__ or "?")

    def owns(self, filename: str) -> bool:
        """Whether a source file belongs to this plugin: its module's folder, or the one file of a
        single-file plugin."""
        if self.module.__package__:
            return Path(filename).is_relative_to(self.file.parent)
        return Path(filename) == self.file


def installed() -> dict[str, Installed]:
    """All installed plugins by name, from their distributions' metadata alone."""
    found: dict[str, Installed] = {}
    for entry in metadata.entry_points(group=GROUP):
        distribution = entry.dist
        plugin = Installed(
            entry.name,
            entry.module,
            distribution.metadata["Name"] if distribution else "?",
            distribution.version if distribution else "?",
        )
        other = found.get(entry.name)
        if other is not None and other != plugin:
            raise PluginError(
                f"{other.distribution} and {plugin.distribution} both bring a plugin {entry.name!r}",
                "uninstall one of them",
            )
        found[entry.name] = plugin
    return dict(sorted(found.items()))


def chosen(named: Sequence[str], changes: Sequence[str] = ()) -> list[str]:
    """The names to load: those of the recipe, replaced by TAOKE_PLUGINS (comma-separated), then changed by
    `-p NAME` (append) and `-p no:NAME` (leave out)."""
    from_environment = os.environ.get(ENVIRONMENT)
    names = (
        list(named)
        if from_environment is None
        else [n.strip() for n in from_environment.split(",") if n.strip()]
    )
    for change in changes:
        if change.startswith("no:"):
            if change[3:] not in names:
                raise PluginError(
                    f"-p {change}: no plugin {change[3:]!r} to leave out", nearest(change[3:], names)
                )
            names.remove(change[3:])
        elif change not in names:
            names.append(change)
    return names


class Plugins:
    """The active plugins, in their call order, with the hooks and the components they bring."""

    def __init__(self, answers: Mapping[str, str] | None = None, *, strict: bool = False) -> None:
        self.active: list[Active] = []
        self.components = Registry()
        self.strict = strict
        self.failed_observers: dict[tuple[str, str], str] = {}
        self._answers = dict(answers or {})
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.hook: Any = self._manager.hook

    def load(self, names: Sequence[str], files: Sequence[Path] = ()) -> Plugins:
        """Load the plugins named, in that call order, then those of `files` that are not named, with the
        core's defaults last. A name is a file's stem or an installed plugin's. Returns itself. Raises
        `PluginError`."""
        from core import defaults

        by_stem: dict[str, Path] = {}
        for path in files:
            if path.stem in by_stem and by_stem[path.stem] != path:
                raise PluginError(
                    f"{by_stem[path.stem]} and {path} are both the plugin {path.stem!r}", "rename one of them"
                )
            by_stem[path.stem] = path
        available = installed()
        found: list[Callable[[], Active]] = []
        for name in dict.fromkeys([*names, *by_stem]):
            if name in by_stem:
                found.append(partial(_import_file, by_stem[name]))
            elif name in available:
                found.append(partial(_import_installed, available[name]))
            else:
                known = nearest(name, available)
                raise PluginError(
                    f"plugin {name!r} is not installed" + (f" ({known})" if known else ""),
                    f"pip install the package that brings it (an entry point {name!r} in the group {GROUP!r}),"
                    " or give its file with --plugin-file",
                )
        # pluggy calls the last registered first; the core's own are marked `trylast`.
        self._activate(Active(CORE, defaults, "taoke", version(), API))
        for find in reversed(found):
            self._activate(find())
        self.active.reverse()
        self._check_answers()
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
        try:
            _check_hooks(plugin.module, origin)
            self._manager.register(plugin.module, plugin.name)
            self._manager.check_pending()
            for caller in self._manager.get_hookcallers(plugin.module) or ():
                for implementation in caller.get_hookimpls():
                    if implementation.plugin is plugin.module:
                        self._attribute_implementation(implementation, caller.name, plugin)
            self.active.append(plugin)
            register = getattr(plugin.module, "taoke_register", None)
            for component in register() if register else ():
                if not isinstance(component, Component):
                    raise PluginError(
                        f"{origin}: taoke_register yields {component!r}",
                        "yield core.contract.Component records",
                    )
                self.components.add(component, plugin.name)
        except BaseException as error:
            if self._manager.has_plugin(plugin.name):
                self._manager.unregister(name=plugin.name)
            self.components.remove(plugin.name)
            self.active = [other for other in self.active if other is not plugin]
            if isinstance(error, TaokeError) or not isinstance(error, Exception):
                raise
            hint = "tell the plugin's author"
            frames = reversed(traceback.extract_tb(error.__traceback__))
            place = next((f" ({f.filename}:{f.lineno})" for f in frames if plugin.owns(f.filename)), "")
            raise PluginError(
                f"{origin} breaks the contract: {type(error).__name__}: {error}{place}", hint
            ) from error

    def _attribute_implementation(self, implementation: Any, hook: str, plugin: Active) -> None:
        """Replace an implementation once, so that calls cost no more than they must: what it raises is
        attributed, and an observer that fails is switched off."""
        function = implementation.function
        names = implementation.argnames
        position = names.index("context") if "context" in names else None

        def context_of(arguments: Sequence[Any]) -> Any:
            return arguments[position] if position is not None else None

        if inspect.isgeneratorfunction(function):

            @wraps(function)
            def attributed(*arguments: Any) -> Generator[None, Any, Any]:
                try:
                    return (yield from function(*arguments))
                except Exception as error:
                    self.attribute(error, plugin=plugin, hook=hook, context=context_of(arguments))
                    raise

        elif hook == "taoke_after_step" and not self.strict and plugin.name != CORE:

            @wraps(function)
            def attributed(*arguments: Any) -> Any:
                if (plugin.name, hook) in self.failed_observers:
                    return
                try:
                    function(*arguments)
                except Exception as error:
                    context = context_of(arguments)
                    self.attribute(error, plugin=plugin, hook=hook, context=context)
                    text = describe(error)
                    self.failed_observers[plugin.name, hook] = text
                    if context is not None:
                        context.warn(f"observer switched off: {text}")

        else:

            @wraps(function)
            def attributed(*arguments: Any) -> Any:
                try:
                    return function(*arguments)
                except Exception as error:
                    self.attribute(error, plugin=plugin, hook=hook, context=context_of(arguments))
                    raise

        implementation.function = attributed

    def _check_answers(self) -> None:
        """One answer a firstresult hook. Raises `PluginError` that names both plugins, unless the recipe
        says which."""
        for name, caller in self._callers().items():
            options = caller.spec.opts if caller.spec else {}
            if not options.get("firstresult"):
                continue
            answering = [
                implementation
                for implementation in caller.get_hookimpls()
                if not implementation.wrapper and implementation.plugin_name != CORE
            ]
            short = name.removeprefix("taoke_")
            wanted = self._answers.pop(short, None)
            plugins = [implementation.plugin_name for implementation in answering]
            if wanted is not None:
                if wanted not in [*plugins, CORE]:
                    raise PluginError(
                        f"answers.{short}: plugin {wanted!r} does not answer the hook {name}",
                        nearest(wanted, [*plugins, CORE]),
                    )
                for implementation in answering:
                    if implementation.plugin_name != wanted:
                        implementation.function = lambda *arguments: None
            elif len(plugins) > 1:
                raise PluginError(
                    f"plugins {' and '.join(map(repr, sorted(plugins)))} both answer the hook {name}",
                    f"write `answers: {{{short}: {sorted(plugins)[0]}}}` in the recipe, or leave one out: -p no:NAME",
                )
        if self._answers:
            unknown = next(iter(self._answers))
            known = [
                n.removeprefix("taoke_")
                for n, c in self._callers().items()
                if c.spec and c.spec.opts.get("firstresult")
            ]
            raise PluginError(
                f"answers.{unknown}: there is no such hook with one answer", nearest(unknown, known)
            )

    def _callers(self) -> dict[str, Any]:
        return {n: getattr(self.hook, n) for n in dir(hookspecs) if n.startswith("taoke_")}

    def call_order(self) -> dict[str, list[str]]:
        """For each hook the plugins that implement it, in call order; wrappers are marked `wraps:`."""
        return {
            name: [
                f"wraps:{i.plugin_name}" if i.wrapper else i.plugin_name
                for i in reversed(caller.get_hookimpls())
            ]
            for name, caller in self._callers().items()
        }

    def attribute(
        self, error: BaseException, *, plugin: Active | None = None, hook: str = "", context: Any = None
    ) -> None:
        """Add, once, a note to an exception: which plugin, version, file and line it came out of, in which
        hook or stage, at which step. The plugin is the one whose file stands innermost in the traceback,
        or else the one whose hook was called."""
        if getattr(error, "taoke_attributed", False):
            return
        frames = traceback.extract_tb(error.__traceback__)
        for frame in reversed(frames):
            owner = next((p for p in self.active if p.name != CORE and p.owns(frame.filename)), None)
            if owner is not None:
                place = f"{owner.file.parent.name}/{Path(frame.filename).relative_to(owner.file.parent)}:{frame.lineno}"
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


def _import_installed(plugin: Installed) -> Active:
    origin = f"plugin {plugin.name!r} ({plugin.distribution} {plugin.version})"
    try:
        module = importlib.import_module(plugin.module)
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{origin} fails on import: {type(error).__name__}: {error} ({_place(error, plugin.module)})",
            f"reinstall or update it, tell its author, or leave it out with -p no:{plugin.name}",
        ) from error
    return Active(plugin.name, module, plugin.distribution, plugin.version, _api(module, origin))


def _import_file(path: Path) -> Active:
    origin = f"plugin file {path}"
    name = path.stem
    spec = importlib.util.spec_from_file_location(f"taoke_plugin_file_{name}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise PluginError(f"{origin} is not a Python file", "give the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and `module:attribute` references look it up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise PluginError(
            f"{origin} fails on import: {type(error).__name__}: {error} ({_place(error, str(path))})",
            "mend the file",
        ) from error
    return Active(name, module, str(path), "file", _api(module, origin))


def _place(error: BaseException, otherwise: str) -> str:
    """`file:line` of the code that raised on import."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    frames = reversed(traceback.extract_tb(error.__traceback__))
    outside = (f for f in frames if "importlib" not in f.filename and f.filename != __file__)
    return next((f"{frame.filename}:{frame.lineno}" for frame in outside), otherwise)


def _api(module: ModuleType, origin: str) -> int:
    api = getattr(module, "taoke_api", None)
    if not isinstance(api, int):
        raise PluginError(
            f"{origin} does not say which plugin contract it is written for",
            f"write `taoke_api = {API}` in {module.__name__}",
        )
    return api


def _check_hooks(module: ModuleType, origin: str) -> None:
    """Hooks are spelt as specified, decorated, and give their parameters no defaults (pluggy would pass the
    default, never the value)."""
    known = [name for name in dir(hookspecs) if name.startswith("taoke_")]
    for name, function in vars(module).items():
        if not name.startswith("taoke_") or not inspect.isfunction(function):
            continue
        line = f"{module.__name__}:{function.__code__.co_firstlineno}"
        if name not in known:
            raise PluginError(f"{origin}: {name} ({line}) is not a hook", nearest(name, known))
        if not hasattr(function, f"{hookspecs.PROJECT}_impl"):
            raise PluginError(
                f"{origin}: {name} ({line}) is not marked as a hook",
                "decorate it with @core.hookspecs.hookimpl",
            )
        for parameter in inspect.signature(function).parameters.values():
            if parameter.default is not parameter.empty:
                raise PluginError(
                    f"{origin}: {name} ({line}) gives {parameter.name!r} a default, which every call would use",
                    "remove the default",
                )
