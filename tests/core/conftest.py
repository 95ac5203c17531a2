"""The toy plugin as a user would run it, and as a test takes it apart: the command line in this process, the
stages one by one, plugins made from a few lines of text, and packages that are as good as installed."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from core.bases import save_base
from core.cli import app
from core.context import Context
from core.prepared import Prepared
from core.progress import Progress
from core.recipe import Resolved, resolve
from core.stages.choose import choose
from core.stages.fine_tune import Tuned, fine_tune
from core.stages.modify import Modified, modify
from core.stages.preprocess import preprocess

HERE = Path(__file__).parent
TOY = HERE / "toy.py"
RECIPE = HERE / "toy.yaml"

PLUGIN = """\
from dataclasses import replace

from core.components import Options
from core.contract import Component, Row
from core.hookspecs import hookimpl

taoke_api = 1
"""
"""The head of every plugin a test writes; its own lines come after."""


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Stdout, which holds one JSON document and nothing else."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The document of a failure, of exactly the promised form."""
        document = self.document
        assert list(document) == ["error"]
        assert list(document["error"]) == ["kind", "message", "hint"]
        return document["error"]


def command(*arguments: object) -> Outcome:
    """A command in this process; what it does not handle itself is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="taoke")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def cli() -> Callable[..., Outcome]:
    """`python -m core`, in this process."""
    return command


@pytest.fixture
def toy(tmp_path: Path) -> Callable[..., Outcome]:
    """`run` (or another command on a recipe) on the toy, into `tmp_path/out`."""

    def call(
        *arguments: object,
        name: str = "run",
        recipe: str | Path = RECIPE,
        plugins: Sequence[Path] = (),
        json: bool = True,
    ) -> Outcome:
        files = [part for path in (TOY, *plugins) for part in ("--plugin-file", path)]
        extra = ["--json"] if json else []
        extra += ["--out", str(tmp_path / "out")] if name == "run" else []
        return command(name, recipe, *arguments, *files, *extra)

    return call


@pytest.fixture
def refused(toy: Callable[..., Outcome], tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Run the toy in a way that must be refused: exit code 2, one JSON document, and nothing left behind.
    Returns the document's kind, message and hint."""

    def call(*arguments: object, **keywords: Any) -> dict[str, str]:
        outcome = toy(*arguments, **keywords)
        assert outcome.code == 2, outcome
        assert not (tmp_path / "out").exists()
        return outcome.error

    return call


@pytest.fixture
def plugin_file(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a plugin of one file: its name, and its lines after `PLUGIN`."""

    def write(name: str, lines: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(PLUGIN + textwrap.dedent(lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[..., Path]:
    """Write the toy's recipe with one of its texts replaced, or another recipe altogether."""

    def write(old: str = "", new: str = "", *, text: str | None = None, name: str = "mine") -> Path:
        before = RECIPE.read_text(encoding="utf-8")
        assert old in before
        path = tmp_path / f"{name}.yaml"
        path.write_text(before.replace(old, new, 1) if text is None else text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put a distribution on the path, with metadata like pip writes them, and return its folder."""

    def put(
        name: str,
        modules: Mapping[str, str],
        entry_points: Mapping[str, Mapping[str, str]],
        version: str = "1.2",
        requires: Sequence[str] = (),
    ) -> Path:
        site = tmp_path / f"site-{name}"
        metadata = site / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(parents=True)
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        (metadata / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
        sections = [
            "\n".join([f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())])
            for group, entries in entry_points.items()
        ]
        (metadata / "entry_points.txt").write_text("\n".join(sections) + "\n", encoding="utf-8")
        for relative, text in modules.items():
            path = site / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        monkeypatch.syspath_prepend(site)
        return site

    return put


@pytest.fixture
def installed_toy(install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy as the plugin `acme` of the distribution `acme-toy` 1.2, with its recipe as `acme/toy`."""
    recipe = RECIPE.read_text(encoding="utf-8").replace("plugins: []", "plugins: [acme]")
    site = install(
        "acme-toy",
        {
            "acme_toy/__init__.py": "",
            "acme_toy/plugin.py": TOY.read_text(encoding="utf-8"),
            "acme_toy/recipes/toy.yaml": recipe,
        },
        {"taoke.plugins": {"acme": "acme_toy.plugin"}},
    )
    for module in ("acme_toy", "acme_toy.plugin"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return site


@dataclass
class Stages:
    """The toy, stage by stage, with a record and no folder; each stage is computed when first asked for."""

    resolved: Resolved
    record: Path

    def __post_init__(self) -> None:
        device = torch.device("cpu")
        self.context = Context(self.resolved, device, Progress(quiet=True))
        self.context.events.open(self.record)
        self._prepared: Prepared | None = None
        self._modified: Modified | None = None
        self._tuned: Tuned | None = None

    @property
    def prepared(self) -> Prepared:
        if self._prepared is None:
            self._prepared = preprocess(self.context, choose(self.context))
        return self._prepared

    @property
    def modified(self) -> Modified:
        if self._modified is None:
            self._modified = modify(self.context, self.prepared)
        return self._modified

    @property
    def tuned(self) -> Tuned:
        if self._tuned is None:
            self._tuned = fine_tune(self.context, self.modified)
        return self._tuned

    def events(self, event: str) -> list[dict[str, Any]]:
        """What was recorded under that name."""
        self.context.events.flush()
        lines = map(json.loads, self.record.read_text(encoding="utf-8").splitlines())
        return [line for line in lines if line["event"] == event]


@pytest.fixture
def stages(tmp_path: Path) -> Iterator[Callable[..., Stages]]:
    """The toy with the given overrides and further plugin files, to be taken apart; observers may not fail."""
    made: list[Stages] = []

    def make(overrides: Mapping[str, Any] | None = None, plugins: Sequence[Path] = ()) -> Stages:
        resolved = resolve(RECIPE, overrides or {}, plugin_files=[TOY, *plugins], strict=True)
        made.append(Stages(resolved, tmp_path / f"record-{len(made)}.jsonl"))
        return made[-1]

    with torch.random.fork_rng():
        yield make
    for one in made:
        one.resolved.plugins.teardown(one.context)


def make_halves(classes: int = 2) -> nn.Module:
    """The toy's architecture, from its file."""
    return resolve(RECIPE, plugin_files=[TOY]).plugins.active[0].module.make_model(classes)


@pytest.fixture
def halves(tmp_path: Path) -> Callable[..., Path]:
    """Write a base for the toy's `halves` into a folder, and return the folder."""

    def write(
        tensors: Mapping[str, torch.Tensor] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        name: str = "bases",
    ) -> Path:
        folder = tmp_path / name
        card = {
            "architecture": {"classes": 2},
            "preprocessing": preprocessing or {"task": {"labels": ["a", "b"]}},
            "licence": "Apache-2.0",
            "origin": "written by a test",
        }
        save_base(folder, "halves", tensors or make_halves().state_dict(), card)
        return folder

    return write


@dataclass(frozen=True)
class Finished:
    """A run of the toy through the command line, with what it printed."""

    outcome: Outcome
    document: Mapping[str, Any]
    folder: Path

    @property
    def shell(self) -> Path:
        return self.folder / "shell"


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """`run --json` on the toy as it is. Tests read it; those that change something take a copy."""
    out = tmp_path_factory.mktemp("toy") / "runs"
    outcome = command("run", RECIPE, "--plugin-file", TOY, "--out", out, "--json")
    assert outcome.code == 0, outcome
    return Finished(outcome, outcome.document, Path(outcome.document["run"]))


@pytest.fixture
def shell_copy(toy_run: Finished, tmp_path: Path) -> Path:
    """A copy of that run's shell, to be damaged."""
    return Path(shutil.copytree(toy_run.shell, tmp_path / "copy" / "shell"))
