"""A run, from recipe to shell: the only place that knows all six stages.

(The module is not called `run`, because `core.run` is the function.)
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import torch

from core.context import Context, pick_device
from core.errors import OutputError, UsageError, describe
from core.progress import Progress
from core.recipe import Resolved, dump, resolve
from core.result import Run, document
from core.stages.choose import choose
from core.stages.evaluate import evaluate
from core.stages.fine_tune import fine_tune
from core.stages.modify import modify
from core.stages.preprocess import preprocess
from core.stages.seal import seal

T = TypeVar("T")

BEFORE_TRAINING = ("", "choose", "preprocess", "modify")


def run(
    recipe: str | Path | None = None,
    *,
    out: str | Path = "runs",
    device: str = "cpu",
    plugins: Sequence[str] = (),
    plugin_files: Sequence[str | Path] = (),
    strict: bool = False,
    quiet: bool = False,
    **overrides: Any,
) -> Run:
    """Adapt a base to a task and judge the result.

    Args:
        recipe: a built-in recipe's name, a file, or None for the default.
        out: the folder under which the run's own is made, as `<out>/<recipe>/<time>-<id>`.
        device: where to compute, as torch names it: `cpu`, `cuda`, `cuda:1`.
        plugins: `NAME` adds a plugin to the recipe's, `no:NAME` leaves one out.
        plugin_files: Python files that are plugins.
        strict: an observer that fails ends the run, instead of being switched off.
        quiet: show no progress.
        overrides: changes to the recipe: `seed=1`, `fine_tune={"lr": 0.01}`, or `**{"fine_tune.lr": 0.01}`.

    Returns:
        The run: scores, differences, verdict, and where things lie.

    Raises:
        UsageError: something about the request is wrong; then nothing is left behind.
        TaokeError: the run failed; its folder keeps the record.
        Exception: whatever a plugin raised, with a note that says which plugin, hook and step.
    """
    resolved = resolve(
        recipe, overrides, plugins=plugins, plugin_files=[Path(p) for p in plugin_files], strict=strict
    )
    return execute(resolved, out=Path(out), device=device, quiet=quiet)


def execute(resolved: Resolved, *, out: Path, device: str, quiet: bool) -> Run:
    """As `run`, for a recipe that is already resolved."""
    context = Context(resolved.recipe, resolved.plugins, pick_device(device), Progress(quiet=quiet))
    with (
        _folder(out, resolved.name, context) as folder,
        _record(context, resolved, folder),
        _deterministic(),
    ):
        return _stages(context, resolved, folder)


def _stages(context: Context, resolved: Resolved, folder: Path) -> Run:
    recipe = resolved.recipe
    seconds: dict[str, float] = {}

    def stage(name: str, detail: str, call: Callable[[], T]) -> T:
        context.stage = name
        context.progress.stage(name, detail)
        context.events.emit("stage", name=name)
        began = time.perf_counter()
        value = call()
        seconds[name] = time.perf_counter() - began
        return value

    if recipe.fine_tune.loss is not None:
        context.loss = resolved.make(recipe.fine_tune.loss)
    base = stage(
        "choose",
        f"the base {recipe.base.options.get('name', recipe.base.name)}",
        lambda: choose(context, resolved),
    )
    prepared = stage(
        "preprocess", f"the data {recipe.data.name}", lambda: preprocess(context, resolved, base)
    )
    sizes = ", ".join(f"{len(split.rows)} {name}" for name, split in prepared.splits.items())
    context.progress.note(sizes)
    modified = stage("modify", "G1 = G0 + edits", lambda: modify(context, prepared))
    for edit in modified.edits:
        context.progress.note(edit.description)
    tuned = stage(
        "fine_tune",
        f"{recipe.fine_tune.epochs} epochs on {context.device}",
        lambda: fine_tune(context, modified),
    )
    evidence = stage("evaluate", "every contender on the same examples", lambda: evaluate(context, tuned))
    shell = stage(
        "seal",
        "the shell, and its parity in a fresh process",
        lambda: seal(context, resolved.name, tuned, evidence, folder),
    )
    content = document(resolved, evidence, folder, shell, seconds)
    (folder / "evidence.json").write_text(
        json.dumps({**evidence.to_json(), "seconds": seconds}, indent=1, ensure_ascii=False) + "\n",
        encoding="utf-8",
    )
    return Run(content)


@contextmanager
def _folder(out: Path, name: str, context: Context) -> Iterator[Path]:
    """The run's folder. Where the request turns out to be wrong before anything was trained, it is removed
    again, with the parents it took to make it."""
    folder = out / name / f"{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise OutputError(
            f"the run's folder {folder} cannot be made: {error.strerror}",
            "choose a folder that you may write to with --out",
        ) from error
    try:
        yield folder
    except UsageError:
        if context.stage in BEFORE_TRAINING or (context.stage == "fine_tune" and context.step == 0):
            shutil.rmtree(folder, ignore_errors=True)
            for parent in made[1:]:
                with suppress(OSError):  # another run has put its own there meanwhile
                    parent.rmdir()
        raise


@contextmanager
def _record(context: Context, resolved: Resolved, folder: Path) -> Iterator[None]:
    """The run's record: opened, told how the run ended, and closed with every plugin's teardown, whatever
    happens."""
    context.folder = folder
    (folder / "recipe.yaml").write_text(dump(resolved.recipe), encoding="utf-8")
    context.events.open(folder / "events.jsonl")
    context.events.emit(
        "start", recipe=resolved.name, plugins=context.plugins.record(), device=str(context.device)
    )

    def end(status: str, **fields: Any) -> None:
        context.events.emit("end", status=status, stage=context.stage, step=context.step, **fields)

    try:
        yield
        end("done")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            end("interrupted")
            error.add_note(
                f"interrupted in stage {context.stage}, step {context.step}; the record is in {folder}"
            )
        else:
            context.plugins.attribute(error, context=context)
            end("failed", error=describe(error))
            if not isinstance(error, UsageError):
                error.add_note(f"  the record is in {folder}")
        raise
    finally:
        context.plugins.teardown(context)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Same seed, same bits: deterministic kernels inside, and torch's global state as it was again after."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with torch.random.fork_rng():
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
