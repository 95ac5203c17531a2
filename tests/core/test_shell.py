"""The shell: what is in it, that it is the model that was judged, and every way in which it may not be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from core.bases import digest, save_base, write_tensors
from core.components import Use
from core.errors import BaseError, ShellError
from core.inference import complete
from core.shell.parity import main
from core.shell.read import _from_above, load
from core.shell.write import delta

HERE = Path(__file__).parent
TOY, RECIPE = HERE / "toy.py", HERE / "toy.yaml"


def edit(path, change):
    """Change a JSON file in place."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def score_of(toy_run):
    """The scores that the run recorded for the adapted model."""
    return toy_run.document["contenders"]["adapted"]


# --- what is in it -----------------------------------------------------------------------------------------


def test_shell_holds_exactly_its_five_files(toy_run):
    """And no unproven one is left beside it."""
    names = {"delta.json", "delta.safetensors", "preprocess.json", "provenance.json", "README.md"}
    assert {path.name for path in toy_run.shell.iterdir()} == names
    assert not (toy_run.folder / "shell.unproven").exists()


def test_delta_holds_only_tensors_that_changed(stages):
    """Under strategy head the body is not in it; where nothing moves, nothing is."""
    toy = stages({"fine_tune.strategy": "head"})
    changed = delta(toy.modified.model, toy.tuned.model)
    assert set(changed) == {"head.weight", "head.bias"}
    assert all(torch.equal(changed[name], toy.tuned.model.state_dict()[name]) for name in changed)
    assert delta(toy.modified.model, toy.modified.model) == {}


class Tied(nn.Module):
    """An output layer that is its input layer."""

    def __init__(self):
        super().__init__()
        self.read, self.write = nn.Embedding(5, 3), nn.Linear(3, 5)
        self.write.weight = self.read.weight


def test_a_tensor_that_stands_in_several_places_is_held_once(tmp_path):
    """Under its first name; put into one place, it is in all, and the file can be written."""
    before, after = Tied(), Tied()
    changed = delta(before, after)
    assert set(changed) == {"read.weight", "write.bias"}
    write_tensors(tmp_path / "delta.safetensors", changed)
    with torch.no_grad():
        for name, tensor in load_file(tmp_path / "delta.safetensors").items():
            before.state_dict()[name].copy_(tensor)
    assert digest(before.state_dict()) == digest(after.state_dict())


def test_delta_sees_a_change_of_one_bit_of_type_and_of_shape():
    """Equal to the bit, or in the delta; buffers and new tensors too."""
    before, after = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    with torch.no_grad():
        after.weight.view(torch.int32)[1] ^= 1
    after.num_batches_tracked += 1
    after.register_buffer("more", torch.zeros(1))
    after.running_var = after.running_var.double()
    assert set(delta(before, after)) == {"weight", "num_batches_tracked", "more", "running_var"}


def test_delta_describes_its_tensors(toy_run):
    """Name and shape of each stored tensor, the edits, and the digests of base and adapted model."""
    described = json.loads((toy_run.shell / "delta.json").read_text())
    tensors = load_file(toy_run.shell / "delta.safetensors")
    assert described["tensors"] == {name: list(tensor.shape) for name, tensor in tensors.items()}
    assert described["edits"] == [{"edit": "grow", "axis": "classes", "to": 4}]
    assert described["base"]["digest"] != described["adapted"]
    assert digest(load(toy_run.shell, plugin_files=[TOY]).model.state_dict()) == described["adapted"]


def test_provenance_says_where_everything_comes_from(toy_run):
    """Base, licences, data digests, plugins, versions, seed, recipe, and the scores."""
    provenance = json.loads((toy_run.shell / "provenance.json").read_text())
    assert provenance["base"]["licence"] == "Apache-2.0"
    assert provenance["base"]["origin"] == "made by the toy"
    assert provenance["seed"] == 0
    assert {name: entry["examples"] for name, entry in provenance["data"].items()} == {
        "train": 24,
        "select": 40,
        "report": 200,
        "retain": toy_run_retain(toy_run),
    }
    assert [plugin["name"] for plugin in provenance["plugins"]] == ["toy", "core"]
    assert provenance["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert provenance["recipe"]["plugins"] == ["toy"]
    assert provenance["evidence"]["contenders"]["adapted"] == score_of(toy_run)


def toy_run_retain(toy_run):
    """How many rows of `retain` were looked at."""
    return len((toy_run.folder / "predictions/base/retain.jsonl").read_text().splitlines())


def test_card_has_front_matter_verdict_and_scores(toy_run):
    """Readable by a hub, and by a person."""
    text = (toy_run.shell / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "base_model": "made by the toy",
        "base_model_relation": "finetune",
        "license": "apache-2.0",
        "library_name": "taoke",
    }
    assert f"## Verdict: {toy_run.document['verdict']}" in body
    assert "- grow classes to 4 (mean)" in body
    for name, scores in toy_run.document["contenders"].items():
        assert f"| {name} | {scores['accuracy']:.4f} |" in body


# --- the same model ----------------------------------------------------------------------------------------


def test_fresh_process_scores_exactly_what_the_run_scored(toy_run):
    """`eval` in a process of its own: equal numbers, not close ones."""
    done = subprocess.run(
        [sys.executable, "-m", "core", "eval", toy_run.shell, "--plugin-file", TOY, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["scores"] == document["recorded"] == score_of(toy_run)
    assert document["same"] is True


def test_loading_is_the_tuned_model_to_the_bit(stages, toy_run):
    """The same recipe run stage by stage has the weights that the shell gives back."""
    loaded = load(toy_run.folder, plugin_files=[str(TOY)])
    for name, tensor in stages().tuned.model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[name])
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert not loaded.model.training


def test_loaded_shell_predicts_every_kept_prediction(toy_run):
    """On report, and on the half of retain that was looked at."""
    loaded = load(toy_run.shell, plugin_files=[TOY])
    for split in ("report", "retain"):
        path = toy_run.folder / f"predictions/adapted/{split}.jsonl"
        kept = [json.loads(line) for line in path.read_text().splitlines()]
        rows = loaded.rows(split)
        assert complete(loaded.predict_rows(rows), rows, "adapted") == kept
    assert loaded.evaluate("retain") == toy_run.document["retain"]["adapted"]


def test_predict_reads_what_the_task_parses(toy_run, cli):
    """A point far out in each quadrant, on the command line; the state's labels come back."""
    outcome = cli("predict", toy_run.shell, "[-5, -5]", "[5, 5]", "--plugin-file", TOY, "--json")
    assert outcome.code == 0, outcome
    assert [row["input"] for row in outcome.document] == ["[-5, -5]", "[5, 5]"]
    assert {key for row in outcome.document for key in row} == {"input", "label"}
    assert {row["label"] for row in outcome.document} <= set("abcd")
    plain = cli("predict", toy_run.shell, "[5, 5]", "--plugin-file", TOY)
    assert plain.out.splitlines() == ["[5, 5]", f"  label: {outcome.document[1]['label']}"]


def test_predicting_applies_the_fitted_transforms(toy_run, stages):
    """The shell's own `centre`, not none and not a new one."""
    loaded = load(toy_run.shell, plugin_files=[TOY])
    toy = stages()
    raw = [[0.3, -1.2], [2.0, 0.1], [-0.7, 0.7]]
    mean = toy.prepared.pipeline.states()["0.toy.centre"]
    inputs = torch.tensor([[value - m for value, m in zip(row, mean, strict=True)] for row in raw])
    wanted = [{"label": "abcd"[i]} for i in toy.tuned.model(inputs).argmax(1).tolist()]
    found = loaded.predict([json.dumps(row) for row in raw])
    assert [{"label": row["label"]} for row in found] == wanted


# --- refusals ----------------------------------------------------------------------------------------------


def refused(cli, shell):
    """The error with which `eval` refuses a shell."""
    outcome = cli("eval", shell, "--plugin-file", TOY, "--json")
    assert outcome.code == 2, outcome
    return outcome.error


@pytest.mark.parametrize("path", ["absent", "."])
def test_folder_that_is_no_shell_says_what_is_missing(cli, tmp_path, path):
    """A path that does not exist, and a folder of something else."""
    error = refused(cli, tmp_path / path)
    assert error["kind"] == "ShellError"
    assert (
        f"{tmp_path / path} is neither a shell (no delta.json) nor the folder of a run with one"
        in error["message"]
    )


def test_a_run_that_was_interrupted_is_told_from_a_folder_of_something_else(cli, tmp_path):
    """Its record is there, and no shell."""
    (tmp_path / "events.jsonl").write_text("")
    error = refused(cli, tmp_path)
    assert f"{tmp_path} is a run without a shell" in error["message"]


def test_relative_paths_lead_from_here_or_from_the_folders_above_the_shell(stages, tmp_path, monkeypatch):
    """A run made in a project's folder is found from elsewhere; what is here comes first, and a name is no path."""
    shell = tmp_path / "project" / "runs" / "toy" / "1" / "shell"
    shell.mkdir(parents=True)
    (tmp_path / "project" / "log.csv").write_text("")
    (tmp_path / "project" / "train.csv").write_text("")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    base = Use("base", "file", {"path": "log.csv", "head": "log.csv"})
    data = Use("dataset", "points", {"path": {"train": "train.csv", "report": "absent.csv"}})
    recipe = stages().resolved.recipe.model_copy(update={"base": base, "data": data})
    led = _from_above(recipe, shell)
    project = (tmp_path / "project").resolve()
    assert led.base.options == {"path": str(project / "log.csv"), "head": "log.csv"}
    assert led.data.options["path"] == {"train": str(project / "train.csv"), "report": "absent.csv"}
    (tmp_path / "elsewhere" / "log.csv").write_text("")
    assert _from_above(recipe, shell).base.options["path"] == "log.csv"


@pytest.mark.parametrize("name", ["delta.safetensors", "preprocess.json", "provenance.json"])
def test_missing_file_is_named(cli, shell_copy, name):
    """Each of those without which there is no model."""
    (shell_copy / name).unlink()
    assert str(shell_copy / name) in refused(cli, shell_copy)["message"]


@pytest.mark.parametrize("name", ["delta.json", "preprocess.json", "provenance.json"])
@pytest.mark.parametrize("content", ["{", "[]", "{}", "\udcff"])
def test_damaged_file_is_named(cli, shell_copy, name, content):
    """Cut off, JSON of another kind, JSON that lacks everything, and no text at all."""
    (shell_copy / name).write_bytes(content.encode(errors="surrogateescape"))
    error = refused(cli, shell_copy)
    assert error["kind"] == "ShellError"
    assert str(shell_copy / name) in error["message"]
    assert "damaged" in error["message"]


@pytest.mark.parametrize("keep", [0, 50, -1])
def test_truncated_delta_is_refused(cli, shell_copy, keep):
    """Whatever is left of it."""
    path = shell_copy / "delta.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    message = refused(cli, shell_copy)["message"]
    assert str(path) in message
    assert "is truncated or no safetensors file" in message


def test_delta_of_other_weights_is_refused_by_its_digest(cli, shell_copy):
    """One bit of one weight."""
    path = shell_copy / "delta.safetensors"
    tensors = load_file(path)
    tensors["head.bias"].view(torch.int32)[0] ^= 1
    save_file(tensors, path)
    error = refused(cli, shell_copy)
    assert error["kind"] == "ShellError"
    assert "base and delta give the weights sha256:" in error["message"]
    assert json.loads((shell_copy / "delta.json").read_text())["adapted"] in error["message"]


def test_delta_that_does_not_fit_lists_its_tensors(cli, shell_copy):
    """One that is listed and missing, one that is not the model's, one of another shape."""
    path = shell_copy / "delta.safetensors"
    tensors = load_file(path)
    tensors["nose.bias"] = tensors.pop("body.bias")
    tensors["head.bias"] = torch.zeros(3)
    save_file(tensors, path)
    message = refused(cli, shell_copy)["message"]
    assert "body.bias: listed in delta.json, not in delta.safetensors" in message
    assert "nose.bias: (8,), in the edited base absent" in message
    assert "head.bias: (3,), in the edited base (4,)" in message


def test_edits_that_were_changed_are_refused(cli, shell_copy):
    """The delta no longer fits the edited base."""
    edit(shell_copy / "delta.json", lambda content: content["edits"][0].update(to=5))
    assert "head.weight: (4, 8), in the edited base (5, 8)" in refused(cli, shell_copy)["message"]


def test_other_format_is_refused_with_both_numbers(cli, shell_copy):
    """A shell of a later taoke."""
    edit(shell_copy / "delta.json", lambda content: content.update(format=2))
    assert "has the shell format 2; this taoke reads 1" in refused(cli, shell_copy)["message"]


def test_base_of_another_digest_is_refused_with_both(cli, shell_copy):
    """A delta on another base is another model."""
    found = json.loads((shell_copy / "delta.json").read_text())["base"]["digest"]
    edit(shell_copy / "delta.json", lambda content: content["base"].update(digest="sha256:other"))
    error = refused(cli, shell_copy)
    assert error["kind"] == "BaseError"
    assert "was made from the base sha256:other" in error["message"]
    assert found in error["message"]


def test_base_that_changed_since_is_refused(toy, halves, tmp_path, cli, shell_copy):
    """The recipe's folder now holds other weights, with a card that fits them."""
    folder = halves()
    edit(shell_copy / "provenance.json", lambda content: content["recipe"]["base"].update(folder=str(folder)))
    error = refused(cli, shell_copy)
    assert error["kind"] == "BaseError"
    assert json.loads((folder / "halves.json").read_text())["digest"] in error["message"]


def test_base_that_was_moved_is_found_by_its_digest_and_not_by_its_file(shell_copy, toy_run, tmp_path):
    """The same tensors from a file elsewhere are the same base."""
    context = load(toy_run.shell, plugin_files=[TOY]).context
    tensors = context.make(context.recipe.base).load().model.state_dict()
    card = {
        "architecture": {"classes": 2},
        "preprocessing": {"task": {"labels": ["a", "b"]}},
        "licence": "Apache-2.0",
        "origin": "elsewhere",
    }
    save_base(tmp_path / "elsewhere", "halves", tensors, card)
    place = str(tmp_path / "elsewhere")
    edit(shell_copy / "provenance.json", lambda content: content["recipe"]["base"].update(folder=place))
    assert load(shell_copy, plugin_files=[TOY]).evaluate() == score_of(toy_run)


def test_data_that_changed_since_are_refused_with_both_digests(cli, shell_copy):
    """A smaller report split gives numbers that could not be compared."""
    recorded = json.loads((shell_copy / "provenance.json").read_text())["data"]["report"]["digest"]
    edit(shell_copy / "provenance.json", lambda content: content["recipe"]["data"].update(report=199))
    error = refused(cli, shell_copy)
    assert error["kind"] == "ShellError"
    assert "the split 'report' has the digest sha256:" in error["message"]
    assert recorded in error["message"]


def test_split_that_the_run_did_not_have_is_refused(toy_run):
    """With the nearest that it had."""
    with pytest.raises(ShellError, match="the run had no split 'repord'") as caught:
        load(toy_run.shell, plugin_files=[TOY]).evaluate("repord")
    assert caught.value.hint == "did you mean 'report'?"


def test_shell_whose_plugin_is_missing_says_how_to_give_it(cli, toy_run):
    """A plugin file is not installed, and the shell names it."""
    outcome = cli("eval", toy_run.shell, "--json")
    assert outcome.code == 2
    assert outcome.error["kind"] == "PluginError"
    assert "needs the plugin 'toy', which is not installed" in outcome.error["message"]
    assert "--plugin-file" in outcome.error["hint"]


def test_shell_whose_package_is_missing_says_what_to_install(cli, shell_copy):
    """The distribution and the version that the run had."""

    def published(content):
        content["plugins"][0].update(distribution="acme-toy", version="1.2")

    edit(shell_copy / "provenance.json", published)
    outcome = cli("eval", shell_copy, "--json")
    assert outcome.code == 2
    assert f"{shell_copy} needs the plugin 'toy', which is not installed" in outcome.error["message"]
    assert outcome.error["hint"] == "pip install 'acme-toy==1.2'"


def test_input_that_the_task_cannot_parse_is_told(cli, toy_run):
    """What a plugin raises is attributed, also outside of a run."""
    outcome = cli("predict", toy_run.shell, "[1,", "--plugin-file", TOY, "--json")
    assert outcome.code == 1
    assert outcome.error["kind"] == "JSONDecodeError"
    assert "plugin 'toy'" in outcome.error["message"]


# --- parity ------------------------------------------------------------------------------------------------


@pytest.fixture
def compared(toy_run, tmp_path, capsys):
    """What the fresh process does, in this one: its exit code and what it says, for given expected rows."""

    def compare(expected, plugins=()):
        request = {
            "shell": str(toy_run.shell),
            "device": "cpu",
            "plugin_files": [str(path) for path in (TOY, *plugins)],
            "threads": 1,
            "expected": expected,
        }
        (tmp_path / "request.json").write_text(json.dumps(request))
        try:
            return main(str(tmp_path / "request.json")), capsys.readouterr().err
        finally:
            torch.use_deterministic_algorithms(False)

    return compare


def kept(toy_run):
    """The predictions that the run kept."""
    path = toy_run.folder / "predictions/adapted/report.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_parity_holds_for_the_run_s_predictions_and_for_no_others(toy_run, compared):
    """One changed label is told with its row, what was expected and what came."""
    rows = kept(toy_run)
    assert compared(rows) == (0, "")
    assert compared(rows[:50]) == (0, "")
    before = rows[17]["label"]
    rows[17]["label"] = "z"
    code, said = compared(rows)
    assert code == 1
    assert rows[17]["id"] in said
    assert "'label': 'z'" in said
    assert f"'label': '{before}'" in said


def test_number_that_is_not_finite_is_equal_to_itself(toy_run, compared, plugin_file):
    """A prediction may hold a NaN; the shell is no other model for it."""
    plugin = plugin_file(
        "odd",
        """
        @hookimpl(wrapper=True)
        def taoke_evaluate(context):
            return [{**row, "score": float("nan")} for row in (yield)]
        """,
    )
    rows = [{**row, "score": float("nan")} for row in kept(toy_run)]
    assert compared(rows, [plugin]) == (0, "")
    assert compared([{**row, "score": 1.0} for row in rows], [plugin])[0] == 1


def test_shell_that_does_not_load_is_no_parity(toy_run, compared):
    """What the fresh process says is what the run reports."""
    code, said = compared(kept(toy_run), [TOY.with_name("absent.py")])
    assert code == 1
    assert "is not a Python file" in said


def test_model_with_state_outside_its_tensors_leaves_no_shell(toy, plugin_file, tmp_path):
    """A plugin that trains something the shell cannot hold: found in a fresh process, exit code 1, no shell, and
    the record says how it ended."""
    plugin = plugin_file(
        "outside",
        """
        @hookimpl(wrapper=True)
        def taoke_fine_tune(context, model):
            tuned = yield
            tuned.register_forward_hook(lambda module, inputs, outputs: outputs.roll(1, dims=1))
            return tuned
        """,
    )
    outcome = toy("evaluate.scratch=false", "fine_tune.epochs=1", plugins=[plugin])
    assert outcome.code == 1
    assert outcome.error["kind"] == "ParityError"
    assert "reloaded in a fresh process, is not this run's model" in outcome.error["message"]
    assert "no shell was kept" in outcome.error["hint"]
    (record,) = (tmp_path / "out").rglob("events.jsonl")
    assert json.loads(record.read_text().splitlines()[-1])["status"] == "failed"
    assert not list((tmp_path / "out").rglob("shell*"))
    assert not list((tmp_path / "out").rglob("delta*"))


def test_shell_that_is_not_there_raises_its_own_error_from_python(tmp_path):
    """The classes are those of core.errors."""
    with pytest.raises(ShellError):
        load(tmp_path)
    assert issubclass(BaseError, Exception)
