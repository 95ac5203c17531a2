"""Trains the base on the ten means of its biopsies, and writes weights and card: python -m taoke_medicine.train_base"""

from __future__ import annotations

import torch
from torch.nn import functional

from core.bases import save_base
from taoke_medicine.data import MEANS, rows_of_the_base
from taoke_medicine.model import FOLDER, NAME, Network

ARCHITECTURE = {"features": MEANS, "hidden": 16, "classes": 2}
LABELS = ["benign", "malignant"]


def main() -> None:
    rows = rows_of_the_base()
    numbers = torch.tensor([row.inputs[:MEANS] for row in rows])
    labels = torch.tensor([LABELS.index(row.target) for row in rows])
    mean, scale = numbers.mean(0), numbers.std(0)
    torch.manual_seed(0)
    model = Network(**ARCHITECTURE)
    updater = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(300):
        updater.zero_grad()
        functional.cross_entropy(model((numbers - mean) / scale), labels).backward()
        updater.step()
    card = {
        "architecture": ARCHITECTURE,
        "preprocessing": {"task": {"labels": LABELS, "mean": mean.tolist(), "scale": scale.tolist()}},
        "licence": "Apache-2.0",
        "origin": "made by taoke_medicine.train_base from scikit-learn's copy of Breast Cancer Wisconsin (Diagnostic)",
        "data": f"{len(rows)} biopsies, ten means of each",
        "command": "python -m taoke_medicine.train_base",
    }
    print(save_base(FOLDER, NAME, dict(model.state_dict()), card))


if __name__ == "__main__":
    main()
