"""The dataset `boxes`: folders in the form of Pascal VOC, and everything that may be wrong with them."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.data.rows import is_streamed
from core.data.stored import Stored
from core.errors import DataError, DataWarning
from core.rows import data_digest, duplicates, identify, refuse_leaks
from plugins.vision import options
from plugins.vision import voc as voc_file
from plugins.vision.annotated import Boxes

from .spots import annotate, listed, voc, write

LISTS = {"train": range(4), "val": range(4, 6), "test": range(6, 8)}


def boxes(path: Path, **more: Any) -> Boxes:
    return Boxes(options.Boxes.model_validate({"path": str(path), **more}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight pictures, in three lists."""
    return voc(tmp_path / "voc", 8, lists=LISTS)


def test_two_lists_of_one_split_are_refused(folder: Path) -> None:
    """Instead of the last one."""
    (folder / "ImageSets" / "Main" / "valid.txt").write_text("spot7\n")
    with pytest.raises(DataError, match=r"val\.txt and valid\.txt are both lists of 'select'"):
        boxes(folder).rows()


def test_the_lists_say_which_picture_is_in_which_split(folder: Path) -> None:
    """Rows are streamed: files, with boxes and classes as JSON."""
    splits = boxes(folder).rows()
    assert {name: [row.inputs["image"].path.stem for row in rows] for name, rows in splits.items()} == {
        "train": ["spot0", "spot1", "spot2", "spot3"],
        "select": ["spot4", "spot5"],
        "report": ["spot6", "spot7"],
    }
    assert all(is_streamed(rows) for rows in splits.values())
    row = splits["train"][0]
    assert isinstance(row.inputs["image"], Stored)
    assert len(row.target["boxes"]) == len(row.target["labels"]) > 0
    assert data_digest(identify(splits["train"])).startswith("sha256:")


def test_without_lists_the_recipe_splits(tmp_path: Path) -> None:
    """At random by content: a tenth and a fifth, or as it says; other draws, other splits."""
    root = voc(tmp_path, 40)
    splits = boxes(root).rows()
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 28, "select": 4, "report": 8}
    other = boxes(root, splits={"how": "random", "draw": 1, "report": 0.5}).rows()
    assert len(other["report"]) == 20


def test_where_all_splits_are_given_there_is_nothing_to_split(folder: Path) -> None:
    """The recipe's `splits` would be left unused."""
    with pytest.raises(DataError, match="nothing to split"):
        boxes(folder, splits={"how": "random"}).rows()


def test_what_is_not_listed_as_val_is_taken_out_of_train(folder: Path) -> None:
    """The test list stays as it is."""
    (folder / "ImageSets" / "Main" / "val.txt").unlink()
    with pytest.warns(DataWarning, match=r"2 pictures of .* that no list .* names.*\n.*spot4\n.*spot5"):
        splits = boxes(folder, splits={"how": "random", "select": 1}).rows()
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 3, "select": 1, "report": 2}


def test_boxes_beyond_the_picture_are_clipped_and_told(folder: Path) -> None:
    """File, line and box; the target holds what is inside."""
    annotate(folder, "spot0", [("rose", (10, 10, 30, 30)), ("leaf", (-3, 60, 20, 80))])
    with pytest.warns(
        DataWarning, match=r"1 boxes that reach beyond.*\n.*spot0.xml, line 5: leaf \[-3.0, 60.0"
    ):
        splits = boxes(folder).rows()
    assert splits["train"][0].target == {
        "boxes": [[10.0, 10.0, 30.0, 30.0], [0.0, 60.0, 20.0, 72.0]],
        "labels": ["rose", "leaf"],
    }


@pytest.mark.parametrize(
    "box", [(5, 5, 5, 9), (9, 5, 5, 9), (200, 5, 210, 9)], ids=["no width", "turned", "outside"]
)
def test_boxes_of_no_area_are_left_out_counted_and_named(folder: Path, box: tuple[int, ...]) -> None:
    """So are those that lie wholly outside; the picture's other boxes stay."""
    annotate(folder, "spot1", [("rose", (10, 10, 30, 30)), ("rose", box)])  # type: ignore[list-item]
    with pytest.warns(DataWarning, match=r"1 boxes of no area.*\n.*spot1.xml, line 5: rose"):
        splits = boxes(folder).rows()
    assert splits["train"][1].target["boxes"] == [[10.0, 10.0, 30.0, 30.0]]


def test_a_picture_of_nothing_is_valid(folder: Path) -> None:
    """An annotation without an object."""
    annotate(folder, "spot2", [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        splits = boxes(folder).rows()
    assert splits["train"][2].target == {"boxes": [], "labels": []}


def damaged(root: Path, how: str) -> None:
    match how:
        case "class":
            annotate(root, "spot7", [("rose", (1, 1, 9, 9)), ("roze", (1, 1, 9, 9))])
        case "picture":
            (root / "JPEGImages" / "spot3.png").unlink()
        case "annotation":
            (root / "Annotations" / "spot3.xml").unlink()
        case "both":
            listed(root, "train", ["spot0", "spot99"])
        case "xml":
            write(root, "spot3", "<annotation>\n<object>\n<name>rose</object></annotation>")
        case "other xml":
            write(root, "spot3", "<svg></svg>")
        case "empty":
            write(root, "spot3", "")
        case "entities":
            write(root, "spot3", '<!DOCTYPE a [<!ENTITY b "c">]>\n<annotation>&b;</annotation>')
        case "unknown encoding":
            write(root, "spot3", '<?xml version="1.0" encoding="foo-8"?>\n<annotation/>')
        case "wide encoding":
            write(root, "spot3", '<?xml version="1.0" encoding="shift_jis"?>\n<annotation/>')
        case "two annotations":
            path = root / "Annotations" / "spot3.xml"
            write(root, "other", path.read_text())
            listed(root, "train", ["spot0", "spot3", "other"])
        case "empty list":
            listed(root, "train", [])
        case "empty list of select":
            listed(root, "val", [])
        case "latin list":
            (root / "ImageSets" / "Main" / "train.txt").write_bytes("spot0\nK\xfche\n".encode("latin-1"))
        case "number":
            annotate(root, "spot3", [("rose", (1, 1, "ten", 9))])  # type: ignore[list-item]
        case "side":
            write(
                root,
                "spot3",
                "<annotation>\n<object><name>rose</name><bndbox><xmin>1</xmin></bndbox></object></annotation>",
            )
        case "name":
            write(root, "spot3", "<annotation>\n\n<object><bndbox/></object></annotation>")
        case "size":
            annotate(root, "spot3", [("rose", (1, 1, 9, 9))], size=(72, 96))
        case "twice":
            listed(root, "val", ["spot4", "spot5", "spot4"])
        case "pixels":
            (root / "JPEGImages" / "spot3.png").write_bytes(b"no picture")
        case "two":
            Image.fromarray(np.zeros((72, 96, 3), np.uint8)).save(root / "JPEGImages" / "spot3.jpg")
        case "no train":
            (root / "ImageSets" / "Main" / "train.txt").unlink()


SAID = {
    "class": r"spot7.xml, line 5: the class 'roze' is none of those that train shows.*\n.*'rose'",
    "picture": r"spot3.xml: there is no picture spot3.jpg in .*says it is of spot3.png\n.*restore",
    "annotation": r"train.txt, line 4: .*spot3.png has no annotation .*spot3.xml\n.*unannotated=skip",
    "both": r"train.txt, line 2: there is no picture .*spot99.jpg\n.*remove the line",
    "xml": r"spot3.xml, line 3: no XML that can be read: mismatched tag\n.*restore",
    "other xml": r"spot3.xml: expected <annotation>, got <svg>",
    "empty": r"spot3.xml, line 1: no XML that can be read: no element found",
    "entities": r"spot3.xml, line 1: it declares a document type.*\n.*DOCTYPE",
    "unknown encoding": r"spot3.xml: no XML that can be read: unknown encoding: foo-8\n.*UTF-8",
    "wide encoding": r"spot3.xml: no XML that can be read: multi-byte encodings .*\n.*UTF-8",
    "two annotations": r"train.txt, line 3: .*spot3.xml and .*other.xml are both of .*spot3.png",
    "empty list": r"train.txt: it names no picture",
    "empty list of select": r"val.txt: it names no picture",
    "latin list": r"train.txt, line 2: byte 0xfc is no UTF-8",
    "number": r"spot3.xml, line 4: expected a number as xmax, got 'ten'",
    "side": r"spot3.xml, line 2: a bndbox without ymin",
    "name": r"spot3.xml, line 3: an object without a name",
    "size": r"spot3.xml: it says that the picture has 72 x 96 pixels, and it has 96 x 72",
    "twice": r"val.txt, line 3: spot4 stands in line 1 already",
    "pixels": r"1 of 8 files are no pictures.*\n.*spot3.png",
    "two": r"spot3.jpg, spot3.png have one name",
    "no train": r"it has .* and no train.txt",
}


@pytest.mark.parametrize("how", SAID)
def test_what_is_wrong_is_refused_with_its_place_and_a_remedy(folder: Path, how: str) -> None:
    """File, and line where there is one."""
    damaged(folder, how)
    with pytest.raises(DataError, match=SAID[how]) as refused:
        boxes(folder).rows()
    assert refused.value.hint


def test_a_folder_of_another_form_is_told_what_was_expected(tmp_path: Path) -> None:
    """Both missing folders are named, and the form."""
    with pytest.raises(DataError, match=r"no folder JPEGImages and no folder Annotations\n.*Pascal VOC"):
        boxes(tmp_path).rows()


@pytest.mark.parametrize(("how", "left"), [("skip", 3), ("empty", 4)])
def test_pictures_without_an_annotation_are_left_out_or_empty_on_request(
    folder: Path, how: str, left: int
) -> None:
    """And told, either way."""
    (folder / "Annotations" / "spot3.xml").unlink()
    with pytest.warns(DataWarning, match=r"1 pictures without an annotation"):
        rows = boxes(folder, unannotated=how).rows()["train"]
    assert len(rows) == left
    assert how == "skip" or rows[3].target == {"boxes": [], "labels": []}


def test_classes_can_be_named_and_a_box_of_any_other_is_refused(folder: Path) -> None:
    """In whatever split."""
    with pytest.raises(DataError, match=r"is none of those that data\.classes names"):
        boxes(folder, classes=["rose"]).rows()


def test_a_picture_is_found_by_the_name_its_annotation_gives(folder: Path) -> None:
    """Where none has the annotation's own name; a path in it leads nowhere else."""
    (folder / "JPEGImages" / "spot3.png").rename(folder / "JPEGImages" / "renamed.png")
    content = (
        (folder / "Annotations" / "spot3.xml").read_text().replace("spot3.png", "../elsewhere/renamed.png")
    )
    write(folder, "spot3", content)
    assert boxes(folder).rows()["train"][3].inputs["image"].path.name == "renamed.png"
    shutil.rmtree(folder / "ImageSets")
    splits = boxes(folder, splits={"how": "random", "select": 2, "report": 2}).rows()
    names = [row.inputs["image"].path.name for rows in splits.values() for row in rows]
    assert len(names) == 8  # once, with its boxes, and not again as a picture without an annotation
    assert "renamed.png" in names


def test_a_picture_on_its_side_is_measured_as_it_is_seen(folder: Path) -> None:
    """Its boxes are of the picture as decoded: turned as its metadata say."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder / "JPEGImages" / "spot3.png").unlink()
    Image.fromarray(np.zeros((96, 72, 3), np.uint8)).save(folder / "JPEGImages" / "spot3.jpg", exif=exif)
    assert len(boxes(folder).rows()["train"]) == 4  # the annotation says 96 x 72


@pytest.mark.parametrize("orientation", [0, 9, 99])
def test_an_orientation_that_means_nothing_turns_no_picture(folder: Path, orientation: int) -> None:
    """As where the picture is decoded."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    (folder / "JPEGImages" / "spot3.png").unlink()
    Image.fromarray(np.zeros((72, 96, 3), np.uint8)).save(folder / "JPEGImages" / "spot3.jpg", exif=exif)
    assert len(boxes(folder).rows()["train"]) == 4  # the annotation says 96 x 72


def test_a_long_text_is_read_in_time_that_grows_with_its_length(tmp_path: Path) -> None:
    """Half a million lines in one element, which used to be copied once a line: 25 seconds."""
    path = tmp_path / "long.xml"
    path.write_text("<annotation><filename>" + "x\n" * 500_000 + "</filename></annotation>")
    begun = time.process_time()
    assert len(str(voc_file.read(path).picture)) == 999_999
    assert time.process_time() - begun < 5


def test_one_picture_in_two_splits_is_found_by_its_content(folder: Path) -> None:
    """The core refuses it, and shows both files."""
    copied = (folder / "JPEGImages" / "spot0.png").read_bytes()
    (folder / "JPEGImages" / "spot6.png").write_bytes(copied)
    splits = {name: identify(rows) for name, rows in boxes(folder).rows().items()}
    with pytest.raises(DataError, match=r"spot0.png = .*spot6.png \(row 1 of train, row 1 of report\)"):
        refuse_leaks(duplicates(splits), allowed=False, splits=splits)


def test_bccd_has_4888_boxes_of_which_two_have_no_area(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    """Both are named; the splits are the data's own."""
    import tarfile

    with tarfile.open(real_data("bccd") / "bccd.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    with pytest.warns(
        DataWarning, match=r"2 boxes of no area.*\n.*00343.xml, line 50: RBC.*\n.*00338.xml, line 158"
    ):
        splits = boxes(tmp_path).rows()
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 205, "select": 87, "report": 72}
    labels = [label for rows in splits.values() for row in rows for label in row.target["labels"]]
    assert {name: labels.count(name) for name in set(labels)} == {"RBC": 4153, "WBC": 372, "Platelets": 361}
