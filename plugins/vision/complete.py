"""What `auto` in a recipe for images becomes: looked up in the data's folders and in the base's description.

No picture is decoded but a few, for their size, and no weights are read.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import ValidationError

from core.contract import REPORT, SELECT, TRAIN, Choice
from core.data.labels import check_labels
from core.errors import RecipeError
from plugins.vision import options
from plugins.vision.folders import Found, find

STEPS = 500
"""Steps that a fine-tuning gets, about, unless that were fewer than `FEWEST` epochs or more than `MOST`."""
FEWEST, MOST = 3, 15
ENOUGH = 200
"""Pictures of a class to train on, on average, from which on more than the head is worth moving: with 120 of each
of three classes and the published ResNet-20, a head alone had 90 %, with the body behind it 81 to 88 % in six settings.
"""
SMALL, LARGE = 16, 64
"""Batch sizes for few and for many pictures."""


@dataclass(frozen=True)
class Base:
    """What the base wants of images."""

    height: int
    width: int
    channels: int
    interpolation: str
    crop: float
    convolutional: bool
    why: str


def complete(recipe: Mapping[str, Any]) -> list[Choice]:
    """Choices for a recipe of the task `vision.classify` with the dataset `images`. Raises `RecipeError` where the
    recipe names no data, `DataError` and `BaseError` for what is found there."""
    found = _data(recipe)
    check_labels({TRAIN: found.labels}, lambda _, index: found.where(index))
    base = _base(recipe, found)
    train = len(found.splits[TRAIN])
    counts = Counter(found.labels)
    few = min(counts, key=lambda label: counts[label])
    what = f"{len(found.paths):,} pictures in {len(counts)} classes, the smallest ({few}) has {counts[few]}"
    choices = [_splits(found, counts, what)]
    given = recipe.get("data", {}).get("splits")
    held_out = _held_out(choices[0].value if given == "auto" else given)
    train -= round(train * held_out)
    batch = LARGE if train >= 64 * SMALL * 2 else 32 if train >= 512 else SMALL
    epochs = max(FEWEST, min(MOST, math.ceil(STEPS * batch / max(1, train))))
    per_epoch = math.ceil(train / batch)
    strategy = _strategy(train / len(counts), epochs)
    choices += [
        Choice("preprocess", _preprocess(base), _preprocess_why(found, base)),
        strategy,
        _rate(base, head_alone=strategy.value == "head"),
        Choice("fine_tune.batch_size", batch, f"about {train:,} pictures to train on"),
        Choice("fine_tune.epochs", epochs, f"of {per_epoch:,} steps: {per_epoch * epochs:,} in all"),
        Choice("fine_tune.schedule", "cosine", "ends at zero, so that the last epoch is the one to keep"),
        Choice("evaluate.primary", "accuracy", "one label a picture"),
    ]
    return choices


def _data(recipe: Mapping[str, Any]) -> Found:
    given = recipe.get("data")
    data = dict(given) if isinstance(given, Mapping) else {}
    data.pop("dataset", None)
    if data.get("splits") == "auto":
        data["splits"] = None
    if not data.get("path"):
        raise RecipeError(
            "the recipe names no data", hint="give data=FOLDER, a folder with one folder of pictures a class"
        )
    try:
        wanted = options.Images.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("data", *first["loc"])))
        raise RecipeError(f"{where}: {first['msg']}") from error
    return find(Path(wanted.path).expanduser(), wanted)


def _base(recipe: Mapping[str, Any], found: Found) -> Base:
    given = recipe.get("base")
    if isinstance(given, str):
        source, _, name = given.partition(":")
        base: Mapping[str, Any] = {"source": source, "name": name}
    else:
        base = given if isinstance(given, Mapping) else {}
    source = str(base.get("source", "")).rpartition(".")[2]
    if source == "timm":
        if not base.get("name"):
            raise RecipeError(
                "the base names no model", hint="write base=timm:NAME, as in base=timm:resnet18"
            )
        return _timm(str(base["name"]), base.get("arguments") or {})
    sizes = _sizes(found) or (224, 224)
    return Base(*sizes, 3, "bilinear", 1.0, True, "what the base wants is not known, so they keep that size")


def _timm(name: str, arguments: Mapping[str, Any]) -> Base:
    from plugins.vision.pretrained import check_name, library

    timm = library()
    check_name(timm, name)
    settings = timm.get_pretrained_cfg(name).to_dict()
    channels, height, width = settings["input_size"]
    channels = int(arguments.get("in_chans", channels))
    side = arguments.get("img_size")
    if side:
        height = width = int(side)
    interpolation = settings["interpolation"]
    return Base(
        height,
        width,
        channels,
        interpolation if interpolation in ("bilinear", "bicubic") else "bilinear",
        float(settings.get("crop_pct") or 0.875),
        not settings.get("fixed_input_size"),
        f"{name} was trained with {height} x {width}",
    )


def _splits(found: Found, counts: Counter[str], what: str) -> Choice:
    given = [name for name in (SELECT, REPORT) if name in found.splits]
    there = " and ".join(["train", *given])
    if len(given) == 2:
        return Choice("data.splits", None, f"{there} are given")
    small = len(found.splits[TRAIN]) < 1000
    fewest = min(counts.values())
    select = 0.2 if small and fewest >= 10 else 0.1
    made: dict[str, Any] = {"how": "stratified"}
    if SELECT not in given:
        made["select"] = select
    if REPORT not in given:
        made["report"] = 0.2
    return Choice("data.splits", made, what + (f"; {there} are given" if given else ""))


def _held_out(splits: Any) -> float:
    """The share of the pictures that is not to train on, about."""
    asked = splits if isinstance(splits, Mapping) else {}
    shares = [asked.get(name) for name in (SELECT, REPORT)]
    return sum(share for share in shares if isinstance(share, float) and share < 1)


def _preprocess(base: Base) -> list[dict[str, Any]]:
    """As the base was trained: the short side a little longer than the crop. Training pictures are cut at random and
    mirrored."""
    larger = {
        "size": max(1, round(min(base.height, base.width) / base.crop)),
        "interpolation": base.interpolation,
    }
    size: Any = base.height if base.height == base.width else [base.height, base.width]
    steps: list[dict[str, Any]] = [
        {"transform": "vision.decode", **({"channels": 1} if base.channels == 1 else {})},
        {"transform": "vision.resize", **larger},
        {"transform": "vision.center_crop", "size": size},
        {"transform": "vision.flip"},
    ]
    pad = max(1, base.height // 16)
    steps.append({"transform": "vision.random_crop", "size": size, "padding": pad, "fill": "edge"})
    return [*steps, {"transform": "vision.standardise"}]


def _preprocess_why(found: Found, base: Base) -> str:
    sizes = _sizes(found)
    seen = f"the pictures have about {sizes[0]} x {sizes[1]}; " if sizes else ""
    return f"{seen}{base.why}; mirrored and shifted in training"


def _sizes(found: Found) -> tuple[int, int] | None:
    """The median (height, width) of a few pictures, or where they differ in shape the lesser of the two twice: a crop
    that all of them fill. None where none of them opens."""
    from plugins.vision.pictures import pillow

    image = pillow()
    step = max(1, len(found.paths) // 20)
    sizes = []
    for path in found.paths[::step][:20]:
        try:
            with image.open(path) as picture:
                sizes.append((picture.height, picture.width))
        except Exception:  # noqa: S112 (the dataset names what cannot be read)
            continue
    if not sizes:
        return None
    height, width = int(median(h for h, _ in sizes)), int(median(w for _, w in sizes))
    return (
        (height, width) if len({h * width - w * height for h, w in sizes}) == 1 else (min(height, width),) * 2
    )


def _rate(base: Base, *, head_alone: bool) -> Choice:
    if head_alone:
        return Choice("fine_tune.lr", 1e-2, "AdamW on a head alone")
    if base.convolutional:
        return Choice(
            "fine_tune.lr", 1e-2, "AdamW on a new head; a hundredth of it on a convolutional network"
        )
    return Choice("fine_tune.lr", 3e-3, "AdamW on a new head; a hundredth of it on a transformer")


def _strategy(each: float, epochs: int) -> Choice:
    if each < ENOUGH:
        return Choice(
            "fine_tune.strategy",
            "head",
            f"about {each:.0f} pictures a class: the safe choice; where it is not enough, try fine_tune.strategy=full"
            " fine_tune.lr=1e-3",
        )
    return Choice(
        "fine_tune.strategy",
        {"strategy": "lp_ft", "head_epochs": max(1, epochs // 3), "body": 0.01, "statistics": False},
        f"about {each:.0f} pictures a class: the new head first, then every weight, the base's slowly",
    )
