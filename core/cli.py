"""The command line: `python -m core COMMAND`. Commands import what they need when they run; `--help` and
lists import no torch."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from core.errors import TaokeError, UsageError, describe
from core.version import version as taoke_version

HELP = "Adapt an existing model to a new task, and prove what the adaptation was worth."
INTERRUPTED = 130

app = typer.Typer(
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
plugins_app = typer.Typer(
    help="What plugins are installed and what they bring.", no_args_is_help=True, rich_markup_mode=None
)
recipes_app = typer.Typer(
    help="The recipes of the installed plugins.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(plugins_app, name="plugins")
app.add_typer(recipes_app, name="recipes")
bench_app = typer.Typer(
    help="Measure what is said to be fast, in a checkout of the repository.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(bench_app, name="bench")

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")
]
Device = Annotated[str, typer.Option("--device", help="Where to compute: cpu, cuda, cuda:1.")]
Plugin = Annotated[
    list[str] | None,
    typer.Option(
        "-p",
        "--plugin",
        metavar="NAME",
        help="Add a plugin to the recipe's; no:NAME leaves one out. Repeatable.",
    ),
]
PluginFile = Annotated[
    list[Path] | None,
    typer.Option("--plugin-file", metavar="PATH", help="Add a Python file that is a plugin. Repeatable."),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="End the run where an observer fails, instead of switching it off.")
]
RecipeName = Annotated[
    str | None,
    typer.Argument(metavar="[RECIPE]", help="A built-in name or a file; the default recipe if left out."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[key=value ...]", help="Changes to the recipe, as fine_tune.lr=0.01."),
]
Shell = Annotated[Path, typer.Argument(metavar="SHELL", help="A shell, or the folder of a run that has one.")]
BasePath = Annotated[
    str | None,
    typer.Option(
        "--base", metavar="PATH", help="Where the shell's base is, if no longer where the run had it."
    ),
]
Architecture = Annotated[
    str | None,
    typer.Option(
        "--architecture",
        metavar="FILE.py:NAME",
        help="The code that makes the shell's base, where it is not installed.",
    ),
]


class Output:
    """Where a command's result goes: a JSON document on stdout, or text."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        width = None if sys.stdout.isatty() else 140
        self.console = Console(highlight=False, soft_wrap=True, markup=False, width=width)

    def show(self, document: Any, render: Callable[[Console], None]) -> None:
        if self.as_json:
            print(json.dumps(document, indent=1, ensure_ascii=False))
        else:
            render(self.console)


@contextmanager
def _reporting(*, as_json: bool) -> Iterator[Output]:
    """Turn what goes wrong into a message and an exit code."""
    try:
        yield Output(as_json=as_json)
        return
    except KeyboardInterrupt as error:
        kind, lines, hint, code = "Interrupted", ["interrupted"], "", INTERRUPTED
        lines += getattr(error, "__notes__", ())
    except TaokeError as error:
        kind, lines, hint, code = type(error).__name__, [error.message], error.hint, error.exit_code
        lines += getattr(error, "__notes__", ())
    except Exception as error:  # a plugin's, or a bug: the traceback is asked for by name
        if os.environ.get("TAOKE_TRACEBACK"):
            raise
        kind, lines, code = type(error).__name__, [describe(error)], 1
        hint = "TAOKE_TRACEBACK=1 in the environment shows the whole traceback"
    _print_error(kind, "\n".join(lines), hint, as_json=as_json)
    raise typer.Exit(code)


def _print_error(kind: str, message: str, hint: str, *, as_json: bool) -> None:
    if as_json:
        document = {"error": {"kind": kind, "message": message, "hint": hint}}
        print(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        print(f"error: {message}" + (f"\n  {hint}" if hint else ""), file=sys.stderr)


def _recipe_and_changes(
    recipe: str | None, overrides: Sequence[str] | None
) -> tuple[str | None, dict[str, Any]]:
    """The recipe may be left out before overrides."""
    from core.recipe import parse_overrides

    arguments = list(overrides or ())
    if recipe is not None and "=" in recipe and not Path(recipe).is_file():
        arguments.insert(0, recipe)
        recipe = None
    return recipe, parse_overrides(arguments)


@app.command()
def run(
    recipe: RecipeName = None,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option("--out", help="The folder under which the run's own is made.")] = Path(
        "runs"
    ),
    device: Device = "cpu",
    plugin: Plugin = None,
    plugin_file: PluginFile = None,
    strict: Strict = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=0,
            help="Processes that make batches ahead of time, of streamed or augmented data; they change no bit."
            " By default one where data is augmented.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Adapt a base to a task, judge the result, and seal it."""
    with _reporting(as_json=as_json) as output:
        name, changes = _recipe_and_changes(recipe, overrides)
        from core.recipe import resolve

        resolved = resolve(name, changes, plugins=plugin or (), plugin_files=plugin_file or (), strict=strict)
        from core.runner import execute  # brings torch: a wrong recipe is refused before that takes its time

        done = execute(resolved, out=out, device=device, quiet=as_json, workers=workers)
        output.show(done.document, lambda console: console.print(done))
    raise typer.Exit(done.exit_code)


@app.command()
def plan(
    recipe: RecipeName = None,
    overrides: Overrides = None,
    device: Device = "cpu",
    plugin: Plugin = None,
    plugin_file: PluginFile = None,
    as_json: Json = False,
) -> None:
    """Dry run: the resolved recipe, who answers which hook, parameters, memory, time."""
    with _reporting(as_json=as_json) as output:
        name, changes = _recipe_and_changes(recipe, overrides)
        from core.plan import plan as make_plan
        from core.plan import render

        planned = make_plan(
            name, changes, device=device, plugins=plugin or (), plugin_files=plugin_file or ()
        )
        output.show(planned, lambda console: render(console, planned))


@app.command("eval")
def evaluate(
    shell: Shell,
    device: Device = "cpu",
    base: BasePath = None,
    architecture: Architecture = None,
    plugin_file: PluginFile = None,
    as_json: Json = False,
) -> None:
    """Score a shell again on its recipe's report split. Exits with 1 where the numbers are not those of the
    run."""
    with _reporting(as_json=as_json) as output:
        from core.shell.read import load

        adapted = load(
            shell, device=device, plugin_files=plugin_file or (), base=base, architecture=architecture
        )
        scores, recorded = adapted.evaluate(), adapted.recorded
        same = scores == recorded
        document = {
            "shell": str(adapted.shell),
            "split": "report",
            "scores": scores,
            "recorded": recorded,
            "same": same,
        }

        def render(console: Console) -> None:
            table = Table(
                "metric", "now", "in the run", title=f"{adapted.shell}, report split", title_justify="left"
            )
            for metric, value in scores.items():
                table.add_row(metric, f"{value:.6f}", f"{recorded[metric]:.6f}")
            console.print(table)
            console.print("the same numbers as in the run" if same else "not the numbers of the run")

        output.show(document, render)
    raise typer.Exit(0 if same else 1)


@app.command()
def predict(
    shell: Shell,
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="What the task reads: see its plugin's README.")
    ],
    device: Device = "cpu",
    base: BasePath = None,
    architecture: Architecture = None,
    plugin_file: PluginFile = None,
    as_json: Json = False,
) -> None:
    """Predict with a shell."""
    with _reporting(as_json=as_json) as output:
        from core.shell.read import load

        predictions = load(
            shell, device=device, plugin_files=plugin_file or (), base=base, architecture=architecture
        ).predict(inputs)
        document = [{"input": given, **row} for given, row in zip(inputs, predictions, strict=True)]

        def render(console: Console) -> None:
            for row in document:
                console.print(row["input"], style="bold")
                for key, value in row.items():
                    if key != "input":
                        console.print(
                            f"  {key}: {value if isinstance(value, str) else json.dumps(value)}", markup=False
                        )

        output.show(document, render)


@plugins_app.command("list")
def plugins_list(as_json: Json = False) -> None:
    """The installed plugins, from their metadata alone: nothing is imported."""
    with _reporting(as_json=as_json) as output:
        from core.loader import installed

        found = [
            {"name": p.name, "distribution": p.distribution, "version": p.version, "module": p.module}
            for p in installed().values()
        ]
        output.show(found, lambda console: _table(console, found))


@plugins_app.command("info")
def plugins_info(name: Annotated[str, typer.Argument(metavar="NAME")], as_json: Json = False) -> None:
    """One plugin: where it lies, its contract version, its components and hooks. Imports the plugin, and no
    torch."""
    with _reporting(as_json=as_json) as output:
        from core.manager import plugin_info

        info = plugin_info(name)

        def render(console: Console) -> None:
            for key in ("name", "distribution", "version", "api", "file"):
                console.print(f"{key:<13} {info[key]}")
            _table(console, [{**hook, "order": ", ".join(hook["order"])} for hook in info["hooks"]])
            for component in info["components"]:
                console.print(
                    f"\n{component['kind']} {component['name']}: {component['summary']}", style="bold"
                )
                _table(console, component["options"]) if component["options"] else console.print(
                    "  no options"
                )

        output.show(info, render)


@plugins_app.command("new")
def plugins_new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The plugin's name, as recipes will list it.")],
    kind: Annotated[str, typer.Option("--kind", help="task, edit, strategy or observer.")],
    into: Annotated[
        Path, typer.Option("--into", metavar="DIR", help="The folder to make the package in.")
    ] = Path(),
    as_json: Json = False,
) -> None:
    """Write the package of a new plugin: one working component, its recipe, and a test that it keeps the contract."""
    with _reporting(as_json=as_json) as output:
        from core.scaffold import new

        files = [str(path) for path in new(name, kind, into)]
        folder = str(into / f"taoke-{name}")

        def render(console: Console) -> None:
            for path in files:
                console.print(path)
            console.print(f"next: pip install -e '{folder}[test]' && python -m core plugins check {name}")

        output.show({"plugin": name, "folder": folder, "files": files}, render)


@plugins_app.command("check")
def plugins_check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An installed plugin, or the path of a file.")],
    overrides: Overrides = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe", metavar="RECIPE", help="What to try it with, in place of its own recipes. Repeatable."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Try a plugin against the contract, clause by clause. Exits with 1 where it breaks one."""
    with _reporting(as_json=as_json) as output:
        from core.recipe import parse_overrides
        from core.testing import check_plugin

        report = check_plugin(name, recipes=recipe, overrides=parse_overrides(overrides or ()))
        output.show(report.to_json(), lambda console: console.print(str(report)))
    raise typer.Exit(0 if report.ok else 1)


@recipes_app.command("list")
def recipes_list(as_json: Json = False) -> None:
    """The recipes of the installed plugins; the default one is marked."""
    with _reporting(as_json=as_json) as output:
        from core.recipe import built_in, default_names

        recipes = built_in()
        default = default_names()
        found = [{"name": n, "default": n in default, "summary": r.summary()} for n, r in recipes.items()]
        output.show(found, lambda console: _table(console, found))


@recipes_app.command("show")
def recipes_show(recipe: RecipeName = None, as_json: Json = False) -> None:
    """A recipe as it is written."""
    with _reporting(as_json=as_json) as output:
        from core.recipe import find, read

        found = find(recipe)
        text = found.path.read_text(encoding="utf-8")
        output.show(read(found.path), lambda console: console.print(text, end=""))


@recipes_app.command("schema")
def recipes_schema(
    recipe: RecipeName = None, plugin: Plugin = None, plugin_file: PluginFile = None, as_json: Json = True
) -> None:
    """The JSON Schema of recipes, for editors, with the components of the recipe's plugins: always JSON."""
    with _reporting(as_json=True) as output:
        from core.recipe import resolve, schema

        resolved = resolve(recipe, plugins=plugin or (), plugin_files=plugin_file or ())
        output.show(schema(resolved.plugins.components), lambda console: None)


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this installation can do: versions, devices, plugins that load and those that do not."""
    with _reporting(as_json=as_json) as output:
        from core.doctor import examine, render

        found = examine()
        output.show(found, lambda console: render(console, found))
    raise typer.Exit(0 if found["healthy"] else 1)


@bench_app.command("update")
def bench_update(
    millions: Annotated[
        int, typer.Option("--millions", min=1, help="Parameters of the large cases, in millions.")
    ] = 64,
    rounds: Annotated[int, typer.Option("--rounds", min=2, help="How often each contender is timed.")] = 9,
    device: Device = "cpu",
    compiled: Annotated[
        bool,
        typer.Option("--compiled", help="Against the compiled chain too, which takes minutes to compile."),
    ] = False,
    as_json: Json = False,
) -> None:
    """The update step against chains of torch calls that compute the same numbers, checked before they are timed."""
    with _reporting(as_json=as_json) as output:
        try:
            from benchmarks.update.run import measure, render
        except ModuleNotFoundError as error:
            raise UsageError(
                "the benchmarks are not part of the installed package",
                "run this in a checkout of the repository",
            ) from error
        from core.context import pick_device

        document = measure(millions, rounds, compiled=compiled, device=str(pick_device(device)))
        output.show(document, lambda console: render(console, document))


def _table(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(*(rows[0] if rows else ["nothing"]))
    for row in rows:
        table.add_row(
            *("yes" if v is True else "" if v is False or v is None else str(v) for v in row.values())
        )
    console.print(table)


def _version(value: bool) -> None:
    if value:
        print(f"taoke {taoke_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script `taoke`, and `python -m core`."""
    # libgomp's threads otherwise spin at every barrier, and on a machine whose cores are busy with something else each
    # small kernel then waits for whole time slices: 30 times slower for a small network. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    name = "taoke" if Path(sys.argv[0]).stem == "taoke" else "python -m core"
    try:
        code = app(prog_name=name, standalone_mode=False)
    except typer.Abort:
        code = INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):  # the argument parser's own errors have it
            raise
        if "--json" in sys.argv:
            _print_error("UsageError", error.format_message(), f"see {name} --help", as_json=True)
        else:
            error.show()  # type: ignore[attr-defined]
        code = 2
    sys.exit(code)
