"""What this installation can do."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from rich.console import Console

from core.errors import TaokeError
from core.loader import installed
from core.manager import Plugins
from core.recipe import built_in, default_names
from core.shell import LIBRARIES
from core.version import version


def examine() -> dict[str, Any]:
    """Versions, devices, threads, and whether each installed plugin loads. `healthy` is False where one of
    them does not."""
    libraries = {name: _installed_version(name) for name in LIBRARIES}
    plugins = {name: _plugin_state(name) for name in installed()}
    default = default_names()
    return {
        "taoke": version(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "libraries": libraries,
        "devices": _devices(),
        "cores": os.cpu_count(),
        "update_step": _update_step(),
        "plugins": plugins,
        "recipes": sorted(built_in()),
        "default_recipe": default[0] if len(default) == 1 else None,
        "healthy": all(libraries.values())
        and all(state == "loads" for state in plugins.values())
        and len(default) == 1,
    }


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _plugin_state(name: str) -> str:
    try:
        Plugins.load([name])
    except TaokeError as error:
        return str(error)
    return "loads"


def _devices() -> dict[str, str]:
    import torch

    found = {"cpu": f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"}
    for i in range(torch.cuda.device_count()):
        found[f"cuda:{i}"] = torch.cuda.get_device_name(i)
    return found


def _update_step() -> dict[str, str]:
    from core.optim import cpu, cuda

    return {"cpu": cpu.available(), "cuda": cuda.available()}


def render(console: Console, found: Mapping[str, Any]) -> None:
    """The findings for a person."""
    console.print(
        f"taoke {found['taoke']}, Python {found['python']}, {found['system']}, {found['cores']} cores",
    )
    for section in ("libraries", "devices", "update_step", "plugins"):
        console.print(f"\n{section.replace('_', ' ')}", style="bold")
        for name, state in found[section].items():
            console.print(f"  {name:<16} {state or 'missing'}")
    console.print("\nrecipes", style="bold")
    for name in found["recipes"]:
        console.print(f"  {name}{'  (default)' if name == found['default_recipe'] else ''}")
    console.print("\nall well" if found["healthy"] else "\nnot all is well: see above", style="bold")
