"""Fits the base `library-imports` on the library's files that are no tests, and writes its weights and card.

    python -m plugins.recommendation.train_base [FOLDER]

It is EASE with a bias, in closed form; the penalty is chosen by cross-validation on the same files. `retain` is
scored once, at the end.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from core.bases import save_base
from core.rows import content_digest
from plugins.recommendation.contenders import Ranker
from plugins.recommendation.data import MIN_USERS, base_split, leave_one_out, users, whole
from plugins.recommendation.ease import ease
from plugins.recommendation.models import BASES
from plugins.recommendation.ranking import histories

NAME = "library-imports"
FOLDS = 5
PENALTIES = (3.0, 10.0, 30.0, 100.0)
"""Of EASE, in users."""


def common_items(chosen: Sequence[str]) -> list[str]:
    """The items that at least `MIN_USERS` of these users have, sorted: of the others there is too little to say."""
    count = Counter(item for user in chosen for item in users()[user])
    return sorted(item for item, having in count.items() if having >= MIN_USERS)


def fit(
    chosen: Sequence[str], items: Sequence[str], penalty: float
) -> tuple[dict[str, torch.Tensor], Ranker]:
    """The weights of an `ItemItem`, float32, and the ranker they make."""
    weight, bias = ease(histories([whole(user) for user in chosen], items), penalty)
    tensors = {"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()}
    return tensors, Ranker("base", items, lambda has: has @ weight + bias)


def ndcg(ranker: Ranker, chosen: Sequence[str]) -> float:
    return ranker.ndcg([row for user in chosen for row in leave_one_out(user)])


def cross_validated(chosen: Sequence[str], items: Sequence[str], penalty: float) -> float:
    """NDCG, averaged over folds that are kept out in turn; the users come shuffled."""
    folds = [(list(chosen[:i]) + list(chosen[j:]), chosen[i:j]) for i, j in _folds(len(chosen))]
    return float(np.mean([ndcg(fit(others, items, penalty)[1], fold) for others, fold in folds]))


def _folds(count: int) -> list[tuple[int, int]]:
    edges = [count * i // FOLDS for i in range(FOLDS + 1)]
    return list(pairwise(edges))


def main(folder: Path) -> None:
    chosen, kept_out = base_split()
    items = common_items(chosen)
    penalty = max(PENALTIES, key=lambda penalty: cross_validated(chosen, items, penalty))
    tensors, ranker = fit(chosen, items, penalty)
    card = {
        "architecture": {"items": len(items)},
        "preprocessing": {"task": {"items": items}},
        "licence": "Apache-2.0",
        "origin": "fitted for taoke on the imports of Python's standard library by plugins.recommendation.train_base",
        "data": {
            "what": "which public modules the library's files import, tests left out: data/imports.csv",
            "files": len(chosen),
            "kept out": len(kept_out),
            "digest": content_digest([[user, list(users()[user])] for user in chosen]),
        },
        "fit": {
            "method": "EASE with a bias",
            "penalty": penalty,
            "chosen from": list(PENALTIES),
            "folds": FOLDS,
        },
        "command": "python -m plugins.recommendation.train_base",
        "score": {"ndcg@10 on the files kept out, leave-one-out": ndcg(ranker, kept_out)},
    }
    digest = save_base(folder, NAME, tensors, card)
    print(f"{folder / NAME}.safetensors {digest} penalty {penalty:g} {card['score']}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else BASES)
