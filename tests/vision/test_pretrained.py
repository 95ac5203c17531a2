"""The base source `timm`, on a small model of timm's whose weights are written here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import core
from core.bases import digest, write_tensors
from core.contract import Row
from core.edits import axis_size
from core.edits.grow import Grow
from core.errors import BaseError
from core.features import features
from core.options import Grow as GrowOptions
from core.strategies import head_parameters
from plugins.vision import options
from plugins.vision.pretrained import Timm
from plugins.vision.tasks import Classify

timm = pytest.importorskip("timm")

NAME = "test_resnet"
Weights = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks a hub, whenever its library was imported."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def weights() -> Weights:
    """Of a model with 1,000 outputs."""
    torch.manual_seed(0)
    return dict(timm.create_model(NAME, pretrained=False).state_dict())


@pytest.fixture
def file(tmp_path: Path, weights: Weights) -> Path:
    write_tensors(tmp_path / "weights.safetensors", weights)
    return tmp_path / "weights.safetensors"


def load(**given: object) -> core.contract.Base:
    return Timm(options.Timm.model_validate({"name": NAME, **given})).load()


def test_weights_from_a_file_bring_statistics_labels_and_structure(file: Path, weights: Weights) -> None:
    """What timm knows of the model comes along: mean and deviation, ImageNet's words where there are 1,000 outputs, and
    which layer is the head."""
    base = load(weights=str(file), licence="Apache-2.0")
    assert base.digest == digest(weights)
    assert base.preprocessing["vision.standardise"] == {"subtract": [0.5] * 3, "divide": [0.5] * 3}
    labels = base.preprocessing["task"]["labels"]
    assert len(labels) == len(set(labels)) == 1000
    assert labels[281] == "tabby, tabby cat"
    assert (base.licence, base.origin) == (
        "Apache-2.0",
        "timm's test_resnet, with weights from weights.safetensors",
    )
    assert axis_size(base.model, "classes") == 1000
    assert head_parameters(base.model) == ("fc.weight", "fc.bias")


def test_a_torch_checkpoint_of_a_wrapped_model_is_read(tmp_path: Path, weights: Weights, file: Path) -> None:
    """As training scripts leave them; the notes say what was done."""
    wrapped = {f"module.{name}": tensor for name, tensor in weights.items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, tmp_path / "last.pth")
    base = load(weights=str(tmp_path / "last.pth"))
    assert base.digest == load(weights=str(file)).digest
    said = " ".join(base.notes)
    assert "entry 'state_dict'" in said
    assert "'module.'" in said
    assert "licence is not known" in said


def test_another_number_of_outputs_is_taken_from_the_file(tmp_path: Path) -> None:
    """And they have the labels given, or none."""
    state = timm.create_model(NAME, pretrained=False, num_classes=3).state_dict()
    write_tensors(tmp_path / "three.safetensors", state)
    path = str(tmp_path / "three.safetensors")
    assert axis_size(load(weights=path).model, "classes") == 3
    assert "task" not in load(weights=path).preprocessing
    assert load(weights=path, labels=["a", "b", "c"]).preprocessing["task"] == {"labels": ["a", "b", "c"]}
    with pytest.raises(BaseError, match=r"base\.labels names 2 outputs, and the model has 3"):
        load(weights=path, labels=["a", "b"])


def test_weights_without_a_head_make_a_model_without_outputs_that_can_grow(
    tmp_path: Path, weights: Weights, task: Classify
) -> None:
    """Features alone: the new classes are its first."""
    body = {name: tensor for name, tensor in weights.items() if not name.startswith("fc.")}
    write_tensors(tmp_path / "body.safetensors", body)
    model = load(weights=str(tmp_path / "body.safetensors")).model
    assert axis_size(model, "classes") == 0
    state = task.fit([Row(None, "a"), Row(None, "b")], {})
    (edit,) = task.edits(model, state)
    assert edit == {"edit": "grow", "axis": "classes", "to": 2, "init": "normal"}
    grown = Grow(GrowOptions(axis="classes", to=2, init="normal")).apply(model).eval()
    assert grown(torch.zeros(1, 3, 64, 64)).shape == (1, 2)
    assert torch.isfinite(grown(torch.ones(1, 3, 64, 64))).all()


def test_a_new_start_has_the_same_form_and_other_weights(file: Path) -> None:
    """For `scratch`."""
    base = load(weights=str(file))
    assert base.fresh is not None
    fresh = base.fresh()
    assert {name: t.shape for name, t in fresh.state_dict().items()} == {
        name: t.shape for name, t in base.model.state_dict().items()
    }
    assert digest(fresh.state_dict()) != base.digest
    assert fresh.structure == base.model.structure


def test_a_model_without_weights_is_the_same_each_time_and_means_nothing(task: Classify) -> None:
    """`pretrained: false` tries things out: a shell finds the same base again."""
    one, other = load(pretrained=False), load(pretrained=False)
    assert one.digest == other.digest
    assert "task" not in one.preprocessing
    state = task.fit([Row(None, "a")], {})
    assert task.edits(one.model, state) == [{"edit": "new_head", "axis": "classes", "to": 1}]


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "mobilenetv3_small_050", "convnext_atto", "test_efficientnet"]
)
def test_the_structure_of_other_families_is_right(name: str) -> None:
    """Their head is where timm says: it grows, and sees features."""
    model = Timm(options.Timm(name=name, pretrained=False)).load().model.eval()  # type: ignore[call-arg]
    assert axis_size(model, "classes") == 1000
    images = torch.zeros(2, 3, 224, 224)
    with torch.no_grad():
        assert features(model, lambda: model(images)).shape[0] == 2
        assert Grow(GrowOptions(axis="classes", to=1003)).apply(model)(images).shape == (2, 1003)


def test_grey_pictures_take_the_mean_of_the_statistics() -> None:
    """One channel, one number."""
    base = load(pretrained=False, arguments={"in_chans": 1})
    assert base.preprocessing["vision.standardise"] == {"subtract": [0.5], "divide": [0.5]}
    assert base.model.eval()(torch.zeros(1, 1, 64, 64)).shape == (1, 1000)


def _spoilt(change: Callable[[Weights], object]) -> Callable[[Path, Weights], dict[str, str]]:
    def write(folder: Path, weights: Weights) -> dict[str, str]:
        tensors = dict(weights)
        change(tensors)
        write_tensors(folder / "spoilt.safetensors", tensors)
        return {"weights": str(folder / "spoilt.safetensors")}

    return write


def _text(folder: Path, weights: Weights) -> dict[str, str]:
    (folder / "w.pth").write_text("no weights")
    return {"weights": str(folder / "w.pth")}


BAD: dict[str, tuple[Callable[[Path, Weights], dict[str, str]], str, str]] = {
    "an unknown name": (lambda *_: {"name": "resnt18"}, "timm has no model 'resnt18'", "resnet18"),
    "nothing like a name": (lambda *_: {"name": "zzzzzz"}, "timm has no model 'zzzzzz'", "list_models"),
    "unknown weights of a known model": (
        lambda *_: {"name": "resnet18.a9_in1k"},
        "timm has no weights 'a9_in1k' for 'resnet18'",
        "resnet18.a1_in1k",
    ),
    "no network and nothing fetched": (
        lambda *_: {"name": "resnet18.a1_in1k"},
        "the published weights of 'resnet18.a1_in1k' are not to be had",
        "base.weights=FILE",
    ),
    "no published weights": (
        lambda *_: {"name": "mixer_s16_224"},
        "no published weights for 'mixer_s16_224'",
        "FILE",
    ),
    "no such file": (
        lambda folder, _: {"weights": str(folder / "no.pth")},
        r"there is no file .*no\.pth",
        "check the path",
    ),
    "a file of something else": (_text, r"w\.pth .*neither a safetensors file nor", "two formats"),
    "a tensor too few": (
        _spoilt(lambda t: t.pop("layer1.0.conv1.weight")),
        r"missing: layer1\.0\.conv1\.weight",
        "",
    ),
    "a tensor too many": (
        _spoilt(lambda t: t.update(extra=torch.zeros(2))),
        r"not in the architecture: extra \(2,\)",
        "",
    ),
    "a tensor of another shape": (
        _spoilt(lambda t: t.update({"bn1.bias": torch.zeros(5)})),
        r"bn1\.bias: the file has \(5,\), the architecture",
        "",
    ),
    "an argument it has not": (
        lambda *_: {"arguments": {"depht": 3}, "pretrained": False},  # type: ignore[dict-item]
        "timm cannot build 'test_resnet' with .*depht",
        "base.arguments",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_base_is_said(name: str, tmp_path: Path, weights: Weights) -> None:
    """What, and what to do; exit code 2."""
    write, message, hint = BAD[name]
    with pytest.raises(BaseError, match=message) as caught:
        load(**write(tmp_path, weights))
    assert hint in caught.value.hint
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_pretrained_weights_come_from_the_hubs_cache_without_a_network(
    tmp_path: Path, weights: Weights
) -> None:
    """In the hub's own layout; nothing is asked. Licence and origin are those of the model's card."""
    repository = tmp_path / "models--timm--test_resnet.r160_in1k"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    write_tensors(snapshot / "model.safetensors", weights)
    base = load(name="test_resnet.r160_in1k", arguments={"cache_dir": str(tmp_path)})
    assert base.digest == digest(weights)
    assert base.licence == "Apache-2.0"
    assert base.origin == "timm's test_resnet.r160_in1k, from timm/test_resnet.r160_in1k"
    assert len(json.dumps(base.preprocessing)) > 10_000


def test_the_structure_is_no_part_of_the_weights(file: Path) -> None:
    """The model's tensors are the file's, and nothing more."""
    model = load(weights=str(file)).model
    assert isinstance(model, nn.Module)
    assert not any("structure" in name for name in model.state_dict())
