"""The base source `torchvision`: any detector of https://docs.pytorch.org/vision/stable/models.html, by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from core.bases import digest
from core.contract import JSON, Base, Structure
from core.errors import BaseError, ComponentError, nearest
from core.foreign import WRAPPERS, fit, read_foreign
from core.licences import spdx
from core.seeds import derive_seed, seed_torch
from plugins.vision import options
from plugins.vision.detectors import Anchors, Detector, Found, Losses, Truth

COCO = 91
"""Outputs of the published models: COCO's numbers of classes, and 0 for the background."""
OTHERS = ("keypointrcnn", "maskrcnn")
"""Their training wants keypoints or masks besides boxes."""
WITHOUT_EPS = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
"""torchvision's frozen normalisation divides by √variance in these, by √(variance + 1e-5) in the others."""

Arguments = Mapping[str, bool | int | float | str]


class TorchvisionDetector(Detector):
    """A detector of torchvision's as a `Detector`. It takes images of values from 0 to 1, and resizes and standardises
    them by itself; its anchors are its own.

    Args:
        name: as torchvision names it.
        outputs: classes, with the background.
        arguments: more of the architecture's.
        frozen: batch normalisation learns nothing, neither statistics nor factors, as in torchvision's own where they
            begin with trained weights.
    """

    anchors: Anchors | None = None

    def __init__(self, name: str, outputs: int, arguments: Arguments, *, frozen: bool = False) -> None:
        super().__init__()
        self.name, self.outputs, self.arguments, self.frozen = name, outputs, dict(arguments), frozen
        self.classes = outputs - 1
        self.detector = built(name, outputs, arguments)
        if frozen:
            freeze_norms(self.detector, eps=0.0 if name in WITHOUT_EPS else 1e-5)
        self.structure = Structure(head=sorted(f"detector.{part}" for part in heads(name, arguments)))

    def forward(self, images: Tensor, truths: Sequence[Truth] | None = None) -> Losses | list[Found]:
        """As `Detector`. Its losses are means over the images."""
        if truths is None:
            found = self.detector(list(images))
            return [Found(one["boxes"], one["labels"] - 1, one["scores"]) for one in found]
        wanted = [{"boxes": truth.boxes, "labels": truth.labels + 1} for truth in truths]
        losses: Mapping[str, Tensor] = self.detector(list(images), wanted)
        return Losses(torch.stack(list(losses.values())).sum() * len(images), float(len(images)))

    def renewed(self, classes: int, anchors: Anchors | None) -> TorchvisionDetector:
        """Everything whose size depends on the classes is new; all else is kept."""
        with torch.random.fork_rng(devices=[]):
            seed_torch(torch.device("cpu"), derive_seed(0, "vision.new_boxes", self.name, classes))
            made = TorchvisionDetector(self.name, classes + 1, self.arguments, frozen=self.frozen)
        new = heads(self.name, self.arguments)
        kept = {name: tensor for name, tensor in self.detector.state_dict().items() if name not in new}
        made.detector.load_state_dict(kept, strict=False)
        return made.requires_grad_(next(self.parameters()).requires_grad).train(self.training)


class Torchvision:
    """The base source `torchvision`."""

    def __init__(self, options: options.Detector) -> None:
        self._options = options

    def load(self) -> Base:
        """Raises `BaseError` where the name is unknown, or its weights are not to be had or do not fit, and
        `ComponentError` without torchvision."""
        o = self._options
        check_name(o.name)
        what, outputs = f"base {o.name!r}", COCO
        tensors: Mapping[str, Tensor] | None = None
        notes: list[str] = []
        origin = f"torchvision's {o.name} with fresh weights"
        if o.weights is not None:
            path = Path(o.weights).expanduser()
            tensors, notes = read_foreign(path, None, what)
            outputs = outputs_in(tensors, o.name, o.arguments)
            what, origin = f"{what}: {path}", f"torchvision's {o.name}, with weights from {path.name}"
            if not o.licence:
                notes = [*notes, "the weights' licence is not known; base.licence says it"]
        elif o.pretrained:
            tensors, origin = published(o.name)
        make = partial(
            TorchvisionDetector,
            o.name,
            outputs,
            o.arguments,
            frozen=tensors is not None and are_frozen(tensors),
        )
        with torch.random.fork_rng(devices=[]):
            seed_torch(torch.device("cpu"), 0)  # the same in each process
            model = make()
        if tensors is not None:
            notes = [*notes, *fit(model.detector, tensors, what)[1]]
        if model.frozen:
            notes = [
                *notes,
                "its batch normalisation keeps its statistics and factors, as it was trained; a model of fresh weights"
                " (`scratch`) is without any",
            ]
        labels = self._labels(outputs)
        as_it_is: dict[str, JSON] = {"vision.standardise": {"subtract": [0.0] * 3, "divide": [1.0] * 3}}
        return Base(
            model,
            digest(model.state_dict()),
            spdx(o.licence),
            origin,
            {**as_it_is, "task": {"labels": labels}} if labels else as_it_is,
            make,
            notes,
        )

    def _labels(self, outputs: int) -> list[str]:
        o = self._options
        if o.labels is not None:
            if len(o.labels) != outputs - 1:
                raise BaseError(
                    f"base.labels names {len(o.labels)} classes, and the model finds {outputs - 1}",
                    "name each class, in order, without the background",
                )
            return o.labels
        if outputs != COCO or (o.weights is None and not o.pretrained):
            return []
        categories: Sequence[str] = _weights(o.name).meta["categories"]
        return [name if name != "N/A" else f"unused {i}" for i, name in enumerate(categories)][1:]


def library() -> ModuleType:
    """torchvision's detectors. Raises `ComponentError` that says how to install them."""
    try:
        from torchvision.models import detection
    except ImportError as error:
        raise ComponentError(
            "the base 'vision.torchvision' needs torchvision, which is not installed",
            "pip install 'taoke[vision]'",
        ) from error
    return cast(ModuleType, detection)


def check_name(name: str) -> None:
    """Raises `BaseError` with the nearest names where torchvision has no such detector of boxes."""
    detection = library()
    from torchvision.models import list_models

    known = [one for one in list_models(module=detection) if not one.startswith(OTHERS)]
    if name not in known:
        raise BaseError(f"torchvision has no detector of boxes {name!r}", nearest(name, known))


def built(name: str, outputs: int, arguments: Arguments) -> nn.Module:
    """Without weights. Raises `BaseError` where an argument is not the architecture's: torchvision's own functions
    leave those aside in silence."""
    from torchvision.models import get_model, get_model_builder

    try:
        model: nn.Module = get_model(
            name, weights=None, weights_backbone=None, num_classes=outputs, **arguments
        )
    except (TypeError, ValueError) as error:
        raise BaseError(
            f"torchvision cannot build {name!r} with {dict(arguments)}: {error}", "see base.arguments"
        ) from error
    known = {*signature(get_model_builder(name)).parameters, *signature(type(model)).parameters} - {"kwargs"}
    strange = [argument for argument in arguments if argument not in known]
    if strange:
        raise BaseError(
            f"torchvision's {name!r} has no argument {strange[0]!r}",
            f"{nearest(strange[0], known)}; see base.arguments",
        )
    return model


def are_frozen(tensors: Mapping[str, Tensor]) -> bool:
    """Whether weights were trained with frozen batch normalisation: only what gathers statistics counts its batches."""
    names = [name.rpartition(".")[2] for name in tensors]
    return "running_mean" in names and "num_batches_tracked" not in names


def freeze_norms(model: nn.Module, eps: float) -> None:
    """`FrozenBatchNorm2d` in place of each `BatchNorm2d`."""
    from torchvision.ops import FrozenBatchNorm2d

    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, FrozenBatchNorm2d(child.num_features, eps))


def heads(name: str, arguments: Arguments) -> Mapping[str, int]:
    """The tensors whose size depends on the classes, and how many entries each class has in them."""
    return _heads(name, tuple(sorted(arguments.items())))


@lru_cache(maxsize=8)
def _heads(name: str, given: tuple[tuple[str, bool | int | float | str], ...]) -> Mapping[str, int]:
    arguments = dict(given)
    with torch.device("meta"):
        few, more = (
            {
                key: tensor.shape[0] if tensor.dim() else 0
                for key, tensor in built(name, n, arguments).state_dict().items()
            }
            for n in (2, 3)
        )
    return {key: more[key] - few[key] for key in few if more[key] != few[key]}


def outputs_in(tensors: Mapping[str, Tensor], name: str, arguments: Arguments) -> int:
    """For how many outputs the tensors of a file were made; COCO's where it has none that says so."""
    for head, each in heads(name, arguments).items():
        for wrap in ("", *WRAPPERS):
            if f"{wrap}{head}" in tensors:
                return tensors[f"{wrap}{head}"].shape[0] // each
    return COCO


def _weights(name: str) -> Any:
    from torchvision.models import get_model_weights

    return get_model_weights(name).DEFAULT


def published(name: str) -> tuple[dict[str, Tensor], str]:
    """The published weights, from the net or torch's cache, and where they come from. Raises `BaseError`."""
    weights = _weights(name)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        tensors: dict[str, Tensor] = weights.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except Exception as error:  # network, cache and file errors have no common parent
        line = next(iter(str(error).splitlines()), "")
        raise BaseError(
            f"the published weights of {name!r} are not to be had: {type(error).__name__}: {line}",
            f"they come from {weights.url}, or from torch's cache; without a network, fetch that file elsewhere and put"
            f" it into {folder}, or give base.weights=FILE",
        ) from error
    return tensors, f"torchvision's {name}, from {weights.url}"
