"""What the vision plugin brings. Imports neither torch nor numpy: components are made when they are used."""

from __future__ import annotations

from collections.abc import Iterable

from core.contract import Component, Kind
from core.hookspecs import hookimpl

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
        _component(
            "dataset", "digits", "scikit-learn's digits, noisier, two of them new", "data:Digits", "Digits"
        ),
        _component("base", "builtin", "a base that comes with the plugin", "models:Builtin", "Builtin"),
        _component("transform", "scale", "a fixed range of values to another", "transforms:Scale", "Scale"),
        _component("transform", "normalise", "the range seen in train to 0..1", "transforms:Normalise"),
        _component("transform", "standardise", "mean 0, deviation 1 over train", "transforms:Standardise"),
        _component("transform", "affine", "random rotation, zoom and shift", "transforms:Affine", "Affine"),
        _component("transform", "noise", "random Gaussian noise on each pixel", "transforms:Noise", "Noise"),
    ]
