"""Finding and importing plugins. Installed is not active: only what a recipe or the command line names is
imported. What is done with them then stands in `core.manager`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from types import ModuleType

from core.contract import API
from core.errors import PluginError, nearest, raised_at

GROUP = "taoke.plugins"
ENVIRONMENT = "TAOKE_PLUGINS"


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
    from_file: bool = False

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


def find(names: Sequence[str], files: Sequence[Path]) -> list[Callable[[], Active]]:
    """For each name, in order, what imports it; then the same for those of `files` that are not named. A
    name is a file's stem or an installed plugin's. Raises `PluginError` where there is no such plugin;
    imports nothing yet."""
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
    return found


def _import_installed(plugin: Installed) -> Active:
    module = import_installed(plugin)
    api = _api(module, f"plugin {plugin.name!r} ({plugin.distribution} {plugin.version})")
    return Active(plugin.name, module, plugin.distribution, plugin.version, api)


def import_installed(plugin: Installed) -> ModuleType:
    """An installed plugin's module. Raises `PluginError` where importing it fails."""
    origin = f"plugin {plugin.name!r} ({plugin.distribution} {plugin.version})"
    try:
        module = importlib.import_module(plugin.module)
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{origin} fails on import: {type(error).__name__}: {error} ({raised_at(error, plugin.module)})",
            f"reinstall or update it, tell its author, or leave it out with -p no:{plugin.name}",
        ) from error
    return module


def _import_file(path: Path) -> Active:
    module = import_file(path)
    return Active(path.stem, module, str(path), "file", _api(module, f"plugin file {path}"), from_file=True)


def import_file(path: Path) -> ModuleType:
    """A plugin file's module, imported anew. Raises `PluginError` where it is no Python file, or importing it fails."""
    origin = f"plugin file {path}"
    spec = importlib.util.spec_from_file_location(f"taoke_plugin_file_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise PluginError(f"{origin} is not a Python file", "give the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and `module:attribute` references look it up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise PluginError(
            f"{origin} fails on import: {type(error).__name__}: {error} ({raised_at(error, str(path))})",
            "mend the file",
        ) from error
    return module


def _api(module: ModuleType, origin: str) -> int:
    api = getattr(module, "taoke_api", None)
    if not isinstance(api, int):
        raise PluginError(
            f"{origin} does not say which plugin contract it is written for",
            f"write `taoke_api = {API}` in {module.__name__}",
        )
    return api
