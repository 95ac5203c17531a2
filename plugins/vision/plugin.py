"""What the vision plugin brings. Imports neither torch nor numpy: components are made when they are used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.contract import JSON, Choice, Component, Kind, Prediction
from core.hookspecs import hookimpl

if TYPE_CHECKING:
    from core.context import Context

taoke_api = 1


def _component(kind: Kind, name: str, summary: str, factory: str, options: str | None = None) -> Component:
    where = "plugins.vision"
    return Component(
        kind,
        f"vision.{name}",
        summary,
        f"{where}.{factory}",
        f"{where}.options:{options}" if options else None,
    )


@hookimpl
def taoke_register() -> Iterable[Component]:
    return [
        _component("task", "classify", "one label for each image", "tasks:Classify", "Classify"),
        _component("task", "detect", "boxes with classes in each image", "detect:Detect", "Detect"),
        _component(
            "dataset", "boxes", "pictures with boxes around what is in them", "annotated:Boxes", "Boxes"
        ),
        _component(
            "dataset", "digits", "scikit-learn's digits, noisier, two of them new", "data:Digits", "Digits"
        ),
        _component(
            "dataset",
            "images",
            "pictures of one's own, by class folder or table",
            "folders:Images",
            "Images",
        ),
        _component("dataset", "idx", "images and labels in idx files, as MNIST's", "idx:Idx", "Idx"),
        _component("base", "builtin", "a base that comes with the plugin", "models:Builtin", "Builtin"),
        _component("base", "timm", "any model of timm's, by name", "pretrained:Timm", "Timm"),
        _component(
            "base",
            "torchvision",
            "any detector of torchvision's, by name",
            "torchvision_detectors:Torchvision",
            "Detector",
        ),
        _component(
            "edit", "new_boxes", "other classes and anchors for a detector", "edits:NewBoxes", "NewBoxes"
        ),
        _component(
            "edit",
            "dense_behind",
            "a dense layer behind each of some layers, adding zero at first",
            "edits:DenseBehind",
            "DenseBehind",
        ),
        _component("transform", "decode", "a picture's file to an image", "geometry:Decode", "Decode"),
        _component("transform", "resize", "another size", "geometry:Resize", "Resize"),
        _component("transform", "center_crop", "the middle", "geometry:CenterCrop", "CenterCrop"),
        _component(
            "transform", "random_crop", "a window at a random place", "geometry:RandomCrop", "RandomCrop"
        ),
        _component(
            "transform",
            "random_resized_crop",
            "a window of random size, resized",
            "geometry:RandomResizedCrop",
            "RandomResizedCrop",
        ),
        _component("transform", "flip", "mirrored at random", "geometry:Flip", "Flip"),
        _component("transform", "erase", "a black rectangle at random", "geometry:Erase", "Erase"),
        _component(
            "transform",
            "color_jitter",
            "random brightness, contrast, saturation, hue",
            "colour:ColorJitter",
            "ColorJitter",
        ),
        _component(
            "transform", "rand_augment", "random operations in a row", "colour:RandAugment", "RandAugment"
        ),
        _component("transform", "trivial_augment", "one random operation", "colour:TrivialAugment"),
        _component("transform", "scale", "a fixed range of values to another", "transforms:Scale", "Scale"),
        _component("transform", "normalise", "the range seen in train to 0..1", "transforms:Normalise"),
        _component("transform", "standardise", "mean 0, deviation 1 over train", "transforms:Standardise"),
        _component("transform", "affine", "random rotation, zoom and shift", "transforms:Affine", "Affine"),
        _component("transform", "noise", "random Gaussian noise on each pixel", "transforms:Noise", "Noise"),
    ]


@hookimpl
def taoke_complete(recipe: Mapping[str, Any]) -> Iterable[Choice]:
    """For recipes of this plugin's task on pictures of one's own."""
    data = recipe.get("data")
    named = data.get("dataset") if isinstance(data, Mapping) else data
    if (
        recipe.get("task") is None
        or _name(recipe["task"]) != "classify"
        or named not in ("images", "vision.images")
    ):
        return []
    from plugins.vision.complete import complete

    return complete(recipe)


@hookimpl
def taoke_illustrate(
    context: Context, predictions: Mapping[str, Sequence[Prediction]]
) -> Mapping[str, JSON] | None:
    """Pictures with boxes, for recipes of the task `detect` on pictures of one's own."""
    recipe = context.recipe
    if context.folder is None or recipe.task.name != "vision.detect" or recipe.data.name != "vision.boxes":
        return None
    from plugins.vision.illustrate import drawn

    return drawn(context, predictions)


def _name(task: Any) -> str:
    """A task's short name, where it is this plugin's."""
    name = str(task.get("task") if isinstance(task, Mapping) else task)
    return name.removeprefix("vision.")
