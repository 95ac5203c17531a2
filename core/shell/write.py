"""Writing a shell."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.bases import digest, write_tensors
from core.context import Context
from core.evidence.weigh import Evidence
from core.shell import FORMAT, LIBRARIES
from core.shell.card import card
from core.stages.fine_tune import Tuned
from core.version import version


def write(folder: Path, context: Context, tuned: Tuned, evidence: Evidence) -> None:
    """Write the shell of an adapted model into an empty folder."""
    modified = tuned.modified
    prepared = modified.prepared
    changed = delta(modified.model, tuned.model)
    write_tensors(folder / "delta.safetensors", changed)
    write_json(
        folder / "delta.json",
        {
            "format": FORMAT,
            "base": {"digest": prepared.base.digest},
            "edits": [dict(edit.spec) for edit in modified.edits],
            "tensors": {key: list(tensor.shape) for key, tensor in changed.items()},
            "adapted": digest(tuned.model.state_dict()),
        },
    )
    write_json(folder / "preprocess.json", {"transforms": prepared.pipeline.states(), "task": prepared.state})
    provenance = provenance_of(context, tuned, evidence)
    write_json(folder / "provenance.json", provenance)
    (folder / "README.md").write_text(card(provenance, modified.edits), encoding="utf-8")


def delta(before: nn.Module, after: nn.Module) -> dict[str, Tensor]:
    """The tensors of `after` that are not, to the bit, those of `before`; one that stands in several places (tied
    weights) under the first of its names."""
    old = before.state_dict()
    held: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in after.state_dict(keep_vars=True).items():
        held.setdefault(id(tensor), (name, tensor))
    new = {name: tensor.detach().cpu().contiguous() for name, tensor in held.values()}
    return {
        name: tensor for name, tensor in new.items() if name not in old or not _same(old[name].cpu(), tensor)
    }


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)


def provenance_of(context: Context, tuned: Tuned, evidence: Evidence) -> dict[str, Any]:
    """Where an adapted model comes from, as JSON."""
    prepared = tuned.modified.prepared
    base = prepared.base
    return {
        "name": context.name,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": context.recipe.to_json(),
        "seed": context.seed,
        "base": {"digest": base.digest, "licence": base.licence, "origin": base.origin},
        "data": {
            split: {"examples": len(s.rows), "digest": s.digest} for split, s in prepared.splits.items()
        },
        "plugins": context.plugins.record(),
        "versions": {
            "taoke": version(),
            "python": platform.python_version(),
            **{library: metadata.version(library) for library in LIBRARIES},
        },
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "device": str(context.device),
            "threads": torch.get_num_threads(),
        },
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "evidence": evidence.to_json(),
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, for people too."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
