"""Made-up pictures for detection: bright spots on dark ground, as a folder in the form of Pascal VOC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

Box: TypeAlias = tuple[float, float, float, float]
COLOURS = {"rose": (230, 90, 120), "leaf": (80, 220, 90)}
SIDES = {"rose": 24, "leaf": 12}


def voc(
    root: Path,
    count: int,
    *,
    size: tuple[int, int] = (96, 72),
    seed: int = 0,
    lists: Mapping[str, Iterable[int]] | None = None,
) -> Path:
    """`count` pictures of (width, height), `spot0` and so on, each with one to four spots of two classes."""
    random = np.random.RandomState(seed)
    for number in range(count):
        pixels = random.randint(0, 40, (size[1], size[0], 3)).astype(np.uint8)
        objects = []
        for _ in range(random.randint(1, 5)):
            name = ("rose", "leaf")[random.randint(2)]
            side = SIDES[name]
            left, upper = random.randint(0, size[0] - side), random.randint(0, size[1] - side)
            y, x = np.mgrid[0:side, 0:side] + 0.5 - side / 2
            inside = x**2 + y**2 <= (side / 2) ** 2
            pixels[upper : upper + side, left : left + side][inside] = COLOURS[name]
            objects.append((name, (left, upper, left + side, upper + side)))
        picture(root, f"spot{number}", pixels)
        annotate(root, f"spot{number}", objects, size)
    for name, numbers in (lists or {}).items():
        listed(root, name, [f"spot{number}" for number in numbers])
    return root


def picture(root: Path, name: str, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Path:
    path = root / "JPEGImages" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def annotate(
    root: Path, name: str, objects: Sequence[tuple[str, Box]], size: tuple[int, int] = (96, 72)
) -> Path:
    """Of each object, `<object>` stands on its own line; the first is line 4."""
    sides = ("xmin", "ymin", "xmax", "ymax")
    lines = ["<annotation>", f"<filename>{name}.png</filename>"]
    lines.append(f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>")
    for label, box in objects:
        numbers = "".join(f"<{side}>{number}</{side}>" for side, number in zip(sides, box, strict=True))
        lines.append(f"<object><name>{label}</name><bndbox>{numbers}</bndbox></object>")
    return write(root, name, "\n".join([*lines, "</annotation>\n"]))


def write(root: Path, name: str, content: str) -> Path:
    path = root / "Annotations" / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def listed(root: Path, name: str, stems: Sequence[str]) -> Path:
    path = root / "ImageSets" / "Main" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")
    return path
