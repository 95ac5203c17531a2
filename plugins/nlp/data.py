"""Text of Python's own library, read from the running interpreter: docstrings and help topics.

Nothing of it is kept in the project, and it differs between Python versions; so do sizes and digests.
"""

from __future__ import annotations

import ast
import hashlib
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from core.contract import Row
from core.errors import DataError
from plugins.nlp.options import ReferenceOptions

LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "pydoc_data", "__pycache__"}
"""Folders of the library that are not read: what is installed beside it, and its tests."""

PARTS, HELD_OUT = 20, 2
"""Of `PARTS` equal shares of the library's files, told apart by a hash of the path, `HELD_OUT` train no base."""

RUN = 48
"""A docstring that shares a run of that many characters (white space counts as one space) with a help topic is
left out: the base has read nothing of the new world."""


class Reference:
    """Python's language reference, as the help topics hold it. The base's own task is the library's docstrings.

    A row's `inputs` is `{"text": ...}`, some whole lines of at most `window` bytes in all, and stands on its own;
    its `group` is the topic, or for `retain` the file. `draw` decides which topics go where.
    """

    def __init__(self, options: ReferenceOptions) -> None:
        self._options = options

    def rows(self) -> Mapping[str, list[Row]]:
        """`train` and `select` of the sizes asked for, in whole topics; `report` holds the others, `retain` the
        docstrings of held-out files. Raises `DataError` where the interpreter comes without these texts."""
        o = self._options
        splits: dict[str, list[Row]] = {"train": [], "select": [], "report": []}
        room = {"train": o.train_bytes, "select": o.select_bytes, "report": float("inf")}
        for name, text in _shuffled(help_topics(), o.draw):
            size = len(text.encode())
            split = next(split for split in splits if room[split] >= size)
            room[split] -= size
            splits[split] += _rows(name, text, o.window)
        splits["retain"] = [
            row for name, text in docstrings(held_out=True) for row in _rows(name, text, o.window)
        ]
        return splits


def help_topics() -> dict[str, str]:
    """Help topic to text. A paragraph that stands in several topics is kept in the shortest one alone, so that no
    two splits share any. Raises `DataError`."""
    seen: set[str] = set()
    kept: dict[str, str] = {}
    for name, text in sorted(_raw_topics().items(), key=lambda item: (len(item[1]), item[0])):
        paragraphs = []
        for paragraph in text.strip().split("\n\n"):
            content = _flat(paragraph)
            if len(content) < 40 or content not in seen:  # what is shorter is a heading or a word of code
                paragraphs.append(paragraph)
            seen.add(content)
        kept[name] = "\n\n".join(paragraphs) + "\n"
    return kept


def docstrings(*, held_out: bool) -> Iterator[tuple[str, str]]:
    """(file, its docstrings) for the files that are held out from the base's training, or for the others.

    A docstring that stands in several files belongs to the first. Raises `DataError`.
    """
    root = Path(sysconfig.get_path("stdlib"))
    library = _library(root)
    if not library:
        raise DataError(
            f"the library of this Python, {root}, holds no source files with docstrings",
            "use a Python with its library's sources, as python.org and conda ship it",
        )
    world = set().union(*map(_runs, _raw_topics().values()))
    for name, texts in library.items():
        if held_out == (_hashed(name) % PARTS < HELD_OUT):
            kept = [text for text in texts if world.isdisjoint(_runs(text))]
            if kept:
                yield name, "\n\n".join(kept) + "\n"


@cache
def _library(root: Path) -> Mapping[str, list[str]]:
    seen: set[str] = set()
    library = {}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if LEFT_OUT & set(name.split("/")):
            continue
        fresh = [text for text in _docstrings_of(path) if text not in seen]
        seen.update(fresh)
        if fresh:
            library[name] = [text.strip() for text in fresh]
    return library


def windows(text: str, size: int) -> Iterator[str]:
    """`text` in pieces of whole lines, each as long as `size` bytes allow; a longer line is cut."""
    piece, filled = "", 0
    for line in _lines(text, size):
        length = len(line.encode())
        if filled + length > size:
            yield piece
            piece, filled = "", 0
        piece += line
        filled += length
    if piece:
        yield piece


def _lines(text: str, size: int) -> Iterator[str]:
    for line in text.splitlines(keepends=True):
        while len(line.encode()) > size:
            yield line[: size // 4]  # a character has four bytes at most
            line = line[size // 4 :]
        yield line


def _rows(group: str, text: str, window: int) -> list[Row]:
    return [Row({"text": piece}, group=group) for piece in windows(text, window)]


def _shuffled(topics: Mapping[str, str], draw: int) -> list[tuple[str, str]]:
    return sorted(topics.items(), key=lambda item: _hashed(f"{draw}/{item[0]}"))


def _raw_topics() -> Mapping[str, str]:
    try:
        from pydoc_data.topics import topics
    except ModuleNotFoundError as error:
        raise DataError(
            "this Python comes without its help topics, the module pydoc_data.topics",
            "use a complete Python: some systems put the module into another package, and embeddable ones leave it out",
        ) from error
    return topics


def _docstrings_of(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:  # the library ships templates and fixtures that are no Python
        return []
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    return list(dict.fromkeys(text for text in found if text))


def _hashed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _flat(text: str) -> str:
    return " ".join(text.split())


def _runs(text: str) -> set[str]:
    flat = _flat(text)
    return {flat[i : i + RUN] for i in range(len(flat) - RUN + 1)}
