"""Checks of the parts that a recipe puts together, each by itself: data, base, the task's methods, edits, updaters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from core.bases import digest
from core.contract import REPORT, SPLITS, TRAIN, Base, Row
from core.edits import replay
from core.errors import TaokeError
from core.evidence.scores import breakdown, metric_named, score
from core.inference import complete, predict
from core.rows import content_digest, data_digest, identify
from core.stages.evaluate import _refuse_name
from core.testing.static import Violation
from core.testing.trial import BATCH, Trial, tensors
from core.training import unfreeze


def data(trial: Trial) -> None:
    rows = trial.raw
    wrong = sorted(set(rows) - set(SPLITS))
    if wrong:
        raise Violation(f"the dataset makes the split {wrong[0]!r}; splits are {', '.join(SPLITS)}")
    for name, split in rows.items():
        if not all(isinstance(row, Row) for row in split):
            raise Violation(f"the split {name!r} holds what is no core.contract.Row")
    again = trial.context.make(trial.context.recipe.data).rows()
    for name, split in rows.items():
        if data_digest(identify(split)) != data_digest(identify(again[name])):
            raise Violation(f"asked again, the dataset gives other rows in {name!r}")


def base(trial: Trial) -> None:
    found = trial.base
    if not isinstance(found, Base):
        raise Violation(f"load gives a {type(found).__name__}: give a core.contract.Base")
    if found.digest not in _digests(found.model):
        raise Violation("its digest is not that of its tensors: use core.bases.digest")
    if not (found.licence.strip() and found.origin.strip()):
        raise Violation("it does not say its licence or its origin")
    again: Base = trial.context.make(trial.context.recipe.base).load()
    if again.digest != found.digest:
        raise Violation("loaded again, it is another model")
    if found.fresh is not None and _shapes(found.fresh()) != _shapes(found.model):
        raise Violation("`fresh` makes a model of another structure")


def _digests(model: nn.Module) -> Iterator[str]:
    """Of the model's tensors, as they are and as a file may have stored them: without counters of batches, which files
    from before torch 0.4.1 lack, and in half precision."""
    whole = model.state_dict()
    some = {name: tensor for name, tensor in whole.items() if not name.endswith("num_batches_tracked")}
    for stored in (whole, some):
        yield digest(stored)
        for dtype in (torch.float16, torch.bfloat16):
            yield digest({n: t.to(dtype) if t.is_floating_point() else t for n, t in stored.items()})


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def transforms(trial: Trial) -> None:
    rows = list(identify(trial.raw[TRAIN])[:4])
    for step in trial.prepared.pipeline.steps:
        before = [content_digest(row.inputs) for row in rows]
        one, other, another = (_applied(step, rows, seed) for seed in (0, 0, 1))
        if [content_digest(row.inputs) for row in rows] != before:
            raise Violation(
                f"the transform {step.name} changes the row it is given: make a new one (`row.with_inputs`)"
            )
        if not all(isinstance(row, Row) for row in one):
            raise Violation(f"the transform {step.name} gives what is no Row")
        digests = [[content_digest(row.inputs) for row in made] for made in (one, other, another)]
        if digests[0] != digests[1]:
            raise Violation(f"the transform {step.name} gives another row for the same row and generator")
        if not step.transform.random and digests[0] != digests[2]:
            raise Violation(f"the transform {step.name} draws, and does not say that it is random")
        rows = one


def _applied(step: Any, rows: Sequence[Row], seed: int) -> list[Row]:
    rng = torch.Generator().manual_seed(seed)
    return [step.transform.apply(row, deepcopy(step.state), rng) for row in rows]


def state(trial: Trial) -> None:
    task, rows = trial.prepared.task, trial.prepared.splits[TRAIN].rows
    brought = trial.base.preprocessing.get("task", {})
    kept, before = deepcopy(dict(brought)), data_digest(rows)
    one, other = task.fit(rows, brought), task.fit(rows, brought)
    if one != other:
        raise Violation("fit learns something else from the same rows")
    if brought != kept or data_digest(rows) != before:
        raise Violation("fit changes what it is given")
    try:
        back = json.loads(json.dumps(one))
    except (TypeError, ValueError) as error:
        raise Violation(f"what fit learns is no JSON: {error}") from error
    if back != one:
        raise Violation("what fit learns is another after JSON: tuples become lists there, and keys text")


def edits(trial: Trial) -> None:
    applied, components = trial.modified.edits, trial.context.plugins.components
    model = deepcopy(trial.base.model)
    for edit in applied:
        if not edit.description.strip() or "\n" in edit.description:
            raise Violation(f"{edit.spec}: describe gives no line of text")
        made = components.make(_use(edit.spec))
        before, structure = digest(model.state_dict()), _shapes(model)
        made.validate(model)
        if digest(model.state_dict()) != before or _shapes(model) != structure:
            raise Violation(f"{edit.spec}: validate changes the model")
        outputs = _outputs(trial, model) if edit.preserves else None
        model, _ = replay(components, model, [edit.spec])
        if (
            outputs is not None
            and (after := _outputs(trial, model)) is not None
            and not _same(outputs, after)
        ):
            raise Violation(
                f"{edit.spec}: it says that it preserves the function, and the outputs are others"
            )
    again, _ = replay(components, deepcopy(trial.base.model), [edit.spec for edit in applied])
    if digest(again.state_dict()) != digest(trial.modified.model.state_dict()):
        raise Violation(
            "the edits, replayed on the base, give another model: an edit draws from its own options alone"
        )


def _use(spec: Mapping[str, Any]) -> Any:
    from core.components import Use

    return Use.read("edit", spec)


def _outputs(trial: Trial, model: nn.Module) -> Any:
    """On a batch as the new task encodes it, or, where the model cannot read that yet, as the base does."""
    task = trial.prepared.task
    for batch in (trial.batch(), trial.batch_for_base()):
        try:
            with torch.no_grad():
                return task.forward(model.eval(), batch)
        except (RuntimeError, IndexError, ValueError):
            continue
    return None


def _same(one: Any, other: Any) -> bool:
    """Equal to the bit, as far as both have outputs: a grown axis adds some."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.dim() != other.dim():
            return False
        shared = tuple(slice(0, min(a, b)) for a, b in zip(one.shape, other.shape, strict=True))
        return torch.equal(one[shared], other[shared])
    if isinstance(one, Mapping):
        return all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return all(map(_same, one, other))
    return bool(one == other)


def batches(trial: Trial) -> None:
    prepared = trial.prepared
    task, rows = prepared.task, list(prepared.splits[TRAIN].rows[:4])
    before = [content_digest(row.inputs) for row in rows]
    examples = [task.encode(row, prepared.state) for row in rows]
    if [content_digest(row.inputs) for row in rows] != before:
        raise Violation("encode changes the row it is given")
    one, other = (task.collate(examples, torch.Generator().manual_seed(0)) for _ in range(2))
    stray = _no_batch(one)
    if stray:
        raise Violation(f"a batch holds a {stray}: use tensors, and dicts, lists and tuples of them")
    if not _same(one, other):
        raise Violation("collate makes another batch of the same examples and generator")


def _no_batch(value: Any) -> str:
    """The type of what cannot be moved to a device; '' where all can."""
    if isinstance(value, Tensor):
        return ""
    if isinstance(value, Mapping):
        return next(filter(None, map(_no_batch, value.values())), "")
    if isinstance(value, list | tuple):
        return next(filter(None, map(_no_batch, value)), "")
    return type(value).__name__


def losses(trial: Trial) -> None:
    context, task = trial.context, trial.prepared.task
    model = deepcopy(trial.modified.model).eval()
    unfreeze(model, trial.phases[-1])
    learn = getattr(context.loss, "fit", None)
    if learn is not None:
        learn(trial.prepared.splits[TRAIN])
    batch = trial.batch()
    answer = (context.loss or task.loss)(task.forward(model, batch), batch)
    if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], Tensor)):
        raise Violation(f"the loss gives {answer!r}: give (sum, weight), a tensor and a number")
    total, weight = answer
    if total.dim():
        raise Violation(
            f"the loss has the shape {tuple(total.shape)}: sum it up, and give what to divide it by as weight"
        )
    if not (bool(total.isfinite()) and float(weight) > 0):
        raise Violation(f"the loss is {float(total)} with the weight {float(weight)}")
    if not total.requires_grad:
        raise Violation("the loss has no gradient: it was cut off (detach, item, no_grad)")
    total.backward()  # type: ignore[no-untyped-call]
    if not any(p.grad is not None and bool(p.grad.abs().sum()) for p in model.parameters()):
        raise Violation("the loss' gradient reaches none of the parameters that may move")


def predictions(trial: Trial) -> None:
    prepared, model = trial.prepared, trial.modified.model
    split, before = prepared.splits[REPORT], digest(model.state_dict())
    found = list(predict(prepared.task, model.eval(), split, torch.device("cpu"), BATCH))
    if len(found) != len(split.rows):
        raise Violation(f"predict gives {len(found)} answers for {len(split.rows)} examples")
    for one in found:
        if not isinstance(one, Mapping):
            raise Violation(f"predict gives {one!r}: give one JSON object an example")
        try:
            json.dumps(one, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise Violation(f"what predict gives is no JSON: {error}") from error
    if digest(model.state_dict()) != before or model.training:
        raise Violation("predict changes the model, or its mode")
    again = list(predict(prepared.task, model, split, torch.device("cpu"), BATCH))
    if again != found:
        raise Violation("predict answers the same examples differently")


def parsing(trial: Trial) -> None:
    prepared = trial.prepared
    for nonsense in ("\x01 neither this nor that", "", "@/nowhere/to/be/found"):
        try:
            rows = list(prepared.task.parse([nonsense], prepared.state))
        except TaokeError:
            continue
        except Exception as error:
            raise Violation(
                f"parse({nonsense!r}) raises {type(error).__name__}: raise core.errors.DataError"
            ) from error
        if len(rows) != 1 or not isinstance(rows[0], Row) or rows[0].target is not None:
            raise Violation(f"parse({nonsense!r}) gives {rows!r}: give a Row without a target for each input")


def metrics(trial: Trial) -> None:
    task, split = trial.prepared.task, trial.prepared.splits[REPORT]
    found = list(task.metrics())
    for metric in found:
        if not (metric.name and isinstance(metric.unit, str) and isinstance(metric.higher_is_better, bool)):
            raise Violation(f"a metric lacks its name, its unit, or whether higher is better: {metric!r}")
    metric_named(task, found[0].name)
    answers = predict(task, trial.modified.model.eval(), split, torch.device("cpu"), BATCH)
    completed = complete(answers, split.rows, "adapted")
    for metric in found:
        value = score(metric, completed)
        if value != score(metric, deepcopy(completed)):
            raise Violation(f"the metric {metric.name} scores the same predictions differently")
        twice = score(metric, [*completed, *completed]) if not hasattr(metric, "corpus") else value
        if abs(twice - value) > 1e-9 * max(1.0, abs(value)):
            raise Violation(
                f"the metric {metric.name}: rows counted twice change the score: the denominator does not count rows"
            )
        breakdown(metric, completed)


def trivial(trial: Trial) -> None:
    prepared = trial.prepared
    fitted_on = {name: prepared.for_base(name) for name in (TRAIN, "select")}
    names: list[str] = ["base", "adapted", "scratch"]
    rows = prepared.splits[REPORT].rows
    hidden = [Row(row.inputs, None, row.group, row.id) for row in rows]
    for contender in prepared.task.trivial(prepared.base, fitted_on):
        try:
            _refuse_name(contender.name, names)
            answers = complete(contender.predict(rows), rows, contender.name)
        except TaokeError as error:
            raise Violation(str(error)) from error
        names.append(contender.name)
        for metric in prepared.task.metrics():
            score(metric, answers)
        blind = complete(contender.predict(hidden), rows, contender.name)
        # A row may say more where there is a target: at which place of a ranking it stands.
        if any(
            seen.get(key) != value
            for seen, row in zip(answers, blind, strict=True)
            for key, value in row.items()
        ):
            raise Violation(
                f"the contender {contender.name} looks at the targets of the rows that it predicts"
            )


def phases(trial: Trial) -> None:
    model = deepcopy(trial.modified.model)
    known = dict(model.named_parameters())
    for phase in trial.phases:
        names = [name for group in phase.groups for name in group.parameters]
        wrong = sorted({name for name in names if name not in known or names.count(name) > 1})
        if wrong or not names:
            raise Violation(f"a phase selects {wrong or 'nothing'}: parameters of the model, each once")
        if phase.epochs is not None and phase.epochs < 1:
            raise Violation(f"a phase takes {phase.epochs} epochs")


def updaters(trial: Trial) -> None:
    """An updater whose state is saved and loaded goes on as if it had not been interrupted."""
    whole = _updated(trial, None)
    parts = _updated(trial, 3)
    if any(not torch.equal(tensor, parts[name]) for name, tensor in whole.items()):
        raise Violation(
            "saved after three steps and loaded again, it does not go on as without: state_dict lacks something"
        )


def _updated(trial: Trial, stop: int | None) -> dict[str, Tensor]:
    """The weights after six steps, with the updater made anew after `stop` of them."""
    model = deepcopy(trial.modified.model)
    unfreeze(model, trial.phases[-1])
    updater = _built(trial, model)
    for step in range(6):
        if step == stop:
            saved = deepcopy(updater.state_dict())
            updater = _built(trial, model)
            updater.load_state_dict(saved)
        rng = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.randn(parameter.shape, generator=rng, dtype=parameter.dtype)
        updater.step()
        updater.zero_grad()
    return tensors(model)


def _built(trial: Trial, model: nn.Module) -> torch.optim.Optimizer:
    named = dict(model.named_parameters())
    groups = [
        {"params": [named[name] for name in group.parameters], "lr": 0.01 * group.lr}
        for group in trial.phases[-1].groups
    ]
    before = digest(model.state_dict())
    built = trial.context.plugins.hook.taoke_build_updater(context=trial.context, groups=groups)
    if not isinstance(built, torch.optim.Optimizer):
        raise Violation(f"build gives a {type(built).__name__}: give a torch.optim.Optimizer")
    if digest(model.state_dict()) != before:
        raise Violation("building the updater changes the weights")
    return built
