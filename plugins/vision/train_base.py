"""Trains the base `digits-0to7` on clean images of the digits 0 to 7, and writes its weights and card.

    python -m plugins.vision.train_base [FOLDER]

It sees neither noise nor an 8 or a 9. Two runs on one machine write the same weights. `retain` is scored
once, at the end.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from core.bases import save_base
from core.contract import JSON, Row
from core.rows import content_digest
from core.seeds import generator
from plugins.vision import options
from plugins.vision.data import KNOWN, WHITE, base_split
from plugins.vision.models import BASES, SmallCNN
from plugins.vision.transforms import Affine, Scale, Standardise, Statistics

NAME = "digits-0to7"
LABELS = [str(digit) for digit in range(KNOWN)]
ARCHITECTURE: dict[str, Any] = {"classes": KNOWN, "width": 32, "hidden": 64, "dropout": 0.2, "side": 8}
EPOCHS, BATCH_SIZE, LR, WEIGHT_DECAY = 60, 64, 3e-3, 1e-2
SMOOTHING = 0.1
"""Of the labels. It keeps the logits of the known classes low enough for new ones to catch up with."""

UNUSED = torch.Generator()
"""For transforms that draw nothing."""


def train(rows: Sequence[Row], statistics: Statistics) -> SmallCNN:
    """AdamW with half a cosine to zero, on images that are turned, zoomed and shifted anew in each epoch."""
    rng = generator(0, "vision.train_base")
    torch.manual_seed(rng.initial_seed())  # weights and dropout
    model = SmallCNN(**ARCHITECTURE)
    affine = Affine(options.Affine(degrees=15, scale=0.15, shift=0.5))
    targets = _targets(rows)
    updater = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(updater, EPOCHS * math.ceil(len(rows) / BATCH_SIZE))
    for _ in range(EPOCHS):
        order = torch.randperm(len(rows), generator=rng)
        for i in range(0, len(rows), BATCH_SIZE):
            chosen = order[i : i + BATCH_SIZE]
            images = _images([affine.apply(rows[j], None, rng) for j in chosen.tolist()], statistics)
            loss = functional.cross_entropy(model(images), targets[chosen], label_smoothing=SMOOTHING)
            loss.backward()  # type: ignore[no-untyped-call]
            updater.step()
            schedule.step()
            updater.zero_grad()
    return model.eval()


@torch.no_grad()
def accuracy(model: SmallCNN, rows: Sequence[Row], statistics: Statistics) -> float:
    return float((model(_images(rows, statistics)).argmax(1) == _targets(rows)).float().mean())


def _images(rows: Sequence[Row], statistics: Statistics) -> Tensor:
    standardise = Standardise()
    return torch.stack([standardise.apply(row, statistics, UNUSED).inputs for row in rows])


def _targets(rows: Sequence[Row]) -> Tensor:
    return torch.tensor([LABELS.index(row.target) for row in rows])


def main(folder: Path) -> None:
    torch.set_num_threads(1)  # sums over threads would depend on how many there are
    scale = Scale(options.Scale(of=(0.0, WHITE), to=(0.0, 1.0)))
    known, retain = ([scale.apply(row, None, UNUSED) for row in rows] for rows in base_split())
    statistics = Standardise().fit(known)
    model = train(known, statistics)
    preprocessing: dict[str, JSON] = {"task": {"labels": LABELS}, "vision.standardise": statistics}
    card = {
        "architecture": ARCHITECTURE,
        "preprocessing": preprocessing,
        "licence": "Apache-2.0",
        "origin": "trained for taoke on scikit-learn's digits by plugins.vision.train_base",
        "data": {
            "what": "scikit-learn's digits, first half, clean images of 0 to 7, scaled to 0..1",
            "images": len(known),
            "kept out": len(retain),
            "digest": content_digest([[row.inputs, row.target] for row in known]),
        },
        "command": "python -m plugins.vision.train_base",
        "score": {"accuracy on the images kept out": accuracy(model, retain, statistics)},
    }
    digest = save_base(folder, NAME, model.state_dict(), card)
    print(f"{folder / NAME}.safetensors {digest} {card['score']}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else BASES)
