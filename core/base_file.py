"""The base source `core.file`: weights in a file, and a callable that makes their architecture.

The callable is code, and reading a shell calls what its base names, with the arguments it gives. So a shell alone can
name what is installed (`vouched`); a Python file, or a module from elsewhere, is run only where who loads the
shell names it. A callable in a module has to be a class of modules, or a function whose annotation says that it
returns one: no shell can name `os:system`. What such a function does with its arguments is its own: look at a
stranger's `provenance.json` before you load the shell.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import site
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn

from core import options
from core.bases import digest
from core.components import Use, install_hint
from core.contract import JSON, Base, Structure
from core.data.stored import readable
from core.errors import BaseError, nearest, raised_at
from core.foreign import fit, read_foreign
from core.licences import spdx
from core.loader import installed


class File:
    """The base source `file`."""

    def __init__(self, options: options.File) -> None:
        self._options = options
        self._path = Path(options.path).expanduser()
        self._what = f"base {self._path.name!r}"

    def load(self) -> Base:
        """Raises `BaseError` where the file, the architecture, or the two together are not right."""
        o, what = self._options, self._what
        tensors, notes = read_foreign(self._path, o.key, what)
        card, more = self._card(tensors)
        arguments = card.get("architecture", {}) if o.arguments is None else o.arguments
        with torch.random.fork_rng(devices=[]):  # the architecture's own first weights are replaced
            model = self._build(arguments)
        made, fitting = fit(model, tensors, what, o.prefix, o.rename)
        preprocessing = dict(card.get("preprocessing", {}) if o.preprocessing is None else o.preprocessing)
        if o.labels is not None:
            preprocessing["task"] = {**preprocessing.get("task", {}), "labels": o.labels}
        self._check_labels(model, preprocessing)
        licence = o.licence or card.get("licence")
        notes += [*more, *fitting]
        if not licence:
            notes.append("its licence is not known; base.licence says it")
        return Base(
            model,
            made,
            spdx(licence),
            o.origin or card.get("origin") or self._path.name,
            preprocessing,
            fresh=lambda: self._build(arguments),
            notes=notes,
        )

    def _card(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[str]]:
        """The card that `core.bases.save_base` writes beside the weights, where there is one."""
        path = self._path.with_suffix(".json")
        try:
            if not path.is_file():
                return {}, []
            card = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            return {}, [f"{path.name} beside it cannot be read ({error}), and is left aside"]
        if not (isinstance(card, dict) and {"digest", "licence", "origin"} <= card.keys()):
            return {}, [f"{path.name} beside it is no base's card, and is left aside"]
        if card["digest"] != digest(tensors):
            raise BaseError(
                f"{self._what}: the weights have the digest {digest(tensors)}, the card {path} says {card['digest']}",
                "these are other weights: restore the file that belongs to the card, or take the card away",
            )
        return card, []

    def _build(self, arguments: Mapping[str, JSON]) -> nn.Module:
        """A new model of the architecture, with its structure."""
        reference, what = self._options.architecture, self._what
        make = find_architecture(reference, what)
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        try:
            model = make(**arguments)
        except Exception as error:  # whatever the user's code raises
            raise BaseError(
                f"{what}: {reference} fails with the arguments ({given}): {type(error).__name__}: {error}"
                f" ({raised_at(error, reference)})",
                "check base.arguments",
            ) from error
        if not isinstance(model, nn.Module):
            raise BaseError(
                f"{what}: {reference} made {type(model).__name__} {model!r}, which is no torch.nn.Module",
                "name a class or function that makes the model",
            )
        elsewhere = {t.device.type for t in model.state_dict().values()} - {"cpu"}
        if elsewhere:
            raise BaseError(
                f"{what}: {reference} makes a model on the device {elsewhere.pop()!r}", "make it on the CPU"
            )
        if self._options.structure is not None:
            given_structure = self._options.structure
            model.structure = Structure(given_structure.axes, given_structure.head)  # type: ignore[assignment]
            _check_structure(model, what)
        elif self._options.head is not None:
            model.structure = _structure_of_head(model, self._options.head, what)  # type: ignore[assignment]
        return model

    def _check_labels(self, model: nn.Module, preprocessing: Mapping[str, Any]) -> None:
        structure: Structure = getattr(model, "structure", Structure())
        labels = preprocessing.get("task", {}).get("labels")
        if labels is None or not structure.axes.get("classes"):
            return
        name, dimension = structure.axes["classes"][0]
        size = model.get_parameter(name).shape[dimension]
        if len(labels) != size or len(set(labels)) != size:
            raise BaseError(
                f"{self._what}: {len(labels)} labels ({len(set(labels))} different ones) are given for"
                f" {size} classes",
                f"give one label for each of the {size} outputs, in their order",
            )


def vouched(use: Use, architecture: str | None, shell: Path) -> Use:
    """The base that a shell names, with code that may be run. Without an `architecture` from whoever loads the shell,
    the shell's own may be called only where it is installed: a file that came with the shell, or lies in the
    working directory, may be a stranger's. Raises `BaseError`."""
    if use.name != NAME:
        if architecture is not None:
            raise BaseError(
                f"{shell}: the base source {use.name!r} takes no architecture: it cannot be told of {architecture}",
                "leave it out",
            )
        return use
    if architecture is not None:
        return replace(use, options={**use.options, "architecture": architecture})
    reference = str(use.options.get("architecture"))
    place, _, name = reference.rpartition(":")
    if not _is_installed(place):
        example = f"PATH/{Path(place).name}:{name}" if place.endswith(".py") else reference
        raise BaseError(
            f"{shell}: its base is made by {reference}, which no installed package brings, and a shell does not say"
            " by itself which code is run",
            f"look at that code; if you trust it, name it: --architecture {example} (`architecture=` in Python)",
        )
    return use


NAME = "core.file"
"""The base source's name in a resolved recipe."""


def _is_installed(place: str) -> bool:
    """Whether a module would be imported from where packages are installed, or from an installed plugin's package,
    wherever that lies. One that is not there at all runs nothing."""
    if place.endswith(".py"):
        return False
    package = place.partition(".")[0]
    if package in {plugin.module.partition(".")[0] for plugin in installed().values()}:
        return True
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    if spec is None:
        return True
    paths = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    named = [
        *site.getsitepackages(),
        site.getusersitepackages(),
        *map(sysconfig.get_path, ("purelib", "platlib")),
    ]
    folders = [Path(folder).resolve() for folder in named]
    return all(any(Path(path).resolve().is_relative_to(folder) for folder in folders) for path in paths)


def find_architecture(reference: str, what: str) -> Callable[..., Any]:
    """What `module:callable` or `path/to/file.py:callable` names. Raises `BaseError`."""
    place, colon, name = reference.rpartition(":")
    if not (colon and place and name.isidentifier()):
        raise BaseError(
            f"{what}: the architecture is {reference!r}",
            "write `module:callable`, as torchvision.models:resnet18, or `path/to/file.py:callable`",
        )
    is_file = place.endswith(".py")
    module = _from_file(Path(place).expanduser(), what) if is_file else _from_module(place, what)
    found = getattr(module, name, None)
    if found is None:
        made = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise BaseError(f"{what}: {place} has no {name!r}", nearest(name, made))
    if isinstance(found, type):
        if not issubclass(found, nn.Module):
            raise BaseError(
                f"{what}: {reference} is a class, and no torch.nn.Module", "name the model's class"
            )
    elif not callable(found):
        raise BaseError(
            f"{what}: {reference} is {type(found).__name__} {found!r}, which makes no model",
            "name a class or function that makes it",
        )
    elif not is_file and not _says_module(found):
        raise BaseError(
            f"{what}: {reference} does not say that it returns a torch.nn.Module, and so is not called",
            "annotate it with `-> nn.Module`, or name a class",
        )
    made_by: Callable[..., Any] = found
    return made_by


def _says_module(function: Callable[..., Any]) -> bool:
    try:
        returned = get_type_hints(function).get("return")
    except Exception:  # annotations may be any expression
        return False
    return isinstance(returned, type) and issubclass(returned, nn.Module)


def _from_module(name: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        beside = Path(*name.split(".")).with_suffix(".py")
        with readable(beside, BaseError, what):
            hint = f"write {beside}:... for the file" if beside.is_file() else install_hint(missing)
        raise BaseError(
            f"{what}: the architecture needs the module {missing!r}, which is not installed", hint
        ) from error
    except (Exception, SystemExit) as error:
        raise _import_fails(name, error, what) from error


def _from_file(path: Path, what: str) -> ModuleType:
    with readable(path, BaseError, what):
        if not path.is_file():
            where = "" if path.is_absolute() else f" in {Path.cwd()}"
            raise BaseError(
                f"{what}: the architecture's file {path} is not there{where}",
                "check base.architecture; its whole path is the same from everywhere",
            )
    key = hashlib.blake2b(str(path.resolve()).encode(), digest_size=4).hexdigest()
    spec = importlib.util.spec_from_file_location(f"taoke_architecture_{path.stem}_{key}", path)
    if spec is None or spec.loader is None:
        raise BaseError(f"{what}: {path} is no Python file", "give the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise _import_fails(str(path), error, what) from error
    return module


def _import_fails(place: str, error: BaseException, what: str) -> BaseError:
    return BaseError(
        f"{what}: importing {place} fails: {type(error).__name__}: {error} ({raised_at(error, place)})",
        "mend the file, or install what it needs",
    )


def _structure_of_head(model: nn.Module, name: str, what: str) -> Structure:
    """The axis `classes` of a layer, and the layer as the head."""
    modules = dict(model.named_modules())
    head = modules.get(name)
    layers = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
    if not (name and isinstance(head, layers)):
        known = [n for n, module in modules.items() if n and isinstance(module, layers)]
        is_what = "is not a part of it" if not name or head is None else f"is a {type(head).__name__}"
        raise BaseError(
            f"{what}: the head of {type(model).__name__} is to be the layer {name!r}, which {is_what}",
            f"its layers are {', '.join(known)}; base.structure describes any other head"
            if known
            else "base.structure describes a head that is no single layer",
        )
    parts = ["weight"] if head.bias is None else ["weight", "bias"]
    return Structure({"classes": tuple((f"{name}.{part}", 0) for part in parts)}, (name,))


def _check_structure(model: nn.Module, what: str) -> None:
    structure: Structure = model.structure  # type: ignore[assignment]
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for axis, places in structure.axes.items():
        for name, dimension in places:
            if name not in parameters:
                raise BaseError(
                    f"{what}: base.structure.axes.{axis} names {name!r}, which is no parameter",
                    nearest(name, parameters),
                )
            if not 0 <= dimension < parameters[name].dim():
                raise BaseError(
                    f"{what}: base.structure.axes.{axis}: {name} {tuple(parameters[name].shape)} has no dimension"
                    f" {dimension}",
                    "count dimensions from 0",
                )
        sizes = {name: parameters[name].shape[dimension] for name, dimension in places}
        if len(set(sizes.values())) > 1:
            raise BaseError(
                f"{what}: base.structure.axes.{axis}: sizes differ: {sizes}", "name places of one axis"
            )
    known = {*dict(model.named_modules()), *parameters} - {""}
    for name in structure.head:
        if name not in known:
            raise BaseError(
                f"{what}: base.structure.head names {name!r}, which is no module or parameter",
                nearest(name, known),
            )
