"""Annotations in the form of Pascal VOC (http://host.robots.ox.ac.uk/pascal/VOC/): one XML file a picture.

Files are read by expat without document types and entities, so that no file can make itself larger than it is, or name
another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from core.data.stored import readable
from core.errors import DataError

SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class Object:
    """One `<object>`: its class, its box as (left, upper, right, lower), and the line that it begins on."""

    name: str
    box: tuple[float, float, float, float]
    line: int


@dataclass(frozen=True, slots=True)
class Annotation:
    """One file. `picture` is what it says the picture is called, `size` its width and height; either may be missing."""

    picture: str | None
    size: tuple[int, int] | None
    objects: tuple[Object, ...]


@dataclass
class _Element:
    """An element as it is read: its line, its text, and its children's by name."""

    line: int
    parts: list[str] = field(default_factory=list)
    children: dict[str, list[_Element]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def child(self, name: str) -> _Element | None:
        found = self.children.get(name, [])
        return found[0] if found else None

    def said(self, name: str) -> str | None:
        found = self.child(name)
        return found.text.strip() or None if found else None


def read(path: Path) -> Annotation:
    """An annotation file. Raises `DataError` with its line where it is no XML, holds a document type, or an object
    lacks its name or a side that is a number."""
    root = _tree(path)
    size = root.child("size")
    sides = [_number(path, size, side) for side in ("width", "height")] if size else []
    known = all(side and side > 0 for side in sides) and len(sides) == 2
    return Annotation(
        root.said("filename"),
        (round(sides[0] or 0), round(sides[1] or 0)) if known else None,
        tuple(_object(path, element) for element in root.children.get("object", [])),
    )


def _object(path: Path, element: _Element) -> Object:
    name, box = element.said("name"), element.child("bndbox")
    if name is None or box is None:
        raise DataError(
            f"{path}, line {element.line}: an object without {'a name' if name is None else 'a bndbox'}",
            "complete it, or remove it",
        )
    sides = [_number(path, box, side) for side in SIDES]
    missing = [name for name, side in zip(SIDES, sides, strict=True) if side is None]
    if missing:
        raise DataError(
            f"{path}, line {box.line}: a bndbox without {missing[0]}", "complete it, or remove it"
        )
    left, upper, right, lower = (side for side in sides if side is not None)
    return Object(name, (left, upper, right, lower), element.line)


def _number(path: Path, parent: _Element, name: str) -> float | None:
    element = parent.child(name)
    if element is None:
        return None
    try:
        number = float(element.text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"{path}, line {element.line}: expected a number as {name}, got {element.text.strip()!r}",
            "correct it",
        )
    return number


def _tree(path: Path) -> _Element:
    with readable(path):
        content = path.read_bytes()
    top = _Element(0)
    open_elements = [top]
    parser = expat.ParserCreate()

    def start(name: str, attributes: object) -> None:
        element = _Element(parser.CurrentLineNumber)
        open_elements[-1].children.setdefault(name, []).append(element)
        open_elements.append(element)

    def end(name: str) -> None:
        open_elements.pop()

    def text(part: str) -> None:
        open_elements[-1].parts.append(part)

    def refuse(*declared: object) -> None:
        raise DataError(
            f"{path}, line {parser.CurrentLineNumber}: it declares a document type, which annotations do not need and"
            " which can make a small file expand or read others",
            "remove the lines of <!DOCTYPE ...>",
        )

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = text, refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise DataError(
            f"{path}, line {error.lineno}: no XML that can be read: {expat.ErrorString(error.code)}",
            "restore the file, or remove it with its picture",
        ) from error
    except (LookupError, ValueError) as error:  # the encoding that the first line declares
        raise DataError(
            f"{path}: no XML that can be read: {error}", "write the file, and what it says it is, in UTF-8"
        ) from error
    root = top.child("annotation")
    if root is None:
        name = next(iter(top.children))
        raise DataError(
            f"{path}: expected <annotation>, got <{name}>", "give annotations in the form of Pascal VOC"
        )
    return root
