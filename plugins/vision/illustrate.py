"""Pictures with boxes, for the record of a run: what is there, and what was found."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from core.context import Context
from core.contract import ADAPTED, JSON, REPORT, Prediction
from core.errors import DataWarning
from plugins.vision import pictures

SHOWN = 4
"""Pictures of `report`, the first ones."""
SURE = 0.5
"""Found boxes with lower scores are not drawn."""
TRUE, COLOURS = "black", ("red", "blue", "green", "darkorange", "purple", "teal", "brown", "magenta")


def drawn(context: Context, predictions: Mapping[str, Sequence[Prediction]]) -> Mapping[str, JSON]:
    """Write `pictures/N.png` below the run's folder: for each picture what is there, in thin black, and what the
    adapted model found, in a colour for each class with its score. Returns their paths, relative to the folder, and
    what the colours mean. Where nothing is written, there is nothing to show."""
    if context.folder is None:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the run has told of them
        rows = context.make(context.recipe.data).rows()[REPORT]
    found = predictions[ADAPTED][:SHOWN]
    labels = sorted(
        {label for row in predictions[ADAPTED] for label in (*row["labels"], *row["target"]["labels"])}
    )
    colours = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}
    folder = context.folder / "pictures"
    folder.mkdir(exist_ok=True)
    paths = []
    for number, answer in enumerate(found, 1):
        file = rows[number - 1].inputs["image"]
        image = pictures.decode(file.read(), file.path)
        path = folder / f"{number}.png"
        _save(with_boxes(image, answer, colours), path)
        paths.append(path.relative_to(context.folder).as_posix())
    return {
        "pictures": paths,
        "colours": {"what is there": TRUE, **colours},
    }


def with_boxes(image: Tensor, answer: Prediction, colours: Mapping[str, str]) -> Tensor:
    """A uint8 image (3, height, width) with a prediction row's boxes in it, true ones and found ones."""
    from torchvision.utils import draw_bounding_boxes

    there = torch.tensor(answer["target"]["boxes"]).reshape(-1, 4)
    if len(there):
        image = draw_bounding_boxes(image, there, colors=TRUE, width=1)
    sure = [i for i, score in enumerate(answer["scores"]) if score >= SURE]
    if not sure:
        return image
    boxes = torch.tensor([answer["boxes"][i] for i in sure])
    names = [answer["labels"][i] for i in sure]
    return draw_bounding_boxes(  # type: ignore[no-any-return]
        image,
        boxes,
        labels=[f"{answer['scores'][i]:.2f}" for i in sure],
        colors=[colours[name] for name in names],
        label_colors=[colours[name] for name in names],
        width=2,
    )


def _save(image: Tensor, path: Path) -> None:
    pictures.pillow().fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(path)
