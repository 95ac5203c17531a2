"""A run from recipe to shell: its folder, its record, how it ends, and that it always ends properly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from core.recipe import resolve
from core.result import Run

HERE = Path(__file__).parent
TOY, RECIPE = HERE / "toy.py", HERE / "toy.yaml"

TEARDOWN = """
import sys

@hookimpl
def taoke_teardown(context):
    print("teardown of", __name__, context.ended, file=sys.stderr)
"""


def record(folder):
    """The events of the only run below a folder; every line is JSON."""
    (path,) = Path(folder).rglob("events.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- a run that succeeds -----------------------------------------------------------------------------------


def test_run_s_folder_holds_what_was_promised(toy_run):
    """Below `<out>/<recipe>/<time>-<id>`."""
    assert {path.name for path in toy_run.folder.iterdir()} == {
        "recipe.yaml",
        "events.jsonl",
        "predictions",
        "evidence.json",
        "shell",
    }
    assert toy_run.folder.parent.name == "toy"
    kept = {str(path.relative_to(toy_run.folder)) for path in toy_run.folder.glob("predictions/*/*")}
    report = {f"predictions/{name}/report.jsonl" for name in toy_run.document["contenders"]}
    assert kept == report | {"predictions/base/retain.jsonl", "predictions/adapted/retain.jsonl"}


def test_recipe_that_was_recorded_is_the_resolved_one(toy_run):
    """Every default written out; reading it again resolves to itself."""
    recorded = yaml.safe_load((toy_run.folder / "recipe.yaml").read_text(encoding="utf-8"))
    assert recorded["fine_tune"]["updater"]["betas"] == [0.9, 0.999]
    again = resolve(toy_run.folder / "recipe.yaml", plugin_files=[TOY])
    assert again.recipe.to_json() == recorded


def test_record_tells_the_run_from_start_to_end(toy_run):
    """Six stages in order, every step of both trainings, each with its loss and rate, and how it ended."""
    events = record(toy_run.folder)
    assert events[0]["event"] == "start"
    assert [plugin["name"] for plugin in events[0]["plugins"]] == ["toy", "core"]
    stages = ["choose", "preprocess", "modify", "fine_tune", "evaluate", "seal"]
    assert [event["name"] for event in events if event["event"] == "stage"] == stages
    steps = [event for event in events if event["event"] == "step"]
    assert [(event["contender"], event["step"]) for event in steps] == [
        (contender, step) for contender in ("adapted", "scratch") for step in range(1, 31)
    ]
    assert all(event["loss"] > 0 for event in steps)
    assert [event["seconds"] for event in events] == sorted(event["seconds"] for event in events)
    assert events[-1]["event"] == "end"
    assert events[-1]["status"] == "done"
    assert toy_run.document["seconds"].keys() == set(stages)


def test_predictions_are_the_rows_of_the_split_with_targets(toy_run):
    """In the same order for every contender, so that whoever reads them can pair them."""
    kept = {
        path.parent.name: [json.loads(line) for line in path.read_text().splitlines()]
        for path in toy_run.folder.glob("predictions/*/report.jsonl")
    }
    ids = [row["id"] for row in kept["base"]]
    assert len(set(ids)) == 200
    for rows in kept.values():
        assert [row["id"] for row in rows] == ids
        assert {key for row in rows for key in row} == {"id", "target", "label"}
    assert {row["label"] for row in kept["base"]} <= {"a", "b"}
    assert len({row["label"] for row in kept["majority"]}) == 1
    shares = sum(row["label"] == row["target"] for row in kept["adapted"]) / 200
    assert shares == toy_run.document["contenders"]["adapted"]["accuracy"]


def test_two_runs_of_one_seed_have_bitwise_equal_deltas(toy, toy_run):
    """In a folder of its own each; and so are predictions and every score."""
    outcome = toy()
    assert outcome.code == 0, outcome
    again = Path(outcome.document["run"])
    name = "shell/delta.safetensors"
    assert (again / name).read_bytes() == (toy_run.folder / name).read_bytes()
    assert load_file(again / name).keys() == {"body.weight", "body.bias", "head.weight", "head.bias"}
    for key in ("contenders", "differences", "gains", "forgetting", "verdict"):
        assert outcome.document[key] == toy_run.document[key]


# --- a run that fails --------------------------------------------------------------------------------------


def test_plugin_that_raises_in_a_hook_is_named_and_everyone_is_torn_down(toy, plugin_file, tmp_path):
    """Exit code 1; plugin, version, file:line, hook and step; the record ends with `failed`; each teardown ran, in
    reverse order, although one of them fails as well."""
    raising = plugin_file(
        "raising",
        """
        @hookimpl(wrapper=True)
        def taoke_step(context):
            result = yield
            if context.step == 5:
                raise OverflowError("too much")
            return result

        @hookimpl
        def taoke_teardown(context):
            raise LookupError("nor that")
        """,
    )
    others = [plugin_file(name, TEARDOWN) for name in ("first", "last")]
    outcome = toy(plugins=[others[0], raising, others[1]])
    assert outcome.code == 1
    error = outcome.error
    assert error["kind"] == "OverflowError"
    line = next(n for n, text in enumerate(raising.read_text().splitlines(), 1) if "raise Overflow" in text)
    assert "OverflowError: too much" in error["message"]
    assert (
        f"in plugin 'raising' file ({tmp_path.name}/raising.py:{line}), hook taoke_step, step 5"
        in error["message"]
    )
    assert "TAOKE_TRACEBACK=1" in error["hint"]
    (folder,) = [path.parent for path in (tmp_path / "out").rglob("events.jsonl")]
    assert f"the record is in {folder}" in error["message"]
    told = [text for text in outcome.err.splitlines() if "teardown" in text]
    assert told[0] == "teardown of taoke_plugin_file_last failed"
    assert told[1].startswith("warning: teardown failed: LookupError: nor that")
    assert told[-1] == "teardown of taoke_plugin_file_first failed"
    events = record(tmp_path)
    (end,) = [event for event in events if event["event"] == "end"]
    assert (end["status"], end["stage"], end["step"]) == ("failed", "fine_tune", 5)
    assert "OverflowError: too much" in end["error"]
    assert "plugin 'raising'" in end["error"]
    assert "nor that" in json.dumps([event for event in events if event["event"] == "warning"])
    assert not (folder / "shell").exists()


def test_plugin_that_raises_in_its_data_fails_the_run_and_leaves_its_record(toy, plugin_file, tmp_path):
    """A plugin's own exception is no usage error: exit code 1, stage named."""
    plugin = plugin_file(
        "broken",
        """
        @hookimpl
        def taoke_register():
            return [Component("dataset", "broken.data", "", f"{__name__}:Data")]

        class Data:
            def rows(self):
                return {}["none"]
        """,
    )
    outcome = toy("data.dataset=broken.data", plugins=[plugin])
    assert outcome.code == 1
    assert outcome.error["kind"] == "KeyError"
    assert "in plugin 'broken' file" in outcome.error["message"]
    assert "stage preprocess" in outcome.error["message"]
    assert record(tmp_path)[-1]["status"] == "failed"


def test_traceback_is_shown_to_whoever_asks(toy, plugin_file, monkeypatch):
    """TAOKE_TRACEBACK=1 raises what was raised."""
    monkeypatch.setenv("TAOKE_TRACEBACK", "1")
    plugin = plugin_file(
        "raising", "@hookimpl\ndef taoke_step(context):\n    raise OverflowError('too much')\n"
    )
    with pytest.raises(OverflowError, match="too much"):
        toy(plugins=[plugin])


OBSERVER = """
calls = []

@hookimpl
def taoke_after_step(context, result):
    calls.append(context.step)
    print("called", len(calls), file=__import__("sys").stderr)
    raise ValueError("cannot see")
"""


def test_observer_that_fails_is_reported_once_and_the_run_goes_on(toy, plugin_file, tmp_path):
    """Switched off after its first failure; the others still observe; exit code 0."""
    healthy = plugin_file(
        "healthy",
        "@hookimpl\ndef taoke_after_step(context):\n    context.events.emit('observed', step=context.step)\n",
    )
    plugins = [plugin_file("blind", OBSERVER), healthy]
    outcome = toy("evaluate.scratch=false", "fine_tune.epochs=2", plugins=plugins)
    assert outcome.code == 0, outcome
    assert [text for text in outcome.err.splitlines() if text.startswith("called")] == ["called 1"]
    (warning,) = [text for text in outcome.err.splitlines() if text.startswith("warning:")]
    assert warning == "warning: observer switched off: ValueError: cannot see"
    assert "in plugin 'blind' file" in outcome.err
    assert "hook taoke_after_step, step 1" in outcome.err
    events = record(tmp_path)
    assert len([event for event in events if event["event"] == "warning"]) == 1
    assert [event["step"] for event in events if event["event"] == "observed"] == list(range(1, 7))
    assert [event["step"] for event in events if event["event"] == "step"] == list(range(1, 7))


def test_observer_that_takes_no_context_is_switched_off_as_well(toy, plugin_file, tmp_path):
    """A hook may take fewer arguments; its failure is still told with the step, and ends nothing."""
    blind = plugin_file(
        "blind", "@hookimpl\ndef taoke_after_step(result):\n    raise ValueError('cannot see')\n"
    )
    lost = plugin_file("lost", "@hookimpl\ndef taoke_evaluate(split):\n    raise LookupError('the end')\n")
    outcome = toy("evaluate.scratch=false", plugins=[blind, lost])
    assert outcome.code == 1
    assert outcome.error["kind"] == "LookupError"
    assert "hook taoke_evaluate" in outcome.error["message"]
    (warning,) = [event for event in record(tmp_path) if event["event"] == "warning"]
    assert "observer switched off: ValueError: cannot see" in warning["message"]
    assert "hook taoke_after_step, step 1" in warning["message"]


def test_strict_run_ends_where_an_observer_fails(toy, plugin_file, tmp_path):
    """Exit code 1, with the same note."""
    outcome = toy("--strict", plugins=[plugin_file("blind", OBSERVER)])
    assert outcome.code == 1
    assert outcome.error["kind"] == "ValueError"
    assert "in plugin 'blind'" in outcome.error["message"]
    assert record(tmp_path)[-1]["status"] == "failed"


@pytest.mark.parametrize("below", ["file", "file/deeper"])
def test_folder_that_cannot_be_written_is_refused(cli, tmp_path, below):
    """A path below a regular file: exit code 2, the path, and which option to use; before anything is loaded."""
    (tmp_path / "file").write_text("")
    outcome = cli("run", RECIPE, "--plugin-file", TOY, "--out", tmp_path / below, "--json")
    assert outcome.code == 2
    assert outcome.error["kind"] == "OutputError"
    assert f"the run's folder {tmp_path / below / 'toy'}/" in outcome.error["message"]
    assert "--out" in outcome.error["hint"]
    assert (tmp_path / "file").read_text() == ""


def test_refusal_removes_the_run_s_own_folder_and_nothing_of_others(toy, tmp_path):
    """What lay in `--out` before stays, and so does what another run puts there meanwhile."""
    (tmp_path / "out" / "toy").mkdir(parents=True)
    (tmp_path / "out" / "toy" / "kept").write_text("kept")
    outcome = toy("evaluate.primary=acuracy")
    assert outcome.code == 2
    assert [str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*")] == [
        "toy",
        "toy/kept",
    ]


def test_refusal_spares_a_folder_that_another_run_filled_meanwhile(toy, plugin_file, tmp_path):
    """`runs/` is made by this run, used by another, and left to it."""
    plugin = plugin_file(
        "meanwhile",
        """
        @hookimpl
        def taoke_register():
            return [Component("dataset", "meanwhile.data", "", f"{__name__}:Data")]

        class Data:
            def rows(self):
                from pathlib import Path

                other = Path(__file__).parent / "out" / "other"
                other.mkdir()
                (other / "kept").write_text("kept")
                return {}
        """,
    )
    outcome = toy("data.dataset=meanwhile.data", plugins=[plugin])
    assert outcome.code == 2
    left = [str(path.relative_to(tmp_path)) for path in (tmp_path / "out").rglob("*")]
    assert sorted(left) == ["out/other", "out/other/kept"]


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta"])
def test_device_that_cannot_compute_is_refused(refused, device):
    """A name torch does not know, one that is not there, and one that holds no numbers."""
    error = refused("--device", device)
    assert f"device {device!r} cannot be used" in error["message"]
    assert error["hint"] == "try --device cpu"


# --- a run that is interrupted -----------------------------------------------------------------------------


def test_ctrl_c_leaves_a_readable_record_that_says_so(plugin_file, tmp_path):
    """A real SIGINT at step 5 of a training that would not end: exit code 130, every line of the record readable,
    the last one says interrupted, the message names the folder, and the plugins are torn down."""
    plugin = plugin_file(
        "teller",
        """
        import sys

        @hookimpl
        def taoke_after_step(context):
            if context.step == 5:
                print("at step 5", file=sys.stderr, flush=True)

        @hookimpl
        def taoke_teardown(context):
            print("torn down:", context.ended, file=sys.stderr, flush=True)
        """,
    )
    command = [sys.executable, "-m", "core", "run", RECIPE, "fine_tune.epochs=1000000"]
    command += ["--plugin-file", TOY, "--plugin-file", plugin, "--out", tmp_path / "out"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # a shell that runs the tests in the background has them ignore the signal, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert any("at step 5" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert out == ""
    assert "torn down: interrupted" in err
    assert "Traceback" not in err
    (folder,) = [path.parent for path in (tmp_path / "out").rglob("events.jsonl")]
    events = record(tmp_path)
    assert (events[-1]["event"], events[-1]["status"]) == ("end", "interrupted")
    assert events[-1]["stage"] == "fine_tune"
    assert events[-1]["step"] >= 5
    assert [event["step"] for event in events if event["event"] == "step"][:4] == [1, 2, 3, 4]
    assert not (folder / "shell").exists()
    message = f"interrupted in stage fine_tune, step {events[-1]['step']}; the record is in {folder}"
    assert "error: interrupted" in err
    assert message in err


def test_interrupted_run_with_json_has_the_same_error_form(toy, plugin_file, tmp_path):
    """Exit code 130 and one document; nobody's fault, so no plugin is named."""
    plugin = plugin_file(
        "stopper",
        "@hookimpl\ndef taoke_after_step(context):\n    if context.step == 3: raise KeyboardInterrupt\n",
    )
    outcome = toy(plugins=[plugin])
    assert outcome.code == 130
    assert outcome.error["kind"] == "Interrupted"
    assert "interrupted in stage fine_tune, step 3; the record is in" in outcome.error["message"]
    assert "plugin" not in outcome.error["message"]
    assert record(tmp_path)[-1]["status"] == "interrupted"


def test_run_leaves_torch_as_it_was(toy):
    """A refused run, too, gives back the generator and the flag."""
    before = torch.get_rng_state()
    assert toy("data.leak=true").code == 2
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()


SHOW = """
@hookimpl
def taoke_illustrate(context, model, splits, predictions):
    (context.folder / "pictures").mkdir()
    (context.folder / "pictures" / "one.txt").write_text("drawn")
    return {NAME: "pictures/one.txt", "rows": [len(predictions), len(splits["report"].rows)]}
"""


def test_what_plugins_illustrate_stands_in_the_record_and_under_the_table(toy, plugin_file, tmp_path):
    """The hook sees every contender's rows; what it returns is in the document and in what a user is shown."""
    outcome = toy(plugins=[plugin_file("show", SHOW.replace("NAME", "'cells'"))])
    shown = {"cells": "pictures/one.txt", "rows": [4, 200]}
    assert outcome.document["illustrations"] == shown
    folder = Path(outcome.document["run"])
    assert json.loads((folder / "evidence.json").read_text())["illustrations"] == shown
    assert (folder / "pictures" / "one.txt").read_text() == "drawn"
    assert "\ncells     pictures/one.txt\nrows      [4, 200]\n" in str(Run(outcome.document))


@pytest.mark.parametrize(
    ("returned", "message"),
    [("{'a': float('nan')}", "what `taoke_illustrate` returned is not JSON"), ("{'b': 1}", "with 'b'")],
)
def test_illustrations_that_cannot_be_kept_fail_the_run(toy, plugin_file, returned, message):
    """No JSON, or two under one name: said before anything is sealed."""
    one, other = (
        plugin_file(name, f"@hookimpl\ndef taoke_illustrate():\n    return {text}\n")
        for name, text in (("one", returned), ("other", "{'b': 2}"))
    )
    outcome = toy("fine_tune.epochs=1", plugins=[one, other])
    assert outcome.code == 1
    assert message in outcome.error["message"]
