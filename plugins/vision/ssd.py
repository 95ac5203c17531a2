"""Single-shot detection (https://arxiv.org/abs/1512.02325): anchors, matching, loss and decoding, and a small
published detector that works so.

    base: {source: file, path: version-slim-320.pth, architecture: "plugins.vision.ssd:SlimDetector"}
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.contract import Structure
from plugins.vision.detectors import Anchors, Detector, Found, Losses, Truth

CENTRE, SIZE = 0.1, 0.2
"""Offsets of centres and of sizes are divided by these, so that they are of about one size (the paper's authors' code
calls them variances)."""
ALIKE = 0.5
"""An anchor belongs to the box that it overlaps most where intersection over union is at least this."""
NEGATIVES = 3
"""Anchors of the background that the loss counts, for each that belongs to a box: those it takes for one most."""


def convolution(channels: int, to: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, to, 3, stride, 1, bias=False), nn.BatchNorm2d(to), nn.ReLU(inplace=True)
    )


def separable(channels: int, to: int, stride: int) -> nn.Sequential:
    """MobileNet's block (https://arxiv.org/abs/1704.04861): each channel by itself, then all of them in each pixel."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, to, 1, bias=False),
        nn.BatchNorm2d(to),
        nn.ReLU(inplace=True),
    )


def plain_separable(channels: int, to: int, stride: int = 1) -> nn.Sequential:
    """Without normalisation, for heads."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels), nn.ReLU(), nn.Conv2d(channels, to, 1)
    )


class SlimDetector(Detector):
    """The slim detector of https://github.com/Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB: thirteen separable
    convolutions, and heads at strides of 8, 16, 32 and 64. Tensors are named as in the weights published there, which
    find faces in images of 320 x 240 whose values are (byte - 127) / 128.

    Args:
        classes: how many, without the background, which is output 0 of each anchor.
        anchors: (width, height) in pixels, by level; the published ones by default. A level without any has no head.
    """

    strides = (8, 16, 32, 64)
    channels = (64, 128, 256, 256)
    published: Anchors = tuple(
        tuple((float(side), float(side)) for side in level)
        for level in ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))
    )

    def __init__(self, classes: int = 1, anchors: Anchors | None = None) -> None:
        super().__init__()
        widths = [16, 32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256]
        halved = (2, 4, 8, 11)
        self.base_net = nn.Sequential(
            convolution(3, 16, 2),
            *(separable(widths[i - 1], widths[i], 2 if i in halved else 1) for i in range(1, 13)),
        )
        self.extras = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(256, 64, 1), nn.ReLU(), plain_separable(64, 256, 2), nn.ReLU())]
        )
        self.classes = classes
        self.anchors: Anchors = self.published if anchors is None else anchors
        counts = [len(level) for level in self.anchors]
        self.classification_headers = nn.ModuleList(
            self._head(i, n * (classes + 1)) for i, n in enumerate(counts)
        )
        self.regression_headers = nn.ModuleList(self._head(i, n * 4) for i, n in enumerate(counts))
        self._say_structure()

    def _head(self, level: int, outputs: int) -> nn.Module:
        if not outputs:
            return nn.Identity()
        channels = self.channels[level]
        return (
            nn.Conv2d(channels, outputs, 3, padding=1) if level == 3 else plain_separable(channels, outputs)
        )

    def _say_structure(self) -> None:
        self.structure = Structure(head=("classification_headers", "regression_headers"))

    def forward(self, images: Tensor, truths: Sequence[Truth] | None = None) -> Losses | list[Found]:
        """As `Detector`; images (batch, 3, height, width)."""
        logits, offsets, anchors = self.raw(images)
        if truths is not None:
            return multibox(logits, offsets, anchors, truths)
        boxes = decoded(offsets, anchors)
        scores = logits.softmax(2)[:, :, 1:]
        labels = torch.arange(self.classes, device=images.device).expand(scores.shape[1], -1).flatten()
        return [
            Found(placed.repeat_interleave(self.classes, 0), labels, each.flatten())
            for placed, each in zip(boxes, scores, strict=True)
        ]

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (batch, anchors, 1 + classes), offsets (batch, anchors, 4), and the anchors (anchors, 4) as (x, y,
        width, height) around their centres."""
        seen = self._levels(images.contiguous(memory_format=torch.channels_last))
        logits, offsets, places = [], [], []
        for level, features in enumerate(seen):
            sizes = self.anchors[level]
            if sizes:
                each = (len(images), -1)
                scored = self.classification_headers[level](features).permute(0, 2, 3, 1)
                logits.append(scored.reshape(*each, self.classes + 1))
                offsets.append(self.regression_headers[level](features).permute(0, 2, 3, 1).reshape(*each, 4))
                places.append(grid(features, self.strides[level], sizes))
        return torch.cat(logits, 1), torch.cat(offsets, 1), torch.cat(places)

    def _levels(self, images: Tensor) -> list[Tensor]:
        """What the heads see: the convolutions' output after the 8th, the 11th, the 13th, and after `extras`."""
        seen = []
        x = images
        for i, layer in enumerate(self.base_net):
            x = layer(x)
            if i in (7, 10, 12):
                seen.append(x)
        seen.append(self.extras[0](x))
        return seen

    def by_level(self, sizes: Sequence[tuple[float, float]]) -> Anchors:
        """Each at the level whose published sizes are nearest: what its features were trained to see."""

        def apart(size: tuple[float, float], level: int) -> float:
            area = math.log(size[0] * size[1])
            return min(abs(2 * math.log(side) - area) for side, _ in self.published[level])

        levels = range(len(self.strides))
        nearest = [min(levels, key=lambda level: apart(size, level)) for size in sizes]
        return [[size for size, at in zip(sizes, nearest, strict=True) if at == level] for level in levels]

    def renewed(self, classes: int, anchors: Anchors | None) -> SlimDetector:
        """Each head's last layer is new; what is before it stays. A new anchor's offsets and background begin as those
        of the base's anchor of its level that is nearest in size, and each class as what that one was looking for."""
        wanted = self.anchors if anchors is None else anchors
        for level, sizes in enumerate(wanted):
            old = self.anchors[level]
            for heads, new_outputs, picked in (
                (
                    self.classification_headers,
                    classes + 1,
                    _picked_classes(old, sizes, self.classes, classes),
                ),
                (self.regression_headers, 4, _picked_offsets(old, sizes)),
            ):
                head = heads[level]
                if not sizes:
                    heads[level] = nn.Identity()
                    continue
                last = cast(nn.Conv2d, head[-1] if isinstance(head, nn.Sequential) else head)
                side = last.kernel_size[0]
                new = nn.Conv2d(last.in_channels, len(sizes) * new_outputs, side, padding=side // 2)
                with torch.no_grad():
                    new.weight.copy_(last.weight[picked])
                    new.bias.copy_(last.bias[picked])  # type: ignore[index,union-attr]
                new.requires_grad_(last.weight.requires_grad)
                if isinstance(head, nn.Sequential):
                    head[-1] = new
                else:
                    heads[level] = new
        self.classes, self.anchors = classes, wanted
        return self


def _nearest(old: Sequence[tuple[float, float]], new: tuple[float, float]) -> int:
    size = math.log(new[0] * new[1])
    return min(range(len(old)), key=lambda i: abs(math.log(old[i][0] * old[i][1]) - size))


def _picked_classes(
    old: Sequence[tuple[float, float]], new: Sequence[tuple[float, float]], classes: int, to: int
) -> list[int]:
    """Which of the old outputs each new one begins as."""
    picked = []
    for size in new:
        first = _nearest(old, size) * (classes + 1)
        picked += [first, *(first + 1 + i % classes for i in range(to))]
    return picked


def _picked_offsets(old: Sequence[tuple[float, float]], new: Sequence[tuple[float, float]]) -> list[int]:
    return [_nearest(old, size) * 4 + i for size in new for i in range(4)]


def grid(features: Tensor, stride: int, sizes: Sequence[tuple[float, float]]) -> Tensor:
    """(height · width · sizes, 4) anchors of every size around the middle of each of a level's cells."""
    height, width = features.shape[-2:]
    device = features.device
    y, x = torch.meshgrid(
        (torch.arange(height, device=device) + 0.5) * stride,
        (torch.arange(width, device=device) + 0.5) * stride,
        indexing="ij",
    )
    centres = torch.stack([x, y], 2).reshape(-1, 1, 2).expand(-1, len(sizes), 2)
    sides = torch.tensor(sizes, device=device).expand(height * width, -1, 2)
    return torch.cat([centres, sides], 2).reshape(-1, 4)


def corners(anchors: Tensor) -> Tensor:
    """(..., 4) from (x, y, width, height) to (left, upper, right, lower)."""
    centre, half = anchors[..., :2], anchors[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def decoded(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Boxes (..., anchors, 4) from a model's offsets: the paper's equation 2, solved."""
    centre = anchors[:, :2] + offsets[..., :2] * CENTRE * anchors[:, 2:]
    size = anchors[:, 2:] * (offsets[..., 2:] * SIZE).clamp(max=4.0).exp()
    return corners(torch.cat([centre, size], -1))


def encoded(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Offsets (count, 4) that make of each anchor its box."""
    size = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + size / 2
    return torch.cat(
        [
            (centre - anchors[:, :2]) / (CENTRE * anchors[:, 2:]),
            (size / anchors[:, 2:]).clamp(min=1e-6).log() / SIZE,
        ],
        1,
    )


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """(boxes, others) intersection over union."""
    from torchvision.ops import box_iou

    shared: Tensor = box_iou(boxes, others)
    return shared


def matched(anchors: Tensor, truth: Truth) -> tuple[Tensor, Tensor]:
    """For each anchor the index of its box, int64 (anchors,), and whether it has one, bool. An anchor has
    the box that it overlaps most, if enough (`ALIKE`), or one that overlaps no anchor more; of two boxes with one
    best anchor the later one has it, and the earlier one may be left without."""
    count = len(anchors)
    if not len(truth.boxes):
        return torch.zeros(count, dtype=torch.long, device=anchors.device), torch.zeros(
            count, dtype=torch.bool, device=anchors.device
        )
    shared = overlaps(corners(anchors), truth.boxes)
    most, which = shared.max(1)
    has = most >= ALIKE
    best = shared.argmax(0)
    for box, anchor in enumerate(
        best.tolist()
    ):  # in order: with an index that occurs twice, torch promises none
        which[anchor], has[anchor] = box, True
    return which, has


def multibox(logits: Tensor, offsets: Tensor, anchors: Tensor, truths: Sequence[Truth]) -> Losses:
    """The paper's loss: cross-entropy over the anchors that have a box and the hardest of the others, and smooth L1 of
    the offsets of the first; divided by how many those are."""
    wanted, targets, has = [], [], []
    for truth in truths:
        which, mine = matched(anchors, truth)
        if len(truth.boxes):
            labels = torch.where(mine, truth.labels[which] + 1, 0)
            goal = encoded(truth.boxes[which], anchors)
        else:
            labels, goal = torch.zeros_like(which), torch.zeros_like(anchors)
        wanted.append(labels)
        targets.append(goal)
        has.append(mine)
    labels, mine = torch.stack(wanted), torch.stack(has)
    each = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    with torch.no_grad():
        hardness = each.detach().masked_fill(mine, -1.0)
        rank = hardness.argsort(1, descending=True).argsort(1)
        counted = mine | (rank < NEGATIVES * mine.sum(1, keepdim=True).clamp(min=1))
    chosen = each.masked_fill(~counted, 0.0).sum()
    apart = functional.smooth_l1_loss(offsets[mine], torch.stack(targets)[mine], reduction="sum")
    return Losses(chosen + apart, mine.sum().clamp(min=1))
