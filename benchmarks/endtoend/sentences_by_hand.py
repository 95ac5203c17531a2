"""The loop a person would write to fine-tune an encoder on TREC: transformers, torch's AdamW, padding to the longest.

    python -m benchmarks.endtoend.sentences_by_hand --base FOLDER --data FOLDER [--epochs 2] [--seeds 0 1 2]

`--base` is a transformers encoder, `--data` a folder with TREC.train.all and TREC.test.all. It trains on all of the
train file; accuracy on the test file, and the seconds of the loop alone.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

BATCH, LR, WEIGHT_DECAY, WARMUP, LONGEST = 32, 1e-4, 0.01, 0.1, 128


class Classifier(nn.Module):
    """An encoder, the mean of its token states, and a linear layer."""

    def __init__(self, folder: str, classes: int) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(folder, local_files_only=True)
        self.head = nn.Linear(self.encoder.config.hidden_size, classes)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask[..., None].float()
        logits: Tensor = self.head((states * weights).sum(1) / weights.sum(1))
        return logits


def read(path: Path) -> tuple[list[str], list[int]]:
    """Texts and labels, which are small integers."""
    lines = path.read_text(encoding="latin-1").strip().split("\n")
    pairs = [line.strip().split(maxsplit=1) for line in lines]
    return [text for _, text in pairs], [int(label) for label, _ in pairs]


def run(folder: str, data: Path, epochs: int, seed: int) -> dict[str, Any]:
    """Accuracy on the test file, and the seconds of training."""
    texts, labels = read(data / "TREC.train.all")
    test_texts, test_labels = read(data / "TREC.test.all")
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = Classifier(folder, max(labels) + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    steps = epochs * -(-len(texts) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (WARMUP * steps), (steps - step) / (steps - WARMUP * steps))
    )

    def batch(texts: list[str]) -> tuple[Tensor, Tensor]:
        made = tokenizer(texts, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
        return made["input_ids"], made["attention_mask"]

    model.train()
    began = time.perf_counter()
    for _ in range(epochs):
        for chosen in torch.randperm(len(texts)).split(BATCH):  # type: ignore[no-untyped-call]
            logits = model(*batch([texts[i] for i in chosen]))
            loss = functional.cross_entropy(logits, torch.tensor([labels[i] for i in chosen]))
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    seconds = time.perf_counter() - began
    model.eval()
    right = 0
    with torch.no_grad():
        for at in range(0, len(test_texts), 128):
            found = model(*batch(test_texts[at : at + 128])).argmax(1)
            right += int((found == torch.tensor(test_labels[at : at + 128])).sum())
    return {"seed": seed, "epochs": epochs, "accuracy": right / len(test_texts), "seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Fine-tune an encoder on TREC by hand.")
    parser.add_argument("--base", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    for seed in options.seeds:
        print(json.dumps(run(options.base, options.data, options.epochs, seed)), flush=True)


if __name__ == "__main__":
    main()
