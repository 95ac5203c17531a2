"""The dataset `boxes`: pictures with boxes around what is in them, read when they are needed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.contract import REPORT, SELECT, TRAIN, Row
from core.data.labels import Coded
from core.data.options import Splits
from core.data.rows import Lazy
from core.data.splits import NAMES, Part, assign
from core.data.stored import Stored, readable
from core.errors import DataError, DataWarning, nearest
from plugins.vision import options, pictures, voc
from plugins.vision.folders import NAMED, PICTURES, inspect

Ints = NDArray[np.int64]
IMAGES, ANNOTATIONS, LISTS = "JPEGImages", "Annotations", "ImageSets/Main"


@dataclass
class Annotated:
    """Pictures by parallel lists: the file, what describes it, and, one after the other, all boxes with their classes;
    `ends` says where in these a picture's end. `splits` are those that are given, by indices."""

    paths: list[Path] = field(default_factory=list)
    described: list[Path | None] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    splits: dict[str, list[int]] = field(default_factory=dict)

    def where(self, index: int) -> str:
        return str(self.paths[index])

    def box_where(self, box: int) -> str:
        """In words, where a box is described."""
        picture = int(np.searchsorted(self.ends, box, "right"))
        return f"{self.described[picture]}, line {self.lines[box]}"


class Boxes:
    """The dataset `boxes`. A row's inputs are `{"image": file}` (`core.data.stored.Stored`), its target `{"boxes":
    [[left, upper, right, lower], ...], "labels": [class, ...]}` in pixels of the picture (`plugins.vision.boxes`)."""

    def __init__(self, options: options.Boxes) -> None:
        self._options = options

    def rows(self) -> Mapping[str, Sequence[Row]]:
        """Every annotation and every picture is read once, to see that it can be; pictures are held nowhere. Raises
        `DataError`."""
        found = find(Path(self._options.path).expanduser(), self._options)
        contents, wrong = inspect(found.paths)
        if wrong:
            listed = [error.message for error in list(wrong.values())[:NAMED]]
            more = [f"and {len(wrong) - NAMED} more"] if len(wrong) > NAMED else []
            raise DataError(
                f"{len(wrong)} of {len(found.paths)} files are no pictures that can be read:\n  - "
                + "\n  - ".join(listed + more),
                "restore them, or remove them with their annotations",
            )
        splits = _split(found, self._options.splits, contents)
        _check_classes(found, splits, self._options.classes)
        pick = _Rows(found)
        return {name: Lazy(len(places), partial(pick.row, places)) for name, places in splits.items()}


class _Rows:
    """Rows by index, in any process: of each box 36 bytes are held."""

    def __init__(self, found: Annotated) -> None:
        self._paths = found.paths
        self._boxes = np.array(found.boxes, np.float64).reshape(-1, 4)
        self._labels = Coded.of(found.labels)
        self._ends = np.array([0, *found.ends], np.int64)

    def row(self, places: Ints, index: int) -> Row:
        i = int(places[index])
        own = slice(int(self._ends[i]), int(self._ends[i + 1]))
        target = {"boxes": self._boxes[own].tolist(), "labels": list(self._labels[own])}
        return Row({"image": Stored(self._paths[i])}, target)


def find(path: Path, options: options.Boxes) -> Annotated:
    """What a folder in the form of Pascal VOC holds; no picture is decoded. Raises `DataError`."""
    with readable(path):
        missing = [name for name in (IMAGES, ANNOTATIONS) if not (path / name).is_dir()]
    if missing:
        raise DataError(
            f"{path}: there is no folder {' and no folder '.join(missing)}",
            f"give a folder in the form of Pascal VOC: {IMAGES} with the pictures, {ANNOTATIONS} with one XML file a"
            f" picture, and perhaps {LISTS} with train.txt, val.txt and test.txt",
        )
    with readable(path):
        known: dict[str, list[Path]] = {}
        for file in sorted((path / IMAGES).iterdir()):
            if file.suffix.lower() in PICTURES and not file.name.startswith("."):
                known.setdefault(file.stem, []).append(file)
        described = {file.stem: file for file in sorted((path / ANNOTATIONS).glob("*.xml"))}
        lists: dict[str, Path] = {}
        for file in sorted((path / LISTS).glob("*.txt")):
            split = NAMES.get(file.stem.lower())
            if split is not None and lists.setdefault(split, file) != file:
                raise DataError(
                    f"{path / LISTS}: {lists[split].name} and {file.name} are both lists of {split!r}",
                    "take one of them away",
                )
    return _Reader(path, known, described, options).read(lists)


class _Reader:
    """Reads the annotations of the pictures that are wanted, and says what is wrong with them."""

    def __init__(
        self,
        root: Path,
        pictures: Mapping[str, Sequence[Path]],
        described: Mapping[str, Path],
        options: options.Boxes,
    ) -> None:
        self._root, self._pictures, self._described, self._options = root, pictures, described, options
        self._found = Annotated()
        self._clipped: list[str] = []
        self._without_area: list[str] = []
        self._bare: list[str] = []
        self._described_by: dict[Path, Path] = {}

    def read(self, lists: Mapping[str, Path]) -> Annotated:
        if TRAIN in lists:
            listed = {split: _listed(file) for split, file in lists.items()}
            for split, stems in listed.items():
                for line, stem in stems:
                    self._take(stem, split, f"{lists[split]}, line {line}: ")
            used = {stem for stems in listed.values() for _, stem in stems}
            self._tell_unlisted(lists, used | {path.stem for path in self._found.paths})
        elif lists:
            there = ", ".join(file.name for file in lists.values())
            raise DataError(
                f"{self._root / LISTS}: it has {there} and no train.txt", "add it, or take the folder away"
            )
        else:
            for stem in sorted(self._described):
                self._take(stem, TRAIN, "")
            taken = {path.stem for path in self._found.paths}
            for stem in sorted(set(self._pictures) - taken):
                self._take(stem, TRAIN, "")
        if not self._found.paths:
            raise DataError(f"{self._root}: no picture with an annotation is there", "check data.path")
        self._tell()
        return self._found

    def _take(self, stem: str, split: str, named_by: str) -> None:
        """Add a picture with its boxes."""
        annotation = self._described.get(stem)
        content = None if annotation is None else voc.read(annotation)
        picture = self._picture(stem, annotation, content, named_by)
        if content is None:
            where = f"{named_by}{picture} has no annotation {self._root / ANNOTATIONS / f'{stem}.xml'}"
            if self._options.unannotated == "stop":
                raise DataError(
                    where,
                    "add one (without an object where nothing is on the picture), or write data.unannotated=skip to"
                    " leave such pictures out, or =empty if there is nothing on them",
                )
            self._bare.append(where)
            if self._options.unannotated == "skip":
                return
        if annotation is not None:
            first = self._described_by.setdefault(picture, annotation)
            if first != annotation:
                raise DataError(
                    f"{named_by}{first} and {annotation} are both of {picture}",
                    "remove one of them, or correct its filename",
                )
        found = self._found
        found.splits.setdefault(split, []).append(len(found.paths))
        size = _size(picture) if content is not None and content.objects else None
        if content is not None and annotation is not None and size is not None:
            self._add_boxes(content, annotation, size)
        found.paths.append(picture)
        found.described.append(annotation)
        found.ends.append(len(found.boxes))

    def _picture(
        self, stem: str, annotation: Path | None, content: voc.Annotation | None, named_by: str
    ) -> Path:
        """The picture of that name, or the one that the annotation names."""
        here = self._pictures.get(stem, [])
        if not here and content is not None and content.picture is not None:
            # A name alone: what an annotation says is no path to anywhere.
            here = [
                file
                for file in self._pictures.get(Path(content.picture).stem, [])
                if file.name == Path(content.picture).name
            ]
        if len(here) > 1:
            names = ", ".join(file.name for file in here)
            raise DataError(f"{named_by}{self._root / IMAGES}: {names} have one name", "rename all but one")
        if here:
            return here[0]
        if annotation is None:
            raise DataError(
                f"{named_by}there is no picture {self._root / IMAGES / stem}.jpg",
                "restore it, or remove the line",
            )
        says = f", and says it is of {content.picture}" if content is not None and content.picture else ""
        raise DataError(
            f"{annotation}: there is no picture {stem}.jpg in {self._root / IMAGES}{says}",
            "restore the picture, or remove the annotation",
        )

    def _add_boxes(self, content: voc.Annotation, annotation: Path, size: tuple[int, int]) -> None:
        if content.size is not None and content.size != size:
            raise DataError(
                f"{annotation}: it says that the picture has {content.size[0]} x {content.size[1]} pixels, and it has"
                f" {size[0]} x {size[1]}: the boxes are of another picture, or of this one before it was resized or"
                " turned",
                "restore the picture, or correct the boxes with the size",
            )
        for object_ in content.objects:
            where = f"{annotation}, line {object_.line}: {object_.name} {list(object_.box)}"
            inside = _inside(object_.box, size)
            if inside[0] >= inside[2] or inside[1] >= inside[3]:
                self._without_area.append(where)
                continue
            if inside != object_.box:
                self._clipped.append(where)
            self._found.boxes.append(inside)
            self._found.labels.append(object_.name)
            self._found.lines.append(object_.line)

    def _tell_unlisted(self, lists: Mapping[str, Path], used: set[str]) -> None:
        others = sorted(stem for stem in self._pictures if stem not in used)
        if others:
            _warn(
                f"pictures of {self._root} that no list ({', '.join(f.name for f in lists.values())}) names, and that"
                " are left out",
                others,
            )

    def _tell(self) -> None:
        _warn("boxes that reach beyond their picture, and are clipped to it", self._clipped)
        _warn("boxes of no area in their picture, which are left out", self._without_area)
        skipped = self._options.unannotated == "skip"
        _warn(
            f"pictures without an annotation, {'left out' if skipped else 'taken as pictures of nothing'}",
            self._bare,
        )


def _warn(what: str, places: Sequence[str]) -> None:
    if places:
        more = [f"and {len(places) - NAMED} more"] if len(places) > NAMED else []
        listed = "\n  - ".join([*places[:NAMED], *more])
        warnings.warn(f"{len(places)} {what}:\n  - {listed}", DataWarning, stacklevel=3)


def _listed(path: Path) -> list[tuple[int, str]]:
    """(line, name) of each picture that a list names. Raises `DataError` where one stands twice, or none does."""
    with readable(path):
        content = path.read_bytes()
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        place = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {place}: byte 0x{content[error.start]:02x} is no UTF-8", "write the list as UTF-8"
        ) from error
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        stem = line.split()[0]
        if stem in first:
            raise DataError(
                f"{path}, line {number}: {stem} stands in line {first[stem]} already",
                "remove one of the lines",
            )
        first[stem] = number
    if not first:
        raise DataError(f"{path}: it names no picture", "fill it in, or remove it")
    return [(number, stem) for stem, number in first.items()]


def _size(path: Path) -> tuple[int, int] | None:
    """(width, height) as the picture is seen: where its metadata say it lies on its side, turned. None for what is no
    picture: `inspect` says so."""
    image = pictures.pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with image.open(path) as picture:
                turned = picture.getexif().get(0x0112) in (5, 6, 7, 8)  # EXIF orientations; others are none
                return (picture.height, picture.width) if turned else (picture.width, picture.height)
    except Exception:  # on damaged files decoders raise nearly everything
        return None


def _inside(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    left, upper, right, lower = box
    width, height = size
    return max(left, 0.0), max(upper, 0.0), min(right, float(width)), min(lower, float(height))


def _split(found: Annotated, options: Splits | None, contents: NDArray[np.uint64]) -> dict[str, Ints]:
    """The splits that are given, and those that are missing out of train."""
    given = {name: np.array(rows, np.int64) for name, rows in found.splits.items()}
    wanted: tuple[Part, ...] = (SELECT, REPORT)  # type: ignore[assignment]
    missing = tuple(part for part in wanted if part not in given)
    if not missing:
        if options is not None:
            raise DataError(
                f"splits: {LISTS} gives train, select and report already, so there is nothing to split",
                "leave `splits` out",
            )
        return given
    train = given[TRAIN]
    made = assign(
        options or Splits.model_validate({"how": "random"}),
        len(train),
        contents=contents[train],
        parts=missing,
        where=lambda i: found.where(int(train[i])),
    )
    return {**given, **{name: train[places] for name, places in made.items()}}


def _check_classes(found: Annotated, splits: Mapping[str, Ints], wanted: Sequence[str] | None) -> None:
    """Raises `DataError` for a class that is not among those wanted, or that `train` never shows."""
    ends = np.array([0, *found.ends])

    def places(split: str) -> list[int]:
        return [box for i in splits[split] for box in range(ends[i], ends[i + 1])]

    known = set(wanted) if wanted is not None else {found.labels[box] for box in places(TRAIN)}
    of = "data.classes names" if wanted is not None else "train shows"
    for split in splits:
        strange = [box for box in places(split) if found.labels[box] not in known]
        if strange:
            name = found.labels[strange[0]]
            count = f"{len(strange)} boxes of {split} are" if len(strange) > 1 else f"one box of {split} is"
            raise DataError(
                f"{found.box_where(strange[0])}: the class {name!r} is none of those that {of}; {count} of such a"
                " class",
                f"{nearest(name, known)}; correct the name, or add the class to"
                f" {'train' if wanted is None else 'data.classes'}",
            )
    if not places(TRAIN):
        raise DataError("none of the pictures of train has a box", "annotate some, or check data.path")
