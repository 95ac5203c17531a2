"""Plugins: found, chosen and imported, or refused with what is wrong and what to do."""

from __future__ import annotations

import sys

import pytest

from core.loader import chosen, installed

# --- finding -----------------------------------------------------------------------------------------------


def test_plugin_that_is_not_installed_says_how_to_get_it(refused):
    """Named in the recipe and absent: which entry point a package must bring, and the way with a file."""
    error = refused("-p", "absent")
    assert error["kind"] == "PluginError"
    assert "plugin 'absent' is not installed" in error["message"]
    assert (
        "pip install the package that brings it (an entry point 'absent' in the group 'taoke.plugins')"
        in error["hint"]
    )
    assert "--plugin-file" in error["hint"]


def test_misspelt_plugin_gets_the_nearest_installed_name(refused, installed_toy):
    """As for recipes and keys."""
    assert "did you mean 'acme'?" in refused("-p", "acmee")["message"]


def test_component_that_needs_a_missing_module_names_the_extra_that_brings_it(refused, plugin_file, install):
    """A dataset whose package is not there is told with `pip install 'distribution[extra]'`."""
    install("acme-data", {}, {}, requires=['Missing-Module>=2; extra == "big"'])
    plugin = plugin_file(
        "needy",
        """
        @hookimpl
        def taoke_register():
            return [Component("dataset", "needy.data", "needs much", "missing_module.rows:Rows")]
        """,
    )
    error = refused("data.dataset=needy.data", plugins=[plugin])
    assert error["kind"] == "ComponentError"
    assert (
        "dataset 'needy.data' needs the Python module 'missing_module', which is not installed"
        in error["message"]
    )
    assert error["hint"] == "pip install 'acme-data[big]'"


def test_two_distributions_with_one_plugin_name_are_an_error_that_names_both(install, cli):
    """Nobody can say which one a recipe means."""
    for name in ("one", "two"):
        install(f"acme-{name}", {}, {"taoke.plugins": {"acme": f"acme_{name}.plugin"}})
    outcome = cli("plugins", "list", "--json")
    assert outcome.code == 2
    assert "acme-one" in outcome.error["message"]
    assert "acme-two" in outcome.error["message"]


@pytest.mark.parametrize("name", ["absent.py", "mine.yaml"])
def test_plugin_file_that_is_no_python_file_is_refused(refused, recipe_file, name):
    """A path that does not exist, or holds something else."""
    path = recipe_file().with_name(name)
    assert f"plugin file {path} is not a Python file" in refused(plugins=[path])["message"]


def test_two_plugin_files_of_one_name_are_refused(refused, plugin_file, tmp_path):
    """A file's stem is its plugin's name, and none is dropped silently."""
    first = plugin_file("same", "")
    (tmp_path / "other").mkdir()
    second = first.rename(tmp_path / "other" / "same.py")
    first = plugin_file("same", "")
    message = refused(plugins=[first, second])["message"]
    assert str(first) in message
    assert str(second) in message


def test_installed_plugins_are_listed_from_metadata_alone(installed_toy):
    """Name, module, distribution, version; nothing is imported."""
    plugin = installed()["acme"]
    assert (plugin.module, plugin.distribution, plugin.version) == ("acme_toy.plugin", "acme-toy", "1.2")
    assert plugin.folder() == installed_toy / "acme_toy"
    assert "acme_toy" not in sys.modules


# --- choosing ----------------------------------------------------------------------------------------------


def test_changes_add_and_leave_out(monkeypatch):
    """-p NAME appends once, -p no:NAME removes, TAOKE_PLUGINS replaces the recipe's list."""
    assert chosen(["a", "b"], ["c", "a", "no:b"]) == ["a", "c"]
    monkeypatch.setenv("TAOKE_PLUGINS", "x, y,")
    assert chosen(["a"], ["no:x"]) == ["y"]
    monkeypatch.setenv("TAOKE_PLUGINS", "")
    assert chosen(["a"]) == []


def test_leaving_out_a_plugin_that_is_not_there_is_an_error(refused):
    """`-p no:visoin` does not pass silently."""
    assert "-p no:other: no plugin 'other' to leave out" in refused("-p", "no:other")["message"]


# --- importing ---------------------------------------------------------------------------------------------


def test_plugin_file_that_raises_on_import_is_named_with_file_and_line(refused, plugin_file):
    """Where it raised, and what."""
    path = plugin_file("broken", "def f():\n    raise RuntimeError('no luck')\nf()\n")
    line = path.read_text(encoding="utf-8").splitlines().index("    raise RuntimeError('no luck')") + 1
    error = refused(plugins=[path])
    assert error["kind"] == "PluginError"
    assert f"plugin file {path} fails on import: RuntimeError: no luck ({path}:{line})" in error["message"]
    assert "taoke_plugin_file_broken" not in sys.modules


@pytest.mark.parametrize(
    ("text", "raised", "line"),
    [
        ("import sys\n\nraise ValueError('no luck')\n", "ValueError: no luck", 3),
        ("import acme_broken.helper\n", "KeyError: 'inner'", 2),
        ("def f(:\n", "SyntaxError", 1),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3", 2),
    ],
)
def test_installed_plugin_that_raises_on_import_is_named_with_file_and_line(
    refused, install, text, raised, line
):
    """Distribution and version too; a plugin that exits or is no Python gets the same treatment."""
    modules = {"acme_broken/__init__.py": "", "acme_broken/plugin.py": text}
    modules["acme_broken/helper.py"] = "x = {}\nx['inner']\n"
    site = install("acme-broken", modules, {"taoke.plugins": {"broken": "acme_broken.plugin"}})
    for name in [name for name in sys.modules if name.startswith("acme_broken")]:
        del sys.modules[name]
    message = refused("-p", "broken")["message"]
    file = "helper" if "helper" in text else "plugin"
    assert f"plugin 'broken' (acme-broken 1.2) fails on import: {raised}" in message
    assert f"({site / 'acme_broken' / file}.py:{line})" in message
