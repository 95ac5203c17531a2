"""Components: found by kind and name, checked, and made only when used."""

from __future__ import annotations

import sys

import pytest
from pydantic import ValidationError

from core.components import Options, Registry, Use, import_attribute, install_hint
from core.contract import Component
from core.errors import ComponentError, PluginError


class Sized(Options):
    size: int = 1
    ratio: float = 0.5


class Loose(Sized, extra="ignore"):
    pass


def make(options):
    """A factory that gives back what it was called with."""
    return options


def registry(*components):
    """A registry of (kind, name) pairs with `Sized` as their options, all of the plugin `acme`."""
    filled = Registry()
    for kind, name in components:
        filled.add(Component(kind, name, "", f"{__name__}:make", f"{__name__}:Sized"), "acme")
    return filled


def test_short_name_finds_the_only_component_that_ends_with_it():
    """`classify` is `acme.classify`, and a kind is no other kind."""
    found = registry(("task", "acme.classify"), ("loss", "other.classify")).find("task", "classify")
    assert found.name == "acme.classify"


def test_full_name_wins_over_a_longer_one_that_ends_with_it():
    """`acme.scale` is found although `new.acme.scale` ends with it."""
    assert (
        registry(("task", "acme.scale"), ("task", "new.acme.scale")).find("task", "acme.scale").name
        == "acme.scale"
    )


def test_ambiguous_short_name_lists_the_full_ones():
    """The hint is what to write instead."""
    with pytest.raises(ComponentError, match="the task 'classify' is ambiguous") as caught:
        registry(("task", "b.classify"), ("task", "a.classify")).find("task", "classify")
    assert caught.value.hint == "write one of a.classify, b.classify"


def test_unknown_component_names_the_nearest_of_its_kind():
    """Neither components of other kinds nor far names are offered."""
    with pytest.raises(ComponentError, match="no active plugin has a task 'clasify'") as caught:
        registry(("task", "acme.classify"), ("loss", "acme.clasify")).find("task", "clasify")
    assert caught.value.hint == "did you mean 'classify' or 'acme.classify'?"


def test_a_file_in_the_place_of_a_base_s_source_is_told_where_files_go():
    """What somebody with a file of weights writes first."""
    with pytest.raises(ComponentError, match="no active plugin has a base 'mine") as caught:
        registry(("base", "core.file")).find("base", "mine.safetensors")
    assert "{source: file, path: FILE, architecture: ...}" in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "written", "name", "options"),
    [
        ("base", "timm:resnet18", "timm", {"name": "resnet18"}),
        ("base", "acme.hub:org/model:v2", "acme.hub", {"name": "org/model:v2"}),
        ("base", "builtin", "builtin", {}),
        ("base", {"source": "file", "path": "a:b"}, "file", {"path": "a:b"}),
        ("loss", "acme:odd", "acme:odd", {}),
    ],
)
def test_base_is_written_as_source_and_name_in_one(kind, written, name, options):
    """`timm:resnet18` for `{source: timm, name: resnet18}`; other kinds have no such form."""
    used = Use.read(kind, written)
    assert (used.kind, used.name, used.options) == (kind, name, options)
    assert Use.read(kind, used.to_json()) == used


@pytest.mark.parametrize("written", ["timm:", ":resnet18", ":"])
def test_base_of_half_a_name_is_refused(written):
    """Either side of the colon is missing."""
    with pytest.raises(ValueError, match="expected `SOURCE:NAME`, got"):
        Use.read("base", written)


def test_options_are_checked_and_completed():
    """Defaults are filled in; what comes back is JSON."""
    components = registry(("task", "acme.classify"))
    component = components.find("task", "classify")
    assert components.check(component, {"size": 3}) == {"size": 3, "ratio": 0.5}
    with pytest.raises(ValidationError):
        components.check(component, {"sise": 3})


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_options_take_no_number_that_is_not_finite(value):
    """YAML's .inf and .nan are no settings."""
    with pytest.raises(ValidationError, match="finite number"):
        Sized(ratio=value)


def test_options_do_not_change_after_validation():
    """A component cannot alter what the recipe recorded."""
    options = Sized()
    with pytest.raises(ValidationError, match="frozen"):
        options.size = 2


def test_making_calls_the_factory_with_validated_options():
    """The factory gets the model, not the mapping."""
    made = registry(("task", "acme.classify")).make(Use("task", "classify", {"size": "3"}))
    assert made == Sized(size=3)


def test_component_is_imported_only_when_it_is_made(tmp_path, monkeypatch):
    """Registering and finding import neither factory nor options."""
    (tmp_path / "acme_lazily.py").write_text("class Options: pass\ndef make(): return 'made'\n")
    monkeypatch.syspath_prepend(tmp_path)
    components = Registry()
    components.add(Component("task", "acme.lazy", "", "acme_lazily:make"), "acme")
    components.find("task", "lazy")
    assert "acme_lazily" not in sys.modules
    assert components.make(Use("task", "lazy", {})) == "made"
    assert sys.modules.pop("acme_lazily")


@pytest.mark.parametrize(
    ("options", "says"),
    [(f"{__name__}:Loose", "accept unknown keys"), (f"{__name__}:make", "are no pydantic model")],
)
def test_options_that_would_let_a_misspelt_key_pass_are_refused(options, says):
    """Every options model forbids unknown keys."""
    components = Registry()
    components.add(Component("task", "acme.loose", "", f"{__name__}:make", options), "acme")
    with pytest.raises(PluginError, match=says):
        components.make(Use("task", "loose", {}))


def test_attribute_that_a_module_lacks_is_the_plugin_s_mistake():
    """The reference is quoted as it was registered."""
    with pytest.raises(
        ComponentError, match=r"task 'x' names 'core.errors:Nothing', but module 'core.errors' has no"
    ):
        import_attribute("core.errors:Nothing", "task 'x'")


def test_missing_module_inside_a_plugin_s_module_is_the_one_named(tmp_path, monkeypatch):
    """Not the module that was asked for, but the one it failed to import."""
    (tmp_path / "acme_needs.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ComponentError, match="needs the Python module 'not_there_at_all', which is not installed"
    ):
        import_attribute("acme_needs:make", "task 'x'")


@pytest.mark.parametrize("requirement", ["Extra_Thing>=1", "extra-thing[fast]", "extra-thing (>=2)"])
def test_install_hint_finds_the_extra_however_it_is_spelt(install, requirement):
    """Case, underscores, versions and extras of the requirement do not matter."""
    install("acme-extras", {}, {}, requires=[f"{requirement}; extra == 'much'"])
    assert install_hint("extra_thing.sub") == "pip install 'acme-extras[much]'"


def test_install_hint_without_an_extra_names_the_module():
    """Nothing installed requires it."""
    assert install_hint("nobody.knows") == "pip install the package that brings 'nobody'"


@pytest.mark.parametrize(
    ("text", "raised", "line"),
    [("x = 1\nraise ValueError('no luck')\n", "ValueError: no luck", 2), ("\ndef f(:\n", "SyntaxError", 2)],
)
def test_component_whose_module_raises_on_import_is_a_problem_of_the_recipe(
    refused, install, text, raised, line
):
    """Exit code 2 with kind, name, module and file:line, beside what else is wrong with the recipe."""
    plugin = """
    from core.contract import Component
    from core.hookspecs import hookimpl

    taoke_api = 1

    @hookimpl
    def taoke_register():
        return [Component("dataset", "ill.data", "", "acme_ill.data:Data", "acme_ill.options:Options")]
    """
    site = install(
        "acme-ill",
        {"acme_ill/__init__.py": "", "acme_ill/plugin.py": plugin, "acme_ill/options.py": text},
        {"taoke.plugins": {"ill": "acme_ill.plugin"}},
    )
    for name in [name for name in sys.modules if name.startswith("acme_ill")]:
        del sys.modules[name]
    message = refused("-p", "ill", "data.dataset=ill.data", "sed=1")["message"]
    assert f"data: dataset 'ill.data': importing 'acme_ill.options' fails: {raised}" in message
    assert f"({site}/acme_ill/options.py:{line})" in message
    assert "did you mean 'seed'" in message
