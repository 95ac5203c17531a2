"""New plugins: the files of each kind, names that will not do, and packages that keep the contract."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from core.cli import app
from core.errors import OutputError, UsageError
from core.scaffold import KINDS, new


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_has_everything_that_a_plugin_needs(kind: str, tmp_path: Path) -> None:
    """Entry point, component, recipe, test, page, licence and CI; nothing is left to be filled in."""
    files = {
        path.relative_to(tmp_path / "taoke-acme").as_posix(): path for path in new("acme", kind, tmp_path)
    }
    recipe = f"taoke_acme/recipes/{KINDS[kind].recipe}.yaml"
    wanted = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        ".github/workflows/test.yml",
        "tests/test_contract.py",
    }
    assert {*wanted, "taoke_acme/__init__.py", "taoke_acme/plugin.py", recipe} <= set(files)
    for name, path in files.items():
        text = path.read_text(encoding="utf-8")
        assert "$" not in text, name
        if name.endswith(".py"):
            ast.parse(text)
    project = tomllib.loads(files["pyproject.toml"].read_text(encoding="utf-8"))
    assert project["project"]["entry-points"]["taoke.plugins"] == {"acme": "taoke_acme.plugin"}
    assert "acme" in yaml.safe_load(files[recipe].read_text(encoding="utf-8"))["plugins"]


@pytest.mark.parametrize("name", ["Acme", "2nd", "a-b", "a b", "", "vision", "core"])
def test_a_name_that_will_not_do_is_refused(name: str, tmp_path: Path) -> None:
    """Not a Python name in small letters, or taken."""
    with pytest.raises(UsageError):
        new(name, "task", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    """With the way out."""
    (tmp_path / "taoke-acme").mkdir()
    with pytest.raises(OutputError, match="is there already") as caught:
        new("acme", "task", tmp_path)
    assert "--into" in caught.value.hint
    assert not list((tmp_path / "taoke-acme").iterdir())


def test_an_unknown_kind_names_the_nearest(tmp_path: Path) -> None:
    """From the command line, as one JSON document."""
    done = CliRunner().invoke(
        app, ["plugins", "new", "acme", "--kind", "tsak", "--into", str(tmp_path), "--json"]
    )
    assert done.exit_code == 2
    assert "did you mean 'task'?" in json.loads(done.stdout)["error"]["hint"]


def test_a_new_task_takes_less_than_sixty_lines_of_its_author(tmp_path: Path) -> None:
    """What an author writes anew for another task: the module with data, base and task, without imports, blank lines
    and docstrings."""
    new("acme", "task", tmp_path)
    tree = ast.parse((tmp_path / "taoke-acme/taoke_acme/task.py").read_text(encoding="utf-8"))
    lines = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt)
        and not isinstance(node, ast.Import | ast.ImportFrom)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for line in ([node.lineno] if hasattr(node, "body") else range(node.lineno, node.end_lineno + 1))
    }
    assert len(lines) < 60


@pytest.mark.parametrize(
    "kind", ["task", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS if kind != "task")]
)
def test_a_new_package_runs_and_keeps_the_contract(kind: str, tmp_path: Path) -> None:
    """On the path with metadata as pip writes them; the kit is run as a user would."""
    new("acme", kind, tmp_path)
    site = tmp_path / "taoke-acme"
    metadata = site / "taoke_acme-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: taoke-acme\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[taoke.plugins]\nacme = taoke_acme.plugin\n")
    path = ":".join([str(site), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "core", "plugins", "check", "acme", "--json"],
        cwd=tmp_path,
        env={
            "PYTHONPATH": path,
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "TAOKE_CACHE": str(tmp_path / "c"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    failed = [result for result in report["results"] if result["outcome"] == "failed"]
    assert done.returncode == 0, failed
    assert report["passed"] >= 25
