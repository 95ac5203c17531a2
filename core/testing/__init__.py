"""The conformance kit: does a plugin keep the contract?

from core.testing import check_plugin

print(check_plugin("acme"))         # the name of an installed plugin, or the path of a file

python -m core plugins check acme   # the same, from the command line

from core.testing import PluginContract

class TestContract(PluginContract): # the same, as tests: one a check
    plugin = "acme"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.testing.checks import CHECKS, Check, check_plugin
    from core.testing.contract import PluginContract
    from core.testing.report import Report, Result

__all__ = ["CHECKS", "Check", "PluginContract", "Report", "Result", "check_plugin"]
_MODULES = {"CHECKS": "checks", "Check": "checks", "check_plugin": "checks", "PluginContract": "contract"}


def __getattr__(name: str) -> Any:
    """Imported when asked for: the kit's own plugin (`host`) needs no torch, and only tests need pytest."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'report')}"), name)
