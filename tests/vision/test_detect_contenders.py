"""The contenders of detection: the base's own boxes, and blobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.contract import Base, Row, Split
from plugins.vision import options
from plugins.vision.annotated import Boxes
from plugins.vision.detect import Detect
from plugins.vision.detect_contenders import blobs, find_blobs, looks, nearest_box, trivial
from plugins.vision.detectors import Detector, Found
from plugins.vision.geometry import Decode
from plugins.vision.precision import MeanPrecision

from .spots import SIDES, voc

pytest.importorskip("pycocotools")


class Bright(Detector):
    """A base that finds every bright thing in a picture of few, and calls it its one class: as sides by 24 and by 12
    pixels around what is brightest."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor, truths: object = None) -> list[Found]:  # type: ignore[override]
        made = []
        for image in images:
            bright = image.max(0).values > 0.5
            labels = _parts(bright.numpy())
            boxes = torch.tensor(labels, dtype=torch.float32).reshape(-1, 4)
            made.append(
                Found(boxes, torch.zeros(len(boxes), dtype=torch.long), torch.full((len(boxes),), 0.9))
            )
        return made


def _parts(bright: Any) -> list[list[int]]:
    from scipy import ndimage

    numbered, _ = ndimage.label(bright)
    return [[x.start, y.start, x.stop, y.stop] for y, x in ndimage.find_objects(numbered)]


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sequence[Row]]:
    lists = {"train": range(30), "val": range(30, 40), "test": range(40, 60)}
    root = voc(tmp_path_factory.mktemp("spots"), 60, lists=lists)
    decode, rng = Decode(options.Decode()), torch.Generator()
    found = Boxes(options.Boxes(path=str(root))).rows()
    return {name: [decode.apply(row, None, rng) for row in rows] for name, rows in found.items()}


def scored(answers: Sequence[Any], rows: Sequence[Row]) -> dict[str, float]:
    metric = MeanPrecision("map50", 0.5)
    return metric.breakdown([{**a, "target": row.target} for a, row in zip(answers, rows, strict=True)])


def test_both_find_spots_of_two_kinds_and_tell_them_apart(splits: dict[str, Sequence[Row]]) -> None:
    """Fitted on 30 pictures: nearly all of 20 others; spots that overlap are one thing to the base."""
    task = Detect(options.Detect())
    state = {"labels": ["thing"]}
    encoded = {
        name: Split(name, splits[name], [task.encode(row, state) for row in splits[name]], state)  # type: ignore[arg-type]
        for name in ("train", "select")
    }
    rivals = trivial(task, Base(Bright().eval(), "", "MIT", "made up"), encoded)
    assert [rival.name for rival in rivals] == ["guessed_class", "blobs"]
    for rival in rivals:
        scores = scored(rival.predict(splits["report"]), splits["report"])
        assert set(scores) == {"leaf", "rose"}
        assert min(scores.values()) > 0.6, rival.name


def test_a_base_that_finds_nothing_has_a_contender_that_finds_nothing(
    splits: dict[str, Sequence[Row]],
) -> None:
    """And breaks nothing."""

    class Blind(Bright):
        def forward(self, images: Tensor, truths: object = None) -> list[Found]:  # type: ignore[override]
            return [
                Found(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0)) for _ in images
            ]

    task = Detect(options.Detect())
    encoded = {
        name: Split(
            name, splits[name], [task.encode(row, {"labels": []}) for row in splits[name]], {"labels": []}
        )
        for name in ("train", "select")
    }
    guessed = trivial(task, Base(Blind().eval(), "", "MIT", "made up"), encoded)[0]
    assert guessed.predict(splits["report"][:2]) == [{"boxes": [], "labels": [], "scores": []}] * 2


def test_where_nothing_stands_out_no_blob_is_told(splits: dict[str, Sequence[Row]]) -> None:
    """Pictures of one colour, whatever is said to be on them."""
    flat = [
        replace(row, inputs={**row.inputs, "image": torch.full((3, 72, 96), 0.5)}) for row in splits["train"]
    ]
    assert blobs(flat, flat[:5]).predict(flat[:2]) == [{"boxes": [], "labels": [], "scores": []}] * 2


def test_a_blob_is_found_where_a_spot_is_at_the_scale_of_its_size() -> None:
    """The Laplacian answers most at the scale radius / sqrt(2)."""
    y, x = np.mgrid[0:100, 0:120] + 0.5
    disk = ((x - 60) ** 2 + (y - 40) ** 2 <= 12**2).astype(np.float32)
    found = find_blobs(torch.from_numpy(disk).expand(3, -1, -1), np.geomspace(3, 20, 10))
    strongest = np.abs(found.seen[:, 1]).argmax()
    assert np.abs(found.centres[strongest] - [60, 40]).max() <= 1
    assert found.scales[strongest] * np.sqrt(2) == pytest.approx(12, rel=0.2)
    box = np.array([[48.0, 28, 72, 52]])
    assert nearest_box(found, box)[strongest] == 0
    assert (nearest_box(found, np.zeros((0, 4))) == -1).all()


def test_what_a_box_looks_like_is_its_size_and_its_colours() -> None:
    """Means and deviations by channel, of the pixels it covers; boxes beyond the image are cut."""
    image = torch.zeros(3, 20, 30)
    image[1, 5:10, 5:15] = 1.0
    inside, half, beyond = looks(image, np.array([[5.0, 5, 15, 10], [0, 5, 10, 10], [25, 15, 40, 30]]))
    assert inside.tolist() == pytest.approx([np.log(10), np.log(5), 0, 1, 0, 0, 0, 0])
    assert half.tolist() == pytest.approx([np.log(10), np.log(5), 0, 0.5, 0, 0, 0.5, 0])
    assert beyond[2:].tolist() == [0] * 6


def test_the_made_up_spots_have_the_sizes_that_they_say() -> None:
    """Else the tests above would claim nothing."""
    assert SIDES["rose"] == 2 * SIDES["leaf"]


def test_where_no_picture_has_a_box_nothing_is_found(splits: dict[str, Sequence[Row]]) -> None:
    """Instead of an error after training."""
    rows = [replace(row, target={"boxes": [], "labels": []}) for row in splits["train"][:3]]
    found = blobs(rows, rows)
    assert [row["boxes"] for row in found.predict(rows)] == [[], [], []]
