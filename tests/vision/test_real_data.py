"""The recipes on real data, which the project does not ship; the README has the figures.

The long ones are marked slow: `python -m pytest -m slow tests/vision`.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import core
from core import base_file
from core import options as core_options
from core.bases import digest
from plugins.vision import train_mnist

from .test_idx import idx

pytest.importorskip("PIL")

Find = Callable[[str], Path]


@pytest.fixture(scope="session")
def cifar(real_data: Find, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and test/ of class folders."""
    folder = tmp_path_factory.mktemp("cifar")
    for archive in sorted(real_data("cifar10-jpg").glob("*.tar.gz")):
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
    return folder


@pytest.mark.slow
def test_cifar_jpeg_starts_at_the_published_score_and_reaches_the_loop_by_hand(
    cifar: Path, real_data: Find, tmp_path: Path
) -> None:
    """81.03 % on all 10,000 test images before, 86 % or more after; `python -m benchmarks.endtoend.cifar` times it.
    About two minutes."""
    weights = next(real_data("weights-cifar10-resnet").glob("*.th"))
    overrides = {"data.path": str(cifar), "base.path": str(weights)}
    run = core.run("vision/cifar-jpeg", out=tmp_path, quiet=True, strict=True, **overrides)
    scores = {name: by_metric["accuracy"] for name, by_metric in run.contenders.items()}
    assert scores["base"] == 0.8103
    assert scores["adapted"] >= 0.858
    assert run.verdict == "ship"


@pytest.mark.slow
def test_lenet_starts_at_the_published_score(real_data: Find, tmp_path: Path) -> None:
    """98.40 % on the 3,000 test digits before; better after. About two minutes."""
    weights = next(real_data("weights-mnist-lenet").glob("*.pth"))
    overrides = {"data.path": str(real_data("mnist")), "base.path": str(weights)}
    run = core.run("vision/mnist", out=tmp_path, quiet=True, strict=True, **overrides)
    scores = {name: by_metric["accuracy"] for name, by_metric in run.contenders.items()}
    assert scores["base"] == 0.984
    assert scores["adapted"] > scores["base"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cnn", "mlp"])
def test_the_networks_that_essays_print_gain_from_more_data(
    kind: str, real_data: Find, tmp_path: Path
) -> None:
    """A base that saw 5,000 digits, adapted to 57,000. About three minutes each."""
    file = tmp_path / f"mnist-{kind}.safetensors"
    train_mnist.main([kind, str(real_data("mnist")), str(file)])
    overrides = {"data.path": str(real_data("mnist")), "base.path": str(file), "evaluate.scratch": False}
    run = core.run(f"vision/mnist-{kind}", out=tmp_path, quiet=True, strict=True, **overrides)
    assert run.document["gains"]["base"]["low"] > 0
    assert run.verdict == "ship"


@pytest.mark.parametrize("kind", ["cnn", "mlp"])
def test_the_base_is_trained_the_same_each_time_and_read_with_its_card(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same files, same weights; labels, licence and origin come from the card beside them."""
    random = np.random.RandomState(0)
    for name, count in (("train", 40), ("t10k", 10)):
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(
            idx(random.randint(0, 256, (count, 28, 28)).astype(np.uint8))
        )
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(idx((np.arange(count) % 10).astype(np.uint8)))
    monkeypatch.setattr(train_mnist, "EPOCHS", 1)
    bases = []
    for file in ("one", "other"):
        train_mnist.main([kind, str(tmp_path), str(tmp_path / f"{file}.safetensors")])
        name = train_mnist.ARCHITECTURES[kind].__name__
        given = {
            "path": str(tmp_path / f"{file}.safetensors"),
            "architecture": f"plugins.vision.architectures:{name}",
        }
        bases.append(base_file.File(core_options.File.model_validate(given)).load())
    assert bases[0].digest == bases[1].digest == digest(bases[0].model.state_dict())
    assert bases[0].preprocessing["task"]["labels"] == list("0123456789")
    assert bases[0].origin == "trained by plugins.vision.train_mnist on the first 5,000 images of MNIST"
