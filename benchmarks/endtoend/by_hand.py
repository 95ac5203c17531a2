"""The fine-tuning loop a person would write for one recipe: no hooks, no events, no progress, no plugins.

It computes what the core's loop computes, with the same model, data, batch order, augmentation and optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from benchmarks.endtoend.setting import Setting
from core.optim import AdamW
from core.seeds import derive_seed


def fine_tune(setting: Setting, model: nn.Module) -> nn.Module:
    """`model` from θ0' to θ1, in place."""
    recipe, task, seed = setting.recipe.fine_tune, setting.task, setting.recipe.seed
    options = dict(recipe.updater.options)
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    epoch = 0
    for names, epochs in setting.phases:
        chosen = dict(model.named_parameters())
        for name, parameter in chosen.items():
            parameter.requires_grad_(name in names)
        for module in model.modules():
            own = list(module.parameters())
            module.training = any(p.requires_grad for p in own) if own else True
        optimizer = AdamW(
            [{"params": [chosen[name] for name in names], "anchor_to": [start[name] for name in names]}],
            lr=recipe.lr,
            **options,
        )
        per_epoch = math.ceil(len(setting.rows) / recipe.batch_size)
        steps, step = epochs * per_epoch, 0
        rise = recipe.warmup * steps
        for _ in range(epochs):
            torch.default_generator.manual_seed(derive_seed(seed, "model", epoch))
            order = torch.randperm(
                len(setting.rows), generator=torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
            ).tolist()
            for i in range(0, len(order), recipe.batch_size):
                examples = _examples(setting, order[i : i + recipe.batch_size], epoch)
                rng = torch.Generator().manual_seed(derive_seed(seed, "collate", epoch, i))
                batch = task.collate(examples, rng)
                if step < rise:
                    factor = (step + 1) / (rise + 1)
                else:
                    passed = (step - rise) / max(1.0, steps - rise)
                    cosine = 0.5 * (1 + math.cos(math.pi * passed))
                    factor = {"constant": 1.0, "linear": 1 - passed, "cosine": cosine}[recipe.schedule]
                optimizer.param_groups[0]["lr"] = recipe.lr * factor
                total, weight = (setting.context.loss or task.loss)(task.forward(model, batch), batch)
                (total / weight).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad()
                step += 1
            epoch += 1
        with optimizer.averaged():
            averaged = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(averaged)
    return model


def _examples(setting: Setting, chosen: Sequence[int], epoch: int) -> list[Any]:
    if not setting.augments:
        return [setting.examples[j] for j in chosen]
    rng = torch.Generator()
    examples = []
    for j in chosen:
        row = setting.rows[j]
        rng.manual_seed(derive_seed(setting.recipe.seed, "augment", epoch, row.id))
        for transform, state in setting.transforms:
            row = transform.apply(row, state, rng)
        examples.append(setting.task.encode(row, setting.state))
    return examples
