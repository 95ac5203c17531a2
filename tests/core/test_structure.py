"""What the tree itself promises: who may know whom, which names stand where, and what is documented."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from core import errors, hookspecs
from core.errors import TaokeError

ROOT = Path(__file__).resolve().parents[2]
CORE = sorted((ROOT / "core").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
STAGES = ["choose", "preprocess", "modify", "fine_tune", "evaluate", "seal"]

WITHOUT_TORCH = [
    "core",
    *(
        f"core.{module}"
        for module in (
            "cli",
            "components",
            "context",
            "contract",
            "defaults",
            "doctor",
            "errors",
            "hookspecs",
            "loader",
            "options",
            "plan",
            "progress",
            "recipe",
            "version",
        )
    ),
]
"""What a command imports before it knows that it must compute, and what a plugin's entry module may import."""


def name(path):
    """A source file as it is named in a failure."""
    return str(path.relative_to(ROOT))


def imports(path):
    """(module, whether at the top level and run) of every import of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [node.module or ""]
        for module in found:
            yield module, id(node) not in lazy


def built_in_recipes():
    """The names of all recipes that come with the built-in plugins."""
    return {path.stem for path in (ROOT / "plugins").glob("*/recipes/*.yaml")} | set(
        PROJECT["entry-points"]["taoke.default_recipe"]
    )


@pytest.mark.parametrize("path", CORE, ids=name)
def test_core_names_no_domain_and_no_built_in_plugin(path):
    """Code, strings and comments alike. The rule: no whole word that is the name of a plugin in pyproject.toml, in
    any case; no built-in recipe's name after a slash; and no string that is one. (Their names alone are everyday
    words, such as `reference`.)"""
    backends = {"reference"} if name(path).startswith("core/optim/") else set()  # of the update step
    plugins = "|".join(map(re.escape, PROJECT["entry-points"]["taoke.plugins"]))
    recipes = "|".join(map(re.escape, built_in_recipes()))
    rule = re.compile(rf"\b(?:{plugins})\b|/(?:{recipes})\b", re.IGNORECASE)
    text = path.read_text(encoding="utf-8")
    found = [f"{number}: {line}" for number, line in enumerate(text.splitlines(), 1) if rule.search(line)]
    found += [
        f"{node.lineno}: {node.value!r}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and node.value in built_in_recipes() - backends
    ]
    assert found == []


@pytest.mark.parametrize("path", CORE, ids=name)
def test_core_imports_no_plugin(path):
    """By name it could only be one of its own."""
    assert not [module for module, _ in imports(path) if module.partition(".")[0] == "plugins"]


def test_only_the_runner_knows_all_six_stages():
    """Others know some of them at most."""
    knowing = {
        name(path): {
            module.rpartition(".")[2] for module, _ in imports(path) if module.startswith("core.stages.")
        }
        for path in CORE
    }
    assert [path for path, stages in knowing.items() if stages == set(STAGES)] == ["core/runner.py"]


@pytest.mark.parametrize("stage", STAGES)
def test_stage_reaches_back_to_earlier_stages_alone(stage):
    """Each is a function of the previous one's value."""
    path = ROOT / "core" / "stages" / f"{stage}.py"
    known = {module.rpartition(".")[2] for module, _ in imports(path) if module.startswith("core.stages.")}
    assert known <= set(STAGES[: STAGES.index(stage)])


def test_modules_that_promise_it_import_no_torch():
    """In a fresh process, all of them together; numpy stays out as well."""
    code = f"import sys, {', '.join(WITHOUT_TORCH)}\nprint(sorted({{'torch', 'numpy', 'sklearn'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr or done.stdout


@pytest.mark.parametrize("path", CORE, ids=name)
def test_every_module_says_what_it_is_for(path):
    """In its docstring."""
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_every_test_says_what_it_claims():
    """In a docstring that begins on the line below its name."""
    silent = [
        f"{name(path)}: {node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert silent == []


def test_every_error_says_when_it_happens_and_how_it_exits():
    """One tree, each class with a docstring of its own; 1 while running, 2 for a wrong request."""
    classes = [
        one
        for _, one in inspect.getmembers(errors, inspect.isclass)
        if one.__module__ == errors.__name__ and not issubclass(one, Warning)
    ]
    assert TaokeError in classes
    for one in classes:
        assert issubclass(one, TaokeError)
        assert one.__dict__.get("__doc__")
        assert one.exit_code == (2 if issubclass(one, errors.UsageError) else 1)


def test_hint_of_an_error_stands_on_a_line_of_its_own():
    """Message first; without a hint there is no empty line."""
    assert str(TaokeError("what", "do this")) == "what\n  do this"
    assert str(TaokeError("what")) == "what"
    assert str(errors.RecipeError("two", "hint", problems=["a", "b"])) == "two\n  - a\n  - b\n  hint"


def test_nearest_names_come_first_or_else_all():
    """At most three that are close; if none is, what there is; if there is nothing, nothing."""
    assert errors.nearest("accurcy", ["accuracy", "recall"]) == "did you mean 'accuracy'?"
    assert errors.nearest("zzz", ["b", "a", "a"]) == "known here: a, b"
    assert errors.nearest("zzz", []) == ""


def test_core_answers_every_hook_that_wants_an_answer():
    """A run without plugins of their own opinion needs no other, unless its recipe says `auto`; the core itself has
    nothing to show."""
    from core import defaults

    unanswered = {one for one in dir(hookspecs) if one.startswith("taoke_") and not hasattr(defaults, one)}
    assert unanswered == {"taoke_complete", "taoke_illustrate"}


def test_hooks_of_the_defaults_take_the_arguments_of_their_specifications():
    """All of them, in that order: the defaults are what authors copy from."""
    from core import defaults

    for hook in (one for one in dir(defaults) if one.startswith("taoke_") and one != "taoke_api"):
        specified = list(inspect.signature(getattr(hookspecs, hook)).parameters)
        taken = list(inspect.signature(getattr(defaults, hook)).parameters)
        assert taken == specified


def test_wheel_holds_core_and_plugins_and_their_data():
    """What setuptools is told to take; nothing else becomes importable."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert tool["packages"]["find"]["include"] == ["core", "core.*", "plugins", "plugins.*"]
    assert {"py.typed", "recipes/*.yaml", "bases/*"} <= set(tool["package-data"]["*"])
    assert all((path / "__init__.py").is_file() for path in {file.parent for file in CORE})
