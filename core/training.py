"""The core's fine-tuning loop: phases, groups, schedule, batches, and one hook call a step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from core.context import Context, Gradient
from core.contract import SCRATCH, SELECT, TRAIN, Phase, Split, StepResult, Task
from core.data.rows import is_streamed
from core.errors import ContractError, RecipeError, TrainingError
from core.evidence.scores import metric_named, score
from core.inference import complete, example_lengths, to_device, without_inputs
from core.loading import beside, made
from core.seeds import derive_seed, generator, seed_torch


def train(context: Context, task: Task, model: nn.Module, splits: Mapping[str, Split]) -> nn.Module:
    """Move `model` from θ0' to θ1 on `splits["train"]`; `splits["select"]` chooses the epoch where the recipe
    keeps the best.

    Raises `TrainingError` where the loss of an epoch is not finite, `RecipeError` where a phase is left without
    epochs.
    """
    for _ in iterate(context, task, model, splits):
        pass
    return model.requires_grad_(False).eval()


def iterate(
    context: Context, task: Task, model: nn.Module, splits: Mapping[str, Split]
) -> Iterator[StepResult]:
    """As `train`, one step at a time; `model` holds θ1 once the iterator is exhausted."""
    settings = context.recipe.fine_tune
    phases = list(context.plugins.hook.taoke_select_parameters(context=context, model=model))
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    lengths = phase_epochs(phases, settings.epochs)
    per_epoch = math.ceil(len(splits[TRAIN].examples) / settings.batch_size)
    context.step, context.steps = 0, per_epoch * sum(lengths)
    best = _Best(context, task, splits) if settings.keep == "best" else None
    call_step = context.plugins.caller("taoke_step", step)
    call_after_step = context.plugins.caller("taoke_after_step", observe)
    learn = getattr(context.loss, "fit", None)
    if learn is not None:
        learn(splits[TRAIN])
    of_length = example_lengths(task, splits[TRAIN].examples)
    began, waited = time.perf_counter(), 0.0
    done = 0
    for phase, epochs in zip(phases, lengths, strict=True):
        unfreeze(model, phase)
        updater = context.plugins.hook.taoke_build_updater(
            context=context, groups=_groups(context, phase, model, start)
        )
        rates = [group["lr"] for group in updater.param_groups]
        first, steps = context.step, epochs * per_epoch
        factors = [schedule(settings.schedule, settings.warmup, i, steps) for i in range(steps)]
        for epoch in range(done, done + epochs):
            seed_torch(context.device, derive_seed(context.seed, "model", epoch))
            batches = _batches(context, task, splits[TRAIN], epoch, of_length)
            asked = time.perf_counter()
            for batch in batches:
                waited += time.perf_counter() - asked
                factor = factors[context.step - first]
                for group, rate in zip(updater.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
                context.lr = settings.lr * factor
                context.step += 1
                result: StepResult = call_step(
                    context=context, task=task, model=model, updater=updater, batch=batch
                )
                context.gradient = _gradient(updater)
                call_after_step(context=context, result=result)
                yield result
                asked = time.perf_counter()
            _refuse_lost(context, result)
            if best is not None:
                with _averaged(updater):
                    best.look(model, epoch)
        done += epochs
        skipped = getattr(updater, "skipped_steps", 0)
        if skipped:
            context.warn(
                f"{context.contender}: {skipped} of {steps} steps were left out: a gradient was not finite"
            )
        with _averaged(updater):
            settled = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(settled)
    context.events.emit(
        "trained",
        contender=context.contender,
        took=round(time.perf_counter() - began, 3),
        waited=round(waited, 3),
    )
    if best is not None:
        best.restore(model)


def _refuse_lost(context: Context, result: StepResult) -> None:
    """Once an epoch, since reading a loss waits for the device."""
    loss = float(result.loss)
    if not math.isfinite(loss):
        raise TrainingError(
            f"{context.contender}: the loss is {loss} at step {context.step} of {context.steps}",
            "lower fine_tune.lr, or set fine_tune.updater.max_grad_norm",
        )


def step(
    context: Context, task: Task, model: nn.Module, updater: torch.optim.Optimizer, batch: Any
) -> StepResult:
    """Forward, loss, backward, update: the core's answer to `taoke_step`."""
    answer = (context.loss or task.loss)(task.forward(model, batch), batch)
    if not (isinstance(answer, tuple) and len(answer) == 2):
        raise ContractError(
            f"the loss returned {answer!r}", "return (sum, weight): a scalar tensor and a number"
        )
    total, weight = answer
    loss = total / weight
    loss.backward()  # type: ignore[no-untyped-call]
    updater.step()
    updater.zero_grad()
    return StepResult(loss.detach(), weight)


def observe(context: Context, result: StepResult) -> None:
    """The record and the progress: the core's answer to `taoke_after_step`."""
    context.events.step(context.contender, context.step, result.loss, context.lr, context.gradient)
    context.progress.step(context, result)


def _gradient(updater: torch.optim.Optimizer) -> Gradient | None:
    """None where the updater does not say, or formed no norm."""
    norm = getattr(updater, "grad_norm", None)
    if norm is None:
        return None
    return Gradient(norm, getattr(updater, "clip_factor", 1.0))


def schedule(name: str, warmup: float, step: int, steps: int) -> float:
    """What lr is multiplied with at `step` of a phase of `steps`: a linear rise over the part `warmup`, then
    constant, or a fall to zero that is linear, or half a cosine (https://arxiv.org/abs/1608.03983,
    without restarts)."""
    rise = warmup * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    if name == "constant":
        return 1.0
    passed = (step - rise) / max(1.0, steps - rise)
    return 1 - passed if name == "linear" else 0.5 * (1 + math.cos(math.pi * passed))


def phase_epochs(phases: Sequence[Phase], epochs: int) -> list[int]:
    """How many epochs each phase gets. Raises `RecipeError` where one is left with none."""
    fixed = sum(phase.epochs or 0 for phase in phases)
    open_phases = sum(phase.epochs is None for phase in phases)
    if open_phases > 1:
        raise RecipeError(
            "fine_tune.strategy: more than one phase takes all epochs that are left",
            hint="give all but one a length",
        )
    lengths = [epochs - fixed if phase.epochs is None else phase.epochs for phase in phases]
    if any(length < 1 for length in lengths):
        raise RecipeError(
            f"fine_tune.epochs is {epochs}, and the strategy's phases take {fixed}: one is left with none",
            hint=f"set fine_tune.epochs to more than {fixed}",
        )
    return lengths


def unfreeze(model: nn.Module, phase: Phase) -> None:
    """Let exactly the phase's parameters move, and put modules of which none is selected into eval mode:
    their buffers (running statistics) stay as they are. Raises `TrainingError` for a parameter the model
    does not have, or one in two groups."""
    names = [name for group in phase.groups for name in group.parameters]
    known = dict(model.named_parameters())
    wrong = sorted({n for n in names if n not in known} | {n for n in names if names.count(n) > 1})
    if wrong or not names:
        what = (
            f"parameters that the model does not have, or twice: {', '.join(wrong)}"
            if wrong
            else "no parameter"
        )
        raise TrainingError(
            f"a phase selects {what}", "this is a mistake in the strategy or plugin that selects them"
        )
    chosen = set(names)
    for name, parameter in known.items():
        parameter.requires_grad_(name in chosen)
    _set_modes(model, training=True, whole=True)


def _set_modes(module: nn.Module, *, training: bool, whole: bool) -> None:
    """A module without parameters goes with its parent: dropout where any of the parent's move, one with
    buffers (running statistics) only where all of them do."""
    own = list(module.parameters())
    if own:
        training, whole = any(p.requires_grad for p in own), all(p.requires_grad for p in own)
    elif next(module.buffers(), None) is not None:
        training = whole
    module.training = training
    for child in module.children():
        _set_modes(child, training=training, whole=whole)


def _groups(
    context: Context, phase: Phase, model: nn.Module, start: Mapping[str, Tensor]
) -> list[dict[str, Any]]:
    parameters = dict(model.named_parameters())
    groups = []
    for group in phase.groups:
        made: dict[str, Any] = {
            "params": [parameters[name] for name in group.parameters],
            "lr": context.recipe.fine_tune.lr * group.lr,
        }
        if context.contender != SCRATCH:  # a pull towards random weights would only handicap it
            made["anchor_to"] = [start[name] for name in group.parameters]
        groups.append(made)
    return groups


def _batches(
    context: Context, task: Task, split: Split, epoch: int, of_length: Tensor | None
) -> Iterator[Any]:
    seed, size, elsewhere = context.seed, context.recipe.fine_tune.batch_size, context.device.type != "cpu"
    augment, ready = split.augment, split.examples
    order = shuffled(len(ready), size, of_length, generator(seed, "order", epoch))

    def batch(number: int) -> Any:
        i = number * size
        chosen = order[i : i + size].tolist()
        examples = [augment(j, epoch) for j in chosen] if augment else [ready[j] for j in chosen]
        return task.collate(examples, generator(seed, "collate", epoch, i))

    chosen = context.workers if augment or is_streamed(ready) else 0
    workers = beside(chosen, augmented=len(ready) if augment else 0)
    for made_batch in made(batch, math.ceil(len(ready) / size), workers):
        yield to_device(made_batch, context.device) if elsewhere else made_batch


POOL = 50
"""Batches that are sorted by length at a time: enough that one's examples are of about one length, few enough that
chance still decides who meets whom."""


def shuffled(count: int, size: int, of_length: Tensor | None, rng: torch.Generator) -> Tensor:
    """(count,) the order of an epoch, to be cut into batches of `size`. With lengths, (count,), each pool of `POOL`
    batches is sorted by them, and the batches, but for the last, which may be smaller, are shuffled once more."""
    order = torch.randperm(count, generator=rng)
    if of_length is None:
        return order
    pools = [pool[of_length[pool].argsort(stable=True)] for pool in torch.split(order, POOL * size)]
    batches = torch.split(torch.cat(pools), size)
    places = torch.randperm(len(batches) - 1, generator=rng).tolist()
    return torch.cat([*(batches[place] for place in places), batches[-1]])


def _averaged(updater: torch.optim.Optimizer) -> AbstractContextManager[None]:
    averaged: Callable[[], AbstractContextManager[None]] = getattr(updater, "averaged", nullcontext)
    return averaged()


class _Best:
    """The weights of the epoch that scores best on `select`; of equal ones the first."""

    def __init__(self, context: Context, task: Task, splits: Mapping[str, Split]) -> None:
        self._context, self._task, self._split = context, task, splits[SELECT]
        self._rows = without_inputs(self._split.rows)
        self._metric = metric_named(task, context.recipe.evaluate.primary)
        self._score = -math.inf
        self._weights: dict[str, Tensor] = {}

    def look(self, model: nn.Module, epoch: int) -> None:
        context = self._context
        modes = [(module, module.training) for module in model.modules()]
        predictions = context.plugins.hook.taoke_evaluate(
            context=context, task=self._task, model=model.eval(), split=self._split
        )
        for module, mode in modes:
            module.training = mode
        value = score(self._metric, complete(predictions, self._rows, context.contender))
        context.events.emit(
            "select", contender=context.contender, epoch=epoch + 1, metric=self._metric.name, value=value
        )
        signed = value if self._metric.higher_is_better else -value
        if signed > self._score:
            self._score = signed
            self._weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def restore(self, model: nn.Module) -> None:
        model.load_state_dict(self._weights)
