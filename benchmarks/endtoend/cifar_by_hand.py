"""The loop a person would write to adapt the published ResNet-20 to CIFAR-10's pictures after lossy compression.

    python -m benchmarks.endtoend.cifar_by_hand DATA WEIGHTS [--seed N] [--channels-last]

DATA has train/ and test/ with one folder a class. All pictures are read into memory first; three epochs of SGD
(lr 0.01, momentum 0.9, batches of 128, mirrored at random); the last weights are scored on all test pictures.
Nothing of the project is used but the architecture. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from plugins.vision.architectures import resnet20

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
EPOCHS, BATCH, LR, MOMENTUM = 3, 128, 0.01, 0.9


def read(folder: Path) -> tuple[Tensor, Tensor]:
    """Images (n, 3, 32, 32), standardised, and labels (n,), by the classes' order."""
    images, labels = [], []
    for label, name in enumerate(sorted(path.name for path in folder.iterdir())):
        for path in sorted((folder / name).iterdir()):
            images.append(np.asarray(Image.open(path).convert("RGB")))
            labels.append(label)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return (pixels.float() / 255 - MEAN) / STD, torch.tensor(labels)


def model_from(weights: Path, *, channels_last: bool) -> nn.Module:
    model = resnet20(channels_last=channels_last)
    tensors = torch.load(weights, map_location="cpu", weights_only=True)["state_dict"]
    model.load_state_dict({name.removeprefix("module."): tensor for name, tensor in tensors.items()})
    return model


def train(model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> None:
    torch.manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    model.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(images))
        for i in range(0, len(order), BATCH):
            chosen = order[i : i + BATCH]
            batch = images[chosen]
            mirrored = torch.rand(len(batch)) < 0.5
            batch[mirrored] = batch[mirrored].flip(-1)
            loss = functional.cross_entropy(model(batch), labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    model.eval()
    right = sum(
        int((model(images[i : i + 500]).argmax(1) == labels[i : i + 500]).sum())
        for i in range(0, len(images), 500)
    )
    return right / len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description="The loop by hand.")
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--channels-last", action="store_true")
    given = parser.parse_args()
    began = time.perf_counter()
    train_set, test_set = read(given.data / "train"), read(given.data / "test")
    have_read = time.perf_counter()
    model = model_from(given.weights, channels_last=given.channels_last)
    before = accuracy(model, *test_set)
    started = time.perf_counter()
    train(model, *train_set, given.seed)
    trained = time.perf_counter()
    document = {
        "seed": given.seed,
        "channels_last": given.channels_last,
        "base": before,
        "accuracy": accuracy(model, *test_set),
        "read_s": round(have_read - began, 2),
        "train_s": round(trained - started, 2),
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
