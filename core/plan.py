"""What would happen, without letting it happen: the dry run behind `plan`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from core.contract import TRAIN
from core.loader import installed
from core.recipe import brief, resolve

if TYPE_CHECKING:
    from torch import nn

    from core.context import Context
    from core.contract import Split, Task

MEASURED_STEPS = 5


def plan(
    recipe: str | Path | None,
    overrides: Mapping[str, Any],
    *,
    device: str = "cpu",
    plugins: Sequence[str] = (),
    plugin_files: Sequence[Path] = (),
) -> dict[str, Any]:
    """Resolve a recipe, load its base and data, apply its edits to a copy, and time a few steps; nothing is
    written.

    Returns the resolved recipe, the plugins that answer each hook, parameter counts, bytes, and an
    estimate of the seconds that fine-tuning takes.
    """
    resolved = resolve(recipe, overrides, plugins=plugins, plugin_files=plugin_files)

    from core.context import Context, pick_device
    from core.progress import Progress
    from core.seeds import deterministic
    from core.stages.choose import choose
    from core.stages.modify import modify
    from core.stages.preprocess import preprocess
    from core.training import phase_epochs

    context = Context(resolved, pick_device(device), Progress(quiet=True))
    settings = resolved.recipe.fine_tune
    try:
        with resolved.plugins.attributing(context), context.hearing(), deterministic():
            prepared = preprocess(context, choose(context))
            modified = modify(context, prepared)
            model = deepcopy(modified.model).to(context.device)
            phases = list(resolved.plugins.hook.taoke_select_parameters(context=context, model=model))
            epochs = phase_epochs(phases, settings.epochs)
            sizes = {
                name: parameter.numel() * parameter.element_size()
                for name, parameter in model.named_parameters()
            }
            counts = {name: parameter.numel() for name, parameter in model.named_parameters()}
            moving = [[name for group in phase.groups for name in group.parameters] for phase in phases]
            steps = -(-len(prepared.splits[TRAIN].examples) // settings.batch_size) * sum(epochs)
            seconds = _seconds_a_step(context, prepared.task, model, prepared.for_training())
    finally:
        resolved.plugins.teardown(context)
    moving_bytes = max(sum(sizes[name] for name in names) for names in moving)
    return {
        "recipe": resolved.name,
        "resolved": resolved.recipe.to_json(),
        "chosen": [{"key": c.key, "value": c.value, "why": c.why} for c in resolved.choices],
        "plugins": [
            {
                "name": plugin.name,
                "version": plugin.version,
                "file": str(plugin.file),
                "shadows": _installed_as(plugin.name) if plugin.from_file else None,
            }
            for plugin in resolved.plugins.active
        ],
        "hooks": {name: calls.to_json() for name, calls in resolved.plugins.hooks().items()},
        "examples": {name: len(split.rows) for name, split in prepared.splits.items()},
        "edits": [edit.description for edit in modified.edits],
        "parameters": {
            "base": sum(parameter.numel() for parameter in prepared.base.model.parameters()),
            "adapted": sum(counts.values()),
            "moving": [sum(counts[name] for name in names) for names in moving],
        },
        "epochs": epochs,
        "steps": steps,
        "bytes": {
            "weights": sum(sizes.values()),
            "gradients": moving_bytes,
            "moments": 2 * moving_bytes,
            "start": sum(sizes.values()),
        },
        "seconds": {"step": seconds, "fine_tune": seconds * steps},
    }


def _installed_as(name: str) -> str | None:
    """The installed plugin of that name, in place of which a file is loaded."""
    plugin = installed().get(name)
    return None if plugin is None else f"{plugin.distribution} {plugin.version}"


def _seconds_a_step(context: Context, task: Task, model: nn.Module, splits: Mapping[str, Split]) -> float:
    """The median over a few steps of the real loop, on a copy of the model; the first is left out."""
    from core.training import iterate

    clocks = [time.perf_counter() for _ in islice(iterate(context, task, model, splits), MEASURED_STEPS + 1)]
    return median(later - earlier for earlier, later in pairwise(clocks)) if len(clocks) > 1 else 0.0


def render(console: Console, planned: Mapping[str, Any]) -> None:
    """The plan for a person."""
    import yaml

    console.print(
        yaml.safe_dump(planned["resolved"], sort_keys=False, allow_unicode=True, width=100), markup=False
    )
    for choice in planned["chosen"]:
        console.print(f"chosen      {choice['key']}: {brief(choice['value'])} ({choice['why']})")
    for plugin in planned["plugins"]:
        shadows = f", in place of the installed {plugin['shadows']}" if plugin["shadows"] else ""
        console.print(f"plugin      {plugin['name']} {plugin['version']} ({plugin['file']}){shadows}")
    table = Table("hook", "kind", "wrapped by", "answered by, or called in this order", "shadowed")
    for hook, calls in planned["hooks"].items():
        table.add_row(
            hook, calls["kind"], *(", ".join(calls[key]) for key in ("wrapped_by", "called", "shadowed"))
        )
    console.print(table)
    counts, clock = planned["parameters"], planned["seconds"]
    moved = ", then ".join(f"{count:,}" for count in counts["moving"])
    size = sum(planned["bytes"].values())
    for label, text in (
        ("examples", ", ".join(f"{count} {name}" for name, count in planned["examples"].items())),
        ("edits", "; ".join(planned["edits"]) or "none"),
        ("parameters", f"{counts['base']:,} in the base, {counts['adapted']:,} adapted; moving {moved}"),
        ("steps", f"{planned['steps']:,} (epochs a phase: {', '.join(map(str, planned['epochs']))})"),
        (
            "memory",
            f"{size / 1e6:,.1f} MB for weights, gradients, two moments and the start; activations on top",
        ),
        ("time", f"about {clock['fine_tune']:.0f} s of fine-tuning, at {clock['step'] * 1e3:.1f} ms a step"),
    ):
        console.print(f"{label:<11} {text}")
