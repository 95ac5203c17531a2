"""The recipe `images`: from a folder of one's own and a model of timm's to predictions, and what `auto` chooses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import core
from core.bases import write_tensors
from core.contract import Choice
from core.errors import BaseError, DataError, RecipeError
from plugins.vision.complete import complete

Image = pytest.importorskip("PIL.Image")
timm = pytest.importorskip("timm")

COLOURS = {"blue": (60, 60, 190), "green": (60, 190, 60), "red": (190, 60, 60)}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def pictures(folder: Path, each: int) -> Path:
    """Noisy pictures of several sizes, told apart by their colour."""
    random = np.random.RandomState(0)
    for label, colour in COLOURS.items():
        (folder / label).mkdir(parents=True)
        for i in range(each):
            height, width = random.randint(30, 60, 2)
            pixels = random.normal(colour, 40, (height, width, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i:02}.jpg")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("pictures") / "own", 14)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a small model with 1,000 outputs, as if it were ImageNet's."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    write_tensors(path, dict(timm.create_model("test_resnet", pretrained=False).state_dict()))
    return path


def chosen(data: Path, base: Any = "timm:test_resnet", **more: Any) -> dict[str, Choice]:
    recipe: Mapping[str, Any] = {
        "task": "vision.classify",
        "base": base,
        "data": {"dataset": "images", "path": str(data), "splits": "auto"},
        **more,
    }
    return {choice.key: choice for choice in complete(recipe)}


def test_what_is_chosen_fits_the_data_and_the_base_and_says_why(folder: Path) -> None:
    """Sizes and interpolation are the base's; splits, batches and epochs go by how many pictures there are."""
    choices = chosen(folder)
    assert choices["data.splits"].value == {"how": "stratified", "select": 0.2, "report": 0.2}
    assert "42 pictures in 3 classes, the smallest (blue) has 14" in choices["data.splits"].why
    steps = choices["preprocess"].value
    assert [step["transform"].removeprefix("vision.") for step in steps] == [
        "decode",
        "resize",
        "center_crop",
        "flip",
        "random_crop",
        "standardise",
    ]
    assert steps[2]["size"] == 160
    assert "trained with 160 x 160" in choices["preprocess"].why
    assert choices["fine_tune.strategy"].value == "head"
    assert choices["fine_tune.batch_size"].value == 16
    assert choices["fine_tune.epochs"].value == 15
    assert all(choice.why for choice in choices.values())


@pytest.mark.parametrize(("shapes", "size"), [([(40, 60), (60, 40)], 50), ([(40, 60), (20, 30)], [30, 45])])
def test_a_base_of_no_known_size_gets_a_crop_that_every_picture_fills(
    tmp_path: Path, shapes: list[tuple[int, int]], size: Any
) -> None:
    """A square where the pictures differ in shape, else their shape: the crop adds no black."""
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(10):
            height, width = shapes[i % 2]
            Image.new("RGB", (width, height)).save(tmp_path / label / f"{i}.png")
    steps = chosen(tmp_path, {"source": "file", "path": "x.pth", "architecture": "x:y"})["preprocess"].value
    assert steps[2]["size"] == size
    assert steps[1]["size"] == (size if isinstance(size, int) else min(size))


def test_many_pictures_get_larger_batches_and_fewer_epochs(tmp_path: Path) -> None:
    """About five hundred steps; the count alone decides, so empty files do."""
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(6000):
            (tmp_path / label / f"{i}.jpg").touch()
    choices = chosen(tmp_path)
    assert choices["fine_tune.batch_size"].value == 64
    assert choices["fine_tune.epochs"].value == 4
    assert choices["fine_tune.strategy"].value == {
        "strategy": "lp_ft",
        "head_epochs": 1,
        "body": 0.01,
        "statistics": False,
    }
    assert choices["data.splits"].value == {"how": "stratified", "select": 0.1, "report": 0.2}


def test_splits_that_are_folders_are_left_alone(folder: Path, tmp_path: Path) -> None:
    """Only what is missing is made."""
    shutil.copytree(folder, tmp_path / "train")
    shutil.copytree(folder, tmp_path / "test")
    splits = chosen(tmp_path)["data.splits"]
    assert splits.value == {"how": "stratified", "select": 0.2}
    assert "train and report are given" in splits.why


def test_a_transformer_gets_its_own_preprocessing(folder: Path) -> None:
    """Size and interpolation as it was trained."""
    many = chosen(pictures(folder.parent / "many", 30), {"source": "timm", "name": "vit_tiny_patch16_224"})
    assert many["preprocess"].value[2]["size"] == 224
    assert many["preprocess"].value[1]["interpolation"] == "bicubic"


def test_what_is_wrong_is_said_before_anything_is_chosen(folder: Path, tmp_path: Path) -> None:
    """No data, no such model, one class."""
    with pytest.raises(RecipeError, match="names no data"):
        complete({"task": "vision.classify", "base": "timm:resnet18", "data": {"dataset": "images"}})
    with pytest.raises(BaseError, match="no model 'resnet81'"):
        chosen(folder, "timm:resnet81")
    with pytest.raises(RecipeError, match="names no model"):
        chosen(folder, {"source": "timm"})
    shutil.copytree(folder / "red", tmp_path / "red")
    with pytest.raises(DataError, match="one class alone, 'red'"):
        chosen(tmp_path)


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "core", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_line_leads_from_a_folder_to_predictions(folder: Path, weights: Path, tmp_path: Path) -> None:
    """Chosen, trained, judged, sealed; then pictures of any size are predicted from the shell by the same transforms,
    as the run predicted them."""
    options = [
        "base=timm:test_resnet",
        f"base.weights={weights}",
        "fine_tune.epochs=3",
        "fine_tune.strategy=full",
    ]
    done = command("run", "vision/images", f"data={folder}", *options, "--json", folder=tmp_path)
    assert done.returncode in (0, 3), done.stderr
    document = json.loads(done.stdout)
    assert document["contenders"]["base"]["accuracy"] == 0.0
    assert document["contenders"]["linear_probe"]["accuracy"] > 0.8
    shell = core.load(tmp_path / document["shell"])
    rows = shell.rows("report")
    assert len(rows) == 8
    predictions = tmp_path / document["run"] / "predictions" / "adapted" / "report.jsonl"
    in_the_run = [json.loads(line) for line in predictions.read_text(encoding="utf-8").splitlines()]
    dataset = shell.context.make(shell.context.recipe.data).rows()["report"]
    again = shell.predict([str(row.inputs.path) for row in dataset])
    assert [one["label"] for one in again] == [one["label"] for one in in_the_run]
    assert {one["label"] for one in again} <= set(COLOURS)
    (folder.parent / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.jpg: no picture that can be read"):
        shell.predict([str(folder.parent / "broken.jpg")])


def test_an_unreadable_picture_ends_the_run_with_2_and_leaves_nothing(
    folder: Path, weights: Path, tmp_path: Path
) -> None:
    """From the command line, in one message."""
    shutil.copytree(folder, tmp_path / "own")
    (tmp_path / "own" / "red" / "03.jpg").write_bytes(b"no picture")
    given = [f"data={tmp_path / 'own'}", "base=timm:test_resnet", f"base.weights={weights}"]
    done = command("run", "vision/images", *given, folder=tmp_path)
    assert done.returncode == 2
    assert "1 of 42 files are no pictures that can be read" in done.stderr
    assert "03.jpg" in done.stderr
    assert "data.unreadable=skip" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_nothing_that_is_fitted_depends_on_report(folder: Path, weights: Path, tmp_path: Path) -> None:
    """Other pictures to report on: the fitted statistics and the trained weights are the same to the bit."""
    for name in ("one", "other"):
        shutil.copytree(folder, tmp_path / name / "train")
        pictures(tmp_path / name / "test", 4)
    for path in (tmp_path / "other" / "test").rglob("*.jpg"):
        Image.open(path).rotate(90, expand=True).point(lambda v: v // 2).save(path)
    steps = [
        {"transform": "decode"},
        {"transform": "resize", "size": [32, 32]},
        {"transform": "flip"},
        {"transform": "normalise"},
    ]
    found = []
    for name in ("one", "other"):
        run = core.run(
            "vision/images",
            out=tmp_path / "runs",
            quiet=True,
            strict=True,
            data=str(tmp_path / name),
            base={"source": "timm", "name": "test_resnet", "weights": str(weights)},
            preprocess=steps,
            allow=["duplicates"],
            **{"fine_tune.epochs": 1, "fine_tune.strategy": "full"},
        )
        shell = Path(run.shell)
        states = json.loads((shell / "preprocess.json").read_text(encoding="utf-8"))
        delta = json.loads((shell / "delta.json").read_text(encoding="utf-8"))
        found.append((states, delta["adapted"], run.contenders["adapted"]))
    assert found[0][:2] == found[1][:2]
    assert [key for key in found[0][0]["transforms"] if "normalise" in key]
