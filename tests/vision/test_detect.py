"""The task `detect`: from boxes in the user's pictures to examples, and from what a model finds back to them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from core.contract import Row
from core.data.stored import Stored
from core.errors import DataError, EditError
from core.prepared import as_json
from plugins.vision import options
from plugins.vision.annotated import Boxes
from plugins.vision.detect import Detect
from plugins.vision.detectors import Detector, Found
from plugins.vision.edits import NewBoxes
from plugins.vision.geometry import Decode, Flip, RandomCrop, Resize
from plugins.vision.ssd import SlimDetector

from .spots import voc

pytest.importorskip("torchvision")


@pytest.fixture
def task() -> Detect:
    return Detect(options.Detect())


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    """Decoded pictures, 96 x 72, made twice as large."""
    lists = {"train": range(6), "val": [6], "test": [7]}
    splits = Boxes(options.Boxes(path=str(voc(tmp_path, 8, lists=lists)))).rows()
    rng = torch.Generator()
    decode, resize = Decode(options.Decode()), Resize(options.Resize(size=(144, 192)))
    return [resize.apply(decode.apply(row, None, rng), None, rng) for row in splits["train"]]


class Seeing(Detector):
    """Finds what it is told to."""

    def __init__(self, found: Found) -> None:
        super().__init__()
        self.found, self.weight = found, nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor, truths: object = None) -> list[Found]:  # type: ignore[override]
        return [self.found] * len(images)


def test_the_state_is_json_with_sorted_classes_and_anchors_in_the_models_pixels(
    task: Detect, rows: list[Row]
) -> None:
    """Spots of 12 and of 24 pixels, twice as large in the model's input."""
    state = task.fit(rows, {"labels": ["face"]})
    assert state == as_json(state, "x")
    assert state["labels"] == ["leaf", "rose"]
    sides = [side for size in state["anchors"] for side in size]
    assert min(sides) == 24
    assert max(sides) == 48
    assert task.fit([], {"labels": ["face"]}) == {"labels": ["face"]}


def test_classes_that_the_base_knows_change_nothing(task: Detect, rows: list[Row]) -> None:
    """No edit: the base's own classes and anchors stay."""
    state = task.fit(rows, {"labels": ["leaf", "moss", "rose"]})
    assert state == {"labels": ["leaf", "moss", "rose"]}
    assert task.edits(SlimDetector(3), state) == []


def test_the_edits_name_the_classes_and_the_anchors_by_level(task: Detect, rows: list[Row]) -> None:
    """As a recipe would write them; a model that is no detector is refused."""
    state = task.fit(rows, {"labels": ["face"]})
    (edit,) = task.edits(SlimDetector(), state)
    assert edit["edit"] == "vision.new_boxes"
    assert edit["classes"] == 2
    assert sorted(size for level in edit["anchors"] for size in level) == sorted(map(list, state["anchors"]))
    by_recipe = NewBoxes(options.NewBoxes(classes=2, anchors=[[(9, 9)], [], [], []]))
    assert task.edits(by_recipe.apply(SlimDetector()), state) == []
    with pytest.raises(EditError, match="Linear is no detector"):
        task.edits(nn.Linear(1, 1), state)


def test_examples_have_boxes_in_the_images_pixels(task: Detect, rows: list[Row]) -> None:
    """Twice as large as in the picture, with classes by the state's order; unknown ones are left out."""
    state = {"labels": ["leaf", "rose"]}
    example = task.encode(rows[0], state)  # type: ignore[arg-type]
    assert example.image.dtype == torch.float32
    assert torch.equal(example.truth.boxes, 2 * torch.tensor(rows[0].target["boxes"]))
    assert [state["labels"][i] for i in example.truth.labels] == rows[0].target["labels"]
    assert not len(task.encode(rows[0], {"labels": ["face"]}).truth.boxes)


def test_boxes_of_which_little_is_left_are_not_learned_from(rows: list[Row]) -> None:
    """Cut to a window in the middle of a box: the visible part decides."""
    row = Row(
        {"image": torch.zeros(3, 40, 40), "matrix": [[1, 0, -10], [0, 1, 0]], "size": [60, 40]},
        {"boxes": [[0, 0, 14, 20], [5, 0, 25, 20]], "labels": ["a", "b"]},
    )
    state = {"labels": ["a", "b"]}
    kept = Detect(options.Detect(visible=0.5)).encode(row, state).truth  # type: ignore[arg-type]
    assert kept.boxes.tolist() == [[0, 0, 15, 20]]
    assert kept.labels.tolist() == [1]
    all_of_them = Detect(options.Detect(visible=0.0)).encode(row, state).truth  # type: ignore[arg-type]
    assert len(all_of_them.boxes) == 2


def test_predictions_are_in_the_pixels_of_the_picture_as_it_was_given(task: Detect, rows: list[Row]) -> None:
    """Found where the boxes lie in an image that was resized, mirrored and cut, they come back as they were."""
    rng = torch.Generator().manual_seed(0)
    cut = RandomCrop(options.RandomCrop(size=(184, 232), padding=20))
    row = cut.apply(Flip(options.Flip(probability=1.0)).apply(rows[0], None, rng), None, rng)
    state = {"labels": ["leaf", "rose"]}
    example = Detect(options.Detect(visible=1.0)).encode(row, state)  # type: ignore[arg-type]
    assert len(example.truth.boxes) == len(row.target["boxes"])
    scores = torch.linspace(0.9, 0.5, len(example.truth.boxes))
    model = Seeing(Found(example.truth.boxes, example.truth.labels, scores)).eval()
    (answer,) = task.predict(model, task.collate([example], rng), state)  # type: ignore[arg-type]
    assert answer["labels"] == row.target["labels"]
    assert torch.allclose(torch.tensor(answer["boxes"]), torch.tensor(row.target["boxes"]), atol=0.02)
    assert answer["scores"] == sorted(answer["scores"], reverse=True)
    assert answer == as_json(answer, "x")


def test_boxes_that_overlap_better_ones_of_their_class_go(rows: list[Row]) -> None:
    """Not those of other classes; nor are low scores told, nor boxes outside the picture."""
    task = Detect(options.Detect(score=0.1, most=3))
    state = {"labels": ["a", "b"]}
    found = Found(
        torch.tensor(
            [[10.0, 10, 50, 50], [12, 12, 50, 50], [11, 10, 50, 50], [900, 9, 950, 40], [60, 60, 90, 90]]
        ),
        torch.tensor([0, 0, 1, 0, 0]),
        torch.tensor([0.8, 0.9, 0.7, 0.9, 0.05]),
    )
    batch = task.collate([task.encode(rows[0], state)], torch.Generator())  # type: ignore[arg-type]
    (answer,) = task.predict(Seeing(found).eval(), batch, state)  # type: ignore[arg-type]
    assert answer["labels"] == ["a", "b"]
    assert answer["scores"] == [0.9, 0.7]
    assert answer["boxes"][0] == [6.0, 6.0, 25.0, 25.0]


def test_inputs_that_say_no_place_are_refused(task: Detect) -> None:
    """An image alone does not say where it lies in its picture."""
    with pytest.raises(DataError, match=r"does not say where.*\n.*`decode` first"):
        task.encode(Row(torch.zeros(3, 8, 8), {"boxes": [], "labels": []}), {"labels": []})


def test_images_of_two_sizes_are_refused(task: Detect, rows: list[Row]) -> None:
    """With what to add to the recipe."""
    small = Resize(options.Resize(size=(72, 96))).apply(rows[0], None, torch.Generator())
    examples = [task.encode(row, {"labels": []}) for row in (rows[1], small)]
    with pytest.raises(DataError, match=r"not of one size.*\n.*resize"):
        task.collate(examples, torch.Generator())


def test_users_point_at_pictures(task: Detect, tmp_path: Path) -> None:
    """A path that is no file is told."""
    file = voc(tmp_path, 1) / "JPEGImages" / "spot0.png"
    (row,) = task.parse([str(file)], {"labels": []})
    assert row.inputs == {"image": Stored(file)}
    assert row.target is None
    with pytest.raises(DataError, match="'': names no file"):
        task.parse([""], {"labels": []})
    with pytest.raises(DataError, match="is a folder"):
        task.parse([str(tmp_path)], {"labels": []})
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        task.parse(["a" * 5000], {"labels": []})
