"""The edits `dense_behind`, a new dense layer behind each of some layers, without changing what they compute, and
`new_boxes`, other classes and anchors for a detector."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.contract import Structure
from core.errors import EditError, nearest
from core.seeds import generator
from plugins.vision import options
from plugins.vision.detectors import Anchors, Detector


class Behind(nn.Module):
    """A layer, and behind it h + up · relu(down · h): a residual bottleneck (https://arxiv.org/abs/1902.00751), whose
    `up` is zero at first, so that the layer's output h goes through unchanged, to the bit."""

    def __init__(self, layer: nn.Module, width: int, hidden: int, key: str) -> None:
        super().__init__()
        self.layer = layer
        self.down = nn.Linear(width, hidden)
        self.up = nn.Linear(hidden, width)
        rng = generator(
            0, "vision.dense_behind", key, width, hidden
        )  # of the edit alone: replaying draws the same
        bound = 1 / math.sqrt(width)
        with torch.no_grad():
            self.down.weight.copy_((torch.rand(hidden, width, generator=rng) * 2 - 1) * bound)
            self.down.bias.zero_()
            self.up.weight.zero_()
            self.up.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.layer(x)
        return h + cast(Tensor, self.up(functional.relu(self.down(h))))


class DenseBehind:
    """A bottleneck of `width` behind each module that `behind` names. The base's own layers stay in the model under
    `NAME.layer`, with their values and their places in the structure."""

    preserves = True

    def __init__(self, options: options.DenseBehind) -> None:
        self._behind, self._width = list(options.behind), options.width

    def validate(self, model: nn.Module) -> None:
        modules = dict(model.named_modules())
        for name in self._behind:
            if name not in modules or not name:
                linear = [n for n, m in modules.items() if isinstance(m, nn.Linear)]
                raise EditError(f"dense_behind: the model has no module {name!r}", nearest(name, linear))
            if not isinstance(modules[name], nn.Linear):
                raise EditError(
                    f"dense_behind: {name!r} is a {type(modules[name]).__name__}, and a dense layer is wanted",
                    "name layers of the type Linear",
                )

    def apply(self, model: nn.Module) -> nn.Module:
        for name in self._behind:
            layer = cast(nn.Linear, model.get_submodule(name))
            parent, _, attribute = name.rpartition(".")
            wrapped = Behind(layer, layer.out_features, self._width, name).to(layer.weight.dtype)
            wrapped.train(layer.training).requires_grad_(layer.weight.requires_grad)
            setattr(model.get_submodule(parent), attribute, wrapped)
        model.structure = self._moved(getattr(model, "structure", Structure()))  # type: ignore[assignment]
        return model

    def _moved(self, structure: Structure) -> Structure:
        """Classes of a layer that is wrapped lie along its outputs, and along what is behind them."""

        def places(name: str, dimension: int) -> list[tuple[str, int]]:
            owner, _, attribute = name.rpartition(".")
            if owner not in self._behind:
                return [(name, dimension)]
            own = [(f"{owner}.layer.{attribute}", dimension)]
            if dimension == 0 and attribute == "weight":
                own += [(f"{owner}.down.weight", 1), (f"{owner}.up.weight", 0)]
            elif dimension == 0:
                own.append((f"{owner}.up.bias", 0))
            return own

        axes = {
            axis: tuple(place for entry in entries for place in places(*entry))
            for axis, entries in structure.axes.items()
        }
        return Structure(axes, structure.head)

    def describe(self) -> str:
        return f"a dense {self._width} behind each of {', '.join(self._behind)}, adding zero at first"


class NewBoxes:
    """Other classes and anchors: what makes boxes of features is made anew, as the detector does it
    (`Detector.renewed`). Outputs of anchors and classes are interleaved, so that neither is an axis of a tensor
    (`core.new_head`)."""

    preserves = False

    def __init__(self, options: options.NewBoxes) -> None:
        self._classes = options.classes
        self._anchors: Anchors | None = options.anchors

    def validate(self, model: nn.Module) -> None:
        if not isinstance(model, Detector):
            raise EditError(
                f"new_boxes: {type(model).__name__} is no detector",
                "use it on a base of the task vision.detect",
            )
        if self._anchors is None:
            return
        levels = 0 if model.anchors is None else len(model.anchors)
        if len(self._anchors) != levels:
            raise EditError(
                f"new_boxes: anchors for {len(self._anchors)} levels are given, and {type(model).__name__} has {levels}"
                " whose anchors can be changed",
                "give a list for each level, empty where it is to have none"
                if levels
                else "leave `anchors` out",
            )
        if not any(self._anchors):
            raise EditError("new_boxes: no level has an anchor", "give one at least")
        for level, (old, new) in enumerate(zip(model.anchors or [], self._anchors, strict=True)):
            if new and not old:
                raise EditError(
                    f"new_boxes: level {level} has no anchor any more, that new ones could begin as",
                    "leave it empty, or give all anchors in one edit",
                )

    def apply(self, model: nn.Module) -> nn.Module:
        renewed = cast(Detector, model).renewed(self._classes, self._anchors)
        renewed.has_new_boxes = True
        return renewed

    def describe(self) -> str:
        if self._anchors is None:
            return f"boxes of {self._classes} classes"
        sizes = "; ".join(
            ", ".join(f"{width:g} x {height:g}" for width, height in level) or "none"
            for level in self._anchors
        )
        return f"boxes of {self._classes} classes, anchors by level: {sizes}"
