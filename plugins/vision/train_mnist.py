"""Trains the bases of the recipes `mnist-cnn` and `mnist-mlp` on idx files, and writes weights and card.

    python -m plugins.vision.train_mnist cnn DATA mnist-cnn.safetensors
    python -m plugins.vision.train_mnist mlp DATA mnist-mlp.safetensors

DATA is a folder of idx files (train-images-idx3-ubyte...). A base sees the first 5,000 training images, and no others:
it is the model that someone had before there were more. No weights made from MNIST come with the project.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.bases import save_base
from core.contract import REPORT, TRAIN
from core.rows import content_digest
from core.seeds import generator, seed_torch
from plugins.vision.architectures import ConvNet, Perceptron
from plugins.vision.idx import read_split

ARCHITECTURES: dict[str, type[ConvNet] | type[Perceptron]] = {"cnn": ConvNet, "mlp": Perceptron}
SEEN = 5_000
EPOCHS, BATCH_SIZE, LR = 8, 64, 1e-3
LABELS = [str(digit) for digit in range(10)]


def train(kind: str, images: Tensor, labels: Tensor) -> nn.Module:
    """Adam with half a cosine to zero, on images (n, 1, 28, 28) in 0..1."""
    rng = generator(0, "vision.train_mnist", kind)
    with torch.random.fork_rng(devices=[]):
        seed_torch(torch.device("cpu"), rng.initial_seed())
        model = ARCHITECTURES[kind]()
    updater = torch.optim.Adam(model.parameters(), lr=LR)
    steps = EPOCHS * math.ceil(len(images) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(updater, steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(images), generator=rng)
        for i in range(0, len(order), BATCH_SIZE):
            chosen = order[i : i + BATCH_SIZE]
            functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()  # type: ignore[no-untyped-call]
            updater.step()
            schedule.step()
            updater.zero_grad()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float((model(images).argmax(1) == labels).float().mean())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train a base on MNIST.")
    parser.add_argument("kind", choices=sorted(ARCHITECTURES))
    parser.add_argument("data", type=Path, help="a folder of idx files")
    parser.add_argument(
        "file", type=Path, help="where to write the weights: NAME.safetensors, with NAME.json beside it"
    )
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)  # sums over threads would depend on how many there are
    splits = {name: read_split(given.data, name) for name in (TRAIN, REPORT)}
    images, labels = (part[:SEEN] for part in splits[TRAIN])
    model = train(given.kind, images, labels)
    card = {
        "architecture": {},
        "preprocessing": {"task": {"labels": LABELS}},
        "licence": "CC-BY-SA-3.0",
        "origin": f"trained by plugins.vision.train_mnist on the first {SEEN:,} images of MNIST",
        "data": {
            "what": f"train images 0 to {SEEN - 1}, in 0..1",
            "digest": content_digest([images, labels]),
        },
        "command": f"python -m plugins.vision.train_mnist {given.kind} DATA FILE",
        "score": {"accuracy on the test images": accuracy(model, *splits[REPORT])},
    }
    digest = save_base(given.file.parent, given.file.stem, model.state_dict(), card)
    print(f"{given.file} {digest} {card['score']}")


if __name__ == "__main__":
    main()
