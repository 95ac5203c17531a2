"""What a base learns from a user's file when it is asked for, kept in the cache by the file's content and the options.

So a run, its parity check and what is asked of its shell later have the same bits. Weights are multiples of 2^-16:
where the cache is gone, other threads or another BLAS change sums in the last of 52 bits, and hardly ever a weight
(some 1e-10 a weight).
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.bases import read_tensors, write_tensors
from core.contract import JSON
from core.data.cache import folder
from core.errors import BaseError, OutputError

STEP = 2.0**-16
"""What weights are multiples of."""

Arrays = Mapping[str, NDArray[np.float64]]
Card = Mapping[str, JSON]


def key_of(path: Path, described: JSON) -> str:
    """A name for what is learned from a file: of its content, its ending, and what else it depends on. It depends
    neither on the file's place nor on what is only said of it."""
    total = hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=16)
    with path.open("rb") as file:
        total.update(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).digest())
    return total.hexdigest()


def kept(key: str, path: Path, learn: Callable[[], tuple[Arrays, Card]]) -> tuple[dict[str, Tensor], Card]:
    """The weights (float32) and their card under `key`; where the cache lacks them, what `learn` learns from `path`.
    Raises `BaseError` where what the cache holds is damaged, `OutputError` where it cannot be written."""
    place = folder() / "recommendation" / f"{key}.safetensors"
    if not place.is_file():
        _keep(place, *learn())
    tensors = read_tensors(place, f"the base learned from {path}")
    try:
        card = json.loads(place.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(key, error) from error
    return tensors, card


def damaged(key: str, error: Exception) -> BaseError:
    """What to raise where what is kept under `key` makes no model."""
    place = folder() / "recommendation" / f"{key}.safetensors"
    return BaseError(f"{place} is damaged: {error}", "delete it; it will be learned again")


def _keep(place: Path, arrays: Arrays, card: Card) -> None:
    """The card first, beside its place; what another process has put there meanwhile is the same."""
    tensors = {
        name: torch.from_numpy(np.round(values / STEP) * STEP).float().contiguous()
        for name, values in arrays.items()
    }
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as beside:
            part = Path(beside, "part")
            part.write_text(json.dumps(card, ensure_ascii=False), encoding="utf-8")
            part.replace(place.with_suffix(".json"))
            write_tensors(part, tensors)
            part.replace(place)
    except OSError as error:
        raise OutputError(
            f"the cache folder {place.parent} cannot be written: {error.strerror}",
            "make room, or name another folder in TAOKE_CACHE",
        ) from error
