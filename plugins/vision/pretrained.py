"""The base source `timm`: any model of https://github.com/huggingface/pytorch-image-models, by its name."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from torch import nn

from core.bases import digest
from core.contract import JSON, Base, Structure
from core.errors import BaseError, ComponentError, nearest
from core.foreign import WRAPPERS, fit, read_foreign
from core.hub import offline_where_unreachable
from core.licences import spdx
from core.seeds import seed_torch
from plugins.vision import options


class Timm:
    """The base source `timm`. What the model was trained with comes along: its statistics for `standardise`, and the
    names of its outputs."""

    def __init__(self, options: options.Timm) -> None:
        self._options = options

    def load(self) -> Base:
        """Raises `BaseError` where the name is unknown, or its weights are not to be had or do not fit, and
        `ComponentError` without timm."""
        options = self._options
        check_name(library(), options.name)
        notes: list[str] = []
        if options.weights is not None:
            model, origin, notes = self._from_file(Path(options.weights).expanduser())
        elif options.pretrained:
            model, origin = self._published(), ""
        else:
            with torch.random.fork_rng(devices=[]):
                seed_torch(torch.device("cpu"), 0)  # the same in each process
                model, origin = self._built(None), f"timm's {options.name} with fresh weights"
        settings = settings_of(model)
        where = settings.get("hf_hub_id") or settings.get("url") or options.name
        model.structure = structure(model)  # type: ignore[assignment]
        licence = (
            options.licence
            if options.weights is not None
            else settings.get("license")
            if options.pretrained
            else None
        )
        outputs = output_count(model)
        return Base(
            model,
            digest(model.state_dict()),
            spdx(licence),
            origin or f"timm's {options.name}, from {where}",
            preprocessing(settings, self._labels(model, outputs), int(options.arguments.get("in_chans", 3))),
            partial(self._fresh, outputs),
            notes,
        )

    def _built(self, classes: int | None) -> nn.Module:
        """Without weights. Raises `BaseError` where an argument is not the architecture's."""
        given: dict[str, Any] = dict(self._options.arguments)
        if classes is not None:
            given["num_classes"] = classes
        try:
            model: nn.Module = library().create_model(self._options.name, pretrained=False, **given)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise BaseError(
                f"timm cannot build {self._options.name!r} with {given}: {error}", "see base.arguments"
            ) from error
        return model

    def _fresh(self, classes: int) -> nn.Module:
        model = self._built(classes)
        model.structure = structure(model)  # type: ignore[assignment]
        return model

    def _from_file(self, path: Path) -> tuple[nn.Module, str, list[str]]:
        """The architecture with as many outputs as the file's classifier has, filled from the file."""
        what = f"base {self._options.name!r}"
        tensors, notes = read_foreign(path, None, what)
        heads = {
            f"{wrap}{name}.weight" for name in classifiers(self._built(None)) for wrap in ("", *WRAPPERS)
        }
        outputs = next((tensor.shape[0] for name, tensor in tensors.items() if name in heads), 0)
        model = self._built(outputs)
        _, more = fit(model, tensors, f"{what}: {path}")
        if not self._options.licence:
            notes = [*notes, "the weights' licence is not known; base.licence says it"]
        return model, f"timm's {self._options.name}, with weights from {path.name}", [*notes, *more]

    def _published(self) -> nn.Module:
        name = self._options.name
        try:
            model: nn.Module = library().create_model(name, pretrained=True, **self._options.arguments)
        except (TypeError, AssertionError) as error:
            raise BaseError(
                f"timm cannot build {name!r} with {self._options.arguments}: {error}", "see base.arguments"
            ) from error
        except Exception as error:  # hub, network, cache and file errors have no common parent
            if "No pretrained weights exist" in str(error):
                raise BaseError(
                    f"timm has no published weights for {name!r}",
                    "name one that has, or give base.weights=FILE",
                ) from error
            line = next(iter(str(error).splitlines()), "")
            hub = library().get_pretrained_cfg(name).hf_hub_id
            fetch = f"`hf download {hub} model.safetensors` fetches them" if hub else "fetch them elsewhere"
            raise BaseError(
                f"the published weights of {name!r} are not to be had: {type(error).__name__}: {line}",
                "they come from the Hugging Face hub, or from its cache (HF_HOME) where they were fetched before and"
                f" HF_HUB_OFFLINE=1 is set; without a network here, {fetch} on a machine with one, and"
                " base.weights=FILE reads them; base.pretrained=false starts from fresh ones",
            ) from error
        return model

    def _labels(self, model: nn.Module, outputs: int) -> list[str]:
        options = self._options
        if options.labels is not None:
            if len(options.labels) != outputs:
                raise BaseError(
                    f"base.labels names {len(options.labels)} outputs, and the model has {outputs}",
                    "name each output, in order",
                )
            return options.labels
        if options.weights is None and not options.pretrained:
            return []  # they mean nothing yet
        return imagenet_labels(settings_of(model), outputs, published=options.weights is None)


def library() -> ModuleType:
    """timm. Raises `ComponentError` that says how to install it."""
    offline_where_unreachable()
    try:
        import timm
    except ImportError as error:
        raise ComponentError(
            "the base 'vision.timm' needs timm, which is not installed", "pip install 'taoke[vision]'"
        ) from error
    return timm


def check_name(timm: ModuleType, name: str) -> None:
    """Raises `BaseError` with the nearest names where timm has no such model, or no such weights of it."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        hint = nearest(architecture, timm.list_models())
        known = hint if hint.startswith("did you mean") else "timm.list_models() lists the names"
        raise BaseError(f"timm has no model {architecture!r}", known)
    tags = timm.list_pretrained(f"{architecture}.*") if tag else []
    if tag and name not in tags:
        raise BaseError(
            f"timm has no weights {tag!r} for {architecture!r}",
            f"it has {', '.join(tags)}" if tags else "leave the part after the dot out",
        )


def settings_of(model: nn.Module) -> Mapping[str, Any]:
    """What timm knows of the model's published weights."""
    return cast("Mapping[str, Any]", model.pretrained_cfg)


def classifiers(model: nn.Module) -> tuple[str, ...]:
    """The names of the modules that make the model's outputs."""
    named: str | Sequence[str] | None = settings_of(model).get("classifier")
    names = (named,) if isinstance(named, str) else tuple(named or ())
    known = dict(model.named_modules())
    return tuple(name for name in names if name in known)


def structure(model: nn.Module) -> Structure:
    """Where the model's classes and its head are. A model without a classifier gets one with no outputs."""
    names = classifiers(model)
    axes: list[tuple[str, int]] = []
    for name in names:
        module = model.get_submodule(name)
        if isinstance(module, nn.Identity):
            parent, _, attribute = name.rpartition(".")
            width = int(getattr(model, "head_hidden_size", 0) or model.num_features)  # type: ignore[arg-type]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's, that there is nothing to initialise
                module = nn.Linear(width, 0)
            setattr(model.get_submodule(parent), attribute, module)
        parameters = dict(module.named_parameters(recurse=False))
        axes += [(f"{name}.{kind}", 0) for kind in ("weight", "bias") if kind in parameters]
    return Structure({"classes": tuple(axes)} if axes else {}, head=names)


def output_count(model: nn.Module) -> int:
    structure: Structure = model.structure  # type: ignore[assignment]
    places = structure.axes.get("classes", ())
    return int(model.get_parameter(places[0][0]).shape[0]) if places else 0


def preprocessing(settings: Mapping[str, Any], labels: Sequence[str], channels: int = 3) -> dict[str, JSON]:
    """What the model was trained with, as a base brings it."""
    mean, std = (list(settings[key]) for key in ("mean", "std"))
    if channels != len(mean):
        mean, std = ([sum(numbers) / len(numbers)] * channels for numbers in (mean, std))
    brought: dict[str, JSON] = {"vision.standardise": {"subtract": mean, "divide": std}}
    return {**brought, "task": {"labels": list(labels)}} if labels else brought


def imagenet_labels(settings: Mapping[str, Any], outputs: int, *, published: bool) -> list[str]:
    """What the outputs mean, as timm knows it: ImageNet's words. Empty where it does not."""
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    if published and settings.get("label_names"):
        return list(settings["label_names"])
    subset = infer_imagenet_subset({"num_classes": outputs})
    if not subset:
        return []
    info: Any = ImageNetInfo(subset)
    words = [info.index_to_description(i) for i in range(info.num_classes())]
    if len(words) != outputs:
        return []
    often = Counter(words)
    return [
        word if often[word] == 1 else f"{word} ({info.index_to_label_name(i)})"
        for i, word in enumerate(words)
    ]
