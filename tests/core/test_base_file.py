"""A base from a file of any origin: what is read, what is said of it, and every way in which it may not fit."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from core import options
from core.base_file import File, find_architecture, vouched
from core.bases import digest, save_base
from core.components import Use
from core.contract import Structure
from core.errors import BaseError
from core.foreign import read_foreign
from core.shell.read import load as load_shell

TOY = Path(__file__).parent / "toy.py"

SOURCE = """
    import torch
    from torch import nn
    from core.contract import Structure


    class Net(nn.Module):
        def __init__(self, classes: int = 3, width: int = 4) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.ReLU())
            self.fc = nn.Linear(width, classes)

        def forward(self, x):
            return self.fc(self.body(x))


    class Said(Net):
        structure = Structure({"classes": (("fc.weight", 0), ("fc.bias", 0))}, ("fc",))


    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, 2)
            self.out = nn.Linear(2, 5, bias=False)
            self.out.weight = self.embed.weight


    class Idle(Net):
        def __init__(self):
            super().__init__()
            self.body[1].momentum = None


    def build(classes=3):
        return Net(classes)

    def told(classes: int = 3) -> nn.Module:
        return Net(classes)

    def lost():
        return nn.Linear(1, 1).state_dict()

    def broken():
        raise ValueError("no such size")

    def far() -> nn.Module:
        return nn.Linear(2, 2, device="meta")

    NUMBER = 3

    class Plain:
        pass
    """


@pytest.fixture
def net(tmp_path):
    """The architectures' file, as a user has one."""
    path = tmp_path / "net.py"
    path.write_text(textwrap.dedent(SOURCE), encoding="utf-8")
    return path


@pytest.fixture
def model(net):
    """A trained `Net`, as far as its tensors can tell."""
    torch.manual_seed(0)
    made = File(options.File(path="none", architecture=f"{net}:Net"))._build({})
    with torch.no_grad():
        for tensor in made.state_dict().values():
            tensor.copy_(torch.rand(tensor.shape) + 1)
    return made


@pytest.fixture
def saved(tmp_path):
    """Write what a user may have, and return its path."""

    def write(content, name="weights.pt", **how):
        path = tmp_path / name
        if name.endswith(".safetensors"):
            save_file(content, path)
        else:
            torch.save(content, path, **how)
        return path

    return write


@pytest.fixture
def load(net):
    """The base of a file, with `Net` where no other architecture is given."""

    def read(path, architecture="Net", **given):
        reference = architecture if ":" in architecture else f"{net}:{architecture}"
        return File(options.File(path=str(path), architecture=reference, **given)).load()

    return read


@pytest.fixture
def fails(load):
    """Loading that must be refused: the error's message, and its hint, which there has to be."""

    def call(*arguments, **given):
        with pytest.raises(BaseError) as caught:
            load(*arguments, **given)
        assert caught.value.hint
        return caught.value

    return call


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- what is read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.bin"])
@pytest.mark.parametrize("legacy", [False, True])
def test_state_dict_of_any_format_gives_the_same_base(load, saved, model, name, legacy):
    """Safetensors, and torch's format of today and of before 1.6: one digest, every tensor, nothing to say but of
    the licence."""
    how = {} if name.endswith(".safetensors") else {"_use_new_zipfile_serialization": not legacy}
    base = load(saved(model.state_dict(), name, **how), licence="MIT", origin="a test")
    assert same(base.model, model)
    assert base.digest == digest(model.state_dict())
    assert (base.licence, base.origin, base.notes) == ("MIT", "a test", [])


def test_safetensors_are_known_by_their_first_bytes(load, saved, model):
    """Under any name."""
    path = saved(model.state_dict(), "w.safetensors")
    assert same(load(path.rename(path.with_suffix(".weights"))).model, model)


@pytest.mark.parametrize("entry", ["state_dict", "model", "model_state_dict", "weights"])
def test_checkpoint_s_only_state_dict_is_found_and_said(load, saved, model, entry):
    """Whatever else stands beside it is named."""
    path = saved({"epoch": 3, entry: model.state_dict(), "optimizer": {"state": {}}})
    base = load(path)
    assert same(base.model, model)
    assert (
        base.notes[0] == f"the weights are the entry {entry!r} of weights.pt; epoch, optimizer are left aside"
    )


def test_entry_may_be_named(load, saved, model):
    """Where there are two that may be it, and where nobody would guess it."""
    other = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    path = saved({"state_dict": other, "model": other, "ema": model.state_dict()})
    assert same(load(path, key="ema").model, model)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_wrapper_s_prefix_is_stripped_and_said(load, saved, model, prefix):
    """DataParallel's and compile's; the base is that of the file without it."""
    base = load(saved({prefix + name: tensor for name, tensor in model.state_dict().items()}))
    assert same(base.model, model)
    assert base.digest == digest(model.state_dict())
    assert base.notes[0] == f"the prefix {prefix!r} that a wrapper left before every name is stripped"


def test_prefix_and_renaming_are_asked_for(load, saved, model):
    """A part of a larger model, whose layers have other names: modules and single tensors."""
    names = {"body.0": "net.first", "fc.weight": "net.out.w", "fc.bias": "net.out.b", "body.1": "net.norm"}

    def theirs(name):
        for ours, other in names.items():
            if name == ours or name.startswith(f"{ours}."):
                return other + name[len(ours) :]
        raise AssertionError(name)

    path = saved({theirs(name): tensor for name, tensor in model.state_dict().items()})
    rename = {other.removeprefix("net."): ours for ours, other in names.items()}
    base = load(path, prefix="net.", rename=rename)
    assert same(base.model, model)
    assert base.digest == digest(model.state_dict())


def test_counters_that_old_files_lack_start_at_zero_and_are_said(load, saved, model):
    """As in torch's own loading; of the digest they are no part. Where they are read they have to be there."""
    state = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
    base = load(path := saved(state))
    assert int(base.model.state_dict()["body.1.num_batches_tracked"]) == 0
    assert "1 counters num_batches_tracked are not in the file" in base.notes[0]
    assert base.digest == digest(state)
    with pytest.raises(BaseError, match=r"missing: body.1.num_batches_tracked \(\)"):
        load(path, "Idle")


def test_tied_weights_are_read_once_and_said(load, saved):
    """Safetensors keep one of two twins."""
    base = load(saved({"embed.weight": torch.rand(5, 2)}, "w.safetensors"), "Tied")
    assert base.model.out.weight is base.model.embed.weight
    assert base.notes[0] == "out.weight is not in the file, and is embed.weight (tied weights)"


def test_half_precision_is_widened(load, saved, model):
    """The digest is the file's, the model the architecture's."""
    halves = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    base = load(saved(halves, "w.safetensors"))
    assert base.digest == digest(halves)
    assert base.model.fc.weight.dtype == torch.float32
    assert torch.equal(base.model.fc.weight, halves["fc.weight"].float())


def test_arguments_are_the_callable_s_keywords(load, fails, saved, model):
    """Classes and functions alike; in a file a function needs no annotation."""
    for architecture in ("Net", "build", "told"):
        wide = load(saved(model.state_dict()), architecture, arguments={"classes": 3}).model
        assert wide.fc.out_features == 3
    error = fails(saved(model.state_dict()), arguments={"classes": 7})
    assert "fc.weight: the file has (3, 4), the architecture (7, 4)" in error.message


def test_module_is_named_with_a_dot_or_without(load, saved):
    """An installed module's class."""
    base = load(
        saved(nn.Linear(2, 3).state_dict()),
        "torch.nn:Linear",
        arguments={"in_features": 2, "out_features": 3},
    )
    assert type(base.model) is nn.Linear


def test_torch_s_global_state_stays_as_it_is(load, saved, model):
    """Building an architecture draws weights, which nobody sees."""
    path = saved(model.state_dict())
    before = torch.get_rng_state()
    load(path)
    assert torch.equal(before, torch.get_rng_state())


def test_fresh_model_has_the_structure_and_other_weights(load, saved, model):
    """For `scratch`: the architecture's own way of starting."""
    base = load(saved(model.state_dict()), head="fc")
    torch.manual_seed(1)
    one = base.fresh()
    torch.manual_seed(1)
    assert same(one, base.fresh())
    assert one.structure == base.model.structure
    assert not torch.equal(one.fc.weight, base.model.fc.weight)


# --- structure, labels, card -------------------------------------------------------------------------------

FC = Structure({"classes": (("fc.weight", 0), ("fc.bias", 0))}, ("fc",))


def test_head_is_a_layer_by_name(load, saved, model):
    """Its outputs are the classes."""
    assert load(saved(model.state_dict()), head="fc").model.structure == FC


def test_model_s_own_structure_is_used(load, saved, model):
    """Where the recipe gives none."""
    assert load(saved(model.state_dict()), "Said").model.structure == FC
    assert not hasattr(load(saved(model.state_dict())).model, "structure")


def test_structure_may_be_written_out(load, saved, model):
    """Any axes, and a head of several parts."""
    given = {"axes": {"width": [["fc.weight", 1], ["body.0.weight", 0]]}, "head": ["body", "fc.bias"]}
    structure = load(saved(model.state_dict()), structure=given).model.structure
    assert dict(structure.axes) == {"width": [("fc.weight", 1), ("body.0.weight", 0)]}
    assert structure.head == ["body", "fc.bias"]


@pytest.mark.parametrize(
    ("given", "says", "hint"),
    [
        ({"head": "cf"}, "the layer 'cf', which is not a part of it", "its layers are body.0, fc;"),
        ({"head": "body"}, "the layer 'body', which is a Sequential", "its layers are body.0, fc;"),
        (
            {"structure": {"axes": {"classes": [["fc.wieght", 0]]}}},
            "axes.classes names 'fc.wieght', which is no parameter",
            "did you mean 'fc.weight'",
        ),
        ({"structure": {"axes": {"classes": [["fc.bias", 1]]}}}, "fc.bias (3,) has no dimension 1", "from 0"),
        (
            {"structure": {"axes": {"classes": [["fc.bias", 0], ["fc.weight", 1]]}}},
            "sizes differ: {'fc.bias': 3, 'fc.weight': 4}",
            "one axis",
        ),
        ({"structure": {"head": ["fcc"]}}, "head names 'fcc', which is no module or parameter", "'fc'"),
    ],
)
def test_structure_that_the_model_has_not_names_what_it_has(fails, saved, model, given, says, hint):
    """Each part of it is looked up."""
    error = fails(saved(model.state_dict()), **given)
    assert says in error.message
    assert hint in error.hint


def test_labels_are_brought_to_the_task(load, saved, model):
    """Beside whatever else is brought; numbers become text."""
    given = {"task": {"case": "lower"}, "acme.scale": {"mean": 1}}
    base = load(saved(model.state_dict()), labels=["a", 2, "c"], preprocessing=given, head="fc")
    assert base.preprocessing == {
        "task": {"case": "lower", "labels": ["a", "2", "c"]},
        "acme.scale": {"mean": 1},
    }


@pytest.mark.parametrize("labels", [["a", "b"], ["a", "b", "b"]])
def test_labels_have_to_be_as_many_as_the_outputs(fails, saved, model, labels):
    """And different from each other."""
    error = fails(saved(model.state_dict()), labels=labels, head="fc")
    assert f"{len(labels)} labels (2 different ones) are given for 3 classes" in error.message


def test_card_beside_the_weights_says_the_rest(load, tmp_path, net, model):
    """Licence, origin, preprocessing and arguments, unless the recipe says them."""
    card = {
        "architecture": {"classes": 3},
        "preprocessing": {"task": {"labels": ["x", "y", "z"]}},
        "licence": "MIT",
        "origin": "trained by me",
    }
    made = save_base(tmp_path, "mine", model.state_dict(), card)
    base = load(tmp_path / "mine.safetensors", head="fc")
    assert (base.digest, base.licence, base.origin) == (made, "MIT", "trained by me")
    assert base.preprocessing == card["preprocessing"]
    assert base.notes == []
    base = load(
        tmp_path / "mine.safetensors", licence="BSD-3-Clause", origin="elsewhere", labels=["1", "2", "3"]
    )
    assert (base.licence, base.origin) == ("BSD-3-Clause", "elsewhere")
    assert base.preprocessing == {"task": {"labels": ["1", "2", "3"]}}


def test_card_of_other_weights_is_refused(fails, tmp_path, model):
    """As for a base that comes with a plugin."""
    card = {"architecture": {}, "preprocessing": {}, "licence": "MIT", "origin": "x", "digest": "sha256:0"}
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "w.json").write_text(json.dumps(card))
    assert "says sha256:0" in fails(tmp_path / "w.safetensors").message


@pytest.mark.parametrize(("text", "says"), [("{", "cannot be read"), ('{"hidden": 3}', "is no base's card")])
def test_file_beside_that_is_no_card_is_left_aside_and_said(load, saved, model, text, says):
    """It may be anything."""
    path = saved(model.state_dict())
    path.with_suffix(".json").write_text(text)
    assert says in load(path).notes[0]


def test_unknown_licence_is_said(load, saved, model):
    """It goes into every shell made of the base."""
    base = load(saved(model.state_dict()))
    assert (base.licence, base.origin) == ("NOASSERTION", "weights.pt")
    assert "its licence is not known" in base.notes[-1]


# --- files that are not what was meant ---------------------------------------------------------------------


def test_missing_file_says_where_it_was_looked_for(fails, saved, model, tmp_path, monkeypatch):
    """A relative path starts where the command does; a name nearly right gets its neighbour."""
    saved(model.state_dict())
    monkeypatch.chdir(tmp_path)
    error = fails("wieghts.pt")
    assert f"there is no file wieghts.pt in {tmp_path}" in error.message
    assert "did you mean 'net.py' or 'weights.pt'?" in error.hint or "'weights.pt'" in error.hint
    assert fails(tmp_path / "no" / "x.pt").hint == "check the path"


def test_folder_names_the_weights_in_it(fails, saved, model, tmp_path):
    """One of them was meant."""
    saved(model.state_dict())
    error = fails(tmp_path)
    assert "is a folder; a file with weights was expected" in error.message
    assert "weights.pt" in error.hint
    assert "net.py" not in error.hint


def test_file_without_permission_says_so(saved, request):
    """Not that it is damaged."""
    path = saved({"a": torch.ones(1)})
    path.chmod(0)
    request.getfixturevalue("as_nobody")
    with pytest.raises(BaseError, match=r"weights\.pt may not be read: no permission") as caught:
        read_foreign(path, None, "base")
    assert "chmod" in caught.value.hint


def test_folder_without_permission_says_so(tmp_path, request):
    """Of the weights, there or not, of the architecture's file, and of one that was written as a module."""
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / "net.py").write_text("")
    request.addfinalizer(lambda: locked.chmod(0o755))
    locked.chmod(0)
    request.getfixturevalue("as_nobody")
    for look in (
        lambda: read_foreign(locked, None, "base"),
        lambda: read_foreign(locked / "w.pt", None, "base"),
        lambda: find_architecture(f"{locked / 'net.py'}:Net", "base"),
    ):
        with pytest.raises(BaseError, match=r"base: .*locked.* may not be read: no permission") as caught:
            look()
        assert "chmod" in caught.value.hint


def test_folder_that_may_not_be_listed_gives_no_neighbours(tmp_path, monkeypatch):
    """A missing file is then missing all the same."""

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(BaseError, match="there is no file") as caught:
        read_foreign(tmp_path / "w.pt", None, "base")
    assert caught.value.hint == "check the path"


def test_card_that_may_not_be_read_is_left_aside_and_said(load, saved, model, monkeypatch):
    """It may lie elsewhere, and only be linked to."""
    looked = Path.is_file

    def refuse(path):
        if path.suffix == ".json":
            raise PermissionError(13, "Permission denied")
        return looked(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    assert "weights.json beside it cannot be read" in load(saved(model.state_dict())).notes[0]


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "old.pt"])
@pytest.mark.parametrize("keep", [0, 1, 2, 9, 100, 0.5, -1])
def test_truncated_file_says_so_with_its_size(fails, saved, model, name, keep):
    """Each format, cut anywhere."""
    how = {"_use_new_zipfile_serialization": False} if name == "old.pt" else {}
    path = saved(model.state_dict(), name, **how)
    content = path.read_bytes()
    content = content[: int(len(content) * keep) if isinstance(keep, float) else keep]
    path.write_bytes(content)
    error = fails(path)
    assert f"({len(content)} bytes)" in error.message
    assert "truncated or no" in error.message or "neither a safetensors file nor" in error.message


@pytest.mark.parametrize(
    "content", [b"hello world\n" * 9, b"PK\x03\x04" + b"\0" * 99, b"\x80\x02" + b"x" * 99]
)
def test_file_of_another_kind_says_what_was_expected(fails, tmp_path, content):
    """Text, another archive, another pickle."""
    (tmp_path / "w.pt").write_bytes(content)
    message = fails(tmp_path / "w.pt").message
    assert (
        "neither a safetensors file nor one that torch.save made" in message
        or "no file that torch.save" in message
    )


def run_hint(hint):
    """Do what a hint's two lines of Python say."""
    exec(textwrap.dedent(hint.partition(":\n")[2]), {})  # noqa: S102 - ours, and what a user would do


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_model_is_not_opened_and_two_lines_convert_it(fails, load, saved, tmp_path, legacy):
    """The message names what else than tensors it holds; the two lines give a file that loads."""
    layer = nn.Linear(2, 3)
    path = saved(layer, _use_new_zipfile_serialization=not legacy)
    error = fails(path)
    assert "holds more than tensors (here torch.nn.modules.linear.Linear)" in error.message
    assert "opening it could run any code, so it is not opened" in error.message
    assert "in an environment that holds nothing of value" in error.hint
    run_hint(error.hint)
    base = load(
        tmp_path / "weights.safetensors", "torch.nn:Linear", arguments={"in_features": 2, "out_features": 3}
    )
    assert same(base.model, layer)


def test_checkpoint_with_objects_beside_the_weights_is_not_opened_either(fails, load, saved, model, tmp_path):
    """The arguments of a training script, kept as an object."""
    error = fails(saved({"args": Namespace(lr=1), "state_dict": model.state_dict()}))
    assert "argparse.Namespace" in error.message
    run_hint(error.hint)
    assert same(load(tmp_path / "weights.safetensors").model, model)


def test_code_in_a_pickle_is_not_run(fails, saved, tmp_path):
    """What the file would do on opening it does not happen."""

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "done"),))

    error = fails(saved({"state_dict": Evil()}))
    assert "mkdir" in error.message
    assert not (tmp_path / "done").exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_is_not_run_and_two_lines_convert_it(fails, load, tmp_path):
    """An archive that holds a program."""
    layer = nn.Linear(2, 3)
    torch.jit.save(torch.jit.script(layer), tmp_path / "w.pt")
    error = fails(tmp_path / "w.pt")
    assert "is a TorchScript archive: a program, which is not run here" in error.message
    run_hint(error.hint)
    base = load(
        tmp_path / "w.safetensors", "torch.nn:Linear", arguments={"in_features": 2, "out_features": 3}
    )
    assert same(base.model, layer)


@pytest.mark.parametrize(
    ("content", "says", "hint"),
    [
        ([torch.ones(1)], "holds list", "state_dict()"),
        (torch.ones(2), "holds a tensor (2,)", "state_dict()"),
        ({}, "holds a dict of 0", "state_dict()"),
        (
            {"net": {"a": torch.ones(1)}, "epoch": 3},
            "\n  - net: a dict of 1\n  - epoch: int 3",
            "base.key: net",
        ),
        (
            {"model": {"a": torch.ones(1)}, "state_dict": {}},
            "several of which may hold the weights",
            "base.key: model, state_dict",
        ),
        ({"epoch": 3}, "none of which is known to hold the weights", "state_dict()"),
        ({"a": torch.ones(1), "steps": 7}, "entries that are no tensors:\n  - steps: int 7", "state_dict()"),
    ],
)
def test_file_without_a_plain_state_dict_lists_what_it_holds(fails, saved, content, says, hint):
    """Its entries, each with what it is."""
    error = fails(saved(content))
    assert says in error.message
    assert hint in error.hint


def test_key_that_is_not_there_or_no_dict_is_refused(fails, saved, model):
    """With the nearest, and with those that are dicts; a safetensors file has none."""
    path = saved({"ema": model.state_dict(), "epoch": 3})
    assert fails(path, key="emma").hint == "did you mean 'ema'?"
    error = fails(path, key="epoch")
    assert "the entry 'epoch' of" in error.message
    assert error.hint == "say which with base.key: ema"
    assert "has no entry 'ema'" in fails(saved(model.state_dict(), "w.safetensors"), key="ema").message


def test_prefix_and_renaming_that_match_nothing_are_refused(fails, saved, model):
    """Each with what the file has."""
    path = saved(OrderedDict(model.state_dict()))
    error = fails(path, prefix="bdy.")
    assert "no tensor's name begins with the prefix 'bdy.'" in error.message
    assert "'body'" in error.hint
    error = fails(path, rename={"body.9": "x"})
    assert "base.rename names 'body.9', and the file has no such tensor or module" in error.message
    assert "get the name 'fc.weight'" in fails(path, rename={"body.0.weight": "fc.weight"}).message


def test_weights_that_do_not_fit_list_every_tensor(fails, saved, model):
    """Missing, not wanted, of another shape and of another kind of number, in one message."""
    state = dict(model.state_dict())
    del state["fc.bias"]
    state |= {"fc.weight": torch.zeros(5, 4), "aux.weight": torch.zeros(2)}
    state["body.0.bias"] = torch.zeros(4, dtype=torch.int8)
    assert fails(saved(state)).message.splitlines() == [
        "base 'weights.pt' does not fit Net:",
        "  - missing: fc.bias (3,)",
        "  - not in the architecture: aux.weight (2,)",
        "  - fc.weight: the file has (5, 4), the architecture (3, 4)",
        "  - body.0.bias: the file has torch.int8, the architecture torch.float32",
    ]


def test_prefix_that_would_make_them_fit_is_proposed(fails, saved, model):
    """One that no wrapper is known to leave is not stripped unasked."""
    error = fails(saved({f"model.{name}": tensor for name, tensor in model.state_dict().items()}))
    assert "not in the architecture: model.fc.weight" in error.message
    assert "strip 'model.' from the names" in error.hint


def test_weights_that_are_no_numbers_are_counted(fails, saved, model):
    """A training that broke left them."""
    state = dict(model.state_dict())
    state["fc.weight"][1, :2] = torch.nan
    error = fails(saved(state))
    assert error.message.endswith("its weights are not all numbers (NaN):\n  - fc.weight: 2 of 12")


# --- architectures that are none ---------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["Net:", ":Net", "net.py:", "torch.nn:Linear(2)", "net:Net:"])
def test_architecture_is_a_place_and_a_name(fails, saved, model, architecture):
    """What to write instead, with an example."""
    error = fails(saved(model.state_dict()), architecture)
    assert f"the architecture is {architecture!r}" in error.message
    assert "module:callable" in error.hint


def test_architecture_that_is_not_there_says_which_part(fails, saved, model, net, tmp_path, monkeypatch):
    """File, module, or name in it; a file that was written as a module is recognised."""
    path = saved(model.state_dict())
    monkeypatch.chdir(tmp_path)
    error = fails(path, "nott.py:Net")
    assert f"the architecture's file nott.py is not there in {tmp_path}" in error.message
    error = fails(path, "no_such_module:Net")
    assert "needs the module 'no_such_module', which is not installed" in error.message
    assert "pip install" in error.hint
    (tmp_path / "taoke_test_net.py").write_text("")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    assert fails(path, "taoke_test_net:Net").hint == "write taoke_test_net.py:... for the file"
    error = fails(path, f"{net}:Nett")
    assert "has no 'Nett'" in error.message
    assert error.hint == "did you mean 'Net'?"


def test_architecture_whose_file_fails_says_where(fails, saved, model, tmp_path):
    """The line in the user's file."""
    path = saved(model.state_dict())
    (tmp_path / "bad.py").write_text("x = 1\nraise RuntimeError('not today')\n")
    error = fails(path, f"{tmp_path / 'bad.py'}:Net")
    assert "RuntimeError: not today" in error.message
    assert "bad.py:2" in error.message
    (tmp_path / "bad.py").write_text("def f(:\n")
    assert "SyntaxError" in fails(path, f"{tmp_path / 'bad.py'}:Net").message


@pytest.mark.parametrize(
    ("architecture", "arguments", "says"),
    [
        ("lost", {}, "made OrderedDict"),
        ("broken", {}, "fails with the arguments (): ValueError: no such size"),
        ("Net", {"clases": 3}, "fails with the arguments (clases=3): TypeError"),
        ("far", {}, "makes a model on the device 'meta'"),
        ("Plain", {}, "is a class, and no torch.nn.Module"),
        ("NUMBER", {}, "is int 3, which makes no model"),
    ],
)
def test_callable_that_makes_no_model_says_what_it_made(fails, saved, model, architecture, arguments, says):
    """Raises, or gives something else back."""
    error = fails(saved(model.state_dict()), architecture, arguments=arguments)
    assert says in error.message
    assert f"net.py:{architecture}" in error.message


@pytest.mark.parametrize(
    "architecture", ["os:system", "subprocess:check_output", "builtins:exec", "torch.hub:load"]
)
def test_no_base_can_name_just_any_function(fails, saved, model, tmp_path, architecture):
    """A shell of a stranger's says which callable makes its base, and with which arguments."""
    mark = tmp_path / "mark"
    error = fails(saved(model.state_dict()), architecture, arguments={"command": f"touch {mark}"})
    assert "does not say that it returns a torch.nn.Module, and so is not called" in error.message
    assert not mark.exists()


def test_annotated_function_of_an_installed_module_is_called(load, saved, tmp_path, monkeypatch):
    """As torchvision's and timm's are."""
    (tmp_path / "taoke_test_zoo.py").write_text(
        "from __future__ import annotations\nfrom torch import nn\n\n\n"
        "def small(width: int = 2) -> nn.Linear:\n    return nn.Linear(width, 3)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    state = nn.Linear(2, 3).state_dict()
    assert load(saved(state), "taoke_test_zoo:small").model.out_features == 3


def named_by_a_shell(architecture, source="core.file"):
    return Use("base", source, {"path": "w.pt", "architecture": architecture})


@pytest.mark.parametrize(
    "architecture",
    [
        "net.py:Net",
        "./net.py:Net",
        "{folder}/net.py:Net",
        "taoke_beside:Net",
        "taoke_folder.inner:Net",
        "os:system",
    ],
)
def test_shell_alone_names_no_code_that_is_not_installed(tmp_path, monkeypatch, architecture):
    """A file beside it, by whatever path, and a module in the working directory, which `python -m` looks into."""
    for name in ("net.py", "taoke_beside.py", "taoke_folder/inner.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('code of a stranger')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    use = named_by_a_shell(architecture.format(folder=tmp_path))
    with pytest.raises(BaseError, match="which no installed package brings") as caught:
        vouched(use, None, tmp_path)
    assert "--architecture" in caught.value.hint
    assert vouched(use, "other/net.py:Net", tmp_path).options == {
        "path": "w.pt",
        "architecture": "other/net.py:Net",
    }


@pytest.mark.parametrize(
    "architecture", ["torch.nn:Linear", "plugins.vision.architectures:LeNet5", "no_such_package.models:Net"]
)
def test_shell_names_what_is_installed(architecture):
    """Packages, a plugin's own wherever it lies; of what is not there, the import will say it."""
    use = named_by_a_shell(architecture)
    assert vouched(use, None, Path("shell")) == use


def test_architecture_is_named_for_bases_that_have_one_alone(tmp_path):
    """It would be ignored."""
    other = named_by_a_shell("net.py:Net", "acme.hub")
    assert vouched(other, None, tmp_path) == other
    with pytest.raises(BaseError, match=r"'acme\.hub' takes no architecture"):
        vouched(other, "net.py:Net", tmp_path)


def test_head_and_structure_exclude_each_other():
    """One of them would be ignored."""
    with pytest.raises(ValidationError, match="give `head` or `structure`, not both"):
        options.File(path="x", architecture="a:b", head="fc", structure={})


# --- as a run uses it --------------------------------------------------------------------------------------


def halves_file(tmp_path):
    """The toy's base as a foreign checkpoint, and an architecture's file beside it."""
    source = """
        from torch import nn

        def build(classes=2):
            model = nn.Sequential()
            model.add_module("body", nn.Linear(2, 8))
            model.add_module("act", nn.Tanh())
            model.add_module("head", nn.Linear(8, classes))
            return model
        """
    (tmp_path / "halves.py").write_text(textwrap.dedent(source))
    state = {
        "module.body.weight": torch.eye(8, 2) * 2,
        "module.body.bias": torch.zeros(8),
        "module.head.weight": torch.tensor([[-1.0, 0.0], [1.0, 0.0]]) @ torch.eye(2, 8),
        "module.head.bias": torch.zeros(2),
    }
    torch.save({"epoch": 9, "state_dict": state}, tmp_path / "halves.pth")
    return tmp_path / "halves.pth"


@pytest.fixture
def run_from_file(toy, tmp_path):
    """A run of the toy from that checkpoint: what it printed, and the checkpoint."""
    path = halves_file(tmp_path)
    base = {
        "source": "file",
        "path": str(path),
        "architecture": f"{tmp_path / 'halves.py'}:build",
        "head": "head",
        "labels": ["a", "b"],
        "licence": "MIT",
        "origin": "a test's checkpoint",
    }
    outcome = toy(f"base={json.dumps(base)}", "fine_tune.epochs=2", "evaluate.resamples=200")
    assert outcome.code == 0, outcome
    return outcome, path


def test_run_from_a_foreign_checkpoint_seals_a_shell_that_is_found_again(run_from_file, cli):
    """Read, edited, trained against a fresh model of its own, and sealed; what was done to read it is told. The base
    may then lie elsewhere, but it has to be the same."""
    outcome, path = run_from_file
    shell = outcome.document["run"]
    assert "base: the weights are the entry 'state_dict' of halves.pth; epoch is left aside" in outcome.err
    assert "base: the prefix 'module.'" in outcome.err
    assert "scratch" in outcome.document["contenders"]

    code = ["--architecture", f"{path.with_name('halves.py')}:build"]

    def evaluated(*more):
        return cli("eval", shell, "--plugin-file", TOY, "--json", *code, *more)

    unnamed = cli("eval", shell, "--plugin-file", TOY, "--json")
    assert unnamed.code == 2
    assert "which no installed package brings" in unnamed.error["message"]

    here = evaluated()
    assert here.code == 0, here
    assert here.document["same"] is True

    elsewhere = path.rename(path.with_name("moved.pth"))
    gone = evaluated()
    assert gone.code == 2
    assert f"there is no file {path}" in gone.error["message"]
    assert "--base (`base=` in Python) says where it is now" in gone.error["hint"]

    found = evaluated("--base", elsewhere)
    assert found.code == 0, found
    assert found.document == here.document
    predicted = cli("predict", shell, "[1, 2]", "--plugin-file", TOY, "--base", elsewhere, *code, "--json")
    assert predicted.document[0]["label"] in "abcd"

    state = torch.load(elsewhere)["state_dict"]
    save_file(
        {name.removeprefix("module."): tensor for name, tensor in state.items()},
        elsewhere.with_suffix(".safetensors"),
    )
    assert (
        evaluated("--base", elsewhere.with_suffix(".safetensors")).document == here.document
    )  # the same base

    state["module.head.bias"] += 1
    torch.save(state, elsewhere)
    other = evaluated("--base", elsewhere)
    assert other.code == 2
    assert "was made from the base sha256:" in other.error["message"]


def test_base_without_a_path_cannot_be_told_of_one(toy_run, cli):
    """The toy's base has neither a path nor a name."""
    outcome = cli("eval", toy_run.shell, "--plugin-file", TOY, "--base", "x.pt", "--json")
    assert outcome.code == 2
    assert "'toy.halves'" in outcome.error["message"]
    assert "cannot be told of x.pt" in outcome.error["message"]


def test_base_with_a_name_and_no_path_is_found_under_another_name(shell_copy, toy_run, plugin_file):
    """As a hub's: `--base` is then the name, and a hub that does not answer says so."""
    lines = """
        from core.errors import BaseError

        class HubOptions(Options):
            name: str

        class Hub:
            def __init__(self, options):
                self.name = options.name

            def load(self):
                if self.name != "there":
                    raise BaseError(f"no hub answers for {self.name}", "go online")
                import sys
                toy = sys.modules["taoke_plugin_file_toy"]
                return toy.Halves(toy.HalvesOptions()).load()

        @hookimpl
        def taoke_register():
            return [Component("base", "acme.hub", "a hub", f"{__name__}:Hub", f"{__name__}:HubOptions")]
        """
    path = shell_copy / "provenance.json"
    provenance = json.loads(path.read_text())
    provenance["recipe"]["base"] = {"source": "hub", "name": "gone"}
    provenance["recipe"]["plugins"].append("acme")
    path.write_text(json.dumps(provenance))
    plugins = [TOY, plugin_file("acme", lines)]
    with pytest.raises(BaseError, match="no hub answers for gone") as caught:
        load_shell(shell_copy, plugin_files=plugins)
    assert caught.value.hint.startswith(
        "the shell's base was at gone; --base (`base=` in Python) says where it is now; go online"
    )
    loaded = load_shell(shell_copy, plugin_files=plugins, base="there")
    before = load_shell(toy_run.shell, plugin_files=[TOY])
    assert same(loaded.model, before.model)


def test_published_resnet_is_read_from_its_legacy_pickle(real_data, load):
    """As it is published: a DataParallel prefix, no counters, beside the training's best error."""
    path = real_data("weights-cifar10-resnet") / "resnet20-12fca82f.th"
    base = load(path, "plugins.vision.architectures:resnet20", licence="BSD-2-Clause")
    assert (
        "the weights are the entry 'state_dict' of resnet20-12fca82f.th; best_prec1 is left aside"
        in base.notes
    )
    assert any("'module.'" in note for note in base.notes)
    assert any("19 counters num_batches_tracked" in note for note in base.notes)
    assert sum(parameter.numel() for parameter in base.model.parameters()) == 269_722


def test_published_lenet_is_read(real_data, load):
    """A plain state dict of before torch 1.6."""
    path = real_data("weights-mnist-lenet") / "lenet_epoch=12_test_acc=0.991.pth"
    base = load(path, "plugins.vision.architectures:LeNet5", licence="MIT")
    assert sum(parameter.numel() for parameter in base.model.parameters()) == 61_706
