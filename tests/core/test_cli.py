"""The command line: what each command prints, with which exit code, and how little it imports."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from core.cli import app

HERE = Path(__file__).parent
TOY, RECIPE = HERE / "toy.py", HERE / "toy.yaml"

COMMANDS = [
    ["run"],
    ["plan"],
    ["eval"],
    ["predict"],
    ["doctor"],
    ["bench", "update"],
    ["plugins", "list"],
    ["plugins", "info"],
    ["recipes", "list"],
    ["recipes", "show"],
    ["recipes", "schema"],
]


def process(*arguments, cwd=None):
    """`python -m core` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "core", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


# --- what is imported --------------------------------------------------------------------------------------


def test_help_lists_and_version_import_no_torch():
    """Nor numpy: every --help, `recipes list` and `show`, `plugins list`, `--version`, in one fresh process."""
    asked = [[], ["plugins"], ["recipes"], *COMMANDS]
    commands = [[*command, "--help"] for command in asked]
    commands += [["--version"], ["plugins", "list"], ["recipes", "list"], ["recipes", "list", "--json"]]
    commands += [["recipes", "show", str(RECIPE)]]
    code = (
        "import sys\n"
        "from core.cli import app\n"
        f"for command in {commands!r}:\n"
        "    try:\n"
        "        app(command, prog_name='taoke')\n"
        "    except SystemExit as stop:\n"
        "        assert stop.code in (0, None), command\n"
        "    for heavy in ('torch', 'numpy', 'sklearn', 'plugins.vision.plugin'):\n"
        "        assert heavy not in sys.modules, (command, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_wrong_recipe_is_refused_without_importing_torch():
    """The answer to a typing error takes no seconds."""
    code = (
        "import sys\n"
        "from core.cli import app\n"
        "try:\n"
        f"    app(['run', {str(RECIPE)!r}, 'sed=1', '--plugin-file', {str(TOY)!r}], prog_name='taoke')\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 2\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "did you mean 'seed'" in done.stderr


def test_script_and_module_are_the_same_command():
    """`taoke` is what pyproject says, and `python -m core` says so of itself in its usage."""
    project = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"taoke": "core.cli:main"}
    done = process("--version")
    assert (done.returncode, done.stdout) == (0, f"taoke {version()}\n")
    assert "Usage: python -m core" in process("--help").stdout


def version():
    """The installed version."""
    from core.version import version

    return version()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_takes_json_and_explains_itself(cli, command):
    """A sentence of help, and one for each option and argument."""
    outcome = cli(*command, "--help")
    assert outcome.code == 0
    assert "--json" in outcome.out


def test_commands_are_those_that_work(cli):
    """No command stands in --help before it works."""
    listed = {
        line.split()[0] for line in cli("--help").out.partition("Commands:")[2].splitlines() if line.strip()
    }
    assert listed == {"run", "plan", "eval", "predict", "plugins", "recipes", "doctor", "bench"}
    assert {command.name or command.callback.__name__ for command in app.registered_commands} < listed


# --- usage errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--nope"], "--nope"),
        (["eval"], "SHELL"),
        (["predict", "somewhere"], "INPUT"),
        (["plugins", "info"], "NAME"),
        (["sail"], "sail"),
    ],
)
def test_usage_errors_have_the_same_two_forms(arguments, says):
    """On stderr with exit code 2, or as the one JSON document; the main function is what decides."""
    plain, as_json = process(*arguments), process(*arguments, "--json")
    assert (plain.returncode, plain.stdout) == (2, "")
    assert says in plain.stderr
    assert as_json.returncode == 2
    error = json.loads(as_json.stdout)["error"]
    assert list(error) == ["kind", "message", "hint"]
    assert error["kind"] == "UsageError"
    assert says in error["message"]


# --- run ---------------------------------------------------------------------------------------------------


def test_json_of_a_run_is_one_document_with_what_was_promised(toy_run):
    """And nothing else on stdout; no progress on stderr either."""
    document = toy_run.outcome.document
    assert document["recipe"] == "toy"
    assert Path(document["run"]).is_dir()
    assert document["domain"] == "toy"
    assert document["primary"] == "accuracy"
    assert document["higher_is_better"] is True
    assert list(document["contenders"]) == ["base", "majority", "scratch", "adapted"]
    assert all(0 <= scores["accuracy"] <= 1 for scores in document["contenders"].values())
    assert list(document["difference"]) == ["value", "low", "high"]
    gained = document["contenders"]["adapted"]["accuracy"] - document["contenders"]["base"]["accuracy"]
    assert document["difference"]["value"] == pytest.approx(gained)
    assert document["difference"]["low"] < document["difference"]["value"] < document["difference"]["high"]
    assert document["verdict"] in ("ship", "no-ship", "inconclusive")
    assert list(document["seconds"]) == ["choose", "preprocess", "modify", "fine_tune", "evaluate", "seal"]
    assert all(seconds >= 0 for seconds in document["seconds"].values())
    assert toy_run.outcome.err == ""


def test_run_ends_with_a_table_and_ships_through_its_gate(toy):
    """Without --json: exit code 0 with a gate that is passed, the table on stdout, progress on stderr in plain
    lines."""
    outcome = toy("gate={confidence: 0.9}", "evaluate.retain=false", json=False)
    assert outcome.code == 0, outcome
    for part in ("contender", "base", "majority", "scratch", "adapted", "accuracy", "90%", "seconds"):
        assert part in outcome.out
    assert "verdict   ship" in outcome.out
    (place,) = [line.split()[1] for line in outcome.out.splitlines() if line.startswith("run ")]
    assert Path(place, "shell").is_dir()
    for stage in ("choose", "preprocess", "modify", "fine_tune", "evaluate", "seal"):
        assert any(line.startswith(f"{stage} ") for line in outcome.err.splitlines())
    assert "grow classes to 4 (mean)" in outcome.err
    assert "\x1b" not in outcome.out + outcome.err


def test_gate_that_is_not_passed_exits_with_3(toy):
    """The run is complete, its document says no-ship, its shell is kept."""
    outcome = toy("gate={max_forgetting: 0.0}", "evaluate.scratch=false")
    assert outcome.code == 3, outcome
    assert outcome.document["gate"] is True
    assert outcome.document["verdict"] == "no-ship"
    assert outcome.document["forgetting"]["low"] > 0
    assert Path(outcome.document["shell"], "delta.json").is_file()


def test_run_works_from_any_folder_and_writes_only_there(tmp_path):
    """The default `--out` is `runs` below the working directory; a relative plugin file reaches the fresh process
    that checks parity."""
    (tmp_path / "toy.py").write_text(TOY.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "toy.yaml").write_text(RECIPE.read_text(encoding="utf-8"), encoding="utf-8")
    options = [
        "fine_tune.epochs=1",
        "evaluate={scratch: false, resamples: 100}",
        "--plugin-file",
        "toy.py",
        "--json",
    ]
    done = process("run", "toy.yaml", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["run"].startswith("runs/toy/")
    assert (tmp_path / document["shell"] / "delta.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} <= {"toy.py", "toy.yaml", "runs", "__pycache__"}


# --- plan --------------------------------------------------------------------------------------------------


def test_plan_tells_what_would_happen_and_writes_nothing(toy, tmp_path, monkeypatch):
    """Hooks and who answers them, parameters, examples, steps, bytes and seconds."""
    monkeypatch.chdir(tmp_path)
    outcome = toy("fine_tune.strategy={strategy: lp_ft, head_epochs: 4}", name="plan")
    assert outcome.code == 0, outcome
    document = outcome.document
    assert document["hooks"]["taoke_step"] == {
        "kind": "first result",
        "wrapped_by": [],
        "called": ["core"],
        "shadowed": [],
    }
    assert document["hooks"]["taoke_register"]["called"] == ["toy", "core"]
    assert [(plugin["name"], plugin["shadows"]) for plugin in document["plugins"]] == [
        ("toy", None),
        ("core", None),
    ]
    assert document["parameters"] == {
        "base": 2 * 8 + 8 + 8 * 2 + 2,
        "adapted": 2 * 8 + 8 + 8 * 4 + 4,
        "moving": [8 * 4 + 4, 2 * 8 + 8 + 8 * 4 + 4],
    }
    assert (document["epochs"], document["steps"]) == ([4, 6], 30)
    assert document["examples"]["report"] == 200
    assert document["edits"] == ["grow classes to 4 (mean)"]
    assert document["bytes"]["weights"] == 4 * document["parameters"]["adapted"]
    assert document["seconds"]["step"] > 0
    assert document["seconds"]["fine_tune"] == pytest.approx(30 * document["seconds"]["step"])
    assert document["resolved"]["fine_tune"]["strategy"] == {
        "strategy": "core.lp_ft",
        "head_epochs": 4,
        "body": 1.0,
        "statistics": True,
    }
    assert list(tmp_path.iterdir()) == []


def test_plan_is_readable_for_a_person(toy):
    """The resolved recipe, then who answers what, then the numbers."""
    outcome = toy(name="plan", json=False)
    assert outcome.code == 0, outcome
    for part in (
        "task: toy.quadrants",
        "taoke_step",
        "parameters",
        "42 in the base, 60 adapted",
        "30 (epochs",
        "s of",
    ):
        assert part in outcome.out.replace("task:\n  task:", "task:")


def test_plan_refuses_what_run_refuses(toy, tmp_path):
    """The dry run finds a wrong recipe, a leak and a base that is not there."""
    for override in ("sed=1", "data.leak=true", f"base.folder={tmp_path}"):
        assert toy(override, name="plan").code == 2


def test_plan_names_the_plugin_that_raised(toy, plugin_file):
    """Also outside of a run."""
    plugin = plugin_file(
        "raising", "@hookimpl\ndef taoke_select_parameters(context):\n    raise OSError('no')\n"
    )
    outcome = toy(name="plan", plugins=[plugin])
    assert outcome.code == 1
    assert "in plugin 'raising'" in outcome.error["message"]


# --- lists -------------------------------------------------------------------------------------------------


def test_recipes_are_listed_with_summary_and_default(installed_toy, cli):
    """A third party's beside the built-in ones; from their files alone."""
    listed = {entry["name"]: entry for entry in cli("recipes", "list", "--json").document}
    assert listed["acme/toy"] == {
        "name": "acme/toy",
        "default": False,
        "summary": "points in the plane: two classes become four",
    }
    assert "points in the plane" in cli("recipes", "list").out


def test_recipe_is_shown_as_it_is_written(installed_toy, cli):
    """Comments and all; as JSON, its content."""
    assert cli("recipes", "show", "acme/toy").out == RECIPE.read_text().replace(
        "plugins: []", "plugins: [acme]"
    )
    assert cli("recipes", "show", "acme/toy", "--json").document["plugins"] == ["acme"]
    outcome = cli("recipes", "show", "acme/tory", "--json")
    assert outcome.code == 2
    assert "'acme/toy'" in outcome.error["hint"]


def test_schema_is_printed_as_json(installed_toy, cli):
    """A JSON Schema with the components of the recipe's plugins, with and without --json."""
    plain, as_json = cli("recipes", "schema", "acme/toy"), cli("recipes", "schema", "acme/toy", "--json")
    assert plain.out == as_json.out
    document = plain.document
    assert document["type"] == "object"
    assert document["additionalProperties"] is False
    assert {"task", "base", "data", "fine_tune", "evaluate"} <= set(document["required"])
    assert "toy.quadrants" in json.dumps(document["properties"]["task"])
    assert "core.adamw" in json.dumps(document["$defs"]["FineTune"]["properties"]["updater"])


def test_plugins_are_listed_with_their_distribution(installed_toy, cli):
    """From metadata alone: the module is not imported."""
    assert {
        "name": "acme",
        "distribution": "acme-toy",
        "version": "1.2",
        "module": "acme_toy.plugin",
    } in cli("plugins", "list", "--json").document
    assert "acme_toy" not in sys.modules
    assert "acme-toy" in cli("plugins", "list").out


def test_plugin_info_shows_components_options_and_hooks(installed_toy, cli):
    """Contract version and file, and for each option its type, default and meaning."""
    document = cli("plugins", "info", "acme", "--json").document
    assert (document["name"], document["version"], document["api"]) == ("acme", "1.2", 1)
    assert document["hooks"] == [{"hook": "taoke_register", "role": "is called", "order": ["acme", "core"]}]
    assert document["file"] == str(installed_toy / "acme_toy" / "plugin.py")
    components = {(entry["kind"], entry["name"]): entry for entry in document["components"]}
    assert ("task", "toy.quadrants") in components
    assert components["transform", "toy.centre"]["options"] == []
    (sigma,) = components["transform", "toy.jitter"]["options"]
    assert (sigma["option"], sigma["type"], sigma["default"]) == ("sigma", "float", "0.05")
    plain = cli("plugins", "info", "acme")
    assert plain.code == 0
    for part in ("acme-toy", "taoke_register", "dataset toy.points", "sigma"):
        assert part in plain.out


def test_info_of_a_plugin_that_is_not_there_is_an_error(cli):
    """Exit code 2, as for a recipe that names it."""
    outcome = cli("plugins", "info", "absent", "--json")
    assert outcome.code == 2
    assert outcome.error["kind"] == "PluginError"


# --- a recipe of an installed plugin -----------------------------------------------------------------------


def test_installed_recipe_is_planned_by_its_name(installed_toy, cli):
    """No file given: name, plugin and components are found from the installed distribution."""
    outcome = cli("plan", "acme/toy", "seed=1", "--json")
    assert outcome.code == 0, outcome
    assert outcome.document["recipe"] == "acme/toy"
    assert outcome.document["resolved"]["plugins"] == ["acme"]
    assert outcome.document["resolved"]["seed"] == 1


def test_plugins_of_the_environment_replace_the_recipe_s(installed_toy, cli, monkeypatch):
    """TAOKE_PLUGINS with nothing in it leaves the recipe without its task, and says so."""
    monkeypatch.setenv("TAOKE_PLUGINS", "")
    outcome = cli("plan", "acme/toy", "--json")
    assert outcome.code == 2
    assert "task: no active plugin has a task 'quadrants'" in outcome.error["message"]
    monkeypatch.setenv("TAOKE_PLUGINS", "acme")
    assert cli("plan", "acme/toy", "--json").code == 0


# --- doctor ------------------------------------------------------------------------------------------------


def test_doctor_finds_this_installation_healthy(cli):
    """Every library and every built-in plugin, and a default recipe that is there."""
    outcome = cli("doctor", "--json")
    assert outcome.code == 0, outcome
    document = outcome.document
    assert document["healthy"] is True
    assert set(document["plugins"].values()) == {"loads"}
    assert document["default_recipe"] in document["recipes"]
    assert document["libraries"]["torch"]
    assert "cpu" in document["devices"]
    assert set(document["update_step"]) == {"cpu", "cuda"}
    assert cli("doctor").out.endswith("all well\n")


def test_doctor_names_the_plugin_that_does_not_load(install, cli):
    """Exit code 1; the others are still looked at."""
    install(
        "acme-sick",
        {"acme_sick/__init__.py": "", "acme_sick/plugin.py": "raise RuntimeError('ill')\n"},
        {"taoke.plugins": {"sick": "acme_sick.plugin"}},
    )
    outcome = cli("doctor", "--json")
    assert outcome.code == 1
    assert outcome.document["healthy"] is False
    assert "RuntimeError: ill" in outcome.document["plugins"]["sick"]
    assert "not all is well" in cli("doctor").out
