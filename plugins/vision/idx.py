"""The dataset `idx`: images and labels in the format of http://yann.lecun.com/exdb/mnist/, gzipped or not."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.contract import REPORT, TRAIN, Row
from core.data.rows import Lazy
from core.data.splits import NAMES
from core.errors import DataError
from plugins.vision import options
from plugins.vision.splitting import split_rows

Bytes = NDArray[np.uint8]
UBYTE = 8
"""The format's code of unsigned bytes, the only type read."""


class Idx:
    """The dataset `idx`. A row's inputs are a uint8 tensor (1, height, width), its target a label, as a string."""

    def __init__(self, options: options.Idx) -> None:
        self._options = options

    def rows(self) -> Mapping[str, Sequence[Row]]:
        """Raises `DataError` where files are missing, damaged, or do not fit each other."""
        path = Path(self._options.path).expanduser()
        images: list[Bytes] = []
        labels: list[str] = []
        places: list[tuple[Path, int]] = []  # (file, index of its first image)
        given = {}
        for split, pair in _pairs(path).items():
            pictures, names = self._read(*pair)
            given[split] = np.arange(len(labels), len(labels) + len(names))
            places.append((pair[0], len(labels)))
            images.append(pictures)
            labels += names
        if len({part.shape[1:] for part in images}) > 1:
            shapes = ", ".join(
                f"{part.shape[1]} x {part.shape[2]} in {p}"
                for part, (p, _) in zip(images, places, strict=True)
            )
            raise DataError(f"the images are not of one size: {shapes}", "give files that belong together")
        every = images[0] if len(images) == 1 else np.concatenate(images)

        def where(index: int) -> str:
            file, first = next((f, n) for f, n in reversed(places) if n <= index)
            return f"{file}, image {index - first}"

        contents = np.array([_content(image) for image in every], np.uint64)
        splits = split_rows(given, labels, self._options.splits, where, contents=contents)
        pick = _Images(every, labels)
        return {name: Lazy(len(rows), partial(pick.row, rows)) for name, rows in splits.items()}

    def _read(self, images: Path, labels: Path) -> tuple[Bytes, list[str]]:
        pictures, numbers = read(images, 3), read(labels, 1)
        if len(pictures) != len(numbers):
            raise DataError(
                f"{images} has {len(pictures)} images, {labels} has {len(numbers)} labels",
                "give files that belong together",
            )
        called = self._options.labels
        if called is None:
            return pictures, [str(number) for number in numbers.tolist()]
        if len(numbers) and int(numbers.max()) >= len(called):
            at = int((numbers >= len(called)).argmax())
            raise DataError(
                f"{labels}, label {at}: it is {numbers[at]}, and data.labels names {len(called)} of them",
                f"name at least {int(numbers.max()) + 1}",
            )
        return pictures, [called[number] for number in numbers.tolist()]


class _Images:
    def __init__(self, images: Bytes, labels: Sequence[str]) -> None:
        self._images, self._labels = images, labels

    def row(self, places: NDArray[np.int64], index: int) -> Row:
        i = int(places[index])
        return Row(torch.from_numpy(self._images[i].copy())[None], self._labels[i])


def _content(image: Bytes) -> int:
    return int.from_bytes(blake2b(image.tobytes(), digest_size=8).digest(), "little")


def _pairs(path: Path) -> dict[str, tuple[Path, Path]]:
    """(images, labels) of each split that is there. Raises `DataError`."""
    if path.is_file():
        return {TRAIN: (path, _labels_of(path))}
    if not path.is_dir():
        raise DataError(f"{path}: there is no such file or folder", "check data.path")
    try:
        files = sorted(p for p in path.iterdir() if re.search(r"images.*idx3", p.name) and p.is_file())
    except OSError as error:
        raise DataError(
            f"{path}: the folder cannot be read: {error.strerror}", "check the path and its permissions"
        ) from error
    pairs: dict[str, tuple[Path, Path]] = {}
    for file in files:
        words = re.split(r"[-_.]", file.name.partition("images")[0].lower())
        split = next((NAMES[word] for word in words if word in NAMES), REPORT)  # t10k
        if split in pairs:
            raise DataError(
                f"{path}: both {pairs[split][0].name} and {file.name} would be {split}",
                "leave one of them in the folder",
            )
        pairs[split] = (file, _labels_of(file))
    if TRAIN not in pairs:
        there = ", ".join(file.name for file in files) or "none"
        raise DataError(
            f"{path}: expected idx files named as MNIST's (train-images-idx3-ubyte), found {there}",
            "rename the files, or give the file of images itself",
        )
    return pairs


def read_split(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images (n, 1, height, width), float32 in 0..1, and labels (n,), int64, of one split of a folder, whole. Raises
    `DataError`."""
    pairs = _pairs(folder)
    if split not in pairs:
        raise DataError(f"{folder}: there are no files of {split}, only of {', '.join(pairs)}", "add them")
    images, labels = read(pairs[split][0], 3), read(pairs[split][1], 1)
    return torch.from_numpy(images.copy())[:, None].float() / 255, torch.from_numpy(labels.astype(np.int64))


def _labels_of(images: Path) -> Path:
    name = images.name.replace("images", "labels").replace("idx3", "idx1")
    plain = name.removesuffix(".gz")
    for candidate in (name, plain, f"{plain}.gz"):
        if candidate != images.name and images.with_name(candidate).is_file():
            return images.with_name(candidate)
    raise DataError(f"{images}: there is no file {name} beside it", "put the labels there")


def read(path: Path, dimensions: int) -> Bytes:
    """The array in an idx file of unsigned bytes. Raises `DataError` where it is not one of so many
    dimensions, or of another length than its header says."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path}: cannot be read: {what}", "restore the file from where it came") from error
    head = 4 + 4 * dimensions
    magic = bytes([0, 0, UBYTE, dimensions])
    if data[:4] != magic or len(data) < head:
        raise DataError(
            f"{path}: expected an idx file of bytes in {dimensions} dimensions, which begins with {magic.hex(' ')};"
            f" it begins with {data[:4].hex(' ') or 'nothing'}",
            "give the files as they were published",
        )
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, head, 4))
    wanted, there = math.prod(shape), len(data) - head
    if wanted != there:
        raise DataError(
            f"{path}: its header says {' x '.join(map(str, shape))}, which is {wanted} bytes, and {there} follow",
            "the file is damaged: restore it from where it came",
        )
    if not wanted:
        raise DataError(f"{path}: it holds nothing", "give a file with images or labels")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)
