"""A run, from recipe to shell: the only place that knows all six stages.

(The module is not called `run`, because `core.run` is the function.)
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from core.context import Context, pick_device
from core.errors import OutputError, UsageError, describe
from core.progress import Progress
from core.recipe import Resolved, brief, dump, resolve
from core.result import Run
from core.seeds import deterministic
from core.shell.write import write_json
from core.stages.choose import choose
from core.stages.evaluate import evaluate
from core.stages.fine_tune import fine_tune
from core.stages.modify import modify
from core.stages.preprocess import preprocess
from core.stages.seal import seal

T = TypeVar("T")


def run(
    recipe: str | Path | None = None,
    *,
    out: str | Path = "runs",
    device: str = "cpu",
    plugins: Sequence[str] = (),
    plugin_files: Sequence[str | Path] = (),
    strict: bool = False,
    quiet: bool = False,
    workers: int | None = None,
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
        workers: processes that make batches ahead of time, of streamed or augmented data; they change no bit.
            None: one where data is augmented.
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
    return execute(resolved, out=Path(out), device=device, quiet=quiet, workers=workers)


def execute(resolved: Resolved, *, out: Path, device: str, quiet: bool, workers: int | None = None) -> Run:
    """As `run`, for a recipe that is already resolved."""
    context = Context(resolved, pick_device(device), Progress(quiet=quiet), workers=workers)
    with (
        _folder(out, context) as folder,
        _record(context, folder),
        context.hearing(),
        deterministic(),
    ):
        return _stages(context, folder)


def _stages(context: Context, folder: Path) -> Run:
    recipe = context.recipe
    seconds: dict[str, float] = {}

    def stage(name: str, detail: str, call: Callable[[], T]) -> T:
        context.stage = name
        context.progress.stage(name, detail)
        context.events.emit("stage", name=name)
        began = time.perf_counter()
        value = call()
        seconds[name] = time.perf_counter() - began
        return value

    if context.choices:
        context.progress.stage("complete", "what the recipe leaves to choose")
        for choice in context.choices:
            context.progress.note(f"{choice.key}: {brief(choice.value)} ({choice.why})")
            context.events.emit("chosen", key=choice.key, value=choice.value, why=choice.why)
    named = recipe.base.options.get("name", recipe.base.name)
    base = stage("choose", f"the base {named}", lambda: choose(context))
    prepared = stage("preprocess", f"the data {recipe.data.name}", lambda: preprocess(context, base))
    context.progress.note(", ".join(f"{len(split.rows)} {name}" for name, split in prepared.splits.items()))
    modified = stage("modify", "G1 = G0 + edits", lambda: modify(context, prepared))
    for edit in modified.edits:
        context.progress.note(edit.description)
    training = f"{recipe.fine_tune.epochs} epochs on {context.device}"
    tuned = stage("fine_tune", training, lambda: fine_tune(context, modified))
    evidence = stage("evaluate", "every contender on the same examples", lambda: evaluate(context, tuned))
    sealing = "the shell, and its parity in a fresh process"
    shell = stage("seal", sealing, lambda: seal(context, tuned, evidence, folder))
    document = {
        "recipe": context.name,
        "domain": recipe.task.name.partition(".")[0],
        "seed": recipe.seed,
        **evidence.to_json(),
        "gate": recipe.gate is not None,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }
    write_json(folder / "evidence.json", document)
    return Run({**document, "run": str(folder), "shell": str(shell)})


def _nothing_trained(context: Context) -> bool:
    """An error out of the first step, such as a loss that does not fit, comes before the first update."""
    return context.stage in ("", "choose", "preprocess", "modify", "fine_tune") and context.step <= 1


@contextmanager
def _folder(out: Path, context: Context) -> Iterator[Path]:
    """The run's folder. Where the request turns out to be wrong before anything was trained, it is removed
    again, with the parents it took to make it."""
    folder = out / context.name / f"{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text(dump(context.recipe), encoding="utf-8")
        context.events.open(folder / "events.jsonl")
        yield folder
    except UsageError:
        if _nothing_trained(context):
            _remove(made)
        raise
    except OSError as error:
        if context.stage:
            raise
        _remove(made)
        raise OutputError(
            f"the run's folder {folder} cannot be made: {error.strerror}",
            "choose a folder that you may write to with --out",
        ) from error


def _remove(made: Sequence[Path]) -> None:
    """The run's folder, and of its parents those that no other run has put anything into meanwhile."""
    shutil.rmtree(made[0], ignore_errors=True)
    for parent in made[1:]:
        with suppress(OSError):
            parent.rmdir()


@contextmanager
def _record(context: Context, folder: Path) -> Iterator[None]:
    """The run's record: how it began, how it ended, and every plugin's teardown, whatever happens."""
    context.folder = folder
    context.events.emit(
        "start", recipe=context.name, plugins=context.plugins.record(), device=str(context.device)
    )

    def end(status: str, **fields: Any) -> None:
        context.ended = status
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
            if not (isinstance(error, UsageError) and _nothing_trained(context)):
                error.add_note(f"  the record is in {folder}")
        raise
    finally:
        context.plugins.teardown(context)
