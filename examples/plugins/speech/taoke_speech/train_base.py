"""Trains the base on every speaker but one: python -m taoke_speech.train_base FOLDER SPEAKER FILE.safetensors"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from torch.nn import functional

from core.bases import save_base
from core.contract import Row
from core.errors import DataError
from taoke_speech.data import recording, recordings
from taoke_speech.features import LogSpectrogram, Shift
from taoke_speech.model import KeywordNet
from taoke_speech.options import Shift as ShiftOptions

EPOCHS, BATCH, LR = 15, 50, 3e-3


def main(folder: str, speaker: str, file: str) -> None:
    found = recordings(folder)
    if speaker not in found:
        raise DataError(
            f"{folder} has no recording of {speaker!r}", f"its speakers are {', '.join(sorted(found))}"
        )
    pairs = [pair for name, of_name in sorted(found.items()) if name != speaker for pair in of_name]
    words = sorted({word for _, word in pairs})
    rng = torch.Generator().manual_seed(0)
    spectrogram, shift = LogSpectrogram(), Shift(ShiftOptions())
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
    path = Path(file)
    card = {
        "architecture": {"classes": len(words)},
        "preprocessing": {"task": {"labels": words}},
        "licence": "NOASSERTION",
        "origin": f"made by taoke_speech.train_base from {len(rows)} recordings, all but those of {speaker}",
    }
    print(save_base(path.parent, path.stem, dict(model.state_dict()), card))


if __name__ == "__main__":
    main(*sys.argv[1:])
