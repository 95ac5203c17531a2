"""Bases on disk: `NAME.safetensors` with the weights, `NAME.json` with the card. Also what every reader of
weights shares: the digest of tensors, and loading them into a model with nothing skipped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from core.contract import JSON, Base
from core.errors import BaseError, nearest


def digest(tensors: Mapping[str, Tensor]) -> str:
    """`sha256:...` over names, dtypes, shapes and values, in the names' order: a renamed or rewritten file
    is the same base."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"sha256:{total.hexdigest()}"


def read_tensors(path: Path, what: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU. Raises `BaseError` where it is missing, truncated or of
    another format."""
    if not path.is_file():
        raise BaseError(f"{what}: there is no file {path}", "check the path, or restore the file")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BaseError(
            f"{what}: {path} ({path.stat().st_size} bytes) is truncated or no safetensors file: {error}",
            "restore the file from where it came",
        ) from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file with the permissions of any new file (safetensors' own writer makes it private)."""
    path.write_bytes(save(dict(tensors)))


def fill(model: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Copy tensors into the model's parameters and buffers, converted to their dtype. Raises `BaseError`
    that lists every tensor that is missing, not wanted, of another shape, or whole numbers where there are to be
    others; then the model is unchanged."""
    own = model.state_dict()
    wrong = [f"missing: {name} {tuple(own[name].shape)}" for name in own if name not in tensors]
    wrong += [
        f"not in the architecture: {name} {tuple(tensors[name].shape)}" for name in tensors if name not in own
    ]
    wrong += [
        f"{name}: the file has {tuple(tensors[name].shape)}, the architecture {tuple(own[name].shape)}"
        for name in own
        if name in tensors and own[name].shape != tensors[name].shape
    ]
    wrong += [
        f"{name}: the file has {tensors[name].dtype}, the architecture {own[name].dtype}"
        for name in own
        if name in tensors and own[name].is_floating_point() != tensors[name].is_floating_point()
    ]
    if wrong:
        listed = "".join(f"\n  - {line}" for line in wrong)
        raise BaseError(
            f"{what} does not fit {type(model).__name__}:{listed}",
            "use the architecture the weights were made with",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def load_base(folder: Path, name: str, build: Callable[[Mapping[str, JSON]], nn.Module]) -> Base:
    """The base `folder/name.{json,safetensors}`; `build` makes the architecture from the card's `architecture`.

    Raises `BaseError` where either file is missing or unreadable, the digest is not the card's, or the
    weights do not fit.
    """
    what = f"base {name!r}"
    card = read_card(folder, name)
    tensors = read_tensors(folder / f"{name}.safetensors", what)
    found = digest(tensors)
    if found != card["digest"]:
        raise BaseError(
            f"{what}: the weights have the digest {found}, the card {folder / name}.json says {card['digest']}",
            "these are other weights: restore the file that belongs to the card",
        )
    model = build(card["architecture"])
    fill(model, tensors, what)
    return Base(model, found, card["licence"], card["origin"], card["preprocessing"])


def read_card(folder: Path, name: str) -> dict[str, Any]:
    """A base's card. Raises `BaseError` where there is none of that name, or a field is missing."""
    path = folder / f"{name}.json"
    if not path.is_file():
        hint = nearest(name, (other.stem for other in folder.glob("*.json")))
        raise BaseError(f"there is no base {name!r} in {folder}", hint)
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaseError(f"the card {path} cannot be read: {error}", "restore the file") from error
    missing = [f for f in ("architecture", "digest", "licence", "origin", "preprocessing") if f not in card]
    if missing:
        raise BaseError(f"the card {path} lacks {', '.join(missing)}", "restore the file")
    return card


def save_base(folder: Path, name: str, tensors: Mapping[str, Tensor], card: Mapping[str, JSON]) -> str:
    """Write weights and card; the digest is added to the card, and returned. The card has `architecture`
    (what `load_base` hands to `build`), `preprocessing` (`Base.preprocessing`), `licence`, `origin`, and
    for the reader `data`, `command` and `score`."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    write_tensors(folder / f"{name}.safetensors", stored)
    made = digest(stored)
    fields = {**card, "digest": made}.items()
    lines = ",\n".join(
        f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields
    )
    (folder / f"{name}.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    return made
