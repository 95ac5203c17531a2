"""Checks of whole runs: the same seed, what stays as it is, what nothing may see, what happens when something fails."""

from __future__ import annotations

import json
import os
import pickle
import random
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.bases import digest
from core.contract import REPORT
from core.inference import predict
from core.loader import installed
from core.manager import CORE
from core.runner import execute
from core.testing.static import Violation
from core.testing.trial import BATCH, Blocked, Change, Injected, Setting, Subject, Trial, hooks_of, tensors


def runs(subject: Subject, setting: Setting) -> None:
    """From the recipe to a shell that a fresh process finds the judged model in."""
    trial = subject.trial(setting)
    epochs = trial.epochs
    resolved = subject.resolved(setting)
    try:
        _executed(subject, _short(resolved, epochs))
    except Exception as error:
        notes = "".join(getattr(error, "__notes__", ()))
        raise Violation(f"{setting.name} fails: {type(error).__name__}: {error}{notes}") from error


def _short(resolved: Any, epochs: int) -> Any:
    fine_tune = resolved.recipe.fine_tune.model_copy(update={"epochs": epochs})
    return replace(resolved, recipe=resolved.recipe.model_copy(update={"fine_tune": fine_tune}))


def _executed(subject: Subject, resolved: Any) -> Path:
    folder = Path(tempfile.mkdtemp(dir=subject.scratch))
    execute(resolved, out=folder, device="cpu", quiet=True)
    return folder


def _finished(trial: Trial) -> tuple[str, list[Any]]:
    """The trained weights' digest, and what they predict of the first rows of `report`."""
    split = trial.prepared.splits[REPORT]
    model = trial.tuned.model
    return digest(model.state_dict()), list(
        predict(trial.prepared.task, model, split, torch.device("cpu"), BATCH)
    )


def same_bits(subject: Subject, setting: Setting) -> None:
    found = []
    python, numpy = random.getstate(), np.random.get_state()
    for seed in (1, 2):  # of the generators that a plugin may not draw from
        random.seed(seed)
        np.random.seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found.append(_finished(subject.trial(setting)))
    random.setstate(python)
    np.random.set_state(numpy)
    if found[0][0] != found[1][0]:
        raise Violation("the same seed gives other weights: draw from the context's generators alone")
    if found[0][1] != found[1][1]:
        raise Violation("the same seed gives other predictions: draw from the context's generators alone")


def unselected(subject: Subject, setting: Setting) -> None:
    trial = subject.trial(setting)
    before, after = tensors(trial.modified.model), tensors(trial.tuned.model)
    chosen = {name for phase in trial.phases for group in phase.groups for name in group.parameters}
    modules = {name.rpartition(".")[0] for name in chosen}
    for name, tensor in before.items():
        is_buffer = name not in dict(trial.modified.model.named_parameters())
        may_move = name.rpartition(".")[0] in modules if is_buffer else name in chosen
        if not may_move and not torch.equal(tensor, after[name]):
            raise Violation(f"{name} has changed, and no phase selects {'its module' if is_buffer else 'it'}")


def train_only(subject: Subject, setting: Setting) -> None:
    clean, poisoned = subject.trial(setting), subject.trial(setting, poisoned=True)
    if clean.prepared.state != poisoned.prepared.state:
        raise Violation("other rows in `report` change the task's state: fit on `train` alone")
    if clean.prepared.pipeline.states() != poisoned.prepared.pipeline.states():
        raise Violation("other rows in `report` change a transform's state: fit on `train` alone")
    if digest(clean.tuned.model.state_dict()) != digest(poisoned.tuned.model.state_dict()):
        raise Violation("other rows in `report` change what is trained: it was seen")


def global_state(subject: Subject) -> None:
    """Since before the plugin was imported, after all that it was tried with."""
    before, after = subject.before, process_state()
    changed = [name for name, value in before.items() if not _equal(value, after[name])]
    if changed:
        raise Violation(f"it changes {', '.join(changed)} of the whole process")


OF_LIBRARIES = ("CUBLAS_", "KMP_", "TORCHINDUCTOR_")
"""What torch and its like set in the environment when they are imported."""


def process_state() -> dict[str, Any]:
    return {
        "torch's generator": torch.get_rng_state(),
        "numpy's generator": pickle.dumps(np.random.get_state()),
        "Python's generator": random.getstate(),
        "the default dtype": torch.get_default_dtype(),
        "the number of threads": torch.get_num_threads(),
        "gradients' mode": torch.is_grad_enabled(),
        "the working directory": str(Path.cwd()),
        "the environment": {k: v for k, v in os.environ.items() if not k.startswith(OF_LIBRARIES)},
        "the import path": list(sys.path),
    }


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    return bool(one == other)


def composes(subject: Subject, setting: Setting) -> None:
    """With the plugins that come with taoke, before it and behind it."""
    named = {subject.name, *setting.content.get("plugins", [])}
    others = [
        plugin.name
        for plugin in installed().values()
        if plugin.distribution == "taoke" and plugin.name not in named
    ]
    if not others:
        raise Blocked("no other plugin is installed")
    alone = _finished(subject.trial(setting))
    for first in (True, False):
        together = _finished(subject.trial(setting, others=others, first=first))
        if together != alone:
            order = f"{'before' if first else 'behind'} {', '.join(others)}"
            raise Violation(f"listed {order}, it gives another result")


def failures(subject: Subject, setting: Setting) -> None:
    """A failure in a hook comes out with the plugin's and the hook's name; one beneath a wrapper comes out too."""
    trial = subject.trial(setting)
    epochs = trial.epochs
    own = hooks_of(trial.resolved.plugins, subject.name)
    for hook, wraps in own.items():
        if hook == "taoke_teardown":
            continue
        changes = [Change(subject.name, fails=hook)]
        if wraps:
            changes.append(Change(CORE, fails=hook))
        for change in changes:
            _fails(subject, _short(subject.resolved(setting, change=change), epochs), hook, change)


def _fails(subject: Subject, resolved: Any, hook: str, change: Change) -> None:
    folder = Path(tempfile.mkdtemp(dir=subject.scratch))
    try:
        execute(resolved, out=folder, device="cpu", quiet=True)
    except Injected as error:
        notes = "".join(getattr(error, "__notes__", ()))
        if change.plugin == subject.name and not (repr(subject.name) in notes and hook in notes):
            raise Violation(
                f"a failure in {hook} does not name the plugin and the hook: {notes!r}"
            ) from error
    except Exception as error:
        raise Violation(f"a failure in {hook} comes out as {type(error).__name__}: {error}") from error
    else:
        beneath = " beneath its wrapper" if change.plugin != subject.name else ""
        raise Violation(f"a failure in {hook}{beneath} does not come out: do not catch what is not yours")
    for record in folder.glob("*/*/events.jsonl"):
        for line in map(json.loads, record.read_text(encoding="utf-8").splitlines()):
            if line["event"] == "warning" and line["message"].startswith("teardown failed"):
                raise Violation(f"after a failure in {hook}, {line['message']}")


def observers(subject: Subject, setting: Setting) -> None:
    watching = tuple(
        h
        for h in hooks_of(subject.trial(setting).resolved.plugins, subject.name)
        if h in ("taoke_after_step", "taoke_illustrate")
    )
    if not watching:
        raise Blocked("it observes nothing")
    with_it, without = (
        _judged(subject, subject.trial(setting, change=change))
        for change in (Change(), Change(subject.name, without=watching))
    )
    if with_it != without:
        raise Violation("what observes changes what is trained: look, and leave the model alone")


def _judged(subject: Subject, trial: Trial) -> tuple[Mapping[str, Any], str]:
    """Every contender's scores, and the digest of the adapted model once all have looked at it."""
    trial.context.folder = Path(tempfile.mkdtemp(dir=subject.scratch))
    scores = trial.evidence.to_json()["contenders"]
    return scores, digest(trial.tuned.model.state_dict())
