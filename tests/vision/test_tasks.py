"""The task: labels, batches, predictions, and the files it reads."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from core.contract import Base, Row
from core.data.stored import Stored
from core.errors import DataError
from plugins.vision import options
from plugins.vision.tasks import Classify
from tests.conftest import Always

IMAGE = np.arange(64, dtype=np.float32).reshape(8, 8) / 4  # 0 to 15.75


def test_the_bases_labels_keep_their_places(task: Classify) -> None:
    """New labels follow, sorted, so that the base's outputs keep their meaning."""
    rows = [Row(None, label) for label in ("b", "z", "y", "a", "b")]
    assert task.fit(rows, {"labels": ["z", "y"]}) == {"labels": ["z", "y", "a", "b"]}
    assert task.fit([], {"labels": ["z", "y"]}) == {"labels": ["z", "y"]}


def test_the_task_asks_for_the_classes_that_are_missing(task: Classify, base: Base) -> None:
    """Ten labels want ten outputs; eight are there."""
    ten = {"labels": list("0123456789")}
    (edit,) = task.edits(base.model, ten)
    assert edit == {"edit": "grow", "axis": "classes", "to": 10, "init": "normal"}
    assert task.edits(base.model, {"labels": ten["labels"][:8]}) == []


def test_labels_that_the_base_has_none_of_get_a_new_head(task: Classify, base: Base) -> None:
    """ImageNet's words are of no use to cats and dogs, and neither are outputs whose meaning is not known."""
    rows = [Row(None, label) for label in ("dog", "cat", "dog")]
    for brought in ({"labels": list("01234567")}, {}):
        state = task.fit(rows, brought)
        assert state == {"labels": ["cat", "dog"], "head": "new"}
        assert task.edits(base.model, state) == [{"edit": "new_head", "axis": "classes", "to": 2}]
    assert "head" not in task.fit([*rows, Row(None, "6"), Row(None, "7")], {"labels": list("01234567")})


@pytest.mark.parametrize(
    ("base_labels", "labels"),
    [
        (None, ["apple", "lemon", "pear"]),
        ("drop", ["apple", "lemon", "pear"]),
        ("keep", ["lemon", "tench", "apple", "pear"]),
    ],
)
def test_a_base_of_other_things_gives_up_its_labels(base_labels: str | None, labels: list[str]) -> None:
    """One name in common makes a base of a thousand things none of fruit; the recipe may say otherwise."""
    task = Classify(options.Classify.model_validate({"base_labels": base_labels}))
    state = task.fit(
        [Row(None, label) for label in ("pear", "lemon", "apple")], {"labels": ["lemon", "tench"]}
    )
    assert state["labels"] == labels
    assert ("head" in state) == (base_labels != "keep")


def test_a_base_without_labels_predicts_outputs_and_one_without_outputs_nothing(task: Classify) -> None:
    """Which is wrong, and no error: the base is a contender."""
    batch = task.collate([(torch.zeros(1, 2, 2), -1)], torch.Generator())
    assert task.predict(Always(torch.tensor([[0.0, 9.0]])), batch, {"labels": []})[0]["label"] == "output 1"
    assert task.predict(Always(torch.zeros(1, 0)), batch, {"labels": []}) == [
        {"label": None, "probability": 0.0}
    ]


def test_images_of_several_sizes_are_refused_with_the_transform_that_is_missing(task: Classify) -> None:
    """Instead of what `stack` says."""
    with pytest.raises(DataError, match=r"not of one size .*: \(3, 4, 5\), \(3, 5, 4\)") as caught:
        task.collate([(torch.zeros(3, 4, 5), 0), (torch.zeros(3, 5, 4), 0)], torch.Generator())
    assert "transform: resize" in caught.value.hint


def test_files_that_nobody_decodes_are_refused(task: Classify, tmp_path: Path) -> None:
    """With the transform that is missing."""
    with pytest.raises(DataError, match="expected an image, got a Stored") as caught:
        task.encode(Row(Stored(tmp_path / "a.png")), {"labels": []})
    assert "put `decode` before it" in caught.value.hint


def test_without_a_size_files_are_handed_on_as_they_are(tmp_path: Path) -> None:
    """The recipe's own `decode` opens them; one that is not there is named."""
    (tmp_path / "a.jpg").write_bytes(b"")
    task = Classify(options.Classify.model_validate({}))
    assert task.parse([str(tmp_path / "a.jpg")], {"labels": []}) == [Row(Stored(tmp_path / "a.jpg"))]
    with pytest.raises(DataError, match=r"b\.jpg: there is no such file"):
        task.parse([str(tmp_path / "b.jpg")], {"labels": []})
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        task.parse(["a" * 5000], {"labels": []})


def test_the_loss_is_the_sum_of_cross_entropies(task: Classify) -> None:
    """In nats; the weight is the number of examples."""
    batch = task.collate([(torch.zeros(1, 2, 2), 0), (torch.zeros(1, 2, 2), 1)], torch.Generator())
    total, weight = task.loss(torch.zeros(2, 4), batch)
    assert float(total) == pytest.approx(2 * np.log(4))
    assert weight == 2.0


def test_in_bfloat16_it_learns_and_predicts_in_float32() -> None:
    """Training's logits are those of the lower precision, given as float32; predictions are the same as ever."""
    full, half = (Classify(options.Classify(precision=name)) for name in ("float32", "bfloat16"))
    examples = [(torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(i)), 0) for i in range(4)]
    batch, model = full.collate(examples, torch.Generator()), nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    with torch.no_grad():
        assert torch.equal(full.forward(model.eval(), batch), half.forward(model.eval(), batch))
        exact, rough = full.forward(model.train(), batch), half.forward(model.train(), batch)
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    assert float((exact - rough).abs().max()) < 0.05 * float(exact.abs().max())


def test_a_prediction_is_the_likeliest_label_with_its_probability(task: Classify) -> None:
    """A label that the state does not list is predicted all the same, wrongly."""
    state = {"labels": ["a", "b"]}
    rows = [Row(torch.zeros(1, 2, 2), label) for label in ("b", "unheard of")]
    batch = task.collate([task.encode(row, state) for row in rows], torch.Generator())
    predictions = task.predict(Always(torch.log(torch.tensor([[0.25, 0.75], [0.9, 0.1]]))), batch, state)
    assert predictions == [{"label": "b", "probability": 0.75}, {"label": "a", "probability": 0.9}]
    (accuracy,) = task.metrics()
    scores = [accuracy.score({**p, "target": row.target}) for p, row in zip(predictions, rows, strict=True)]
    assert scores == [(1.0, 1.0), (0.0, 1.0)]


def write_npy(path: Path) -> None:
    np.save(path, IMAGE)


def write_csv(path: Path) -> None:
    np.savetxt(path, IMAGE, delimiter=",")


def write_txt(path: Path) -> None:
    path.write_text("\n".join(" ".join(map(str, line)) for line in IMAGE.tolist()) + "\n\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "write"), [("a.npy", write_npy), ("a.csv", write_csv), ("A.TXT", write_txt)]
)
def test_numbers_are_read_as_they_stand(
    name: str, write: Callable[[Path], None], tmp_path: Path, task: Classify
) -> None:
    """The form of the dataset's own rows: (1, 8, 8), 0 to 16."""
    write(tmp_path / name)
    (row,) = task.parse([str(tmp_path / name)], {"labels": []})
    assert row.inputs.dtype == torch.float32
    assert row.inputs.shape == (1, 8, 8)
    assert row.inputs.flatten().tolist() == pytest.approx(IMAGE.flatten().tolist())
    assert row.target is None


def test_a_picture_is_made_grey_and_small(tmp_path: Path, task: Classify) -> None:
    """Blocks of 4x4 pixels become their mean; white is 16."""
    image = pytest.importorskip("PIL.Image")
    ink = np.indices((32, 32)).sum(0) % 2  # every other pixel: the mean is half of the white
    large = (np.kron(IMAGE / 16 * 255, np.ones((4, 4))) * ink).round().astype(np.uint8)
    image.fromarray(np.stack([large] * 3, 2)).save(tmp_path / "a.png")
    (row,) = task.parse([str(tmp_path / "a.png")], {"labels": []})
    assert row.inputs.shape == (1, 8, 8)
    assert row.inputs.flatten().tolist() == pytest.approx((IMAGE / 2).flatten().tolist(), abs=0.04)


def test_a_picture_without_pillow_names_the_extra(
    tmp_path: Path, task: Classify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to install, not a traceback."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"a\.png: reading pictures needs Pillow") as caught:
        task.parse([str(tmp_path / "a.png")], {"labels": []})
    assert caught.value.hint == "pip install 'taoke[vision]'"


def pickled(path: Path) -> None:
    np.save(path, np.array([{"an": "object"}]), allow_pickle=True)


WRONG: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no such file": ("a.npy", lambda path: None, "there is no such file"),
    "another kind": ("a.tiff", lambda path: path.write_bytes(b"II"), r"expected a file that ends in \.npy"),
    "text named npy": ("a.npy", lambda path: path.write_text("hello"), "expected a NumPy array of numbers"),
    "empty npy": ("a.npy", lambda path: path.write_bytes(b""), "expected a NumPy array of numbers"),
    "pickled objects": ("a.npy", pickled, "expected a NumPy array of numbers"),
    "several arrays": ("a.npy", lambda path: np.savez(path.open("wb"), a=IMAGE), "expected one NumPy array"),
    "words in an array": ("a.npy", lambda path: np.save(path, np.array(["x"])), "of real numbers"),
    "another shape": ("a.npy", lambda path: np.save(path, IMAGE[:4]), r"expected an image of shape \(8, 8\)"),
    "values up to 255": ("a.npy", lambda path: np.save(path, IMAGE * 16), "expected values from 0 .*to 252"),
    "not a number": ("a.npy", lambda path: np.save(path, IMAGE * np.nan), "expected values from 0"),
    "words": ("a.csv", lambda path: path.write_text("a,b\n1,2"), "expected 8 lines of 8 numbers: could not"),
    "ragged": ("a.csv", lambda path: path.write_text("1,2\n1"), "got 2 lines of 1 or 2 numbers"),
    "empty text": ("a.txt", lambda path: path.write_text(""), "got 0 lines of no numbers"),
    "bytes that are no text": ("a.txt", lambda path: path.write_bytes(b"\xff\xfe\x00"), "expected 8 lines"),
    "a folder": ("a.csv", lambda path: path.mkdir(), "there is no such file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused(name: str, tmp_path: Path, task: Classify) -> None:
    """With its path, what was expected, and what to do."""
    file, write, message = WRONG[name]
    write(tmp_path / file)
    with pytest.raises(DataError, match=message) as caught:
        task.parse([str(tmp_path / file)], {"labels": []})
    assert str(tmp_path / file) in caught.value.message
    assert caught.value.hint


def test_what_is_transparent_in_a_picture_is_black(tmp_path: Path, task: Classify) -> None:
    """Whatever colour lies under it."""
    image = pytest.importorskip("PIL.Image")
    pixels = np.full((16, 16, 4), 255, dtype=np.uint8)
    pixels[:8, :, 3] = 0
    image.fromarray(pixels).save(tmp_path / "a.png")
    (row,) = task.parse([str(tmp_path / "a.png")], {"labels": []})
    assert row.inputs[0, :, 0].tolist() == [0.0] * 4 + [16.0] * 4


def test_a_broken_picture_is_refused(tmp_path: Path, task: Classify) -> None:
    """The same, for what Pillow cannot open, and for what it would cut off at 8 bits."""
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "a.jpg").write_bytes(b"not a picture")
    image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    for name, message in (("a.jpg", "expected a picture"), ("deep.png", "more than 8 bits a channel")):
        with pytest.raises(DataError, match=f"{name}: .*{message}"):
            task.parse([str(tmp_path / name)], {"labels": []})
