"""Trains the base on every speaker but one: python -m taoke_speech.train_base FOLDER SPEAKER FILE.safetensors"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional

from core.bases import save_base
from core.contract import Row
from core.errors import DataError, TaokeError, UsageError
from taoke_speech.data import of, recording, recordings
from taoke_speech.features import LogSpectrogram, Shift
from taoke_speech.model import KeywordNet
from taoke_speech.options import Shift as ShiftOptions

EPOCHS, BATCH, LR = 15, 50, 3e-3


def train_base(folder: str, speaker: str, file: str) -> str:
    """Write the base and its card, and return its digest. Two runs on one machine write the same.

    Raises `UsageError`."""
    path = Path(file)
    if path.suffix != ".safetensors":
        raise UsageError(f"the base cannot be written to {file!r}", "its name ends in .safetensors")
    found = recordings(folder)
    of(speaker, found, folder)
    pairs = [pair for name, of_name in sorted(found.items()) if name != speaker for pair in of_name]
    if not pairs:
        raise DataError(
            f"{folder} has recordings of {speaker!r} alone: nobody is left to train the base on",
            "add other speakers' recordings",
        )
    words = sorted({word for _, word in pairs})
    rng = torch.Generator().manual_seed(0)
    spectrogram, shift = LogSpectrogram(), Shift(ShiftOptions(frames=6))
    rows = [spectrogram.apply(Row(recording(path), word), None, rng) for path, word in pairs]
    targets = torch.tensor([words.index(row.target) for row in rows])
    torch.manual_seed(0)
    model = KeywordNet(len(words))
    updater = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(updater, EPOCHS * math.ceil(len(rows) / BATCH))
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(rows), generator=rng).split(BATCH):
            energies = torch.stack([shift.apply(rows[i], None, rng).inputs for i in chosen.tolist()])
            functional.cross_entropy(model(energies), targets[chosen], label_smoothing=0.1).backward()
            updater.step()
            schedule.step()
            updater.zero_grad()
    card = {
        "architecture": {"classes": len(words)},
        "preprocessing": {"task": {"labels": words}},
        "licence": "NOASSERTION",
        "origin": f"made by taoke_speech.train_base from {len(rows)} recordings, all but those of {speaker}",
    }
    return save_base(path.parent, path.stem, dict(model.state_dict()), card)


def main(arguments: Sequence[str]) -> int:
    torch.set_num_threads(1)  # sums over threads would depend on how many there are
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(train_base(*arguments))
    except TaokeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
