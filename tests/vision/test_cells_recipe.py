"""The recipe `cells`: on made-up spots as a user runs it, and on real cells."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import core
from core.errors import BaseError, DataError
from core.result import Run
from plugins.vision.ssd import SlimDetector
from plugins.vision.torchvision_detectors import TorchvisionDetector

from .spots import voc

pytest.importorskip("torchvision")
pytest.importorskip("torchmetrics")

SHORT: dict[str, Any] = {
    "fine_tune.epochs": 2,
    "fine_tune.batch_size": 4,
    "evaluate.resamples": 100,
    "preprocess": [
        {"transform": "decode"},
        {"transform": "resize", "size": [96, 128]},
        {"transform": "flip"},
        {"transform": "standardise"},
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, and a base of fresh weights."""
    root = tmp_path_factory.mktemp("cells")
    voc(root, 16, lists={"train": range(8), "val": range(8, 12), "test": range(12, 16)})
    torch.manual_seed(0)
    torch.save(SlimDetector().state_dict(), root / "base.pth")
    return root


@pytest.fixture(scope="module")
def finished(folder: Path) -> Run:
    return core.run(
        "vision/cells",
        out=folder / "runs",
        quiet=True,
        strict=True,
        **{"data.path": str(folder), "base.path": str(folder / "base.pth"), **SHORT},
    )


def test_every_contender_is_scored_and_the_parts_are_by_class(finished: Run) -> None:
    """mAP at .50, and over .50 to .95, of five; the base finds faces, which are none of the classes."""
    assert set(finished.contenders) == {"base", "guessed_class", "blobs", "scratch", "adapted"}
    assert all(set(scores) == {"map50", "map"} for scores in finished.contenders.values())
    assert finished.contenders["base"]["map50"] == 0
    assert finished.document["primary"] == "map50"
    assert set(finished.document["breakdowns"]["map50"]["adapted"]) == {"leaf", "rose"}
    assert set(finished.document["gains"]) == {"base", "guessed_class", "blobs", "scratch"}


def test_predictions_are_kept_as_rows_of_boxes_in_the_pictures_own_pixels(finished: Run) -> None:
    """Targets are those of the annotations; what is found lies inside the picture."""
    lines = (finished.folder / "predictions" / "adapted" / "report.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 4
    for row in rows:
        assert set(row) == {"id", "target", "boxes", "labels", "scores"}
        assert set(row["target"]) == {"boxes", "labels"}
        boxes = np.array(row["boxes"]).reshape(-1, 4)
        assert (boxes >= 0).all()
        assert (boxes <= [96, 72, 96, 72]).all()
        assert len(row["labels"]) == len(row["scores"]) == len(boxes)


def test_pictures_with_boxes_are_in_the_record(finished: Run) -> None:
    """Paths relative to the run's folder; of the pictures' own size; true boxes are drawn."""
    shown = finished.document["illustrations"]
    assert shown["pictures"] == [f"pictures/{i}.png" for i in (1, 2, 3, 4)]
    row = json.loads((finished.folder / "predictions/adapted/report.jsonl").read_text().splitlines()[0])
    with Image.open(finished.folder / shown["pictures"][0]) as picture:
        drawn = np.asarray(picture)
    assert drawn.shape == (72, 96, 3)
    left, upper, right, lower = map(int, row["target"]["boxes"][0])
    if not any(score >= 0.5 for score in row["scores"]):  # else another box may lie over it
        assert (drawn[upper, left:right] == 0).all()
        assert (drawn[upper:lower, left] == 0).all()
    assert shown["colours"]["what is there"] == "black"


def test_the_shell_scores_the_same_and_predicts_new_pictures(finished: Run, tmp_path: Path) -> None:
    """One twice as large is told of in its own pixels."""
    adapted = core.load(finished.shell)
    assert adapted.evaluate() == dict(finished.contenders["adapted"])
    large = tmp_path / "large.png"
    Image.fromarray(np.full((144, 192, 3), 30, np.uint8)).save(large)
    (answer,) = adapted.predict(str(large))
    assert set(answer) == {"boxes", "labels", "scores"}
    boxes = np.array(answer["boxes"]).reshape(-1, 4)
    assert (boxes <= [192, 144, 192, 144]).all()
    with pytest.raises(DataError, match="there is no such file"):
        adapted.predict("nowhere.png")


@pytest.mark.slow
def test_the_same_recipe_adapts_a_detector_of_torchvisions(folder: Path, tmp_path: Path) -> None:
    """With weights from a file, here fresh ones, by name; sealed, and with its own boxes among the contenders."""
    name = "ssdlite320_mobilenet_v3_large"
    torch.manual_seed(0)
    torch.save(TorchvisionDetector(name, 3, {}).detector.state_dict(), tmp_path / "weights.pth")
    base = {
        "source": "torchvision",
        "name": name,
        "weights": str(tmp_path / "weights.pth"),
        "labels": ["cat", "dog"],
    }
    changes = {
        "base": base,
        "data.path": str(folder),
        **SHORT,
        "evaluate.scratch": False,
        "fine_tune.epochs": 1,
    }
    run = core.run("vision/cells", out=tmp_path, quiet=True, strict=True, **changes)
    assert set(run.contenders) == {"base", "guessed_class", "blobs", "adapted"}
    assert (run.shell / "delta.json").is_file()


def test_a_base_that_is_no_detector_of_ours_is_refused(folder: Path, tmp_path: Path) -> None:
    """Before anything is trained."""
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(BaseError, match="does not fit SlimDetector"):
        core.run(
            "vision/cells",
            out=tmp_path,
            quiet=True,
            **{"data.path": str(folder), "base.path": str(tmp_path / "other.pth")},
        )


@pytest.mark.slow
def test_cells_are_found_after_a_few_epochs(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    """Three epochs without scratch, about a minute and a half: mAP50 beyond what the base's boxes and blobs have of red
    cells; the README has the figures of the whole recipe."""
    with tarfile.open(real_data("bccd") / "bccd.tar.gz") as packed:
        packed.extractall(tmp_path / "bccd", filter="data")
    weights = next(real_data("weights-ultralight-face").glob("*.pth"))
    run = core.run(
        "vision/cells",
        out=tmp_path,
        quiet=True,
        strict=True,
        **{
            "data.path": str(tmp_path / "bccd"),
            "base.path": str(weights),
            "fine_tune.epochs": 3,
            "evaluate.scratch": False,
            "evaluate.resamples": 200,
        },
    )
    parts = run.document["breakdowns"]["map50"]
    assert parts["adapted"]["RBC"] > parts["blobs"]["RBC"]
    assert run.contenders["adapted"]["map50"] > 0.5
    assert run.document["gains"]["base"]["low"] > 0
