"""The base source `torchvision`: detectors by name, with the same task as a detector of ours."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from core.bases import digest
from core.errors import BaseError, DataWarning
from plugins.vision import options
from plugins.vision.detect import Detect
from plugins.vision.detectors import Losses, Truth
from plugins.vision.edits import NewBoxes
from plugins.vision.torchvision_detectors import Torchvision, TorchvisionDetector, freeze_norms, published

pytest.importorskip("torchvision")

SMALL = "ssdlite320_mobilenet_v3_large"
LARGER = "fasterrcnn_mobilenet_v3_large_320_fpn"
TRUTH = Truth(torch.tensor([[10.0, 10, 60, 60]]), torch.tensor([1]))
NOTHING = Truth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))


@pytest.fixture(scope="module")
def fresh() -> TorchvisionDetector:
    model = Torchvision(options.Detector(name=SMALL, pretrained=False)).load().model
    assert isinstance(model, TorchvisionDetector)
    return model


def test_new_classes_replace_what_depends_on_them_and_keep_all_else(fresh: TorchvisionDetector) -> None:
    """Replayed, to the bit; the structure says what is new."""
    edit = NewBoxes(options.NewBoxes(classes=3))
    edit.validate(fresh)
    one, other = (edit.apply(copy.deepcopy(fresh)) for _ in range(2))
    assert digest(one.state_dict()) == digest(other.state_dict())
    assert isinstance(one, TorchvisionDetector)
    assert (one.classes, one.outputs) == (3, 4)
    old, new = fresh.state_dict(), one.state_dict()
    assert {name for name in old if not torch.equal(old[name], new[name])} == set(one.structure.head)
    task = Detect(options.Detect())
    state = {"labels": ["a", "b", "c"], "anchors": [[9.0, 9.0]]}
    assert task.edits(fresh, state) == [{"edit": "vision.new_boxes", "classes": 3}]  # type: ignore[arg-type]
    with pytest.warns(DataWarning, match="anchors are its own, so that task.anchors changes nothing"):
        Detect(options.Detect(anchors=5)).edits(fresh, state)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [SMALL, LARGER])
def test_it_trains_and_predicts_with_the_task(name: str) -> None:
    """With a picture of nothing in the batch; classes count from 0."""
    made = TorchvisionDetector(name, 3, {}).train()
    torch.manual_seed(0)
    images = torch.rand(2, 3, 120, 160)
    losses = made(images, [TRUTH, NOTHING])
    assert isinstance(losses, Losses)
    assert losses.weight == 2
    losses.total.backward()
    assert sum(p.grad is not None for p in made.parameters()) > 10
    found = made.eval()(images)
    assert len(found) == 2
    assert all(set(one.labels.tolist()) <= {0, 1} for one in found)


def test_weights_from_a_file_say_how_many_classes_they_are_for(
    fresh: TorchvisionDetector, tmp_path: Path
) -> None:
    """Four outputs: three classes and the background."""
    file = tmp_path / "weights.pth"
    torch.save(fresh.renewed(3, None).detector.state_dict(), file)
    base = Torchvision(
        options.Detector(name=SMALL, weights=str(file), labels=["a", "b", "c"], licence="MIT")
    ).load()
    assert isinstance(base.model, TorchvisionDetector)
    assert base.model.classes == 3
    assert base.preprocessing["task"] == {"labels": ["a", "b", "c"]}
    assert base.licence == "MIT"
    assert base.fresh is not None
    assert base.fresh().state_dict().keys() == base.model.state_dict().keys()
    with pytest.raises(BaseError, match="names 1 classes, and the model finds 3"):
        Torchvision(options.Detector(name=SMALL, weights=str(file), labels=["a"])).load()


def test_weights_that_were_trained_with_frozen_normalisation_keep_it(tmp_path: Path) -> None:
    """Which a file says by counting no batches: then training changes no statistics, neither as it is nor with new
    classes; weights that do count them get normalisation that learns."""
    made = TorchvisionDetector(LARGER, 3, {}, frozen=True)
    file = tmp_path / "weights.pth"
    torch.save(made.detector.state_dict(), file)
    base = Torchvision(options.Detector(name=LARGER, weights=str(file))).load()
    assert isinstance(base.model, TorchvisionDetector)
    assert any("keeps its statistics" in note for note in base.notes)
    assert base.fresh is not None
    assert base.fresh().state_dict().keys() == base.model.state_dict().keys()
    for model in (base.model, base.model.renewed(5, None)):
        statistics = {name: t.clone() for name, t in model.state_dict().items() if "running" in name}
        assert len(statistics) > 10
        model.train()(torch.rand(2, 3, 120, 160), [TRUTH, NOTHING])
        assert all(torch.equal(model.state_dict()[name], before) for name, before in statistics.items())
    torch.save(TorchvisionDetector(LARGER, 3, {}).detector.state_dict(), file)
    learning = Torchvision(options.Detector(name=LARGER, weights=str(file))).load().model
    assert isinstance(learning, TorchvisionDetector)
    assert not learning.frozen


def test_frozen_normalisation_is_torchvisions_own() -> None:
    """A backbone as torchvision makes it gives the same as one whose normalisation was frozen here."""
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    torch.manual_seed(0)
    theirs = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    ours = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=torch.nn.BatchNorm2d)
    freeze_norms(ours, eps=1e-5)
    state = {name: torch.rand_like(tensor) for name, tensor in theirs.state_dict().items()}
    for model in (theirs, ours):
        model.load_state_dict(state)
    image = torch.rand(1, 3, 64, 64)
    found, expected = ours.train()(image), theirs.train()(image)
    assert all(torch.equal(found[level], expected[level]) for level in expected)


def test_names_that_torchvision_has_not_are_told(fresh: TorchvisionDetector) -> None:
    """So are those whose training wants masks, and arguments that are not the architecture's."""
    with pytest.raises(BaseError, match=r"no detector of boxes 'ssd300_vgg'\n.*did you mean 'ssd300_vgg16'"):
        Torchvision(options.Detector(name="ssd300_vgg", pretrained=False)).load()
    with pytest.raises(BaseError, match="no detector of boxes 'maskrcnn_resnet50_fpn'"):
        Torchvision(options.Detector(name="maskrcnn_resnet50_fpn", pretrained=False)).load()
    with pytest.raises(BaseError, match=r"has no argument 'minsize'\n.*did you mean 'min_size'"):
        Torchvision(options.Detector(name=LARGER, pretrained=False, arguments={"minsize": 99})).load()
    with pytest.raises(BaseError, match=r"cannot build .*num_classes"):
        Torchvision(options.Detector(name=SMALL, pretrained=False, arguments={"num_classes": 9})).load()


def test_without_a_net_it_says_where_the_weights_are_to_be_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address, the cache's folder, and the other way."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(
        BaseError, match=r"not to be had(.|\n)*download.pytorch.org(.|\n)*checkpoints.*base.weights"
    ):
        published(SMALL)
