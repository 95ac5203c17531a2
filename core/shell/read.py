"""Reading a shell: find the base, check its digest, replay the edits, apply Δθ, and refuse on any mismatch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from core.base_file import vouched
from core.bases import digest, read_tensors
from core.components import Use
from core.context import Context, pick_device
from core.contract import ADAPTED, JSON, REPORT, Base, BaseSource, Dataset, Prediction, Row, Task
from core.edits import replay
from core.errors import BaseError, DataError, PluginError, ShellError, nearest
from core.evidence.scores import score
from core.inference import complete, without_inputs
from core.loader import installed
from core.prepared import Fitted, Pipeline, encode
from core.progress import Progress
from core.recipe import Resolved, resolve_content
from core.recipe.model import Recipe
from core.rows import data_digest, identify, judged
from core.shell import FORMAT


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """An adapted model, loaded from its shell and ready to predict. `recorded` holds the run's scores on
    `report`."""

    shell: Path
    context: Context
    task: Task
    model: nn.Module
    pipeline: Pipeline
    state: JSON
    data: Mapping[str, Any]
    recorded: Mapping[str, float]

    def predict(self, inputs: str | Sequence[str]) -> list[Prediction]:
        """Predictions for what a user types or points at; what that may be is the task's to say (see its
        plugin's README).

        Raises `DataError` where an input is not of that kind.
        """
        with self.context.plugins.attributing(self.context), self.context.hearing():
            given = [inputs] if isinstance(inputs, str) else list(inputs)
            return self.predict_rows(self.pipeline.apply(identify(self.task.parse(given, self.state))))

    def evaluate(self, split: str = REPORT) -> dict[str, float]:
        """Metric to score on a split of the recipe's dataset. Raises `ShellError` where the data are not
        those of the run."""
        with self.context.plugins.attributing(self.context), self.context.hearing():
            rows = self.rows(split)
            predictions = complete(self.predict_rows(rows), without_inputs(rows), ADAPTED)
            return {metric.name: score(metric, predictions) for metric in self.task.metrics()}

    def first(self, count: int) -> Sequence[Row]:
        """The first rows of `report`, after the transforms: what a look at a few needs, without reading all."""
        dataset: Dataset = self.context.make(self.context.recipe.data)
        return self.pipeline.apply(identify(dataset.rows()[REPORT][:count]))

    def rows(self, split: str = REPORT) -> Sequence[Row]:
        """The rows of a split of the recipe's dataset, after the transforms. Raises `ShellError`."""
        if split not in self.data:
            raise ShellError(f"{self.shell}: the run had no split {split!r}", nearest(split, self.data))
        dataset: Dataset = self.context.make(self.context.recipe.data)
        rows = judged(split, dataset.rows()[split])
        found, recorded = data_digest(rows), self.data[split]["digest"]
        if found != recorded:
            raise ShellError(
                f"{self.shell}: the split {split!r} has the digest {found} here, and had {recorded} in the run",
                "the data have changed since, or differ between Python versions: the numbers would not be comparable",
            )
        return self.pipeline.apply(rows)

    def predict_rows(self, rows: Sequence[Row]) -> list[Prediction]:
        """Predictions of rows that the transforms have seen, in their order."""
        split = encode(self.task, "rows", rows, self.state)
        return list(
            self.context.plugins.hook.taoke_evaluate(
                context=self.context, task=self.task, model=self.model, split=split
            )
        )


def load(
    shell: str | Path,
    *,
    device: str = "cpu",
    plugin_files: Sequence[str | Path] = (),
    base: str | Path | None = None,
    architecture: str | None = None,
) -> Adapted:
    """Load an adapted model.

    Args:
        shell: a shell, or the folder of a run that has one.
        device: where to compute, as torch names it.
        plugin_files: the Python files that are plugins, where the run had any.
        base: where the base is to be had, if no longer where the run had it: the `path` of its source, its file of
            `weights`, or the `name` of one that has neither. It has to be the same base.
        architecture: `file.py:callable` or `module:callable`, the code that makes the base, where the shell names code
            that no installed package brings: it is run only if it is named here.

    Raises:
        ShellError: the shell is missing, incomplete, damaged or of another format.
        BaseError: its base is not to be had, or not the same.
        PluginError: a plugin it needs is missing.
    """
    folder = shell_folder(Path(shell))
    described = _read_json(folder / "delta.json", "format", "base", "edits", "tensors", "adapted")
    if described["format"] != FORMAT:
        raise ShellError(
            f"{folder} has the shell format {described['format']!r}; this taoke reads {FORMAT}",
            "use a matching taoke",
        )
    provenance = _read_json(folder / "provenance.json", "name", "recipe", "data", "plugins", "evidence")
    states = _read_json(folder / "preprocess.json", "transforms", "task")
    context = Context(
        _resolve(folder, provenance, [Path(path) for path in plugin_files]),
        pick_device(device),
        Progress(quiet=True),
    )
    context.recipe = recipe = _from_above(context.recipe, folder)
    with context.plugins.attributing(context):
        found = _find_base(context, base, architecture, folder)
        if found.digest != described["base"]["digest"]:
            raise BaseError(
                f"{folder} was made from the base {described['base']['digest']}, and {found.origin} is {found.digest}",
                "use the same base: a delta on another one is another model; a base that was learned from a file is"
                " another one once the file has changed: --base PATH names it as it was",
            )
        model, _ = replay(context.plugins.components, deepcopy(found.model), described["edits"])
        _apply(model, folder, described)
        steps = [
            Fitted(use.name, context.make(use), state, use.options)
            for use, state in zip(recipe.preprocess, states["transforms"].values(), strict=True)
        ]
        return Adapted(
            shell=folder,
            context=context,
            task=context.make(recipe.task),
            model=model.requires_grad_(False).eval().to(context.device),
            pipeline=Pipeline(steps),
            state=states["task"],
            data=provenance["data"],
            recorded=provenance["evidence"]["contenders"][ADAPTED],
        )


PATHS = ("path", "weights")
"""The options by which base sources and datasets say where files lie."""
PLACES = (*PATHS, "name")
"""The options by which a base is found. A name may be a folder's, but is no path to be looked for."""


def _from_above(recipe: Recipe, shell: Path) -> Recipe:
    """The recipe with paths as they lead from here. A relative one led from the folder in which the run was made, most
    often one above the shell: where it leads nowhere from here, it is tried from there. Whether what is found is the
    same is for the digests to say."""

    def led(use: Use) -> Use:
        return replace(use, options={k: _led(v, shell) if k in PATHS else v for k, v in use.options.items()})

    return recipe.model_copy(update={"base": led(recipe.base), "data": led(recipe.data)})


def _led(value: JSON, shell: Path) -> JSON:
    """A path, or those in a mapping or a list, as it leads from here or from a folder above the shell."""
    if isinstance(value, Mapping):
        return {key: _led(inner, shell) for key, inner in value.items()}
    if isinstance(value, list):
        return [_led(inner, shell) for inner in value]
    if not isinstance(value, str) or Path(value).is_absolute() or os.path.exists(value):  # noqa: PTH110
        return value
    parents = shell.resolve().parents
    return next((str(parent / value) for parent in parents if os.path.exists(parent / value)), value)  # noqa: PTH110


def _find_base(context: Context, elsewhere: str | Path | None, architecture: str | None, shell: Path) -> Base:
    """The base that the recipe names, or, with the place that its source names replaced, the one `elsewhere`."""
    use, components = vouched(context.recipe.base, architecture, shell), context.plugins.components
    model = components.options_of(components.find("base", use.name))
    known = model.model_fields if model else {}
    place = next((o for o in PLACES if o in known and use.options.get(o) is not None), None)
    if elsewhere is not None:
        if place is None:
            raise BaseError(
                f"the base source {use.name!r} has no path, weights or name: it cannot be told of {elsewhere}",
                "leave --base out",
            )
        use = replace(use, options={**use.options, place: str(elsewhere)})
    try:
        return _loaded(context, use)
    except (BaseError, DataError) as error:
        if place == "name" and elsewhere is None:  # it may have been a folder's, there
            above = _led(use.options[place], shell)
            if above != use.options[place]:
                with suppress(BaseError, DataError):
                    return _loaded(context, replace(use, options={**use.options, place: above}))
        gone = place == "name" or (
            place is not None and not os.path.exists(Path(use.options[place]).expanduser())  # noqa: PTH110 (it does not raise)
        )
        if gone and place is not None and elsewhere is None:
            here = f"the shell's base was at {use.options[place]}; --base (`base=` in Python) says where it is now"
            error.hint = f"{here}; {error.hint}" if error.hint else here
        raise


def _loaded(context: Context, use: Use) -> Base:
    source: BaseSource = context.make(use)
    return source.load()


def _resolve(folder: Path, provenance: Mapping[str, Any], plugin_files: Sequence[Path]) -> Resolved:
    """The recipe with its plugins. One that is missing is asked for by the package that brought it to the run."""
    here = {*installed(), *(path.stem for path in plugin_files)}
    for plugin in provenance["plugins"]:
        if plugin["name"] in provenance["recipe"]["plugins"] and plugin["name"] not in here:
            package = f"pip install '{plugin['distribution']}=={plugin['version']}'"
            given = f"give --plugin-file with the run's {plugin['distribution']}"
            raise PluginError(
                f"{folder} needs the plugin {plugin['name']!r}, which is not installed",
                given if plugin["version"] == "file" else package,
            )
    return resolve_content(
        provenance["recipe"], provenance["name"], f"{folder}/provenance.json", plugin_files=plugin_files
    )


def _apply(model: nn.Module, folder: Path, described: Mapping[str, Any]) -> None:
    tensors = read_tensors(folder / "delta.safetensors", f"shell {folder}")
    own = model.state_dict()
    wrong = [
        f"{name}: listed in delta.json, not in delta.safetensors"
        for name in described["tensors"]
        if name not in tensors
    ]
    wrong += [
        f"{name}: {tuple(tensor.shape)}, in the edited base {tuple(own[name].shape) if name in own else 'absent'}"
        for name, tensor in tensors.items()
        if name not in own or own[name].shape != tensor.shape
    ]
    if wrong:
        raise ShellError(
            f"{folder} does not fit its base:" + "".join(f"\n  - {line}" for line in wrong),
            "the shell is damaged",
        )
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
    found = digest(model.state_dict())
    if found != described["adapted"]:
        raise ShellError(
            f"{folder}: base and delta give the weights {found}, sealed were {described['adapted']}",
            "the shell is damaged",
        )


def shell_folder(path: Path) -> Path:
    """`path` where it is a shell, or the shell in it where it is a run's folder. Raises `ShellError`."""
    for folder in (path, path / "shell"):
        if (folder / "delta.json").is_file():
            return folder
    if (path / "events.jsonl").is_file():
        raise ShellError(
            f"{path} is a run without a shell: it was interrupted, it failed, or it is not done yet",
            "its events.jsonl says where; run the recipe again",
        )
    raise ShellError(
        f"{path} is neither a shell (no delta.json) nor the folder of a run with one",
        "give the folder that a run names",
    )


def _read_json(path: Path, *keys: str) -> dict[str, Any]:
    hint = "copy the whole shell again"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ShellError(f"{path} is missing or damaged: {error}", hint) from error
    lacking = [key for key in keys if key not in content] if isinstance(content, dict) else keys
    if lacking:
        raise ShellError(f"{path} is damaged: it lacks {', '.join(lacking)}", hint)
    return content
