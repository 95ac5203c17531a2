"""The dataset `idx`: MNIST's layout, and files that only look like it."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from core.data.rows import is_streamed
from core.errors import DataError
from core.rows import duplicates, identify
from plugins.vision import options
from plugins.vision.idx import Idx, read

RANDOM = np.random.RandomState(0)


def idx(array: NDArray[np.uint8], code: int = 8) -> bytes:
    head = struct.pack(">BBBB", 0, 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def pair(folder: Path, name: str, count: int, classes: int = 3, zipped: bool = False) -> None:
    pictures = RANDOM.randint(0, 256, (count, 4, 5)).astype(np.uint8)
    labels = (np.arange(count) % classes).astype(np.uint8)
    for kind, array in (("images-idx3", pictures), ("labels-idx1", labels)):
        data = idx(array)
        path = folder / f"{name}-{kind}-ubyte{'.gz' if zipped else ''}"
        path.write_bytes(gzip.compress(data) if zipped else data)


def dataset(path: Path, **more: object) -> Idx:
    return Idx(options.Idx.model_validate({"path": str(path), **more}))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("test", ["t10k", "t3k", "test"])
def test_a_folder_in_mnists_layout(tmp_path: Path, zipped: bool, test: str) -> None:
    """The test files report; select comes out of train, with each class's share."""
    pair(tmp_path, "train", 60, zipped=zipped)
    pair(tmp_path, test, 12, zipped=zipped)
    splits = dataset(tmp_path).rows()
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 54, "select": 6, "report": 12}
    assert all(is_streamed(rows) for rows in splits.values())
    row = splits["report"][4]
    stored = read(next(tmp_path.glob(f"{test}-images*")), 3)
    assert row.inputs.dtype == torch.uint8
    assert torch.equal(row.inputs, torch.from_numpy(stored[4].copy())[None])
    assert row.target == "1"
    assert duplicates({name: identify(list(rows)) for name, rows in splits.items()}) == {}


def test_one_file_of_images_is_split_into_all(tmp_path: Path) -> None:
    """Its labels lie beside it; the classes may be given names."""
    pair(tmp_path, "letters", 60)
    splits = dataset(tmp_path / "letters-images-idx3-ubyte", labels=["a", "b", "c"]).rows()
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 42, "select": 6, "report": 12}
    assert {row.target for row in splits["report"]} == {"a", "b", "c"}


def _with(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return spoil


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
BAD: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "wrong magic": (
        _with(IMAGES, lambda data: b"\x89PNG" + data[4:]),
        "train-images-idx3-ubyte: expected an idx file of bytes in 3 dimensions, which begins with 00 00 08 03;"
        " it begins with 89 50 4e 47",
        "as they were published",
    ),
    "another type": (
        _with(IMAGES, lambda data: data[:2] + b"\x0d" + data[3:]),
        "begins with 00 00 0d 03",
        "published",
    ),
    "too short": (
        _with(IMAGES, lambda data: data[:-7]),
        "its header says 30 x 4 x 5, which is 600 bytes, and 593 follow",
        "restore it",
    ),
    "too long": (
        _with(LABELS, lambda data: data + b"\x01"),
        "says 30, which is 30 bytes, and 31 follow",
        "restore it",
    ),
    "empty": (_with(LABELS, lambda data: b""), "it begins with nothing", "published"),
    "no labels": (
        lambda folder: (folder / LABELS).unlink(),
        f"there is no file {LABELS} beside it",
        "put the labels",
    ),
    "counts differ": (
        _with(LABELS, lambda data: idx(np.zeros(29, np.uint8))),
        "has 30 images, .*train-labels-idx1-ubyte has 29 labels",
        "belong together",
    ),
    "one class": (
        _with(LABELS, lambda data: idx(np.zeros(30, np.uint8))),
        "one class alone, '0'",
        "add examples",
    ),
    "one example": (
        _with(LABELS, lambda data: data[:-1] + b"\x09"),
        r"class '9' has one example \(.*train-images-idx3-ubyte, image 29\)",
        "add examples",
    ),
    "a damaged gz": (
        _with(IMAGES, lambda data: gzip.compress(data)[:-30]),
        "train-images-idx3-ubyte: cannot be read: ",
        "restore",
    ),
    "no such files": (
        lambda folder: (folder / IMAGES).rename(folder / "x"),
        "named as MNIST's .*found none",
        "rename",
    ),
    "two for one split": (
        lambda folder: (pair(folder, "t10k", 9), pair(folder, "test", 9)),
        "both t10k-images-idx3-ubyte and test-images-idx3-ubyte would be report",
        "leave one",
    ),
    "another size": (
        lambda folder: (
            (folder / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((3, 2, 2), np.uint8)))
            and (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.arange(3, dtype=np.uint8)))
        ),
        "not of one size: 2 x 2 in .*t10k.*, 4 x 5 in .*train",
        "belong together",
    ),
    "a label in report never in train": (
        lambda folder: (
            (folder / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((3, 4, 5), np.uint8)))
            and (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([0, 7, 7], np.uint8)))
        ),
        r"'7' stands in report, 2 times, and never in train \(first: .*t10k-images-idx3-ubyte, image 1\)",
        "correct or remove",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused(name: str, tmp_path: Path) -> None:
    """Which file, what was expected, what came, and what to do."""
    spoil, message, hint = BAD[name]
    pair(tmp_path, "train", 30)
    spoil(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        dataset(tmp_path).rows()
    assert hint in caught.value.hint


def test_a_missing_folder_and_too_few_names_are_refused(tmp_path: Path) -> None:
    """Before anything is read, and where a label has no name."""
    with pytest.raises(DataError, match="there is no such file or folder"):
        dataset(tmp_path / "nowhere").rows()
    pair(tmp_path, "train", 30)
    with pytest.raises(DataError, match=r"label 2: it is 2, and data\.labels names 2 of them"):
        dataset(tmp_path, labels=["a", "b"]).rows()


def test_mnist_is_read_whole(real_data: Callable[[str], Path]) -> None:
    """60,000 and 3,000 digits, of which select takes 3,000."""
    splits = dataset(real_data("mnist"), splits={"how": "stratified", "select": 3000}).rows()
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 57_000,
        "select": 3_000,
        "report": 3_000,
    }
    assert [splits["report"][i].target for i in range(5)] == ["7", "2", "1", "0", "4"]
